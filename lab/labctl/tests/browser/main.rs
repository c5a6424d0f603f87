//! The page of a report in a real browser: what it asks for, what it shows, and that it can be used. The report, its
//! captures and its topology are those of a real run (`labctl test two-hosts.yaml --captures captures --format json`).
#![allow(clippy::unwrap_used, missing_docs)]

mod chromium;

use std::{
    fs,
    path::{Path, PathBuf},
};

use assert_cmd::Command;
use chromium::Browser;
use serde_json::json;
use tempfile::TempDir;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/data");
/// Where screenshots go, to be looked at.
const SHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/pages");
/// The cell from host1 to c1, which is wrong.
const WRONG: &str = "td.wrong[aria-label^='host1 to c1']";

/// A browser that has opened the page of a report.
struct Opened {
    browser: Browser,
    url: String,
    home: TempDir,
}

impl Opened {
    /// Opens the page of the report in this file.
    fn report(file: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let page = home.path().join("page.html");
        let mut labctl = Command::new(assert_cmd::cargo::cargo_bin!("labctl"));
        labctl.env("LABCTL_STATE_DIR", home.path()).env("LABCTL_CACHE_DIR", home.path()).current_dir(DATA);
        labctl.args(["report", file, "-o"]).arg(&page).assert().success();
        let mut browser = Browser::start(&home.path().join("profile"));
        let url = format!("file://{}", page.display());
        browser.open(&url);
        Self { browser, url, home }
    }

    fn screenshot(&mut self, name: &str) {
        fs::create_dir_all(SHOTS).unwrap();
        self.browser.screenshot(&Path::new(SHOTS).join(name));
    }

    /// Ends. Nothing was asked for but the page, and nothing was wrong with it.
    fn close(self) {
        let of = |method| self.browser.events.iter().filter(move |e| e["method"] == method);
        // A link to a file inside the page is none to another one.
        let asked = of("Network.requestWillBeSent").map(|e| e["params"]["request"]["url"].as_str().unwrap());
        let asked: Vec<_> = asked.filter(|url| !url.starts_with("data:")).collect();
        assert_eq!(asked, [self.url.as_str()]);
        for complaint in ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"] {
            assert_eq!(of(complaint).collect::<Vec<_>>(), [&json!(null); 0]);
        }
    }
}

#[test]
fn a_click_on_a_wrong_cell_shows_what_was_expected_seen_and_predicted_with_walk_and_frames() {
    let mut page = Opened::report("report.json");
    let browser = &mut page.browser;
    assert_eq!(browser.text("document.title"), "two-hosts: does not hold");
    assert_eq!(browser.value("document.querySelectorAll('.grid td.wrong').length"), 2);
    browser.click(WRONG);
    let shown = browser.text("document.getElementById('details').innerText");
    for part in
        ["host1 → c1", "expected\nyes", "observed\narp", "predicted\narp: ARP for 192.168.56.31", "line\n23"]
    {
        assert!(shown.contains(part), "no {part}:\n{shown}");
    }
    let hops = "[...document.querySelectorAll('#details .walk tr')].map((row) => [...row.cells].map((c) => c.textContent))";
    assert_eq!(
        browser.value(hops)[1],
        json!([
            "request 2",
            "host1/eth0",
            "icmp 192.168.56.3 > 192.168.56.31",
            "ARP for 192.168.56.31: c1/eth0 has it, an ipvlan on host1/eth0, which hands it no frames of its own host"
        ])
    );
    let walked = "[...document.querySelectorAll('#details .walked title')].map((t) => t.textContent).join()";
    assert_eq!(browser.text(walked), "host host1,nic eth0, 192.168.56.3/24");
    assert_eq!(browser.value("document.querySelectorAll('#details polyline.g-walk.lost').length"), 1);
    page.screenshot("cell.png");

    let browser = &mut page.browser;
    browser.click("td.wrong[aria-label^='c1 to c2']");
    let shown = browser.text("document.getElementById('details').innerText");
    assert!(shown.contains("host2 is cut off from lan") && shown.contains("udp/53"), "{shown}");
    // The request as the wire saw it, and what became of it.
    assert!(shown.contains("192.168.56.31.") && shown.contains("dropped at host2/eth0"), "{shown}");
    page.screenshot("frames.png");

    let browser = &mut page.browser;
    browser.click("td.yes[aria-label^='c1 to c2']");
    assert_eq!(
        browser.value("document.querySelectorAll('#details polyline.g-walk').length"),
        2,
        "there and back"
    );
    page.screenshot("answered.png");
    page.close();
}

#[test]
fn cells_are_chosen_by_keys_too() {
    let mut page = Opened::report("report.json");
    let browser = &mut page.browser;
    let focused = "document.activeElement.getAttribute('aria-label') ?? ''";
    // The first tab stop of a matrix is its first wrong cell.
    for _ in 0..50 {
        browser.press("Tab");
        if browser.text(focused).starts_with("host1 to c1") {
            break;
        }
    }
    assert_eq!(browser.text(focused), "host1 to c1: observed arp, expected yes: wrong");
    assert_eq!(
        browser.text("getComputedStyle(document.activeElement).outlineStyle"),
        "solid",
        "one sees where"
    );
    browser.press("ArrowDown");
    assert_eq!(browser.text(focused), "host2 to c1: observed yes, expected yes");
    browser.press("ArrowLeft");
    browser.press("Enter");
    assert_eq!(
        browser.text("document.querySelector('#details h3').textContent.slice(2, 15)"),
        "host2 → host1"
    );
    browser.press("Escape");
    assert_eq!(browser.value("document.getElementById('details').hidden"), true);
    assert_eq!(browser.text(focused), "host2 to host1: observed yes, expected yes");
    page.close();
}

#[test]
fn it_is_dark_where_the_browser_is() {
    let mut page = Opened::report("report.json");
    let paper = "getComputedStyle(document.body).backgroundColor";
    assert_eq!(page.browser.text(paper), "rgb(255, 255, 255)");
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    page.browser.call("Emulation.setEmulatedMedia", dark);
    assert_eq!(page.browser.text(paper), "rgb(13, 17, 23)");
    page.screenshot("dark.png");
    page.browser.click(WRONG);
    page.screenshot("dark-cell.png");
    page.close();
}

#[test]
fn a_capture_is_downloaded_from_inside_the_page() {
    let mut page = Opened::report("report.json");
    let name = "two-hosts.step1-check1.lan.pcapng";
    let into = json!({ "behavior": "allow", "downloadPath": page.home.path() });
    page.browser.call("Browser.setDownloadBehavior", into);
    page.browser.click(&format!("a[download='{name}']"));
    let there: PathBuf = page.home.path().join(name);
    Browser::wait(|| there.is_file());
    assert_eq!(fs::read(there).unwrap(), fs::read(format!("{DATA}/captures/{name}")).unwrap());
    page.close();
}

#[test]
fn a_matrix_of_250000_cells_can_be_used() {
    let name = |n: usize| format!("container-{n}");
    let cell = |from: usize, to: usize| {
        let wrong = (from, to) == (77, 402);
        json!({ "from": name(from), "to": name(to), "expected": "yes", "observed": if wrong { "silent" } else { "yes" },
                "holds": !wrong, "detail": "", "rtt_us": 212, "answered_by": [name(to)], "source": [], "line": 23 })
    };
    let of = |from: usize| (0..500).filter(move |to| *to != from).map(move |to| cell(from, to));
    let cells: Vec<_> = (0..500).flat_map(of).collect();
    let check = json!({ "line": 20, "holds": false, "within_ms": 0, "settled_ms": null, "looks": 1, "captures": [], "wire": [],
                        "found": { "kind": "matrix", "probe": "icmp", "by_name": false, "cells": cells } });
    let report = json!({ "version": 1, "lab": "large", "runtime": "vm", "holds": false, "took_ms": 1, "checks": [check], "steps": [] });
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("report.json");
    fs::write(&file, report.to_string()).unwrap();
    let mut page = Opened::report(file.to_str().unwrap());
    let browser = &mut page.browser;
    assert!(browser.value("document.querySelectorAll('td').length").as_u64().unwrap() < 1000);
    // Two of its groups, and then the cell.
    browser.click("td.wrong");
    browser.click(".grid[aria-label*='→'] td.wrong");
    let shown = browser.text("document.getElementById('details').innerText");
    assert!(shown.contains("container-77 → container-402"), "{shown}");
    page.close();
}

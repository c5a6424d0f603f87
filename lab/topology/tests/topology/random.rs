//! No text, however broken, panics or hangs.

use std::{fs, path::Path, sync::LazyLock};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Sound and broken topologies to start from.
static TOPOLOGIES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dirs = [here.join("tests/bad"), here.join("tests/good"), here.join("../../topologies")];
    let files = dirs.iter().flat_map(|d| fs::read_dir(d).unwrap()).map(|e| e.unwrap().path());
    let mut files: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files.iter().map(|p| fs::read_to_string(p).unwrap()).collect()
});

/// Whatever comes of it, it must be tellable.
fn look(text: &str) {
    if let Err(found) = labctl_topology::parse(text, "random.yaml") {
        assert!(found.count() > 0);
        assert!(!found.render(true).is_empty() && !found.render(false).is_empty());
        for r in found.mistakes() {
            assert!(r.line >= 1 && r.column >= 1 && r.line as usize <= text.lines().count() + 1, "{r:?}");
        }
    }
}

/// A change of a text: at a place (in thousandths), so many bytes are replaced.
fn mutate(text: &str, changes: &[(u16, u8, String)]) -> String {
    let mut text = text.to_owned();
    for (at, len, new) in changes {
        let mut from = text.len() * usize::from(*at % 1000) / 1000;
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        let mut to = (from + usize::from(*len)).min(text.len());
        while !text.is_char_boundary(to) {
            to += 1;
        }
        text.replace_range(from..to, new);
    }
    text
}

fn snippet() -> impl Strategy<Value = String> {
    let words = [
        "",
        " ",
        "\n",
        "  ",
        "\t",
        ":",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "|",
        ">",
        "&a",
        "*a",
        "<<: *a",
        "'",
        "\"",
        "#",
        "!",
        "---",
        "0",
        "-1",
        "99999999999999999999",
        "1.5",
        "é",
        "\u{0}",
        "\r\n",
        "~",
        "null",
        "yes",
        "host1",
        "c1",
        "lan",
        "@",
        "10.0.0.0/33",
        "deferred: true",
        "container:c1",
        "/",
        "%",
        "x-",
        "all",
    ];
    prop_oneof![proptest::sample::select(words.to_vec()).prop_map(str::to_owned), ".{0,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        // Beside this file, since it is no module of a larger test.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_text(text in any::<String>()) {
        look(&text);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        look(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mutated_topologies(
        topology in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<u16>(), 0u8..12, snippet()), 1..6),
    ) {
        let text: &String = topology.get(&TOPOLOGIES);
        look(&mutate(text, &changes));
    }
}

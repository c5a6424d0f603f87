//! Topologies that include a Compose file.

use std::{fs, path::PathBuf};

use labctl_model::{Check, EngineChoice};
use labctl_topology::Topology;

/// A topology and a Compose file in a folder of their own.
struct Files(PathBuf);

impl Files {
    fn new(name: &str, compose: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("labctl-compose-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("shop.yaml"), compose).unwrap();
        Self(dir)
    }

    fn load(&self, topology: &str) -> Result<Topology, String> {
        let file = self.0.join("lab.yaml");
        fs::write(&file, topology).unwrap();
        let folder = format!("{}/", self.0.display());
        Topology::load(&file, &EngineChoice::default()).map_err(|e| e.to_string().replace(&folder, ""))
    }

    fn refused(&self, topology: &str) -> String {
        self.load(topology).map(|t| t.lab.name).unwrap_err()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SHOP: &str = "\
services:
  web: { image: 'nginx:${TAG}', ports: ['8080:80'], networks: [front] }
  db: { image: postgres, networks: [back] }
networks:
  front:
  back: { internal: true }
";

#[test]
fn what_the_topology_says_counts_and_the_rest_is_the_files() {
    let files = Files::new("merged", SHOP);
    fs::write(files.0.join(".env"), "TAG=1.27 # the tested one\n").unwrap();
    let text = "\
name: shop
compose: { file: shop.yaml, hosts: 2, place: { web: host2 }, images: true }
segments: { lan: { mtu: 1400 } }
containers: { web: { cap_add: [NET_ADMIN] }, extra: { host: host1, networks: [back] } }
expect: [ { probe: icmp, by: name, from: extra, to: db, verdict: yes } ]
";
    let read = files.load(text).unwrap();
    let lab = &read.lab;
    assert_eq!((lab.name.as_str(), lab.hosts.len(), lab.segments["lan"].mtu), ("shop", 2, 1400));
    let web = &lab.containers["web"];
    assert_eq!((web.host.as_str(), web.cap_add.len()), ("host2", 1));
    assert!(web.ports.len() == 1 && format!("{:?}", web.image).contains("nginx:1.27"), "{:?}", web.image);
    assert!(lab.networks["back"].internal);
    let lines: Vec<u32> =
        lab.expect.iter().map(|c| if let Check::Matrix(m) = c { m.line } else { 0 }).collect();
    let (own, included) = lines.split_last().unwrap();
    // What Compose promises is expected because of the line that includes it.
    assert!(*own == 5 && included.len() > 2 && included.iter().all(|l| *l == 2), "{lines:?}");
    let without = files.load(&text.replace("images: true", "images: true, expect: false")).unwrap();
    assert_eq!(without.lab.expect.len(), 1);
    assert!(files.load("compose: shop.yaml\n").unwrap().lab.name.starts_with("labctl-compose"));
    let [note] = &read.notes[..] else { panic!("{:?}", read.notes) };
    assert!(note.contains("shop.yaml:3: service `db`: it has no `ports`"), "{note}");
}

/// Every mistake is shown in the file that it is in.
#[test]
fn mistakes_are_shown_where_they_are() {
    let files = Files::new("mistakes", &SHOP.replace("[back]", "[bakc]"));
    insta::assert_snapshot!("compose_its_own", files.refused("name: x\ncompose: shop.yaml\n"));
    let files = Files::new("mistakes-of-a-lab", &SHOP.replace("[back]", "[back], ulimits: { nofiles: 1 }"));
    let text =
        "name: x\ncompose: shop.yaml\npeers: { web: { lan: 192.168.56.99 } }\nsteps: [ { do: stop wbe } ]\n";
    insta::assert_snapshot!("compose_both", files.refused(text));
    let found = match Topology::load(files.0.join("lab.yaml"), &EngineChoice::default()) {
        Err(labctl_topology::LoadError::Invalid(found)) => found.mistakes(),
        other => panic!("{other:?}"),
    };
    let of_shop = found.iter().find(|m| m.message.contains("nofiles")).unwrap();
    assert!(
        of_shop.line == 3 && of_shop.file.as_ref().is_some_and(|f| f.ends_with("shop.yaml")),
        "{found:?}"
    );
    assert!(found.iter().any(|m| m.line == 4 && m.file.is_none()), "{found:?}");
    for (compose, part) in [
        ("none.yaml", "cannot read none.yaml: No such file"),
        ("{ file: shop.yaml, hosts: 65 }", "there are 1 to 64 hosts"),
        ("{ file: shop.yaml, hosts: 2, swarm: 2 }", "both say how many"),
        (
            "{ file: shop.yaml, place: { web: host1, db: host2 } }",
            "there is no host `host2`\n --> lab.yaml:1:50",
        ),
        ("{ flie: shop.yaml }", "did you mean `file`?"),
        ("[shop.yaml]", "expected compose (a mapping), found a list"),
    ] {
        let found = files.refused(&format!("compose: {compose}\n"));
        assert!(found.contains(part), "{compose}\n{found}");
    }
    let nowhere = labctl_topology::parse("compose: shop.yaml\n", "x").unwrap_err().to_string();
    assert!(nowhere.contains("in no file") && nowhere.contains("labctl import"), "{nowhere}");
}

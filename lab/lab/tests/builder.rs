//! A builder writes what a person would, and its mistakes are answered as a file's are.
#![allow(clippy::unwrap_used, missing_docs)]

use lab::{
    Expected, Lab, Probe,
    builder::{Container, Expect, Host, Network, Segment, Service, Step, Swarm, Value},
};

fn everything() -> lab::LabBuilder {
    Lab::builder("everything")
        .set("description", "a bit of all")
        .segment("lan", Segment::subnet("192.168.56.0/24").gateway("192.168.56.1").set("mtu", 9000))
        .segment("back", "10.9.0.0/24")
        .host("b", Host::on("lan", "192.168.56.7").nic("back", "10.9.0.7"))
        .host(
            "a",
            Host::on("lan", "192.168.56.3")
                .engine("bookworm")
                .set("daemon_json", Value::map([("log-level", "warn")])),
        )
        .swarm(Swarm::managers(["a"]))
        .network("ip", Network::ipvlan("lan").option("ipvlan_mode", "l3").subnet("192.168.57.0/24"))
        .network("front", Network::overlay())
        .container(
            "c1",
            Container::on("a").address("ip", "192.168.57.31").network("front").publish("8080:80"),
        )
        .container("c2", Container::on("b").network("front").set("command", ["/pause", "8: yes"]))
        .service("web", Service::replicas(2).network("front").publish("8081:80"))
        .expect(Expect::table(
            Probe::Tcp(80),
            r"
            from\to  c1   web    # by address
            c2       yes  yes
            ",
        ))
        .expect(Expect::cells(Probe::Icmp, ["hosts"], ["hosts"], Expected::Yes).within("10s"))
        .step(Step::new("stop c2").then("start c2").expect(Expect::all_meet().by_name()))
}

#[test]
fn a_builder_writes_a_topology() {
    insta::assert_snapshot!(everything().yaml());
    let lab = everything().build().unwrap();
    let model = lab.model();
    assert_eq!(model.hosts.keys().collect::<Vec<_>>(), ["b", "a"], "in the order in which they were given");
    assert_eq!(model.containers["c2"].command, ["/pause", "8: yes"]);
    assert_eq!(model.segments["lan"].mtu, 9000);
    assert_eq!(model.expect.len(), 2);
    assert_eq!(model.steps[0].actions.len(), 2);
}

#[test]
fn mistakes_have_the_lines_of_what_it_writes() {
    let lost = Container::on("c").network("frnt");
    let mistake = everything().container("c3", lost).build().unwrap_err().to_string();
    insta::assert_snapshot!(mistake);
}

/// A report cites the line of the call, in the file that has it.
#[test]
fn what_must_hold_has_the_line_of_its_call() {
    let before = line!();
    let lab = Lab::builder("one")
        .host("h1", Host::default())
        .expect(Expect::cells(Probe::Icmp, ["h1"], ["127.0.0.1"], Expected::Yes))
        .step(
            Step::new("stop docker h1")
                .expect(Expect::default().set("interfaces", "h1").set("contains", "lo")),
        )
        .build()
        .unwrap();
    let labctl_model::Check::Matrix(matrix) = &lab.model().expect[0] else { panic!("a matrix") };
    assert_eq!((matrix.line, matrix.cells[0].line), (before + 3, before + 3));
    assert_eq!(lab.model().steps[0].line, before + 4);
}

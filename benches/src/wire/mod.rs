//! The wire between two TAPs against `vde_switch` between two TAPs: throughput, small datagrams, round trips.

mod load;
mod netns;
mod switch;

use crate::{
    measure::{RUNS, versus},
    need::need,
};
use netns::Namespace;
use switch::Switch;

/// Addresses of the two ends.
const NEAR: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 77, 0, 1);
const FAR: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 77, 0, 2);

/// What one switch did in one run.
struct Figures {
    /// TCP, Gbit/s.
    tcp: f64,
    /// Datagrams sent and received a second.
    sent: f64,
    received: f64,
    /// Median round trips, µs: of pings one right after the other, and of such as come every now and then.
    flood_ping: f64,
    paced_ping: f64,
    /// Seconds of processor time that the idle switch takes in a second.
    idle: f64,
}

/// Prints the figures.
pub fn wire() {
    need("iperf3", "command -v iperf3", "iperf3");
    need("vde_switch", "command -v vde_switch", "vde2");
    let (mut ours, mut theirs, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(measure(switch::ours));
        theirs.push(measure(switch::vde));
        bare.push(pings(switch::cable));
    }
    let side_by_side = |name: &str, unit: &str, figure: fn(&Figures) -> f64| {
        let of = |all: &[Figures]| all.iter().map(figure).collect::<Vec<_>>();
        versus(&format!("{name}, wire / vde_switch"), unit, &of(&ours), &of(&theirs));
    };
    side_by_side("TCP by iperf3", "Gbit/s", |f| f.tcp);
    side_by_side("64-byte datagrams received", "thousand/s", |f| f.received / 1e3);
    side_by_side("64-byte datagrams sent meanwhile", "thousand/s", |f| f.sent / 1e3);
    side_by_side("round trip of a ping, each sent at the answer to the last", "µs", |f| f.flood_ping);
    side_by_side("round trip of a ping, 10 ms apart", "µs", |f| f.paced_ping);
    let (theirs_flood, theirs_paced): (Vec<_>, Vec<_>) =
        theirs.iter().map(|f| (f.flood_ping, f.paced_ping)).unzip();
    let (bare_flood, bare_paced): (Vec<_>, Vec<_>) = bare.into_iter().unzip();
    versus("the same at once, a veth without a switch / vde_switch", "µs", &bare_flood, &theirs_flood);
    versus("the same 10 ms apart, a veth without a switch / vde_switch", "µs", &bare_paced, &theirs_paced);
    side_by_side("processor time while idle", "ms/s", |f| f.idle * 1e3);
}

/// Round trips alone: at once, and every now and then.
fn pings(start: fn(&Namespace, &Namespace) -> Switch) -> (f64, f64) {
    let (near, far) = (Namespace::new(), Namespace::new());
    let _switch = start(&near, &far);
    near.plug("near", NEAR);
    far.plug("far", FAR);
    load::settle(&near);
    load::round_trips(&near)
}

/// Two fresh namespaces, and a switch between them.
fn measure(start: fn(&Namespace, &Namespace) -> Switch) -> Figures {
    let (near, far) = (Namespace::new(), Namespace::new());
    let switch = start(&near, &far);
    near.plug("near", NEAR);
    far.plug("far", FAR);
    load::settle(&near);
    let idle = switch.idle();
    let (flood_ping, paced_ping) = load::round_trips(&near);
    let (sent, received) = load::flood(&near, &far);
    let tcp = load::tcp(&near, &far);
    Figures { tcp, sent, received, flood_ping, paced_ping, idle }
}

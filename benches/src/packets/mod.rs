//! Packets: made, read, sent and received, beside the tools that people use for it.

mod cable;
mod craft;

pub use cable::cable;
pub use craft::craft;

use nix::time::ClockId;

/// The frame of all these figures: Ether/IPv4/UDP/VXLAN/Ether/IPv4/ICMP, 120 bytes.
const FRAME: &str = "eth(dst=02:00:00:00:00:0b,src=02:00:00:00:00:0a)/ip(src=192.0.2.1,dst=192.0.2.2)/udp(sport=49152)\
    /vxlan(vni=4097)/eth(dst=02:42:0a:03:01:03,src=02:42:0a:03:01:01)/ip(src=10.3.1.1,dst=10.3.1.3)/icmp(id=7,seq=1)\
    /payload(size=28)";

/// Seconds that this thread has had a core for.
fn core_time() -> f64 {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("every thread has that clock");
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

/// How often `work` runs in a second of a core's time, as often as it takes to be sure of it.
fn per_second(mut work: impl FnMut(u32)) -> f64 {
    let began = core_time();
    let mut done = 0u32;
    loop {
        for _ in 0..1000 {
            work(done);
            done = done.wrapping_add(1);
        }
        let passed = core_time() - began;
        if passed >= 0.5 {
            return f64::from(done) / passed;
        }
    }
}

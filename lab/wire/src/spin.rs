//! Waiting for the next event: awake for a moment where that has paid lately, else asleep.
//!
//! To be woken costs more than to carry a frame: the kernel has to get an idle processor going. Where answers follow
//! questions at once, the loop is about to be needed again when it has nothing to do. As KVM does with halted guests
//! (Linux, virt/kvm/halt-polling.rst), it looks again and again for as long as a sleep would hardly be longer, and gives
//! that up as soon as it was in vain.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use mio::{Events, Poll};

/// How long to look again and again at most. Longer than it takes another process to be woken and to answer.
const MOST: Duration = Duration::from_micros(100);
/// Whoever has the processor for longer, once it is yielded, has work that goes on: it is shared from then on, for so long.
/// To yield to a sender that never sleeps would cost its whole slice, where a sleeper is woken at its next frame.
const SHORT: Duration = Duration::from_micros(30);
const SHARED: Duration = Duration::from_millis(100);

/// Whether to stay awake for a moment.
pub(crate) struct Spin {
    /// Another processor can run meanwhile.
    possible: bool,
    /// The last wait was a short one.
    pays: bool,
    /// Until when somebody else is taken to want this processor all the time.
    shared: Option<Instant>,
}

impl Spin {
    pub(crate) fn new() -> Self {
        Self {
            possible: thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
            pays: false,
            shared: None,
        }
    }

    /// [`Poll::poll`]: returns as soon as there are events, or after `timeout`.
    pub(crate) fn wait(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return poll.poll(events, timeout);
        }
        let began = Instant::now();
        if self.pays && self.shared.is_none_or(|until| began >= until) {
            loop {
                poll.poll(events, Some(Duration::ZERO))?;
                let waited = began.elapsed();
                if !events.is_empty() || timeout.is_some_and(|timeout| waited >= timeout) {
                    return Ok(());
                }
                if waited >= MOST {
                    break;
                }
                // Whoever else wants this processor has it.
                thread::yield_now();
                let now = Instant::now();
                if now - began - waited > SHORT {
                    self.shared = Some(now + SHARED);
                    break;
                }
            }
            self.pays = false;
        }
        let before = began.elapsed();
        let slept = poll.poll(events, timeout.map(|timeout| timeout.saturating_sub(before)));
        self.pays = self.possible && began.elapsed() - before < MOST;
        slept
    }
}

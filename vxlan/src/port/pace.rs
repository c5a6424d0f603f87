//! Limits a rate of frames per second.

use std::time::{Duration, Instant};

/// A token bucket for frames: a rate per second, with a small burst.
///
/// ```
/// use std::time::{Duration, Instant};
/// use vxlan::port::Pace;
///
/// let start = Instant::now();
/// let mut pace = Pace::per_second(1000, start);
/// // The burst is what two milliseconds bring.
/// assert_eq!(pace.take(64, start), Ok(2));
/// assert_eq!(pace.take(64, start), Err(Duration::from_millis(1)));
/// assert_eq!(pace.take(64, start + Duration::from_millis(1)), Ok(1));
/// // What was missed is not made up for.
/// assert_eq!(pace.take(64, start + Duration::from_secs(9)), Ok(2));
/// ```
#[derive(Debug, Clone)]
pub struct Pace {
    /// `None`: no limit.
    rate: Option<u64>,
    burst: u64,
    /// Whole frames that may go now, and the earned part of the next one in billionths.
    tokens: u64,
    part: u64,
    last: Instant,
}

const BILLION: u64 = 1_000_000_000;

impl Pace {
    /// No limit.
    #[must_use]
    pub fn flat_out() -> Self {
        Self { rate: None, burst: 0, tokens: 0, part: 0, last: Instant::now() }
    }

    /// Allows `rate` frames per second from `now` on; 0 counts as 1. The burst is what two milliseconds bring, at least
    /// one frame.
    #[must_use]
    pub fn per_second(rate: u64, now: Instant) -> Self {
        let rate = rate.max(1);
        let burst = (rate / 500).max(1);
        Self { rate: Some(rate), burst, tokens: burst, part: 0, last: now }
    }

    /// Sets the burst, at least one frame. A large burst keeps the total count instead of an even pace, on machines whose
    /// sleeps are long.
    #[must_use]
    pub fn catching_up(mut self, burst: u64) -> Self {
        self.burst = burst.max(1);
        self
    }

    /// Returns how many frames may go now, 1 to `most` (0 if `most` is 0); if none, how long to wait for the next.
    pub fn take(&mut self, most: usize, now: Instant) -> Result<usize, Duration> {
        let Some(rate) = self.rate else { return Ok(most) };
        let passed = now.saturating_duration_since(self.last).as_nanos();
        self.last = self.last.max(now);
        let earned = passed.saturating_mul(rate.into()).saturating_add(self.part.into());
        let whole = u64::try_from(earned / u128::from(BILLION)).unwrap_or(u64::MAX);
        self.part = (earned % u128::from(BILLION)) as u64;
        self.tokens = self.tokens.saturating_add(whole).min(self.burst);
        if self.tokens == 0 {
            return Err(Duration::from_nanos((BILLION - self.part).div_ceil(rate)));
        }
        let taken = self.tokens.min(most as u64);
        self.tokens -= taken;
        Ok(taken as usize)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Never more than the rate and one burst, however often one asks.
        #[test]
        fn keeps_the_rate(rate in 1u64..10_000_000, steps in proptest::collection::vec(1u64..3_000_000, 1..200)) {
            let start = Instant::now();
            let (mut pace, mut now, mut sent) = (Pace::per_second(rate, start), start, 0u64);
            let burst = (rate / 500).max(1);
            for step in steps {
                now += Duration::from_nanos(step);
                while let Ok(taken) = pace.take(64, now) {
                    sent += taken as u64;
                }
                let earned = (now - start).as_nanos() * u128::from(rate) / u128::from(BILLION);
                prop_assert!(u128::from(sent) <= earned + u128::from(burst), "{sent} of {earned}");
            }
        }

        /// Waiting as long as it says is enough.
        #[test]
        fn the_wait_is_right(rate in 1u64..10_000_000) {
            let start = Instant::now();
            let mut pace = Pace::per_second(rate, start);
            while pace.take(1000, start).is_ok() {}
            let wait = pace.take(1, start).unwrap_err();
            prop_assert!(pace.take(1, start + wait - Duration::from_nanos(1)).is_err());
            prop_assert!(pace.take(1, start + wait).is_ok());
        }
    }
}

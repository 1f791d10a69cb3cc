//! Liveness: once enough is whole again, something good happens soon, and again and again.

use std::time::Duration;

use super::Violation;
use crate::time::Instant;

/// Judges whether there is progress.
#[derive(Clone, Debug)]
pub struct Progress {
    bound: Duration,
    /// From when on it is expected.
    from: Option<Instant>,
    last: Instant,
    longest: Duration,
}

impl Progress {
    /// Where it is expected, it comes at least once in `bound`.
    pub const fn new(bound: Duration) -> Self {
        Self { bound, from: None, last: Instant::ZERO, longest: Duration::ZERO }
    }

    /// From `at` on it is expected: a quorum is whole.
    pub fn expect_from(&mut self, at: Instant) {
        self.from = Some(at);
        self.last = self.last.max(at);
    }

    /// Some was made.
    pub fn made(&mut self, at: Instant) -> Result<(), Violation> {
        self.check(at)?;
        if self.from.is_some() {
            self.longest = self.longest.max(at - self.last);
        }
        self.last = self.last.max(at);
        Ok(())
    }

    /// Whether it has been long enough by now.
    pub fn check(&self, now: Instant) -> Result<(), Violation> {
        if self.from.is_some() && now - self.last > self.bound {
            let detail =
                format!("no progress for {:?}; it should come within {:?}", now - self.last, self.bound);
            return Err(Violation::new("liveness", detail));
        }
        Ok(())
    }

    /// The longest wait since it was expected.
    pub const fn longest(&self) -> Duration {
        self.longest
    }
}

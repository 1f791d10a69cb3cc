//! What a process believes the time to be: never quite what it is, and never going back.

use crate::time::Instant;

/// A process's clock, against the world's time.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// Where this stretch of even running began, on the world's clock and on this one.
    world: u64,
    local: u64,
    /// How many parts in a million it runs too fast (or, negative, too slow).
    drift: i64,
    /// The latest that was read from it.
    latest: u64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    /// A clock that shows `local` when the world begins.
    pub(super) const fn new(local: u64) -> Self {
        Self { world: 0, local, drift: 0, latest: local }
    }

    /// What it shows at the world's time `world`.
    #[inline]
    pub(super) fn read(&mut self, world: u64) -> Instant {
        self.latest = self.latest.max(self.shows(world));
        Instant::from_nanos(self.latest)
    }

    #[inline]
    fn shows(&self, world: u64) -> u64 {
        let passed = world.saturating_sub(self.world);
        if self.drift == 0 {
            return self.local.saturating_add(passed);
        }
        let passed = i128::from(passed) * (MILLION + i128::from(self.drift)) / MILLION;
        self.local.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The world's earliest time, from `now`, at which it shows `at` or later.
    #[inline]
    pub(super) fn when(&self, now: u64, at: Instant) -> u64 {
        let at = at.as_nanos();
        if at <= self.latest {
            return now;
        }
        let ahead = at.saturating_sub(self.local);
        let ahead = if self.drift == 0 {
            ahead
        } else {
            let (scaled, rate) = (i128::from(ahead) * MILLION, MILLION + i128::from(self.drift));
            u64::try_from((scaled + rate - 1) / rate).unwrap_or(u64::MAX)
        };
        self.world.saturating_add(ahead).max(now)
    }

    /// From `world` on it runs `drift` parts in a million too fast.
    pub(super) fn set_drift(&mut self, world: u64, drift: i64) {
        (self.local, self.world) = (self.shows(world), world);
        self.drift = drift.clamp(-900_000, 1_000_000);
    }

    /// The parts in a million by which it runs too fast.
    pub(super) const fn drift(&self) -> i64 {
        self.drift
    }

    /// It leaps ahead.
    pub(super) fn jump(&mut self, world: u64, by: u64) {
        (self.local, self.world) = (self.shows(world).saturating_add(by), world);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn when_is_the_first_moment_at_which_it_shows_that_time() {
        let mut random = Random::new(11);
        for _ in 0..2_000 {
            let mut clock = Clock::new(random.below(1_000_000));
            let mut now = 0;
            let mut latest = Instant::ZERO;
            for _ in 0..20 {
                now += random.below(1_000_000);
                match random.below(4) {
                    0 => clock.set_drift(now, random.below(200_000) as i64 - 100_000),
                    1 => clock.jump(now, random.below(5_000)),
                    _ => {}
                }
                let shown = clock.read(now);
                assert!(shown >= latest, "it went back");
                latest = shown;
                let at = Instant::from_nanos(shown.as_nanos() + 1 + random.below(1_000_000));
                let when = clock.when(now, at);
                assert!(when > now && clock.shows(when) >= at.as_nanos());
                assert!(clock.shows(when - 1) < at.as_nanos(), "a moment earlier would do");
            }
        }
    }
}

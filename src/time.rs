//! Instants on the run's own clock.
//!
//! A core is handed the time with each input. What counts is the distance between two instants; where zero
//! lies is the driver's business (boot, the start of a simulated world, a test's first line).

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, in whole nanoseconds since the clock's own zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's zero.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens: 584 years.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `nanoseconds` after zero.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// The instant `seconds` after zero; what is negative or not a number is zero.
    pub fn from_seconds(seconds: f64) -> Self {
        // A float-to-integer cast saturates and sends NaN to 0, which is what a clock with a strange zero needs.
        Self((seconds * 1e9) as u64)
    }

    /// Nanoseconds since zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this instant; zero when `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::NEVER`].
    fn add(self, span: Duration) -> Self {
        let nanoseconds = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_never_goes_below_zero() {
        let (early, late) = (Instant::from_nanos(5), Instant::from_nanos(9));
        assert_eq!(late - early, Duration::from_nanos(4));
        assert_eq!(early - late, Duration::ZERO);
    }

    #[test]
    fn a_sum_saturates_at_never() {
        assert_eq!(Instant::from_nanos(7) + Duration::MAX, Instant::NEVER);
    }

    #[test]
    fn strange_seconds_are_zero() {
        assert_eq!(Instant::from_seconds(f64::NAN), Instant::ZERO);
        assert_eq!(Instant::from_seconds(-3.0), Instant::ZERO);
        assert_eq!(Instant::from_seconds(1.5), Instant::from_nanos(1_500_000_000));
    }
}

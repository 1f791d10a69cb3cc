//! How long things take: a least time and an exponential tail, by integer arithmetic, so that every platform
//! draws the same nanoseconds.

use std::time::Duration;

/// A distribution of durations: never below `min`, then an exponential tail of mean `tail`, cut at `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub min: Duration,
    /// What comes on top, on average.
    pub tail: Duration,
    /// The most.
    pub max: Duration,
}

impl Latency {
    /// Always the same.
    pub const fn fixed(duration: Duration) -> Self {
        Self { min: duration, tail: Duration::ZERO, max: duration }
    }

    /// From `min`, with an exponential tail of mean `tail`, at most 20 of its means.
    pub const fn new(min: Duration, tail: Duration) -> Self {
        Self { min, tail, max: min.saturating_add(tail.saturating_mul(20)) }
    }
}

/// A [`Latency`] in nanoseconds, ready to draw from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    min: u64,
    tail: u64,
    span: u64,
}

impl From<Latency> for Draw {
    fn from(latency: Latency) -> Self {
        let (min, max) = (nanos(latency.min), nanos(latency.max));
        Self { min, tail: nanos(latency.tail), span: max.saturating_sub(min) }
    }
}

/// Whole nanoseconds; 584 years at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Quantiles of the exponential distribution of mean 1: 256 steps and their upper ends, as multiples of 2^-32.
pub(super) struct Quantiles([u64; 257]);

impl Quantiles {
    pub(super) fn new() -> Self {
        let mut table = [0; 257];
        for (step, quantile) in table.iter_mut().enumerate() {
            // The last step would end at infinity: it ends where half of it lies below.
            let above = if step == 256 { 0.5 } else { (256 - step) as f64 };
            // `libm` computes without the platform's own logarithm, whose last bits differ.
            *quantile = (libm::log(256.0 / above) * 4_294_967_296.0) as u64;
        }
        Self(table)
    }

    /// The duration that `word` draws, in nanoseconds.
    #[inline]
    pub(super) fn draw(&self, from: Draw, word: u64) -> u64 {
        if from.tail == 0 {
            return from.min;
        }
        let (step, part) = ((word >> 56) as usize, (word >> 24) & 0xffff_ffff);
        let (low, high) = (self.0[step], self.0[step + 1]);
        let quantile = low + (((high - low) * (part >> 8)) >> 24);
        let tail = (u128::from(from.tail) * u128::from(quantile)) >> 32;
        from.min + (tail as u64).min(from.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_tail_has_its_mean_and_its_bounds() {
        let quantiles = Quantiles::new();
        let latency = Latency::new(Duration::from_micros(50), Duration::from_micros(100));
        let mut random = Random::new(5);
        let drawn: Vec<u64> = (0..200_000).map(|_| quantiles.draw(latency.into(), random.word())).collect();
        let mean = drawn.iter().sum::<u64>() / drawn.len() as u64;
        assert!((148_000..152_000).contains(&mean), "{mean}");
        assert!(drawn.iter().all(|&nanoseconds| (50_000..=2_050_000).contains(&nanoseconds)));
        let above = drawn.iter().filter(|&&nanoseconds| nanoseconds > 50_000 + 230_258).count();
        assert!((19_000..21_000).contains(&above), "a tenth lies above ln 10 means: {above}");
    }

    #[test]
    fn a_fixed_latency_is_fixed() {
        let quantiles = Quantiles::new();
        let latency = Latency::fixed(Duration::from_nanos(7));
        assert!((0..64).all(|bit| quantiles.draw(latency.into(), 1 << bit) == 7));
    }

    #[test]
    fn the_table_is_the_same_on_every_platform() {
        let table = Quantiles::new();
        let sum = table.0.iter().fold(0u64, |sum, &quantile| sum.wrapping_mul(31).wrapping_add(quantile));
        assert_eq!((table.0[128], sum), (2_977_044_471, 7_920_914_800_595_651_573));
    }
}

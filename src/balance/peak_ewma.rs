//! The backend that is expected to answer first.

use std::time::Duration;

use super::Slot;
use super::policy::{Outcome, Policy, Request, cell};
use super::two_choices::pair;
use crate::random::Random;
use crate::time::Instant;

/// Two random backends; the one whose expected latency, times its open requests, is less.
///
/// The expectation is a moving average that jumps up to each peak at once and decays exponentially, as in
/// Twitter's Finagle (`PeakEwma`, 2015). A failure counts as at least `penalty`, however fast it came, so that a
/// backend that fails fast does not look fast (linkerd/linkerd2-proxy#4537).
#[derive(Clone, Debug)]
pub struct PeakEwma {
    slots: Vec<Expectation>,
    random: Random,
    decay: f64,
    penalty: f64,
}

#[derive(Clone, Debug, Default)]
struct Expectation {
    /// Seconds at `stamp`; `None` until the first answer.
    latency: Option<f64>,
    stamp: Instant,
    open: u32,
    inverse_weight: f64,
}

impl PeakEwma {
    /// Draws from `seed`; an observation loses its weight by 1/e every `decay`; a failure counts as `penalty`.
    pub fn new(seed: u64, decay: Duration, penalty: Duration) -> Self {
        Self {
            slots: Vec::new(),
            random: Random::new(seed),
            decay: decay.as_secs_f64(),
            penalty: penalty.as_secs_f64(),
        }
    }

    /// What is left of an observation of weight 1 after `age`.
    #[inline]
    fn rest(&self, age: Duration) -> f64 {
        libm::exp(-age.as_secs_f64() / self.decay)
    }

    #[inline]
    fn cost(&self, now: Instant, slot: Slot) -> f64 {
        let expectation = &self.slots[slot as usize];
        let open = f64::from(expectation.open);
        match expectation.latency {
            Some(latency) => {
                latency * self.rest(now - expectation.stamp) * (open + 1.0) * expectation.inverse_weight
            }
            // A backend that nobody has measured gets one request at once, and no second before its answer.
            None if expectation.open == 0 => 0.0,
            None => f64::MAX / 2.0,
        }
    }

    fn observe(&mut self, now: Instant, slot: Slot, seconds: f64) {
        let age = now - self.slots[slot as usize].stamp;
        let rest = self.rest(age);
        let expectation = &mut self.slots[slot as usize];
        expectation.latency = Some(match expectation.latency {
            Some(latency) if seconds < latency => latency * rest + seconds * (1.0 - rest),
            _ => seconds,
        });
        expectation.stamp = now;
    }
}

impl Policy for PeakEwma {
    fn weigh(&mut self, slot: Slot, weight: f64) {
        cell(&mut self.slots, slot).inverse_weight = 1.0 / weight;
    }

    fn forget(&mut self, slot: Slot) {
        *cell(&mut self.slots, slot) = Expectation::default();
    }

    fn pick(&mut self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        let (first, second) = pair(&mut self.random, candidates);
        let chosen =
            if self.cost(request.now, second) < self.cost(request.now, first) { second } else { first };
        self.slots[chosen as usize].open += 1;
        Some(chosen)
    }

    fn done(&mut self, now: Instant, slot: Slot, outcome: Outcome) {
        let open = &mut self.slots[slot as usize].open;
        *open = open.saturating_sub(1);
        match outcome {
            Outcome::Answered(latency) => self.observe(now, slot, latency.as_secs_f64()),
            Outcome::Failed(latency) => self.observe(now, slot, latency.as_secs_f64().max(self.penalty)),
            // Whoever gave up knows that the answer would have taken longer. To learn nothing from that would send
            // everything to a backend that never answers.
            Outcome::Abandoned(elapsed) => {
                let expected = Policy::latency(self, now, slot).unwrap_or_default();
                if elapsed > expected {
                    self.observe(now, slot, elapsed.as_secs_f64());
                }
            }
        }
    }

    fn timed(&self) -> bool {
        true
    }

    fn latency(&self, now: Instant, slot: Slot) -> Option<Duration> {
        let expectation = self.slots.get(slot as usize)?;
        let seconds = expectation.latency? * self.rest(now - expectation.stamp);
        // More than a Duration can hold is only ever the rounding of its greatest value.
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

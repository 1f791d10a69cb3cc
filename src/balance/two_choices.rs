//! The better of two random backends.

use super::Slot;
use super::least_connections::Load;
use super::policy::{Outcome, Policy, Request};
use crate::random::Random;
use crate::time::Instant;

/// Draws two different backends and takes the less loaded one: nearly as even as looking at all of them, in
/// constant time, and without the herd that runs to the one least loaded backend.
///
/// M. Mitzenmacher (2001), "The power of two choices in randomized load balancing".
#[derive(Clone, Debug)]
pub struct TwoChoices {
    load: Load,
    random: Random,
}

impl TwoChoices {
    /// Draws from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { load: Load::default(), random: Random::new(seed) }
    }
}

/// Two different candidates, or the only one twice.
#[inline]
pub(super) fn pair(random: &mut Random, candidates: &[Slot]) -> (Slot, Slot) {
    let count = candidates.len() as u64;
    // One word has room for both draws: the halves of a mixed word are independent.
    let word = random.word();
    let first = ((word >> 32) * count) >> 32;
    let second =
        if count > 1 { (first + 1 + (((word & 0xffff_ffff) * (count - 1)) >> 32)) % count } else { first };
    (candidates[first as usize], candidates[second as usize])
}

impl Policy for TwoChoices {
    fn weigh(&mut self, slot: Slot, weight: f64) {
        self.load.weigh(slot, weight);
    }

    fn forget(&mut self, slot: Slot) {
        self.load.forget(slot);
    }

    fn pick(&mut self, _request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        self.load.begin(candidates.len());
        let (first, second) = pair(&mut self.random, candidates);
        let chosen = if self.load.after_next(second) < self.load.after_next(first) { second } else { first };
        self.load.take(chosen);
        Some(chosen)
    }

    fn done(&mut self, _now: Instant, slot: Slot, outcome: Outcome) {
        self.load.done(slot, outcome);
    }
}

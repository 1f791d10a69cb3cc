//! The least loaded backend, and how load is counted.

use std::collections::VecDeque;

use super::Slot;
use super::policy::{Outcome, Policy, Request, cell};
use crate::time::Instant;

/// Open requests by slot.
///
/// A failed request stays in the count for a while, as if it were still open: a backend that fails at once would
/// otherwise always look idle and draw every request to itself. The while is eight picks for each candidate, so
/// that it needs no clock and ends even if nothing else happens.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    open: Vec<Open>,
    /// How full each slot would be with one more request, for its weight: what choices compare, kept ready.
    after_next: Vec<f64>,
    /// Failed requests with the pick at which they leave the count, in that order.
    held: VecDeque<(u64, Slot)>,
    picks: u64,
    candidates: u64,
}

#[derive(Clone, Debug, Default)]
struct Open {
    count: u32,
    inverse_weight: f64,
}

/// Picks for which a failed request is held, for each candidate.
const HOLD: u64 = 8;

impl Load {
    pub(super) fn weigh(&mut self, slot: Slot, weight: f64) {
        cell(&mut self.open, slot).inverse_weight = 1.0 / weight;
        cell(&mut self.after_next, slot);
        self.recount(slot);
    }

    pub(super) fn forget(&mut self, slot: Slot) {
        *cell(&mut self.open, slot) = Open::default();
        *cell(&mut self.after_next, slot) = 0.0;
        self.held.retain(|&(_, held)| held != slot);
    }

    /// Lets go of held failures; to be called once before each choice.
    #[inline]
    pub(super) fn begin(&mut self, candidates: usize) {
        self.picks += 1;
        self.candidates = candidates as u64;
        while let Some(&(until, slot)) = self.held.front() {
            if until > self.picks {
                break;
            }
            self.held.pop_front();
            self.end(slot);
        }
    }

    /// How full `slot` would be with one more request, for its weight.
    #[inline]
    pub(super) fn after_next(&self, slot: Slot) -> f64 {
        self.after_next[slot as usize]
    }

    #[inline]
    pub(super) fn take(&mut self, slot: Slot) {
        self.open[slot as usize].count += 1;
        self.recount(slot);
    }

    #[inline]
    pub(super) fn done(&mut self, slot: Slot, outcome: Outcome) {
        match outcome {
            Outcome::Failed(_) => self.held.push_back((self.picks + HOLD * self.candidates, slot)),
            Outcome::Answered(_) | Outcome::Abandoned(_) => self.end(slot),
        }
    }

    #[inline]
    fn end(&mut self, slot: Slot) {
        // An end without a beginning (`done` without `pick`) is the caller's slip, not a negative load.
        let count = &mut self.open[slot as usize].count;
        *count = count.saturating_sub(1);
        self.recount(slot);
    }

    #[inline]
    fn recount(&mut self, slot: Slot) {
        let open = &self.open[slot as usize];
        self.after_next[slot as usize] = f64::from(open.count + 1) * open.inverse_weight;
    }
}

/// The backend with the fewest open requests for its weight. Ties go round.
#[derive(Clone, Debug, Default)]
pub struct LeastConnections {
    load: Load,
    turn: usize,
}

impl Policy for LeastConnections {
    fn weigh(&mut self, slot: Slot, weight: f64) {
        self.load.weigh(slot, weight);
    }

    fn forget(&mut self, slot: Slot) {
        self.load.forget(slot);
    }

    fn pick(&mut self, _request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        self.load.begin(candidates.len());
        let first = if self.turn < candidates.len() { self.turn } else { 0 };
        let (mut least, mut chosen) = (f64::INFINITY, 0);
        // Two plain loops instead of one modulo for each candidate.
        for range in [first..candidates.len(), 0..first] {
            let offset = range.start;
            for (step, &slot) in candidates[range].iter().enumerate() {
                let load = self.load.after_next(slot);
                if load < least {
                    (least, chosen) = (load, offset + step);
                }
            }
        }
        self.turn = chosen + 1;
        let slot = candidates[chosen];
        self.load.take(slot);
        Some(slot)
    }

    fn done(&mut self, _now: Instant, slot: Slot, outcome: Outcome) {
        self.load.done(slot, outcome);
    }
}

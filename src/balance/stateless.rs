//! Policies that keep nothing between picks but one atomic counter: they need no lock.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::policy::{Policy, Request, cell};
use super::{Alias, Slot};
use crate::random::{GOLDEN, mix, scale};

/// A choice that any number of threads may make at once.
pub trait Stateless: Debug + Send + Sync {
    /// One of `candidates`; `None` when the request lacks the key that the policy needs.
    fn pick(&self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot>;
}

/// A seeded sequence of words that threads share: `SplitMix64` is a counter with a mix, so one atomic addition
/// draws. `Relaxed` is enough, since nothing else is published through it.
#[derive(Debug)]
struct Draws(AtomicU64);

impl Draws {
    fn word(&self) -> u64 {
        mix(self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN))
    }
}

/// Each backend in turn.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    turn: Arc<AtomicU64>,
}

impl Stateless for RoundRobin {
    #[inline]
    fn pick(&self, _request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // A 32-bit division is several times faster, and a turn is only ever compared with its neighbours.
        Some(candidates[(turn as u32 % candidates.len() as u32) as usize])
    }
}

impl Policy for RoundRobin {
    fn pick(&mut self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        Stateless::pick(self, request, candidates)
    }
    fn stateless(&self) -> Option<Arc<dyn Stateless>> {
        Some(Arc::new(self.clone()))
    }
}

/// Any backend, each with the same chance.
#[derive(Clone, Debug)]
pub struct RandomChoice {
    draws: Arc<Draws>,
}

impl RandomChoice {
    /// Draws from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { draws: Arc::new(Draws(AtomicU64::new(seed))) }
    }
}

impl Stateless for RandomChoice {
    #[inline]
    fn pick(&self, _request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        Some(candidates[scale(self.draws.word(), candidates.len() as u64) as usize])
    }
}

impl Policy for RandomChoice {
    fn pick(&mut self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        Stateless::pick(self, request, candidates)
    }
    fn stateless(&self) -> Option<Arc<dyn Stateless>> {
        Some(Arc::new(self.clone()))
    }
}

/// Any backend, with a chance in proportion to its weight: the alias method.
#[derive(Clone, Debug)]
pub struct WeightedRandom {
    draws: Arc<Draws>,
    weights: Vec<f64>,
    /// Outcomes of `table`, by column.
    members: Vec<Slot>,
    table: Alias,
}

impl WeightedRandom {
    /// Draws from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            draws: Arc::new(Draws(AtomicU64::new(seed))),
            weights: Vec::new(),
            members: Vec::new(),
            table: Alias::default(),
        }
    }

    fn rebuild(&mut self) {
        self.members =
            (0..self.weights.len() as u32).filter(|&slot| self.weights[slot as usize] > 0.0).collect();
        let weights: Vec<f64> = self.members.iter().map(|&slot| self.weights[slot as usize]).collect();
        self.table = Alias::new(&weights);
    }

    /// A draw from `candidates` alone, by adding up their weights.
    fn scan(&self, candidates: &[Slot]) -> Option<Slot> {
        let weight = |slot: Slot| self.weights[slot as usize];
        let total: f64 = candidates.iter().map(|&slot| weight(slot)).sum();
        let mut left = crate::random::unit(self.draws.word()) * total;
        for &slot in candidates {
            left -= weight(slot);
            if left < 0.0 {
                return Some(slot);
            }
        }
        candidates.last().copied()
    }
}

impl Stateless for WeightedRandom {
    #[inline]
    fn pick(&self, _request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        // Redrawing until a candidate comes keeps the weights among candidates exact, and so does the scan:
        // whoever gives up after four draws has learned nothing about the fifth.
        for _ in 0..4 {
            let column = self.table.draw(self.draws.word(), self.draws.word())?;
            let slot = self.members[column];
            if candidates.len() == self.members.len() || candidates.contains(&slot) {
                return Some(slot);
            }
        }
        self.scan(candidates)
    }
}

impl Policy for WeightedRandom {
    fn weigh(&mut self, slot: Slot, weight: f64) {
        *cell(&mut self.weights, slot) = weight;
        self.rebuild();
    }
    fn forget(&mut self, slot: Slot) {
        *cell(&mut self.weights, slot) = 0.0;
        self.rebuild();
    }
    fn pick(&mut self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        Stateless::pick(self, request, candidates)
    }
    fn stateless(&self) -> Option<Arc<dyn Stateless>> {
        Some(Arc::new(self.clone()))
    }
}

//! What every way of choosing a backend does.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::{Placement, Slot, Stateless};
use crate::ring::Key;
use crate::time::Instant;

/// A request that looks for a backend.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// When it is asked; only [timed](Policy::timed) policies look at it.
    pub now: Instant,
    /// What it is about, for policies that place by key.
    pub key: Option<Key<'a>>,
    /// Where it must not go: a second attempt avoids the first one's backend.
    pub exclude: &'a [Slot],
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, after this long.
    Answered(Duration),
    /// Failed, after this long.
    Failed(Duration),
    /// Nobody can tell: it was cancelled, or its lease was forgotten. It would have taken longer than this.
    Abandoned(Duration),
}

/// Chooses one of several candidates.
pub trait Policy: Debug + Send {
    /// A backend has come, or its weight has changed. Weights are finite and positive.
    fn weigh(&mut self, _slot: Slot, _weight: f64) {}

    /// A backend has gone for good; its slot may be used again for another.
    fn forget(&mut self, _slot: Slot) {}

    /// One of `candidates`, which are slots in the order in which they came and never empty.
    /// `None` when the request lacks the key that the policy needs.
    fn pick(&mut self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot>;

    /// A request that was picked for `slot` has ended.
    fn done(&mut self, _now: Instant, _slot: Slot, _outcome: Outcome) {}

    /// For policies that place by key: where keys belong from now on.
    fn place(&mut self, _placement: Placement) {}

    /// Whether `pick` and `done` look at the time.
    fn timed(&self) -> bool {
        false
    }

    /// The latency that the policy expects of a backend, where it measures one.
    fn latency(&self, _now: Instant, _slot: Slot) -> Option<Duration> {
        None
    }

    /// The same choice without a lock, where the policy keeps no state between picks but a counter.
    fn stateless(&self) -> Option<Arc<dyn Stateless>> {
        None
    }
}

/// Grows `column`, whose index is a slot, so that `slot` has a cell.
pub(super) fn cell<T: Clone + Default>(column: &mut Vec<T>, slot: Slot) -> &mut T {
    let slot = slot as usize;
    if column.len() <= slot {
        column.resize(slot + 1, T::default());
    }
    &mut column[slot]
}

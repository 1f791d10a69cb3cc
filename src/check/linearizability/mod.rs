//! Linearizability: whether some order of the operations explains what every client saw.
//!
//! The order must contain each operation that was answered, may contain those whose outcome nobody knows, and must keep
//! the order of operations that did not overlap (Herlihy and Wing, "Linearizability: A Correctness Condition for
//! Concurrent Objects", 1990). To find it is NP-complete in general (Gibbons and Korach, "Testing Shared Memories",
//! 1997), so there are three ways, from fast to slow:
//!
//! 1. Objects that do not touch each other are judged one by one ("P-compositionality", Horn and Kroening, "Faster
//!    linearizability checking via P-compositionality", 2015): keys, and elements of a set.
//! 2. Where each value is written once, who saw whom is known, and sorting is enough: [`Model::by_values`].
//! 3. Otherwise a search for an order, which remembers where it has been: `search`.
//!
//! Nothing here reads a clock. A judge works in slices, [`Judge::advance`], so whoever drives it looks at his own clock.

mod bits;
mod conflict;
mod judge;
mod models;
mod plan;
mod search;
mod table;

pub use conflict::{Conflict, Role};
pub use judge::{Judge, Limits, Progress, Reason, Verdict};
pub use models::counter::{Counter, CounterAction};
pub use models::lock::{Lock, LockAction};
pub use models::queue::{Queue, QueueAction};
pub use models::register::{Register, RegisterAction};
pub use models::sequences::{Kind, Sequences};
pub use models::set::{Set, SetAction};

/// A value, by number: equal values have equal numbers. What a number means is the caller's business.
pub type Value = u32;

/// The value of what was never written: `None`, `nil`.
pub const NOTHING: Value = 0;

/// A state of a model, by number.
pub type State = u32;

/// The end of an operation whose outcome nobody knows.
pub const NEVER: u32 = u32::MAX;

/// What was asked and what was answered, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<A> {
    /// Which object: operations on different ones do not touch each other.
    pub object: u32,
    /// What was asked and what was answered.
    pub action: A,
    /// The place of its beginning among all beginnings and ends; no two share a place. Where a beginning and an end
    /// were at the same time, the beginning comes first, so that the two overlap.
    pub call: u32,
    /// The place of its end; [`NEVER`] when its outcome is unknown.
    pub end: u32,
}

impl<A> Operation<A> {
    /// Whether it was answered.
    pub const fn is_known(&self) -> bool {
        self.end != NEVER
    }
}

/// What an object does.
pub trait Model {
    /// An operation together with its answer.
    type Action: Copy + Ord + std::fmt::Debug;

    /// The state before anything has happened.
    fn initial(&mut self) -> State;

    /// The state after `action`; `None` when it cannot be answered in `state` as it was.
    fn step(&mut self, state: State, action: Self::Action) -> Option<State>;

    /// Whether it changes no state in which it can be answered as it was: a read, a refusal.
    fn is_pure(&self, action: Self::Action) -> bool;

    /// What may have happened when nobody heard the answer; `None` when that cannot have changed anything.
    fn forget(&self, action: Self::Action) -> Option<Self::Action>;

    /// The part of the object that it touches, where parts do not touch each other; `None`: all of it.
    fn part(&self, _action: Self::Action) -> Option<u32> {
        None
    }

    /// Takes away operations of unknown outcome that cannot explain anything.
    fn prune(&self, _operations: &mut Vec<Operation<Self::Action>>) {}

    /// The verdict in `n log n` where each value is written once, for operations in the order of their calls.
    /// `None` when they are not of that kind.
    fn by_values(&self, _operations: &[Operation<Self::Action>]) -> Option<bool> {
        None
    }

    /// Whether it cannot go on: a model of the user's has raised an error.
    fn has_failed(&self) -> bool {
        false
    }

    /// Bytes that it holds.
    fn memory(&self) -> usize {
        0
    }
}

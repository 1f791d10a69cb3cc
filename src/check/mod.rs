//! Judges: what must hold in every history, over plain values.
//!
//! A world (or a real cluster's journals) tells a judge what happened, as it happens; the judge answers with a
//! [`Violation`] as soon as something cannot be. Nothing here knows a protocol.

mod consensus;
mod history;
mod leases;
pub mod linearizability;
mod liveness;
mod votes;

pub use consensus::{Consensus, Entry};
pub use history::{Ended, History, OperationId};
pub use leases::Leases;
pub use liveness::Progress;
pub use votes::Votes;

/// Something that must never happen has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {detail}")]
pub struct Violation {
    /// What should have held.
    pub invariant: &'static str,
    /// Who did what.
    pub detail: String,
}

impl Violation {
    /// `invariant` does not hold.
    pub fn new(invariant: &'static str, detail: impl Into<String>) -> Self {
        Self { invariant, detail: detail.into() }
    }
}

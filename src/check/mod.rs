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

    /// What is the same about this violation and others of its kind: what should have held, and its detail with all
    /// that has a digit in it (members, terms, indexes, times) left open.
    pub fn kind(&self) -> String {
        format!("{}: {}", self.invariant, pattern(&self.detail))
    }
}

/// A text whose words with a digit in them are left open.
pub fn pattern(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '\\');
    let mut pattern = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        let open = is_word(first) && piece.contains(|c: char| c.is_ascii_digit());
        pattern.push_str(if open { "#" } else { piece });
        rest = after;
    }
    pattern
}

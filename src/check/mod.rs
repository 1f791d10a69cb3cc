//! Judges: what must hold in every history, over plain values.

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

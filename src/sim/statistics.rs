//! What a world counts.

use super::faults::Kind;

/// Counts since the beginning of the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Batches of inputs: how often `flush` was called, but for starts.
    pub batches: u64,
    /// Messages that left for another process.
    pub sent: u64,
    /// Messages that arrived.
    pub delivered: u64,
    /// Messages that were lost on their way.
    pub lost: u64,
    /// Messages that arrived twice.
    pub duplicated: u64,
    /// Messages that were damaged, which was noticed.
    pub corrupted: u64,
    /// Inputs of processes that were down, and messages to nobody.
    pub astray: u64,
    /// Records appended.
    pub records: u64,
    /// Syncs that ended.
    pub syncs: u64,
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that were answered.
    pub answers: u64,
    /// Things that applications heard.
    pub events: u64,
    /// Lives begun.
    pub starts: u64,
    /// Lives ended.
    pub crashes: u64,
    /// Bits that flipped in journals.
    pub rotted: u64,
    /// Journals that could not be read; their processes stay down.
    pub damaged: u64,
    /// Faults that began, by [`Kind::number`].
    pub faults: [u64; Kind::NAMES.len()],
}

impl Statistics {
    /// Faults that began, by name.
    pub fn faults_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Kind::NAMES.into_iter().zip(self.faults)
    }
}

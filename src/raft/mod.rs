//! Raft, from Ongaro's thesis ("Consensus: Bridging Theory and Practice", Stanford 2014), as one pure machine.

mod codec;
mod entries;
mod membership;
mod messages;
mod settings;

pub use entries::{Batch, BatchBuilder, Entries, Index, Payload, Position, Run, Term};
pub use membership::{Change, InvalidChange, MEMBERS_MAX, Membership, WEIGHT, Weight};
pub use messages::{
    Answer, Beat, Checkpoint, Error, Event, HardState, Message, ReadToken, Record, Request, Role, Round,
    Snapshot, SnapshotId, Timer,
};
#[cfg(feature = "mutants")]
pub use settings::Mutant;
pub use settings::{InvalidSetting, Lease, Settings};

//! Raft, from Ongaro's thesis ("Consensus: Bridging Theory and Practice", Stanford 2014), as one pure machine.

/// Whether this machine has that bug planted. Nothing without the feature `mutants`.
macro_rules! mutant {
    ($raft:expr, $name:ident) => {{
        #[cfg(feature = "mutants")]
        {
            $raft.settings.mutant == Some(super::Mutant::$name)
        }
        #[cfg(not(feature = "mutants"))]
        {
            false
        }
    }};
}

mod changes;
mod codec;
mod display;
mod election;
mod entries;
mod follower;
mod leader;
mod log;
mod machine;
mod membership;
mod messages;
mod progress;
mod reads;
mod settings;
mod snapshots;

pub use entries::{Batch, BatchBuilder, Entries, Index, Payload, Position, Run, Term};
pub use machine::{Promised, Raft, Status};
pub use membership::{Change, InvalidChange, MEMBERS_MAX, Membership, WEIGHT, Weight};
pub use messages::{
    Answer, Beat, Checkpoint, Error, Event, HardState, Message, ReadToken, Record, Request, Role, Round,
    Snapshot, SnapshotId, Timer,
};
#[cfg(feature = "mutants")]
pub use settings::Mutant;
pub use settings::{InvalidSetting, Lease, Settings};

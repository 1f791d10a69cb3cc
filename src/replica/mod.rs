//! A replica: Raft, client sessions, and pending answers with deadlines, as one machine that applies through an
//! [`Application`](crate::protocol::Application) (thesis chapter 6).
//!
//! ```text
//!   client ──► Replica ──────► Raft ──────► log
//!                │  ▲                        │
//!     Forward ◄──┘  └── Applied ◄── Machine ◄┘ Apply
//!   (to the leader)                (sessions, state, snapshots)
//! ```
//!
//! Any member takes commands and queries. Those that need the leader wait for one inside the library, are sent to it,
//! and are sent again when that is provably safe: when nothing came of the first sending, or when repeating changes
//! nothing because the command bears a session's stamp. Otherwise the answer at the deadline is
//! [`Error::Unknown`].
//!
//! **Leases** belong to the application; their time is the leader's. It counts from when a lease was granted, attached or
//! renewed, or from when it came to lead itself, and proposes the end of what was not renewed in time; applying that reads
//! no clock. Renewals need no entry of the log: before the leader confirms one, it makes sure that it still leads, so that
//! whoever leads next comes later and grants full time again.
//!
//! **Waiting.** A command may be answered by a later entry: who queues for a lock is answered when it is his. Whoever asked
//! waits at the member that he asked, which hears of it from its own application; the leader may change meanwhile.

/// Whether this replica has that bug planted. Nothing without the feature `mutants`.
macro_rules! mutant {
    ($replica:expr, $name:ident) => {{
        #[cfg(feature = "mutants")]
        {
            $replica.settings.mutant == Some($crate::replica::Mutant::$name)
        }
        #[cfg(not(feature = "mutants"))]
        {
            false
        }
    }};
}

mod ages;
mod answers;
pub mod asks;
mod codec;
mod core;
mod key_value;
mod leases;
mod machine;
mod messages;
mod pending;
mod queries;
mod renewals;
mod sessions;
mod settings;
mod shelf;
mod store;
mod taken;

pub use codec::{Command, HEADER_BYTES};
pub use core::Replica;
pub use key_value::{KeyValue, Operation, OperationResult};
pub use machine::{Machine, StateMachine, Writing};
pub use messages::{
    Answer, Consistency, Error, Event, LeaseReply, Message, Outcome, Reply, Request, SessionId, SessionStamp,
    Timer, Token,
};
pub use sessions::{Limits, Sessions, Verdict};
#[cfg(feature = "mutants")]
pub use settings::Mutant;
pub use settings::Settings;
pub use shelf::Shelf;

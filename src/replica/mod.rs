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

mod answers;
mod codec;
mod core;
mod key_value;
mod machine;
mod messages;
mod pending;
mod queries;
mod sessions;
mod settings;
mod shelf;
mod taken;

pub use codec::{Command, HEADER_BYTES};
pub use core::Replica;
pub use key_value::{KeyValue, Operation, OperationResult};
pub use machine::{Machine, StateMachine};
pub use messages::{
    Answer, Consistency, Error, Event, Message, Outcome, Reply, Request, SessionId, SessionStamp, Timer,
    Token,
};
pub use sessions::{Limits, Sessions, Verdict};
pub use settings::Settings;
pub use shelf::Shelf;

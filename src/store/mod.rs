//! The state that members replicate: ordered keys with revisions, leases, transactions, watches and locks. Its data
//! model is etcd's.
//!
//! ```text
//!                       ┌──────────── history: what was under each key, by revision ◄── watches, reads of the past
//!   command ──► Store ──┤
//!                       ├──────────── leases: when one ends, its keys go, in one revision
//!                       └──────────── locks: the oldest key under `name/` holds; a deletion hands on at once
//! ```
//!
//! **Revisions.** An empty store is at revision 1. What changes at least one key moves it on by one, however many keys
//! it changes; nothing else does. A key knows the revision that created it, the one that changed it last, and how often
//! it was changed since it was created.
//!
//! **Determinism.** The store reads no clock and draws nothing: the same commands at the same indexes give the same state
//! everywhere, and [`Store::digest`] shows it. When a lease is over, and how long history is kept, is decided outside and
//! comes as a command.
//!
//! **Bounds.** [`Limits`] bound what one command may bring, what one answer may carry, what is stored at all, and how many
//! revisions of history are kept.

/// Whether this store has that bug planted. Nothing without the feature `mutants`.
macro_rules! mutant {
    ($store:expr, $name:ident) => {{
        #[cfg(feature = "mutants")]
        {
            $store.limits.mutant == Some($crate::store::Mutant::$name)
        }
        #[cfg(not(feature = "mutants"))]
        {
            false
        }
    }};
}

mod codec;
mod history;
mod leases;
mod limits;
mod locks;
mod machine;
mod messages;
mod snapshot;
mod table;
mod watches;

/// The version of commands, queries and answers. They lie in logs and pass through members of other builds, so it is
/// raised only when all members know the next; that of the frames and snapshots around them ([`crate::wire::VERSION`]) is
/// another.
pub const VERSION: u16 = 1;

pub use limits::Limits;
#[cfg(feature = "mutants")]
pub use limits::Mutant;
pub use machine::{LeaseChange, Response, Store};
pub use messages::{
    Answer, Command, Compare, Comparison, Contents, Done, Entry, Event, EventKind, Expected, Keys, LeaseId,
    LeaseTerms, Operation, Order, Past, Put, PutLease, Query, Range, Refusal, Reply, Revision, Sort, Status,
    Target, Ticket, Watch, WatchToken, lock_key,
};
pub use snapshot::Pinned;

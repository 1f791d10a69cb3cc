//! A member: a [`Replica`](crate::replica::Replica) of the [`Store`](crate::store::Store) on real sockets, a real disk and
//! the clock.
//!
//! ```text
//!   any thread            the member's thread (a tokio runtime)                  thread "journal"
//!   ──────────            ─────────────────────────────────────                  ────────────────
//!   submit ────► Inbox ──► Driver ── effects, in order ──► wal ── Sync ──────────► write, fdatasync
//!   lease_read ─► Store ◄────┤ ▲                            ▲                           │
//!                            │ └──── Inbox ◄── frames ──┐   └─────────── Synced ◄───────┘
//!                            └──► Outgoing ──► sockets ─┘                         thread "snapshots"
//! ```
//!
//! - `driver`: takes what came, performs effects in order, withholds promises until what was persisted before them is
//!   durable, applies. It waits for nothing but the next input or alarm.
//! - `network`: who is connected, who has dialled, who is a stranger; `clients`: who asks over a connection.
//! - `files`, `folder`, `snapshots`: the disk. A write or a sync that fails ends the member: it is never tried again.
//! - `member`: the handle. Everything else is private.
//!
//! **Identity.** A member draws its id at its first start; it is durable in the journal before anybody hears of it. The
//! member whose name sorts first learns the ids of all others that its `peers` name, and forms the cluster with them,
//! unless one of them has a cluster already. From then on the log says who belongs; names and addresses are hints that
//! members tell each other.

mod clients;
mod clock;
mod config;
mod driver;
mod failure;
mod files;
mod folder;
mod inbox;
mod member;
mod network;
mod requests;
mod reserve;
pub mod secrets;
mod shared;
mod snapshots;

pub use config::{Certificates, Config, ConfigError, SecretSource};
pub use failure::Failure;
pub use member::{Member, StartError};
pub use shared::{Part, Status};

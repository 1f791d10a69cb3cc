//! A client of a cluster: sessions, retries, leases that are kept alive, locks, watches.
//!
//! ```text
//!   Client ── stamps, deadlines ──┐
//!   Keeper ── renewals, loss ─────┼──► Transport ──► a member: in a thread (`memory:`), in this process, over TCP
//!   locks, watches ───────────────┘        └── answers each ask once, asks again what may be asked again
//! ```
//!
//! Nothing here waits for an answer: each call is given what to do with it, and does that on whatever thread brings it.
//! Who wants to wait does so outside, in a way that can be interrupted.
//!
//! **Exactly once.** All commands bear the stamp of a session ([`SessionStamp`](crate::replica::SessionStamp)), which is
//! opened when the first command wants it. Whoever waits no longer gives the number up: what arrives under it afterwards
//! is not applied.
//!
//! **Leases.** A lock's place in the queue ends with a lease of this client. One lease serves many locks, but a name only
//! once at a time, so that two threads of one client exclude each other as two clients do. Renewal is a thread's work,
//! which nothing in Python delays; by its own clock it says that a lease is lost before any member can.

mod calls;
mod clock;
mod failure;
mod keeper;
mod locks;
mod memory;
mod network;
mod stamps;
mod transport;
mod watch;

pub use calls::{Client, Settings};
pub use clock::now;
pub use failure::Failure;
pub use keeper::Lost;
pub use locks::{Acquire, Acquisition, Held};
pub use memory::Memory;
pub use network::{Endpoints, Network};
pub use transport::{Connection, Heard, Responder, Transport};
pub use watch::{Batch, Watcher};

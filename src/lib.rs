//! Coterie: the building blocks of distributed systems.
//!
//! ```text
//!  python/coterie/   types, docs, defaults: no algorithms
//!  ─────────────────────────────────────────────────────────
//!  bindings/         the one place that names PyO3 (feature `python`)
//!  ─────────────────────────────────────────────────────────
//!  node/             runs a replica on real sockets and disks (feature `member`)
//!  net/              frames over TCP and TLS, and who may speak (feature `member`)
//!  sim/              worlds in virtual time, and what breaks them     check/   judges
//!  client/           sessions, retries, locks, watches (feature `member`)
//!  replica/          Raft with sessions and forwarding, and the state that it serves
//!  store/            keys with revisions, leases, transactions, watches, locks
//!  raft/             one protocol, pure
//!  protocol  quorum  the shape that protocols share; majorities
//!  wal/  wire/       the journal over files; frames and encodings
//!  pool/             worker processes on shared memory; its scheduler is pure (feature `pool` for the rest)
//!  balance/  ring/   requests → backends; keys → nodes
//!  id  random  time  names, seeded randomness, instants that are handed in
//! ```
//!
//! Everything but `bindings`, `client`, `net`, `node` and the driver of `pool` is pure: it reads no clock, opens no file, spawns nothing, and draws randomness
//! only from a seed. `tests/rust/architecture.rs` holds the `use crate::…` lines to that picture.

pub mod balance;
pub mod check;
#[cfg(feature = "member")]
pub mod client;
pub mod id;
#[cfg(feature = "member")]
pub mod net;
#[cfg(feature = "member")]
pub mod node;
pub mod pool;
pub mod protocol;
pub mod quorum;
pub mod raft;
pub mod random;
pub mod replica;
pub mod ring;
pub mod sim;
pub mod store;
pub mod time;
pub mod wal;
pub mod wire;

#[cfg(feature = "python")]
mod bindings;

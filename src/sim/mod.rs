//! Deterministic worlds: networks, disks, clocks and what breaks them, in virtual time.
//!
//! ```text
//!   Settings ─► World ── verbs ──► machines ── effects ──► network, disks, applications
//!   Plan ──────►  │                                              │
//!                 └── digest, trace, statistics ◄── watchers ◄───┘
//! ```
//!
//! A [`World`] runs one thread, one queue and no clock: the same settings give the same world on every platform.
//! Randomness is keyed by (link | disk | process | fault, n-th draw), so that taking one fault away shifts nothing
//! of the others.

mod bytes;
mod clients;
mod clock;
mod faults;
mod host;
mod latency;
mod medium;
mod network;
mod process;
mod queue;
mod replay;
mod rot;
mod settings;
mod shrink;
pub mod standard;
mod statistics;
mod trace;
mod world;

pub use self::bytes::{ByteJournal, Bytes, Frame};
pub use clients::{ClientOperation, Clients};
pub use faults::{Fault, Kind, LEADER, Links, Plan, Swarm, VOTER};
pub use host::{Asks, Deaf, Host, Load, Seen, Watch};
pub use latency::Latency;
pub use medium::{Damage, Failed, Journal, Medium, ValueJournal, Values};
pub use network::Network;
pub use replay::{Divergence, replay};
pub use settings::{Clocks, Disk, Settings};
pub use shrink::{Shrunk, Trial, shrink};
pub use statistics::Statistics;
pub use trace::{Digest, Filter, Fingerprint, Part, Row, Trace, Verb, of_debug, of_hash};
pub use world::{Failure, World};

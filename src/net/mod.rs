//! `wire`'s frames over TCP: who may speak, and streams that neither side can make the other wait on for ever.
//!
//! ```text
//!   dials ── Hello ──►  accepts      who it is, which versions it speaks, which cluster it means, a random challenge
//!         ◄── Hello ──
//!         ── Proof ──►               that it knows the cluster's secret, over both hellos
//!         ◄─ Verdict ─               the same of the other side; or why it is refused
//!         ══ frames ══►              of the agreed version
//! ```
//!
//! Peers and clients differ in their hello alone. A member sends to a peer on the connection that it has dialled itself,
//! and hears it on the one that the peer has dialled: so each direction may break alone, as networks do, and the
//! end of either is evidence about the peer's process.
//!
//! **Strangers.** Whoever does not show in time, in few bytes and with a proof that he belongs here, is refused and
//! counted ([`Counters`]), and costs nothing else. With TLS ([`Tls`]) certificates prove it, both ways, and a secret, if
//! one is given, besides.

mod authority;
mod counters;
mod descriptors;
mod handshake;
mod outgoing;
mod secret;
mod stream;
mod tls;

pub use authority::{Authority, AuthorityError, Issued};
pub use counters::{Counters, Statistics};
pub use descriptors::{Mark, Owned, forks};
pub use handshake::{Agreement, Hello, Known, Party, Refusal, Refused, accept, dial_in};
pub use outgoing::{Outgoing, Priority};
pub use secret::Secret;
pub use stream::{End, Frames, Receiving, Sending, Stream, connect, prepare};
pub use tls::{Pem, Tls, TlsError};

use std::time::Duration;

/// The most that a peer's frame may carry: a batch of entries, or of what it says of forwarded commands.
pub const PEER_PAYLOAD_MAX: usize = 64 << 20;
/// The most that a client's frame may carry. What a member sends to a client may have [`PEER_PAYLOAD_MAX`].
pub const CLIENT_PAYLOAD_MAX: usize = 8 << 20;
/// How long a connection may take to show who it is.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many connections may be about to show who they are.
pub const HANDSHAKES_MAX: usize = 256;

/// A frame with a replica's message, between peers.
pub const MESSAGE: u8 = 1;
/// An empty frame: the connection is still there.
pub const PING: u8 = 2;
/// A frame with what a peer knows of members ([`Known`]).
pub const DIRECTORY: u8 = 3;

/// How often who dialled says something, if only that it is there.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// After so long without a byte the other end counts as gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);

//! Members on real sockets and disks: what a user may rely on when processes, disks and networks fail.

#![expect(clippy::disallowed_methods, reason = "members live by the real clock")]

mod client;
mod clients;
mod cuts;
mod disk;
mod group;
mod life;
mod processes;
#[cfg(feature = "raised-version")]
mod releases;
mod strangers;
mod tls;
mod upgrade;

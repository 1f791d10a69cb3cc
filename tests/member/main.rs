//! Members on real sockets and disks: what a user may rely on when processes, disks and networks fail.

#![expect(clippy::disallowed_methods, reason = "members live by the real clock")]

mod clients;
mod group;
mod life;

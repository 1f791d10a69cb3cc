//! The one binary of Rust tests that look at the crate from outside: one link, one run.

mod architecture;
mod asks;
mod balance;
mod bytes;
mod check;
#[cfg(feature = "member")]
mod client;
mod conversations;
mod entries;
mod evidence;
mod laws;
mod linearizability;
mod locks;
#[cfg(all(feature = "pool", any(target_os = "linux", target_os = "macos")))]
mod pool;
mod power;
mod quorum;
mod raft;
mod replica;
mod replicated;
mod ring;
mod shrink;
mod sim;
mod store;
mod stored;
mod thesis;
mod upgrade;
mod wal;
mod wire;
mod worlds;

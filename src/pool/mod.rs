//! Processes, shared memory, scheduling: work for many workers, whatever becomes of them.
//!
//! ```text
//!  user's threads ──offer, wait──▶ ┌────────────────────────────┐      ring, 256 KiB       ┌────────┐
//!                                  │ driver: one lock           │ ───── tasks ───────────▶ │ worker │
//!  dispatcher ──────pump─────────▶ │  scheduler (pure)          │ ◀──── results ────────── │        │
//!  supervisor ──deaths, starts───▶ │  store · functions · lanes │      words: claim,       └────────┘
//!                                  └────────────────────────────┘      tails, wake, bell        ⋮
//! ```
//!
//! - [`scheduler`]: who does what and when; handed the time, does nothing itself.
//! - [`message`], [`ring`], `channel`: bytes in shared memory, and who may touch which.
//! - [`arena`], [`parcel`]: large buffers, which are written once and read where they lie; messages that name them.
//! - [`store`], [`functions`]: what is kept of a job; what tasks call.
//! - `outgoing`, `driver`, `supervisor`: the scheduler on real rings, threads and processes.
//! - `gate`: the pool's threads are held while the user's thread forks.
//! - `system`: what is asked of the operating system. All conditional code is there.

pub mod arena;
pub mod functions;
pub mod message;
pub mod parcel;
pub mod ring;
pub mod scheduler;
pub mod store;

#[cfg(all(feature = "pool", any(target_os = "linux", target_os = "macos")))]
pub mod channel;
#[cfg(all(feature = "pool", any(target_os = "linux", target_os = "macos")))]
pub mod driver;
#[cfg(all(feature = "pool", any(target_os = "linux", target_os = "macos")))]
pub mod gate;
#[cfg(all(feature = "pool", any(target_os = "linux", target_os = "macos")))]
mod outgoing;
#[cfg(all(feature = "pool", any(target_os = "linux", target_os = "macos")))]
mod supervisor;
#[cfg(all(feature = "pool", any(target_os = "linux", target_os = "macos")))]
pub mod system;

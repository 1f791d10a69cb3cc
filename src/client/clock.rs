//! The clock of this machine.

use crate::time::Instant;

/// The present instant. On Linux it goes on while the machine sleeps: a lease that nobody could renew then is lost when it
/// wakes.
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[cfg(target_os = "linux")]
    let clock = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    let clock = libc::CLOCK_MONOTONIC;
    // SAFETY: `time` is a place for a timespec, and the clock is one that each system of its kind has.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

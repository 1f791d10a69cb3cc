//! The clock that members live by.

use crate::time::Instant;

/// Now, on a clock that goes on while the machine sleeps: a lease must not outlive a suspension.
#[cfg(target_os = "linux")]
pub(super) fn now() -> Instant {
    read(libc::CLOCK_BOOTTIME)
}

/// Now. On macOS this clock goes on while the machine sleeps.
#[cfg(not(target_os = "linux"))]
pub(super) fn now() -> Instant {
    read(libc::CLOCK_MONOTONIC)
}

fn read(clock: libc::clockid_t) -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to write to. It cannot fail for a clock that every kernel has which we run on.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Instant::from_nanos((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
}

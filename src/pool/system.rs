//! What the pool asks of the operating system: memory that processes share, sleepers and who wakes them, the end of a
//! process, a clock. All conditional code is here.
//!
//! - `linux`: memory without a name, futexes, descriptors of processes.
//! - `posix`: shared memory that loses its name at once, and a pipe for each sleeper. For systems without the former, and
//!   with the feature `portable-pool` for Linux too, so that it is tested there.
//! - `darwin`: what POSIX lacks, as macOS has it: kqueue, and memory that children do not inherit.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use crate::time::Instant;

#[cfg(target_os = "macos")]
mod darwin;
#[cfg(target_os = "linux")]
#[cfg_attr(
    feature = "portable-pool",
    expect(
        dead_code,
        unreachable_pub,
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "`posix` needs a part of it"
    )
)]
mod linux;
#[cfg(any(feature = "portable-pool", target_os = "macos"))]
mod posix;

#[cfg(all(target_os = "linux", not(feature = "portable-pool")))]
use linux as native;
#[cfg(any(feature = "portable-pool", target_os = "macos"))]
use posix as native;

/// Whether sleepers are woken through pipes.
pub const IS_PORTABLE: bool = cfg!(any(feature = "portable-pool", target_os = "macos"));

pub use native::{Bell, Process, Sleepers, ended, memory, wait_here, wake_here, wake_nobody_here};

/// Bytes of a huge page.
pub const HUGE_PAGE: usize = 1 << 21;

/// Who sleeps until somebody wakes him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleeper {
    /// A thread of the user that waits for results itself.
    Helper,
    /// The dispatcher, which is woken only when no helper is.
    Dispatcher,
    /// A worker.
    Worker(usize),
}

impl Sleeper {
    /// Tells apart those who sleep on one word.
    #[inline]
    const fn bit(self) -> u32 {
        match self {
            Self::Helper | Self::Worker(_) => 1,
            Self::Dispatcher => 2,
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Somebody woke us, or the word had changed before.
    Woken,
    /// The time was up.
    TimedOut,
    /// A signal arrived: look whether it means something.
    Interrupted,
}

/// Memory that processes, or threads, share.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
    file: Option<OwnedFd>,
    /// The process that mapped it.
    owner: i32,
}

// SAFETY: the memory lives as long as the value, wherever that is; who writes which words is the channels' business.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// New memory, zeroed, without a name: gone with its last process. A forked child does not have it mapped, so
    /// that a child of the user's program can neither keep it alive nor disturb it; workers open it by its descriptor.
    /// From `buffers` on it holds large ones, and pages are taken when they are first touched.
    pub fn shared(length: usize, buffers: usize) -> io::Result<Self> {
        let file = native::memory_file()?;
        let size = libc::off_t::try_from(length).map_err(io::Error::other)?;
        // SAFETY: a plain system call.
        checked(unsafe { libc::ftruncate(file.as_raw_fd(), size) })?;
        Self::of(file, length, buffers)
    }

    /// New memory, zeroed, for threads of this process alone.
    pub fn private(length: usize) -> io::Result<Self> {
        let base = native::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        let mapping = Self { base, length, file: None, owner: process_id() };
        native::leave_out_of_children(base, length)?;
        Ok(mapping)
    }

    /// The memory behind a descriptor that came from [`Mapping::shared`] in another process.
    pub fn open(file: RawFd, length: usize, buffers: usize) -> io::Result<Self> {
        // SAFETY: `stat` is plain data.
        let mut status = unsafe { std::mem::zeroed::<libc::stat>() };
        // SAFETY: `status` outlives the call.
        checked(unsafe { libc::fstat(file, &raw mut status) })?;
        // Some systems round up to whole pages.
        let size = usize::try_from(status.st_size).unwrap_or(0);
        if !(length..length + HUGE_PAGE).contains(&size) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not the pool's memory"));
        }
        Self::of(duplicate(file)?, length, buffers)
    }

    fn of(file: OwnedFd, length: usize, buffers: usize) -> io::Result<Self> {
        let base = native::map(length, libc::MAP_SHARED, file.as_raw_fd())?;
        let mapping = Self { base, length, file: Some(file), owner: process_id() };
        native::leave_out_of_children(base, length)?;
        if buffers < length {
            // SAFETY: inside the mapping.
            native::expect_buffers(unsafe { base.add(buffers) }, length - buffers);
        }
        Ok(mapping)
    }

    /// This process is about to fork: the child shall see these pages as they are now, and what either writes from now on
    /// is its own. They must not be used again for anything else.
    pub fn keep_for_children(&self, memory: NonNull<u8>, length: usize) -> io::Result<()> {
        let offset = memory.as_ptr().addr() - self.base.as_ptr().addr();
        match &self.file {
            Some(file) => native::keep_for_children(memory, length, file.as_raw_fd(), offset),
            None => Ok(()),
        }
    }

    /// Where it begins.
    #[inline]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The descriptor by which another process opens it.
    pub fn file(&self) -> Option<RawFd> {
        self.file.as_ref().map(AsRawFd::as_raw_fd)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child, which collects this process's garbage as well, other memory may lie there by now.
        if process_id() != self.owner {
            return;
        }
        // SAFETY: the range is the mapping, and nobody who borrows it outlives it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// The word at `offset` of the memory behind a descriptor.
pub fn read_word(file: RawFd, offset: usize) -> io::Result<u64> {
    native::read_word(file, offset)
}

/// Gives whole pages of shared memory back to the system. What they held is lost, at once or later.
pub fn release(memory: NonNull<u8>, length: usize) {
    native::release(memory, length);
}

/// Now, on the clock that sleepers wait by.
pub fn now() -> Instant {
    // SAFETY: `timespec` is plain data.
    let mut time = unsafe { std::mem::zeroed::<libc::timespec>() };
    // SAFETY: `time` outlives the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The running process.
pub fn process_id() -> i32 {
    // SAFETY: a plain system call.
    unsafe { libc::getpid() }
}

/// Sleeps until one of `files` can be read or has ended, at most until `deadline`; says which are.
pub fn readable(files: &[RawFd], deadline: Instant) -> Vec<bool> {
    let mut entries: Vec<libc::pollfd> =
        files.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    poll(&mut entries, deadline);
    entries.iter().map(|entry| entry.revents != 0).collect()
}

fn poll(entries: &mut [libc::pollfd], deadline: Instant) -> Waited {
    let left = deadline.since(now());
    let milliseconds = if deadline == Instant::NEVER {
        -1
    } else {
        i32::try_from(left.saturating_add(Duration::from_micros(999)).as_millis()).unwrap_or(i32::MAX)
    };
    // SAFETY: the entries outlive the call.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, milliseconds) };
    match count {
        1.. => Waited::Woken,
        0 => Waited::TimedOut,
        _ => Waited::Interrupted,
    }
}

/// Waits for the end of file of `file` and then ends this process, whatever it is doing: its parent is gone. With
/// `group` it ends its whole process group, which then is the pool's own. Returns only when there is no such pipe.
pub fn follow_to_the_grave(file: RawFd, group: bool) {
    loop {
        let mut byte = [0_u8; 1];
        // SAFETY: the buffer outlives the call.
        let count = unsafe { libc::read(file, byte.as_mut_ptr().cast(), 1) };
        match count {
            0 => break,
            1.. => {}
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
    // SAFETY: plain system calls.
    unsafe {
        if group {
            libc::kill(0, libc::SIGKILL);
        }
        libc::_exit(1);
    }
}

/// Blocks all signals in the calling thread: they belong to the user's threads, which Python watches.
pub fn block_signals() {
    // SAFETY: the set outlives the calls.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
}

/// Another descriptor of the same thing, which a program that is executed does not inherit.
fn duplicate(file: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(checked(libc::fcntl(file, libc::F_DUPFD_CLOEXEC, 0))?) })
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs others who sleep, and time to sleep in")]
mod tests;

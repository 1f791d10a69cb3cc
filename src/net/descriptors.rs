//! Which descriptors are ours, so that a forked child can let go of them.
//!
//! A child inherits every descriptor. While it keeps a listener or a connection, nobody sees that its parent's member is
//! gone; while it keeps `LOCK`, nobody can start the member anew. It may do little after a fork: no lock can be trusted, so
//! this is a table of bits without any.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// One bit for each descriptor, up to 65,536.
static OURS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// How often a fork lies between this process and the first that had a descriptor of ours.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Names this process: it is another number in a forked child of one that had a descriptor of ours. Unlike the process's
/// own number it costs no call of the system.
pub fn forks() -> u64 {
    FORKS.load(SeqCst)
}

/// Something with a descriptor that is ours as long as this lives.
#[derive(Debug)]
pub struct Owned<T: AsRawFd>(T);

impl<T: AsRawFd> Owned<T> {
    /// `value`, from now on.
    pub fn new(value: T) -> Self {
        mark(value.as_raw_fd(), true);
        Self(value)
    }
}

impl<T: AsRawFd> Drop for Owned<T> {
    fn drop(&mut self) {
        mark(self.0.as_raw_fd(), false);
    }
}

impl<T: AsRawFd> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: AsRawFd> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A connection's descriptor, marked as long as this lives; the connection itself lives elsewhere and must end later.
#[derive(Debug)]
pub struct Mark(RawFd);

impl Mark {
    /// Of `value`'s descriptor.
    pub fn of(value: &impl AsRawFd) -> Self {
        mark(value.as_raw_fd(), true);
        Self(value.as_raw_fd())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        mark(self.0, false);
    }
}

fn mark(descriptor: RawFd, ours: bool) {
    guard_forks();
    let Some((word, bit)) = place(descriptor) else { return };
    if ours {
        word.fetch_or(bit, SeqCst);
    } else {
        word.fetch_and(!bit, SeqCst);
    }
}

fn place(descriptor: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let descriptor = usize::try_from(descriptor).ok()?;
    Some((OURS.get(descriptor / 64)?, 1 << (descriptor % 64)))
}

/// From the first descriptor on, every fork of this process lets go of them in the child, whoever forks.
fn guard_forks() {
    static GUARDED: Once = Once::new();
    GUARDED.call_once(|| {
        // SAFETY: the function takes no lock and allocates nothing, as befits a child of a process with threads.
        unsafe { libc::pthread_atfork(None, None, Some(let_go)) };
    });
}

/// In a forked child, before anything else: closes every descriptor of the parent's members and clients, and shuts nothing
/// down, so that the parent's connections go on. Nothing of the parent's may be used in the child, nor dropped.
extern "C" fn let_go() {
    FORKS.fetch_add(1, SeqCst);
    for (at, word) in OURS.iter().enumerate() {
        let mut bits = word.swap(0, SeqCst);
        while bits != 0 {
            let descriptor = at * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            // SAFETY: the descriptor is the child's own copy of one of ours, and nothing in the child uses it.
            unsafe { libc::close(descriptor as libc::c_int) };
        }
    }
}

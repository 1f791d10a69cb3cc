//! What POSIX lacks, as macOS has it: kqueue tells of the end of processes, and memory can be kept from children.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use super::{checked, now, poll};
use crate::time::Instant;

pub(super) fn leave_out_of_children(memory: NonNull<u8>, length: usize) -> io::Result<()> {
    inherit(memory, length, libc::VM_INHERIT_NONE)
}

/// The child gets a copy, as of its fork.
pub(super) fn keep_for_children(
    memory: NonNull<u8>,
    length: usize,
    _file: RawFd,
    _offset: usize,
) -> io::Result<()> {
    inherit(memory, length, libc::VM_INHERIT_COPY)
}

fn inherit(memory: NonNull<u8>, length: usize, how: libc::c_int) -> io::Result<()> {
    // SAFETY: the range is a mapping, or whole pages of one.
    checked(unsafe { libc::minherit(memory.as_ptr().cast(), length, how) })?;
    Ok(())
}

pub(super) fn release(memory: NonNull<u8>, length: usize) {
    // SAFETY: the caller owns the range. It is advice.
    unsafe { libc::madvise(memory.as_ptr().cast(), length, libc::MADV_FREE) };
}

/// A process that nobody reaps before the pool has seen its end, so that its number means no other.
#[derive(Debug)]
pub struct Process(i32);

impl Process {
    /// The process `id`; an error if there is none.
    pub fn open(id: i32) -> io::Result<Self> {
        // SAFETY: a plain system call, which sends nothing.
        checked(unsafe { libc::kill(id, 0) })?;
        Ok(Self(id))
    }

    /// Sends it a signal; that it has ended is no error.
    pub fn signal(&self, signal: i32) {
        if self.0 > 0 {
            // SAFETY: a plain system call.
            unsafe { libc::kill(self.0, signal) };
        }
    }

    /// It has ended and may be reaped: no signal is sent any more.
    pub fn part_with(&mut self) {
        self.0 = 0;
    }

    /// For [`ended`].
    pub fn watched(&self) -> i32 {
        self.0
    }
}

/// How long to sleep when the system does not take what is to be watched: it is asked anew then.
const PATIENCE: Duration = Duration::from_millis(20);

/// Sleeps until `bell` can be read or one of the processes has ended, at most until `deadline`; says which have.
pub fn ended(bell: Option<RawFd>, processes: &[i32], deadline: Instant) -> Vec<bool> {
    let mut ended = vec![false; processes.len()];
    let soon = deadline.min(now() + PATIENCE);
    let Ok(queue) = queue() else {
        poll(&mut [], soon);
        return ended;
    };
    let mut until = deadline;
    if bell.is_some_and(|bell| add(&queue, bell, libc::EVFILT_READ, 0).is_err()) {
        until = soon;
    }
    for (ended, &process) in ended.iter_mut().zip(processes) {
        match add(&queue, process, libc::EVFILT_PROC, libc::NOTE_EXIT) {
            Ok(()) => {}
            // It ended before, whether it was reaped or not.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                *ended = true;
                until = now();
            }
            Err(_) => until = until.min(soon),
        }
    }
    for event in events(&queue, processes.len() + 1, until) {
        let place = processes.iter().position(|&process| process as usize == event.ident);
        if let Some(place) = place.filter(|_| event.filter == libc::EVFILT_PROC) {
            ended[place] = true;
        }
    }
    ended
}

fn queue() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor is new and ours. Children of a fork do not inherit it.
    Ok(unsafe { OwnedFd::from_raw_fd(checked(libc::kqueue())?) })
}

fn add(queue: &OwnedFd, what: i32, filter: i16, notes: u32) -> io::Result<()> {
    // SAFETY: `kevent` is plain data.
    let mut change = unsafe { mem::zeroed::<libc::kevent>() };
    change.ident = what as usize;
    change.filter = filter;
    change.flags = libc::EV_ADD;
    change.fflags = notes;
    // SAFETY: the change outlives the call, which asks for no event.
    checked(unsafe {
        libc::kevent(queue.as_raw_fd(), &raw const change, 1, ptr::null_mut(), 0, ptr::null())
    })?;
    Ok(())
}

fn events(queue: &OwnedFd, most: usize, deadline: Instant) -> Vec<libc::kevent> {
    let left = deadline.since(now());
    let time = libc::timespec {
        // More than any system takes is for ever.
        tv_sec: left.as_secs().min(1 << 24) as libc::time_t,
        tv_nsec: libc::c_long::from(left.subsec_nanos() as i32),
    };
    let timeout = if deadline == Instant::NEVER { ptr::null() } else { &raw const time };
    // SAFETY: `kevent` is plain data, and there is room for as many as we say. A signal ends it with an error.
    unsafe {
        let mut events = vec![mem::zeroed::<libc::kevent>(); most];
        let room = most as libc::c_int;
        let count = libc::kevent(queue.as_raw_fd(), ptr::null(), 0, events.as_mut_ptr(), room, timeout);
        events.truncate(usize::try_from(count).unwrap_or(0));
        events
    }
}

//! Linux: memory without a name, futexes, descriptors of processes, control groups.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;

use super::{HUGE_PAGE, Sleeper, Waited, checked, readable};
use crate::time::Instant;

const PAGE: usize = 4096;

pub(super) fn memory_file() -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string; the descriptor is checked.
    let file = unsafe { libc::memfd_create(c"coterie-pool".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(checked(file)?) })
}

pub(super) fn map(length: usize, flags: libc::c_int, file: RawFd) -> io::Result<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // Where a huge page may begin: some address space is reserved first, and what is left over is given back.
    let reserved = length.next_multiple_of(PAGE) + HUGE_PAGE;
    let nothing = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel chooses the address; the result is checked.
    let start = unsafe { libc::mmap(ptr::null_mut(), reserved, libc::PROT_NONE, nothing, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let skipped = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    // SAFETY: inside the reservation, which is ours.
    let base = unsafe {
        let base = start.byte_add(skipped);
        let mapped = libc::mmap(base, length, access, flags | libc::MAP_FIXED, file, 0);
        if mapped == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            libc::munmap(start, reserved);
            return Err(error);
        }
        libc::munmap(start, skipped);
        let end = skipped + length.next_multiple_of(PAGE);
        libc::munmap(start.byte_add(end), reserved - end);
        base
    };
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("memory at address zero"))
}

/// Huge pages where the system has them for shared memory, and no part of a core dump.
pub(super) fn expect_buffers(memory: NonNull<u8>, length: usize) {
    // SAFETY: the range is inside a mapping. It is advice: a system that has no ear for it works as well.
    unsafe {
        libc::madvise(memory.as_ptr().cast(), length, libc::MADV_HUGEPAGE);
        libc::madvise(memory.as_ptr().cast(), length, libc::MADV_DONTDUMP);
    }
}

pub(super) fn leave_out_of_children(memory: NonNull<u8>, length: usize) -> io::Result<()> {
    // SAFETY: the range is a mapping.
    checked(unsafe { libc::madvise(memory.as_ptr().cast(), length, libc::MADV_DONTFORK) })?;
    Ok(())
}

pub(super) fn keep_for_children(
    memory: NonNull<u8>,
    length: usize,
    file: RawFd,
    offset: usize,
) -> io::Result<()> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    // SAFETY: the range is ours and mapped from the same place of the same file, so that nobody sees a difference.
    let mapped =
        unsafe { libc::mmap(memory.as_ptr().cast(), length, access, flags, file, offset as libc::off_t) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(super) fn read_word(file: RawFd, offset: usize) -> io::Result<u64> {
    let mut word = [0; 8];
    // SAFETY: the buffer outlives the call.
    let count = unsafe { libc::pread(file, word.as_mut_ptr().cast(), word.len(), offset as libc::off_t) };
    if count == 8 { Ok(u64::from_ne_bytes(word)) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn release(memory: NonNull<u8>, length: usize) {
    // SAFETY: the caller owns the range. If it fails the memory goes with its last process.
    unsafe { libc::madvise(memory.as_ptr().cast(), length, libc::MADV_REMOVE) };
}

/// How many bytes of memory this process may use: the machine's, or its control group's.
pub fn memory() -> u64 {
    // SAFETY: plain system calls.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let machine = u64::try_from(pages).unwrap_or(0) * u64::try_from(size).unwrap_or(0);
    control_groups().into_iter().fold(machine, u64::min)
}

/// The limits of this process's control groups, from its own up to the root, as far as they can be read.
fn control_groups() -> Vec<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in own.lines() {
        // Hierarchy, controllers, path: version 2 has no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            let limit = std::fs::read_to_string(Path::new(root).join(folder).join(file));
            limits.extend(limit.ok().and_then(|limit| limit.trim().parse::<u64>().ok()));
        }
    }
    limits
}

/// How sleepers of other processes are woken: the kernel knows who sleeps on a word.
#[derive(Debug)]
pub struct Sleepers;

impl Sleepers {
    /// For the pool's process.
    pub fn new(_workers: usize) -> io::Result<Self> {
        Ok(Self)
    }

    /// For a worker, with what [`Sleepers::files`] gave.
    pub fn open(_files: &[RawFd], _worker: usize) -> io::Result<Self> {
        Ok(Self)
    }

    /// What a worker inherits.
    pub fn files(&self, _worker: usize) -> Vec<RawFd> {
        Vec::new()
    }

    /// Sleeps while `word` is `expected`, until a wake-up for `who`, at most until `deadline`.
    #[inline]
    pub fn wait(
        &self,
        who: Sleeper,
        word: &AtomicU32,
        _asleep: &AtomicU32,
        expected: u32,
        deadline: Instant,
    ) -> Waited {
        wait(word, expected, who.bit(), deadline)
    }

    /// Wakes him who sleeps on `word`, whose value was changed before; says whether he did sleep.
    #[inline]
    pub fn wake(&self, who: Sleeper, word: &AtomicU32, _asleep: &AtomicU32) -> bool {
        wake(word, who.bit(), 1)
    }
}

/// Sleeps while `word`, which is of this process alone, is `expected`, at most until `deadline`.
pub fn wait_here(word: &AtomicU32, expected: u32, deadline: Instant) -> Waited {
    wait(word, expected, ANYBODY, deadline)
}

/// Wakes all who sleep in [`wait_here`]; the word was changed before.
pub fn wake_here(word: &AtomicU32) {
    wake(word, ANYBODY, i32::MAX);
}

/// In the child of a fork: nobody sleeps in [`wait_here`].
pub const fn wake_nobody_here() {}

const ANYBODY: u32 = 1;

fn wait(word: &AtomicU32, expected: u32, set: u32, deadline: Instant) -> Waited {
    let nanoseconds = deadline.as_nanos();
    let time = libc::timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
    };
    let until = if deadline == Instant::NEVER { ptr::null() } else { &raw const time };
    // SAFETY: the word is a live, aligned u32, and `time` outlives the call. With a bit set the time is absolute.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            until,
            ptr::null::<u32>(),
            set,
        )
    };
    if result == 0 {
        return Waited::Woken;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::ETIMEDOUT) => Waited::TimedOut,
        Some(libc::EINTR) => Waited::Interrupted,
        _ => Waited::Woken, // EAGAIN: the word had changed
    }
}

/// Wakes at most `most` who wait on `word` with one of the bits of `set`; says whether somebody did.
fn wake(word: &AtomicU32, set: u32, most: i32) -> bool {
    let nobody = ptr::null::<libc::timespec>();
    // SAFETY: the word is a live, aligned u32.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_BITSET,
            most,
            nobody,
            ptr::null::<u32>(),
            set,
        )
    };
    woken > 0
}

/// A process, by a descriptor that becomes readable when it ends, however it ends.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The process `id`; an error if it has ended.
    pub fn open(id: i32) -> io::Result<Self> {
        // SAFETY: a plain system call.
        let file = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
        // SAFETY: the descriptor is new and ours.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(checked(file as libc::c_int)?) }))
    }

    /// Sends it a signal; that it has ended is no error.
    pub fn signal(&self, signal: i32) {
        let nothing = ptr::null::<libc::siginfo_t>();
        // SAFETY: a plain system call.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, nothing, 0) };
    }

    /// It has ended and may be reaped. The descriptor goes on meaning it, whoever has its number then.
    pub const fn part_with(&mut self) {}

    /// For [`ended`], while this value lives.
    pub fn watched(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sleeps until `bell` can be read or one of the processes has ended, at most until `deadline`; says which have.
pub fn ended(bell: Option<RawFd>, processes: &[RawFd], deadline: Instant) -> Vec<bool> {
    let files: Vec<RawFd> = processes.iter().copied().chain(bell).collect();
    let mut ended = readable(&files, deadline);
    ended.truncate(processes.len());
    ended
}

/// A bell for a thread that sleeps in [`ended`].
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent one.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call.
        let file = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        // SAFETY: the descriptor is new and ours.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(checked(file)?) }))
    }

    /// Rings until somebody hears.
    pub fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the buffer outlives the call. A full counter rings already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Heard.
    pub fn hush(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: the buffer outlives the call. A silent bell answers EAGAIN.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// For [`ended`].
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

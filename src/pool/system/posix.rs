//! Systems without memory that never had a name, and without a way to sleep on a word of memory: POSIX shared memory, whose
//! name goes at once, and pipes.
//!
//! A sleeper has a pipe of its own, and says in shared memory that he sleeps. Who wakes him changes the word first, then
//! looks whether he sleeps, then writes a byte; he says it first, then looks at the word, then waits for a byte. Both are
//! sequentially consistent, so at least one sees the other. He alone takes back what he said: one who is killed before he
//! has written his byte keeps nobody else from writing one. A byte too many wakes him once for nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

#[cfg(target_os = "macos")]
use super::darwin as own;
#[cfg(target_os = "linux")]
use super::linux as own;
use super::{Sleeper, Waited, checked, duplicate, now, poll, process_id};
use crate::time::Instant;

pub use own::{Process, ended};
pub(super) use own::{keep_for_children, leave_out_of_children, release};

pub(super) fn memory_file() -> io::Result<OwnedFd> {
    let mut number = now().as_nanos();
    loop {
        // Not longer than macOS allows: 31 bytes.
        let name = format!("/coterie-{:x}-{:x}\0", process_id(), number & 0xffff_ffff);
        let access = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        // SAFETY: the name ends with a zero; the descriptor is checked.
        let file = unsafe { libc::shm_open(name.as_ptr().cast(), access, 0o600) };
        match checked(file) {
            Ok(file) => {
                // SAFETY: as above; the descriptor is new and ours.
                return unsafe {
                    libc::shm_unlink(name.as_ptr().cast());
                    Ok(OwnedFd::from_raw_fd(file))
                };
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn map(length: usize, flags: libc::c_int, file: RawFd) -> io::Result<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the system chooses the address; the result is checked.
    let base = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, file, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("memory at address zero"))
}

pub(super) const fn expect_buffers(_memory: NonNull<u8>, _length: usize) {}

/// Shared memory may be mapped, but need not be read like a file.
pub(super) fn read_word(file: RawFd, offset: usize) -> io::Result<u64> {
    let end = offset + size_of::<u64>();
    let base = map(end, libc::MAP_SHARED, file)?;
    // SAFETY: inside what was mapped just now, which is as aligned as a page; then nobody uses it any more.
    unsafe {
        let word = base.add(offset).cast::<u64>().read_volatile();
        libc::munmap(base.as_ptr().cast(), end);
        Ok(word)
    }
}

/// How many bytes of memory the machine has.
pub fn memory() -> u64 {
    // SAFETY: plain system calls.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).unwrap_or(0) * u64::try_from(size).unwrap_or(0)
}

/// The ends of a pipe that this process uses. Neither blocks.
#[derive(Debug, Default)]
struct Pipe {
    read: Option<OwnedFd>,
    write: Option<OwnedFd>,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let mut ends = [-1; 2];
        // SAFETY: room for two descriptors, which are new and ours.
        let [read, write] = unsafe {
            checked(libc::pipe(ends.as_mut_ptr()))?;
            ends.map(|end| OwnedFd::from_raw_fd(end))
        };
        for end in [&read, &write] {
            // SAFETY: plain system calls.
            unsafe {
                checked(libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC))?;
                checked(libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK))?;
            }
        }
        Ok(Self { read: Some(read), write: Some(write) })
    }

    /// One byte. A pipe that is full says what there is to say already.
    fn write(&self) {
        if let Some(write) = &self.write {
            // SAFETY: the buffer outlives the call.
            unsafe { libc::write(write.as_raw_fd(), [1_u8].as_ptr().cast(), 1) };
        }
    }

    /// Waits for a byte, and takes what there is.
    fn read(&self, deadline: Instant) -> Waited {
        let Some(read) = &self.read else { return Waited::TimedOut };
        let mut entry = [libc::pollfd { fd: read.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        let waited = poll(&mut entry, deadline);
        if waited == Waited::Woken {
            self.drain();
        }
        waited
    }

    fn drain(&self) {
        let Some(read) = &self.read else { return };
        let mut bytes = [0_u8; 64];
        // SAFETY: the buffer outlives the calls. An empty pipe answers EAGAIN.
        while unsafe { libc::read(read.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) }
            == bytes.len() as isize
        {}
    }
}

/// How sleepers of other processes are woken: each has a pipe.
#[derive(Debug)]
pub struct Sleepers {
    helper: Pipe,
    dispatcher: Pipe,
    workers: Vec<Pipe>,
}

impl Sleepers {
    /// For the pool's process, which has all ends.
    pub fn new(workers: usize) -> io::Result<Self> {
        Ok(Self {
            helper: Pipe::new()?,
            dispatcher: Pipe::new()?,
            workers: (0..workers).map(|_| Pipe::new()).collect::<io::Result<_>>()?,
        })
    }

    /// For a worker, with what [`Sleepers::files`] gave: it wakes those two, and sleeps itself.
    pub fn open(files: &[RawFd], worker: usize) -> io::Result<Self> {
        let &[helper, dispatcher, read] = files else { return Err(io::ErrorKind::InvalidInput.into()) };
        let writing = |file| Ok::<_, io::Error>(Pipe { read: None, write: Some(duplicate(file)?) });
        let mut workers: Vec<Pipe> = (0..worker).map(|_| Pipe::default()).collect();
        workers.push(Pipe { read: Some(duplicate(read)?), write: None });
        Ok(Self { helper: writing(helper)?, dispatcher: writing(dispatcher)?, workers })
    }

    /// What a worker inherits.
    pub fn files(&self, worker: usize) -> Vec<RawFd> {
        let ends = [&self.helper.write, &self.dispatcher.write, &self.workers[worker].read];
        ends.into_iter().flatten().map(AsRawFd::as_raw_fd).collect()
    }

    /// Sleeps while `word` is `expected`, until a wake-up for `who`, at most until `deadline`.
    pub fn wait(
        &self,
        who: Sleeper,
        word: &AtomicU32,
        asleep: &AtomicU32,
        expected: u32,
        deadline: Instant,
    ) -> Waited {
        asleep.fetch_or(who.bit(), Ordering::SeqCst);
        let waited = if word.load(Ordering::SeqCst) == expected {
            self.pipe(who).read(deadline)
        } else {
            Waited::Woken
        };
        asleep.fetch_and(!who.bit(), Ordering::SeqCst);
        waited
    }

    /// Wakes him who sleeps on `word`, whose value was changed before; says whether he did sleep.
    pub fn wake(&self, who: Sleeper, _word: &AtomicU32, asleep: &AtomicU32) -> bool {
        let sleeps = asleep.load(Ordering::SeqCst) & who.bit() != 0;
        if sleeps {
            self.pipe(who).write();
        }
        sleeps
    }

    fn pipe(&self, who: Sleeper) -> &Pipe {
        match who {
            Sleeper::Helper => &self.helper,
            Sleeper::Dispatcher => &self.dispatcher,
            Sleeper::Worker(worker) => &self.workers[worker],
        }
    }
}

/// Where threads of this process sleep.
#[derive(Debug, Default)]
struct Bench {
    lock: Mutex<()>,
    changed: Condvar,
}

/// A child of a fork may find the lock taken by a thread that it does not have, so it gets another bench.
static BENCH: AtomicPtr<Bench> = AtomicPtr::new(ptr::null_mut());

fn bench() -> &'static Bench {
    let mut found = BENCH.load(Ordering::Acquire);
    if found.is_null() {
        let new = Box::into_raw(Box::default());
        found = match BENCH.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: it came from a box just now, and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
                other
            }
        };
    }
    // SAFETY: a bench stays for ever.
    unsafe { &*found }
}

/// Sleeps while `word`, which is of this process alone, is `expected`, at most until `deadline`.
pub fn wait_here(word: &AtomicU32, expected: u32, deadline: Instant) -> Waited {
    let bench = bench();
    let guard = bench.lock.lock().unwrap_or_else(PoisonError::into_inner);
    if word.load(Ordering::SeqCst) != expected {
        return Waited::Woken;
    }
    if deadline == Instant::NEVER {
        drop(bench.changed.wait(guard));
        return Waited::Woken;
    }
    let left = deadline.since(now());
    match bench.changed.wait_timeout(guard, left) {
        Ok((_, result)) if result.timed_out() => Waited::TimedOut,
        _ => Waited::Woken,
    }
}

/// Wakes all who sleep in [`wait_here`]; the word was changed before.
pub fn wake_here(_word: &AtomicU32) {
    let bench = bench();
    // Whoever saw the old value sleeps by now.
    drop(bench.lock.lock().unwrap_or_else(PoisonError::into_inner));
    bench.changed.notify_all();
}

/// In the child of a fork: nobody sleeps in [`wait_here`].
pub fn wake_nobody_here() {
    BENCH.store(ptr::null_mut(), Ordering::Release);
}

/// A bell for a thread that sleeps in [`ended`].
#[derive(Debug)]
pub struct Bell {
    pipe: Pipe,
    file: RawFd,
}

impl Bell {
    /// A silent one.
    pub fn new() -> io::Result<Self> {
        let pipe = Pipe::new()?;
        let file = pipe.read.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        Ok(Self { pipe, file })
    }

    /// Rings until somebody hears.
    pub fn ring(&self) {
        self.pipe.write();
    }

    /// Heard.
    pub fn hush(&self) {
        self.pipe.drain();
    }

    /// For [`ended`].
    pub fn descriptor(&self) -> RawFd {
        self.file
    }
}

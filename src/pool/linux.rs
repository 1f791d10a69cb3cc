//! What the pool asks of Linux: shared memory, futexes, process descriptors, a clock. The conditional code is here.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::time::Instant;

const PAGE: usize = 4096;
/// Bytes of a huge page.
pub const HUGE_PAGE: usize = 1 << 21;

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
        // SAFETY: the name is a C string; the descriptor is checked.
        let file = unsafe { libc::memfd_create(c"coterie-pool".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: the descriptor is new and ours.
        let file = unsafe { OwnedFd::from_raw_fd(checked(file)?) };
        let size = libc::off_t::try_from(length).map_err(io::Error::other)?;
        // SAFETY: a plain system call.
        checked(unsafe { libc::ftruncate(file.as_raw_fd(), size) })?;
        let mut mapping = Self::map(length, libc::MAP_SHARED, file.as_raw_fd())?;
        mapping.file = Some(file);
        mapping.leave_out_of_children()?;
        mapping.expect_buffers(buffers);
        Ok(mapping)
    }

    /// New memory, zeroed, for threads of this process alone.
    pub fn private(length: usize) -> io::Result<Self> {
        let mapping = Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        mapping.leave_out_of_children()?;
        Ok(mapping)
    }

    /// The memory behind a descriptor that came from [`Mapping::shared`] in another process.
    pub fn open(file: RawFd, length: usize, buffers: usize) -> io::Result<Self> {
        // SAFETY: `stat` is plain data.
        let mut status = unsafe { std::mem::zeroed::<libc::stat>() };
        // SAFETY: `status` outlives the call.
        checked(unsafe { libc::fstat(file, &raw mut status) })?;
        if usize::try_from(status.st_size).ok() != Some(length) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not the pool's memory"));
        }
        // SAFETY: a plain system call; the descriptor is new and ours.
        let own = unsafe { OwnedFd::from_raw_fd(checked(libc::fcntl(file, libc::F_DUPFD_CLOEXEC, 0))?) };
        let mut mapping = Self::map(length, libc::MAP_SHARED, own.as_raw_fd())?;
        mapping.file = Some(own);
        mapping.leave_out_of_children()?;
        mapping.expect_buffers(buffers);
        Ok(mapping)
    }

    fn map(length: usize, flags: libc::c_int, file: RawFd) -> io::Result<Self> {
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
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("memory at address zero"))?;
        Ok(Self { base, length, file: None, owner: process_id() })
    }

    /// What lies from `offset` on is large: huge pages where the system has them for shared memory, and no part of a
    /// core dump.
    fn expect_buffers(&self, offset: usize) {
        if offset >= self.length {
            return;
        }
        // SAFETY: the range is inside the mapping. It is advice: a system that has no ear for it works as well.
        unsafe {
            let (from, length) = (self.base.as_ptr().add(offset).cast(), self.length - offset);
            libc::madvise(from, length, libc::MADV_HUGEPAGE);
            libc::madvise(from, length, libc::MADV_DONTDUMP);
        }
    }

    fn leave_out_of_children(&self) -> io::Result<()> {
        // SAFETY: the range is the mapping.
        checked(unsafe { libc::madvise(self.base.as_ptr().cast(), self.length, libc::MADV_DONTFORK) })?;
        Ok(())
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
    let mut word = [0; 8];
    // SAFETY: the buffer outlives the call.
    let count = unsafe { libc::pread(file, word.as_mut_ptr().cast(), word.len(), offset as libc::off_t) };
    if count == 8 { Ok(u64::from_ne_bytes(word)) } else { Err(io::Error::last_os_error()) }
}

/// Gives whole pages of shared memory back to the system. They are zero when somebody touches them again.
pub fn release(memory: NonNull<u8>, length: usize) {
    // SAFETY: the caller owns the range. If it fails the memory goes with its last process.
    unsafe { libc::madvise(memory.as_ptr().cast(), length, libc::MADV_REMOVE) };
}

/// This process is about to fork: the child shall see these pages of shared memory as they are now, and what either
/// writes from now on is its own. They must not be used again for anything else.
pub fn keep_for_children(memory: NonNull<u8>, length: usize, file: RawFd, offset: usize) -> io::Result<()> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    // SAFETY: the range is ours and mapped from the same place of the same file, so that nobody sees a difference.
    let mapped =
        unsafe { libc::mmap(memory.as_ptr().cast(), length, access, flags, file, offset as libc::off_t) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
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

/// Sleeps while `word` is `expected`, until a wake-up with one of the bits of `set`, at most until `deadline`.
pub fn wait(word: &AtomicU32, expected: u32, set: u32, deadline: Instant) -> Waited {
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

/// Wakes one who waits on `word` with one of the bits of `set`; says whether somebody did.
pub fn wake(word: &AtomicU32, set: u32) -> bool {
    let nobody = ptr::null::<libc::timespec>();
    // SAFETY: the word is a live, aligned u32.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_BITSET,
            1,
            nobody,
            ptr::null::<u32>(),
            set,
        )
    };
    woken > 0
}

/// Now, on the clock that a futex waits by.
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

/// A descriptor that becomes readable when the process `id` ends, however it ends.
pub fn open_process(id: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call.
    let file = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(checked(file as libc::c_int)?) })
}

/// Sends a signal to the very process that the descriptor was opened for; one that has ended is no error.
pub fn signal(process: &OwnedFd, signal: i32) {
    let nothing = ptr::null::<libc::siginfo_t>();
    // SAFETY: a plain system call.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0) };
}

/// A bell for a thread that sleeps in [`readable`].
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

    /// For [`readable`].
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sleeps until one of `files` is readable or has ended, at most until `deadline`; says which are.
pub fn readable(files: &[RawFd], deadline: Instant) -> Vec<bool> {
    let mut entries: Vec<libc::pollfd> =
        files.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let left = deadline.since(now());
    let milliseconds = if deadline == Instant::NEVER {
        -1
    } else {
        i32::try_from(left.saturating_add(Duration::from_micros(999)).as_millis()).unwrap_or(i32::MAX)
    };
    // SAFETY: the entries outlive the call.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, milliseconds) };
    entries.iter().map(|entry| entry.revents != 0).collect()
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

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

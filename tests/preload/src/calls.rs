//! The system's calls, as `LD_PRELOAD` puts ours before them. All that reaches the system from here goes by
//! `libc::syscall`, so that nothing meets itself.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use crate::log::{Id, Record};

/// What this process was told.
struct Disk {
    folder: PathBuf,
    log: RawFd,
    stash: PathBuf,
    lies: bool,
    stashed: AtomicU64,
}

/// `None`: this process is not watched.
fn disk() -> Option<&'static Disk> {
    static DISK: OnceLock<Option<Disk>> = OnceLock::new();
    DISK.get_or_init(Disk::from_environment).as_ref()
}

impl Disk {
    fn from_environment() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("PRELOAD_FOLDER")?);
        let log = PathBuf::from(std::env::var_os("PRELOAD_LOG")?);
        let mut stash = log.clone().into_os_string();
        stash.push(".stash");
        std::fs::create_dir_all(&stash).expect("PRELOAD_LOG lies in a folder that can be written to");
        let name = std::ffi::CString::new(log.as_os_str().as_bytes()).expect("a path");
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
        // SAFETY: `name` is a string that ends.
        let log = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, name.as_ptr(), flags, 0o600) };
        assert!(log >= 0, "PRELOAD_LOG can be opened");
        let lies = std::env::var_os("PRELOAD_LIES").is_some_and(|lies| lies == "1");
        Some(Self { folder, log: log as RawFd, stash: stash.into(), lies, stashed: AtomicU64::new(0) })
    }

    /// The path of a descriptor, if it is below the folder.
    fn path(&self, file: RawFd) -> Option<PathBuf> {
        let path = std::fs::read_link(format!("/proc/self/fd/{file}")).ok()?;
        path.starts_with(&self.folder).then_some(path)
    }

    /// A path as the system would take it, if it is below the folder.
    fn named(&self, at: RawFd, path: *const c_char) -> Option<PathBuf> {
        // SAFETY: whoever calls the system hands over a string that ends.
        let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
        let whole = if path.is_absolute() {
            path.to_owned()
        } else if at == libc::AT_FDCWD {
            std::env::current_dir().ok()?.join(path)
        } else {
            std::fs::read_link(format!("/proc/self/fd/{at}")).ok()?.join(path)
        };
        whole.starts_with(&self.folder).then_some(whole)
    }

    fn place(&self) -> u64 {
        look(self.log).metadata().map_or(0, |found| found.len())
    }

    fn say(&self, record: &Record) {
        let bytes = record.to_bytes();
        // SAFETY: the bytes are there for the length that is named.
        let said = unsafe { libc::syscall(libc::SYS_write, self.log, bytes.as_ptr(), bytes.len()) };
        assert_eq!(said, bytes.len() as i64, "the log takes a record as a whole");
    }

    /// Before `covers` bytes at `offset` change.
    fn changes(&self, file: RawFd, offset: u64, covers: u64) {
        if self.path(file).is_none() {
            return;
        }
        let file = look(file);
        let Ok(id) = Id::of(&file) else { return };
        let length = file.metadata().map_or(0, |found| found.len());
        let bytes = self.read(&file, offset, covers.min(length.saturating_sub(offset)));
        self.say(&Record::Undo { id, length, offset, bytes, covers });
    }

    /// Before its length becomes another one.
    fn resizes(&self, file: RawFd, to: u64) {
        if self.path(file).is_none() {
            return;
        }
        let file = look(file);
        let Ok(id) = Id::of(&file) else { return };
        let from = file.metadata().map_or(0, |found| found.len());
        let tail = self.read(&file, to, from.saturating_sub(to));
        self.say(&Record::Resized { id, from, to, tail });
    }

    /// One that is open for writing alone cannot be read: by its path it can.
    fn read(&self, file: &File, offset: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        if file.read_exact_at(&mut bytes, offset).is_err() {
            let again = self.path(raw(file)).and_then(|path| File::open(path).ok());
            let again = again.expect("a file that is written can be read");
            again.read_exact_at(&mut bytes, offset).expect("its length was asked for");
        }
        bytes
    }

    fn stash(&self, path: &Path) -> Option<PathBuf> {
        let number = self.stashed.fetch_add(1, Ordering::Relaxed);
        let stash = self.stash.join(format!("{}-{number}", std::process::id()));
        std::fs::hard_link(path, &stash).ok().map(|()| stash)
    }

    /// Where the next write without an offset goes.
    fn cursor(&self, file: RawFd) -> u64 {
        // SAFETY: a descriptor and numbers.
        let (flags, place) =
            unsafe { (libc::fcntl(file, libc::F_GETFL), libc::lseek(file, 0, libc::SEEK_CUR)) };
        if flags & libc::O_APPEND != 0 {
            return look(file).metadata().map_or(0, |found| found.len());
        }
        place.max(0) as u64
    }

    fn syncs(&self, file: RawFd, call: libc::c_long) -> c_int {
        let path = self.path(file);
        let place = self.place();
        if path.is_some() && self.lies {
            return 0;
        }
        // SAFETY: a descriptor.
        let done = unsafe { libc::syscall(call, file) } as c_int;
        if let (0, Some(path)) = (done, path) {
            if path.is_dir() {
                self.say(&Record::Folder { path, place });
            } else if let Ok(id) = Id::of(&look(file)) {
                self.say(&Record::Synced { id, place });
            }
        }
        done
    }
}

/// A descriptor of somebody else's, to look at.
fn look(file: RawFd) -> ManuallyDrop<File> {
    // SAFETY: it is open, as a call that uses it goes on, and is not closed from here.
    ManuallyDrop::new(unsafe { File::from_raw_fd(file) })
}

fn raw(file: &File) -> RawFd {
    use std::os::fd::AsRawFd;
    file.as_raw_fd()
}

fn opens(at: RawFd, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let named = disk().and_then(|disk| disk.named(at, path).map(|path| (disk, path)));
    let is_new = named.as_ref().is_some_and(|(_, path)| flags & libc::O_CREAT != 0 && !path.exists());
    if let Some((disk, path)) = &named
        && flags & libc::O_TRUNC != 0
        && let Ok(file) = File::open(path)
    {
        disk.resizes(raw(&file), 0);
    }
    // SAFETY: these are the caller's own arguments.
    let file = unsafe { libc::syscall(libc::SYS_openat, at, path, flags, mode) } as c_int;
    if let (Some((disk, path)), true) = (named, is_new && file >= 0) {
        disk.say(&Record::Created { path });
    }
    file
}

fn removes(at: RawFd, path: *const c_char, flags: c_int) -> c_int {
    if let Some(disk) = disk()
        && let Some(path) = disk.named(at, path)
        && let Some(stash) = disk.stash(&path)
    {
        disk.say(&Record::Removed { path, stash });
    }
    // SAFETY: these are the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_unlinkat, at, path, flags) as c_int }
}

fn renames(at: RawFd, from: *const c_char, to_at: RawFd, to: *const c_char) -> c_int {
    if let Some(disk) = disk()
        && let (Some(from), Some(to)) = (disk.named(at, from), disk.named(to_at, to))
        && from.exists()
    {
        let stash = disk.stash(&to);
        disk.say(&Record::Renamed { from, to, stash });
    }
    // SAFETY: these are the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_renameat2, at, from, to_at, to, 0) as c_int }
}

fn total(parts: *const iovec, count: c_int) -> u64 {
    // SAFETY: whoever calls the system hands over that many parts.
    let parts = unsafe { std::slice::from_raw_parts(parts, count.max(0) as usize) };
    parts.iter().map(|part| part.iov_len as u64).sum()
}

macro_rules! calls {
    ($(fn [$($name:ident)+] $arguments:tt -> $answer:ty $body:block)*) => {$($(
        /// # Safety
        /// As the system's call of that name.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name $arguments -> $answer $body
    )+)*};
}

calls! {
    fn [open open64] (path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        opens(libc::AT_FDCWD, path, flags, mode)
    }

    fn [openat openat64] (at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        opens(at, path, flags, mode)
    }

    fn [creat creat64] (path: *const c_char, mode: mode_t) -> c_int {
        opens(libc::AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
    }

    fn [write] (file: c_int, bytes: *const c_void, length: size_t) -> ssize_t {
        if let Some(disk) = disk() && disk.path(file).is_some() {
            disk.changes(file, disk.cursor(file), length as u64);
        }
        // SAFETY: these are the caller's own arguments.
        unsafe { libc::syscall(libc::SYS_write, file, bytes, length) as ssize_t }
    }

    fn [writev] (file: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        if let Some(disk) = disk() && disk.path(file).is_some() {
            disk.changes(file, disk.cursor(file), total(parts, count));
        }
        // SAFETY: these are the caller's own arguments.
        unsafe { libc::syscall(libc::SYS_writev, file, parts, count) as ssize_t }
    }

    fn [pwrite pwrite64] (file: c_int, bytes: *const c_void, length: size_t, offset: off_t) -> ssize_t {
        if let Some(disk) = disk() {
            disk.changes(file, offset as u64, length as u64);
        }
        // SAFETY: these are the caller's own arguments.
        unsafe { libc::syscall(libc::SYS_pwrite64, file, bytes, length, offset) as ssize_t }
    }

    fn [pwritev pwritev64] (file: c_int, parts: *const iovec, count: c_int, offset: off_t) -> ssize_t {
        if let Some(disk) = disk() {
            disk.changes(file, offset as u64, total(parts, count));
        }
        // SAFETY: these are the caller's own arguments; the high half of the offset is not used on 64 bits.
        unsafe { libc::syscall(libc::SYS_pwritev, file, parts, count, offset, 0) as ssize_t }
    }

    fn [ftruncate ftruncate64] (file: c_int, length: off_t) -> c_int {
        if let Some(disk) = disk() {
            disk.resizes(file, length as u64);
        }
        // SAFETY: these are the caller's own arguments.
        unsafe { libc::syscall(libc::SYS_ftruncate, file, length) as c_int }
    }

    fn [fallocate fallocate64] (file: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
        reserves(file, mode, offset, length)
    }

    fn [posix_fallocate posix_fallocate64] (file: c_int, offset: off_t, length: off_t) -> c_int {
        // Unlike all others it answers with the error's number.
        if reserves(file, 0, offset, length) == 0 { 0 } else {
            std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
        }
    }

    fn [fsync] (file: c_int) -> c_int {
        disk().map_or_else(|| plain(file, libc::SYS_fsync), |disk| disk.syncs(file, libc::SYS_fsync))
    }

    fn [fdatasync] (file: c_int) -> c_int {
        disk().map_or_else(|| plain(file, libc::SYS_fdatasync), |disk| disk.syncs(file, libc::SYS_fdatasync))
    }

    fn [unlink] (path: *const c_char) -> c_int {
        removes(libc::AT_FDCWD, path, 0)
    }

    fn [unlinkat] (at: c_int, path: *const c_char, flags: c_int) -> c_int {
        removes(at, path, flags)
    }

    fn [rename] (from: *const c_char, to: *const c_char) -> c_int {
        renames(libc::AT_FDCWD, from, libc::AT_FDCWD, to)
    }

    fn [renameat] (at: c_int, from: *const c_char, to_at: c_int, to: *const c_char) -> c_int {
        renames(at, from, to_at, to)
    }
}

fn plain(file: c_int, call: libc::c_long) -> c_int {
    // SAFETY: a descriptor.
    unsafe { libc::syscall(call, file) as c_int }
}

fn reserves(file: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    if let Some(disk) = disk()
        && disk.path(file).is_some()
    {
        let end = (offset + length) as u64;
        let now = look(file).metadata().map_or(0, |found| found.len());
        if mode == 0 {
            // What is there stays; only the length may grow.
            disk.resizes(file, end.max(now));
        } else {
            disk.changes(file, offset as u64, length as u64);
        }
    }
    // SAFETY: these are the caller's own arguments.
    unsafe { libc::syscall(libc::SYS_fallocate, file, mode, offset, length) as c_int }
}

//! The journal's folder on a real disk.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use super::folder::sync_folder;
use super::reserve::Reserve;
use super::snapshots::Job;
use crate::net::Owned;
use crate::wal::{Action, FileError, Files, Reason};

/// Files in a folder.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Those that were written: one or two at a time.
    open: BTreeMap<String, Owned<File>>,
    /// Who removes files, so that nobody waits for it.
    remover: Option<mpsc::Sender<Job>>,
    reserve: Arc<Reserve>,
}

/// Older ones are closed; they are opened again when asked for.
const OPEN_MAX: usize = 4;

impl Directory {
    pub(super) const fn new(path: PathBuf, reserve: Arc<Reserve>) -> Self {
        Self { path, open: BTreeMap::new(), remover: None, reserve }
    }

    /// From now on files are removed by whoever does these jobs.
    pub(super) fn removes_by(&mut self, jobs: mpsc::Sender<Job>) {
        self.remover = Some(jobs);
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
            self.keep(name, file);
        }
        self.open.get(name).map(|file| &**file).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn keep(&mut self, name: &str, file: File) {
        if self.open.len() >= OPEN_MAX {
            self.open.pop_first();
        }
        self.open.insert(name.to_owned(), Owned::new(file));
    }
}

impl Files for Directory {
    fn list(&mut self) -> Result<Vec<String>, FileError> {
        let list = || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                // Whatever is named otherwise is none of ours.
                names.extend(entry?.file_name().into_string());
            }
            Ok(names)
        };
        list().map_err(|error| refused(Action::List, "", &error))
    }

    fn read(&mut self, file: &str) -> Result<Bytes, FileError> {
        let read = || {
            let opened = File::open(self.path.join(file))?;
            let mut bytes = vec![0; usize::try_from(written(&opened)?).map_err(|_| ErrorKind::FileTooLarge)?];
            opened.read_exact_at(&mut bytes, 0)?;
            Ok(Bytes::from(bytes))
        };
        read().map_err(|error: io::Error| refused(Action::Read, file, &error))
    }

    fn create(&mut self, file: &str, room: u64) -> Result<(), FileError> {
        let path = self.path.join(file);
        let created = self.reserve.cover(|| {
            let created =
                OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            // What was kept back is enough for what is written, not for what might be.
            let allocated = if self.reserve.is_given_up() { Ok(false) } else { allocate(&created, room) };
            if let Err(error) = allocated {
                fs::remove_file(&path)?;
                return Err(error);
            }
            Ok(created)
        });
        let created = created.map_err(|error| refused(Action::Create, file, &error))?;
        self.keep(file, created);
        Ok(())
    }

    fn write(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let reserve = Arc::clone(&self.reserve);
        let written = self.file(file).and_then(|open| reserve.cover(|| open.write_all_at(bytes, offset)));
        written.map_err(|error| refused(Action::Write, file, &error))
    }

    fn truncate(&mut self, file: &str, length: u64) -> Result<(), FileError> {
        let cut = self.file(file).and_then(|open| open.set_len(length));
        cut.map_err(|error| refused(Action::Truncate, file, &error))
    }

    fn sync(&mut self, file: &str) -> Result<(), FileError> {
        let synced = self.file(file).and_then(File::sync_data);
        synced.map_err(|error| refused(Action::Sync, file, &error))
    }

    fn sync_folder(&mut self) -> Result<(), FileError> {
        sync_folder(&self.path).map_err(|error| refused(Action::SyncFolder, "", &error))
    }

    fn remove(&mut self, file: &str) -> Result<(), FileError> {
        self.open.remove(file);
        let path = self.path.join(file);
        let removed = match &self.remover {
            Some(remover) => {
                // The other end is gone only when it has said why.
                let _ = remover.send(Job::Remove(path));
                Ok(())
            }
            None => fs::remove_file(path),
        };
        removed.map_err(|error| refused(Action::Remove, file, &error))
    }
}

/// Gives a file room that reads as zeros, so that later syncs need not change its length. `false`: it will have it when
/// it is written.
#[cfg(target_os = "linux")]
pub(super) fn allocate(file: &File, room: u64) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let length = libc::off_t::try_from(room).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    loop {
        // SAFETY: the descriptor is open; no memory of ours is touched.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // A file system that cannot; the file then grows as it is written.
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return Ok(false),
            _ => return Err(error),
        }
    }
}

/// Up to where a file was written. What is reserved behind it reads as zeros, and need not be read at all.
#[cfg(target_os = "linux")]
fn written(file: &File) -> io::Result<u64> {
    use std::os::fd::AsRawFd;
    let length = file.metadata()?.len();
    let seek = |from: u64, whence: libc::c_int| {
        // SAFETY: the descriptor is open; its place is nobody's, for files are read and written at offsets.
        let found = unsafe { libc::lseek(file.as_raw_fd(), from as libc::off_t, whence) };
        u64::try_from(found).ok()
    };
    let mut end = 0;
    while let Some(data) = seek(end, libc::SEEK_DATA).filter(|data| *data < length) {
        // A file system that knows no holes says that the file ends where it ends.
        end = seek(data, libc::SEEK_HOLE).filter(|hole| *hole > data).unwrap_or(length);
    }
    Ok(end.min(length))
}

#[cfg(not(target_os = "linux"))]
fn written(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn allocate(file: &File, room: u64) -> io::Result<bool> {
    file.set_len(room)?;
    Ok(false)
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn refused(action: Action, file: &str, error: &io::Error) -> FileError {
    let reason = if is_full(error) { Reason::Full } else { Reason::Failed(error.to_string()) };
    FileError { action, file: file.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{Settings, Wal};

    #[test]
    fn a_journal_on_disk_is_read_back_and_a_torn_end_is_cut_off() {
        let scratch = std::env::temp_dir().join(format!("coterie-files-{}", std::process::id()));
        let path = scratch.join("wal");
        fs::create_dir_all(&path).expect("a folder");
        let settings = Settings { segment_bytes: 1 << 16, ..Settings::default() };
        let reserve = Arc::new(Reserve::take(&scratch, 1 << 16).expect("room"));
        let mut files = Directory::new(path.clone(), Arc::clone(&reserve));
        let (mut wal, recovery) = Wal::open(&mut files, settings).expect("a journal");
        assert!(recovery.records.is_empty());
        for number in 0..40u8 {
            wal.append(&[number; 4000]).expect("room");
            let sync = wal.begin_sync().expect("something to do");
            wal.end_sync(sync.run(&mut files)).expect("done");
        }
        assert!(files.list().expect("names").len() > 2, "several segments");
        drop((wal, files));
        let newest = Directory::new(path.clone(), Arc::clone(&reserve))
            .list()
            .expect("names")
            .into_iter()
            .max()
            .expect("one");
        // Half of a batch that a crash left.
        let mut files = Directory::new(path.clone(), reserve);
        let (wal, recovery) = Wal::open(&mut files, settings).expect("a journal");
        assert_eq!(recovery.records.len(), 40);
        assert_eq!(recovery.records[39].bytes, [39; 4000][..]);
        drop(wal);
        let end =
            fs::read(path.join(&newest)).expect("there").iter().rposition(|byte| *byte != 0).expect("bytes");
        files.write(&newest, (end as u64 + 9).next_multiple_of(8), b"half a batch").expect("written");
        let (_, recovery) = Wal::open(&mut files, settings).expect("repaired");
        assert_eq!(recovery.records.len(), 40);
        assert!(recovery.repaired.is_some());
        fs::remove_dir_all(&scratch).expect("removed");
    }
}

//! Room on the disk that is kept back, so that a member whose disk is full can still write down what it has begun, vote,
//! and hand its leadership over before it stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Failure;
use super::files::{allocate, is_full};

/// A file that holds the room, until somebody needs it.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    given_up: Mutex<bool>,
}

/// What a member writes while it hands over is far less than this.
const BYTES_MAX: u64 = 16 << 20;

impl Reserve {
    /// Takes the room in a folder: as much as a segment of the journal, 16 MiB at most. An earlier life may have left it.
    pub(super) fn take(folder: &Path, segment_bytes: u64) -> Result<Self, Failure> {
        let path = folder.join("reserve");
        let bytes = segment_bytes.min(BYTES_MAX);
        if let Err(error) = take(&path, bytes) {
            let _ = fs::remove_file(&path);
            let complaint =
                format!("could not be given {bytes} bytes, without which a member does not start");
            return Err(Failure::storage(path, &complaint, &error));
        }
        Ok(Self { path, given_up: Mutex::new(false) })
    }

    /// Does what may need room. Where there is none, the reserve is given up and it is done again, once: it must bear
    /// that. (It is refused before anything is synced: a sync is never done again.)
    pub(super) fn cover<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match work() {
            Err(error) if is_full(&error) => {
                self.give_up();
                work()
            }
            done => done,
        }
    }

    /// Whether the disk had no room left.
    pub(super) fn is_given_up(&self) -> bool {
        *self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the room is free, whoever of several threads has freed it.
    fn give_up(&self) {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        if !*given_up {
            *given_up = true;
            if let Err(error) = fs::remove_file(&self.path) {
                tracing::warn!(%error, "the reserve could not be given up");
            }
        }
    }
}

fn take(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() == bytes {
        return Ok(());
    }
    file.set_len(0)?;
    if !allocate(&file, bytes)? {
        fill(&file, bytes)?;
    }
    file.sync_all()
}

/// For file systems that give room only to what is written.
fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 16];
    for offset in (0..bytes).step_by(zeros.len()) {
        let length = zeros.len().min(usize::try_from(bytes - offset).map_err(|_| ErrorKind::FileTooLarge)?);
        file.write_all_at(&zeros[..length], offset)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("coterie-reserve-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        path
    }

    #[test]
    fn it_is_given_up_once_and_what_found_no_room_is_done_again() {
        let path = folder("once");
        let reserve = Reserve::take(&path, 1 << 20).expect("room");
        let held = fs::metadata(path.join("reserve")).expect("there").len();
        assert_eq!(held, 1 << 20);
        assert_eq!(reserve.cover(|| Ok(7)).expect("nothing is wrong"), 7);
        let other = reserve.cover(|| Err::<(), _>(ErrorKind::PermissionDenied.into()));
        assert_eq!(other.expect_err("not for want of room").kind(), ErrorKind::PermissionDenied);
        assert!(!reserve.is_given_up());
        let full = || io::Error::from(ErrorKind::StorageFull);
        let mut tries = 0;
        let found = reserve.cover(|| {
            tries += 1;
            if path.join("reserve").exists() { Err(full()) } else { Ok(tries) }
        });
        assert_eq!(found.expect("room that was kept back"), 2);
        assert!(reserve.is_given_up());
        let mut tries = 0;
        let refused = reserve.cover(|| {
            tries += 1;
            Err::<(), _>(full())
        });
        assert_eq!((refused.expect_err("there is no more").kind(), tries), (ErrorKind::StorageFull, 2));
        // The next life takes it anew.
        assert!(!Reserve::take(&path, 1 << 20).expect("room").is_given_up());
        fs::remove_dir_all(&path).expect("removed");
    }

    #[test]
    fn it_holds_as_much_as_it_says_and_not_what_an_earlier_life_wanted() {
        let path = folder("length");
        for segment_bytes in [1 << 20, 1 << 16, 1 << 32] {
            Reserve::take(&path, segment_bytes).expect("room");
            let held = fs::metadata(path.join("reserve")).expect("there").len();
            assert_eq!(held, segment_bytes.min(BYTES_MAX));
        }
        let file = File::options().write(true).open(path.join("reserve")).expect("there");
        fill(&file, 100_000).expect("written");
        fs::remove_dir_all(&path).expect("removed");
    }
}

//! The log of how to undo.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names a file for its whole life: its inode's number may be given to another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The inode.
    pub inode: u64,
    /// When it was made, in nanoseconds.
    pub born: u64,
}

impl Id {
    /// Of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let born = found.created().map_or(0, |time| {
            time.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
        });
        Ok(Self { inode: found.ino(), born })
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Before a write.
    Undo {
        /// Of which file.
        id: Id,
        /// Its length before.
        length: u64,
        /// Where.
        offset: u64,
        /// What stood there, as far as the file reached.
        bytes: Vec<u8>,
        /// How many bytes the write covers.
        covers: u64,
    },
    /// Before a change of length.
    Resized {
        /// Of which file.
        id: Id,
        /// The length before.
        from: u64,
        /// The length then.
        to: u64,
        /// What is cut off.
        tail: Vec<u8>,
    },
    /// A sync of a file is done: it covers what the log had before that place when it began.
    Synced {
        /// Which file.
        id: Id,
        /// Up to where the log counts.
        place: u64,
    },
    /// A name has come.
    Created {
        /// Which.
        path: PathBuf,
    },
    /// A name will go: `stash` is another name for what it stands for.
    Removed {
        /// Which.
        path: PathBuf,
        /// Where its file can be found.
        stash: PathBuf,
    },
    /// A file will have another name.
    Renamed {
        /// The old name.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
        /// What stood there before, if anything did.
        stash: Option<PathBuf>,
    },
    /// A sync of a folder is done.
    Folder {
        /// Which.
        path: PathBuf,
        /// Up to where the log counts.
        place: u64,
    },
}

impl Record {
    /// As bytes: a length, a kind, then the parts.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        let mut put = |kind: u8, numbers: &[u64], parts: &[&[u8]]| {
            out.push(kind);
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
            for part in parts {
                out.extend_from_slice(&(part.len() as u32).to_le_bytes());
                out.extend_from_slice(part);
            }
        };
        match self {
            Self::Undo { id, length, offset, bytes, covers } => {
                put(0, &[id.inode, id.born, *length, *offset, *covers], &[bytes]);
            }
            Self::Synced { id, place } => put(1, &[id.inode, id.born, *place], &[]),
            Self::Created { path } => put(2, &[], &[raw(path)]),
            Self::Removed { path, stash } => put(3, &[], &[raw(path), raw(stash)]),
            Self::Renamed { from, to, stash } => {
                put(4, &[], &[raw(from), raw(to), stash.as_deref().map_or(b"", raw)]);
            }
            Self::Resized { id, from, to, tail } => put(6, &[id.inode, id.born, *from, *to], &[tail]),
            Self::Folder { path, place } => put(5, &[*place], &[raw(path)]),
        }
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let record = match rest.take(1)?[0] {
            0 => {
                let id = rest.id()?;
                let (length, offset, covers) = (rest.number()?, rest.number()?, rest.number()?);
                Self::Undo { id, length, offset, covers, bytes: rest.part()?.to_vec() }
            }
            1 => Self::Synced { id: rest.id()?, place: rest.number()? },
            2 => Self::Created { path: rest.path()? },
            3 => Self::Removed { path: rest.path()?, stash: rest.path()? },
            4 => {
                let (from, to, stash) = (rest.path()?, rest.path()?, rest.path()?);
                Self::Renamed { from, to, stash: Some(stash).filter(|stash| stash != Path::new("")) }
            }
            5 => Self::Folder { place: rest.number()?, path: rest.path()? },
            6 => {
                let (id, from, to) = (rest.id()?, rest.number()?, rest.number()?);
                Self::Resized { id, from, to, tail: rest.part()?.to_vec() }
            }
            _ => return None,
        };
        rest.0.is_empty().then_some(record)
    }
}

/// All records with their places. The last one may be torn, as its process was killed: then nothing it announces was
/// done.
pub fn read(log: &Path) -> io::Result<Vec<(u64, Record)>> {
    let mut bytes = Vec::new();
    File::open(log)?.read_to_end(&mut bytes)?;
    let mut records = Vec::new();
    let mut place = 0;
    while let Some(head) = bytes.get(place..place + 4) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(record) = bytes.get(place + 4..place + 4 + length).and_then(Record::from_bytes) else {
            break;
        };
        records.push((place as u64, record));
        place += 4 + length;
    }
    Ok(records)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn id(&mut self) -> Option<Id> {
        Some(Id { inode: self.number()?, born: self.number()? })
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.take(4)?;
        self.take(u32::from_le_bytes(length.try_into().expect("four bytes")) as usize)
    }

    fn path(&mut self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStrExt;
        self.part().map(|bytes| PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
    }
}

fn raw(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

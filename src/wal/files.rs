//! The folder in which a journal lives.

use bytes::Bytes;
use std::fmt;

/// One folder of files. Calls are direct and may block; none is made but by [`Wal::open`](super::Wal::open) and by
/// whoever runs a [`Sync`](super::Sync).
///
/// What was done to a file survives a power loss once that file was synced; that a name is there, or is gone, once the
/// folder was.
pub trait Files {
    /// The names of all files.
    fn list(&mut self) -> Result<Vec<String>, FileError>;

    /// All bytes of a file.
    fn read(&mut self, file: &str) -> Result<Bytes, FileError>;

    /// Makes an empty file, which must not be there yet. `room` is how large it will become: whoever can, reserves
    /// that much, so that syncs need not change its length; the reserved part reads as zeros.
    fn create(&mut self, file: &str, room: u64) -> Result<(), FileError>;

    /// Writes at an offset; the file grows as needed.
    fn write(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError>;

    /// Cuts a file off. Room beyond is given back, so that nothing of what stood there is ever read again.
    fn truncate(&mut self, file: &str, length: u64) -> Result<(), FileError>;

    /// Returns when the file's bytes would survive a power loss.
    fn sync(&mut self, file: &str) -> Result<(), FileError>;

    /// Returns when the folder's names would survive a power loss.
    fn sync_folder(&mut self) -> Result<(), FileError>;

    /// Removes a file.
    fn remove(&mut self, file: &str) -> Result<(), FileError>;
}

/// What is done to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// [`Files::list`].
    List,
    /// [`Files::read`].
    Read,
    /// [`Files::create`].
    Create,
    /// [`Files::write`].
    Write,
    /// [`Files::truncate`].
    Truncate,
    /// [`Files::sync`].
    Sync,
    /// [`Files::sync_folder`].
    SyncFolder,
    /// [`Files::remove`].
    Remove,
}

/// Why the disk refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No room is left.
    Full,
    /// What the system said.
    Failed(String),
}

/// The disk refused. Part of the action may have been done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not {action} {file}: {reason}")]
pub struct FileError {
    /// What was asked for.
    pub action: Action,
    /// Of which file; of the folder, when empty.
    pub file: String,
    /// Why it was not done.
    pub reason: Reason,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list the folder",
            Self::Read => "read",
            Self::Create => "create",
            Self::Write => "write",
            Self::Truncate => "truncate",
            Self::Sync => "sync",
            Self::SyncFolder => "sync the folder",
            Self::Remove => "remove",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the disk is full"),
            Self::Failed(words) => f.write_str(words),
        }
    }
}

//! Why a member has stopped by itself.

use std::io;
use std::path::{Path, PathBuf};

use super::files::is_full;
use crate::wal::{FileError, Reason, WalError};

/// Why a member does nothing any more, or never began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The disk refused, or what it has is damaged. Nobody was promised what it did not keep.
    #[error("{} {complaint}", path.display())]
    Storage {
        /// The file, or the folder.
        path: PathBuf,
        /// Where in the file, when that is known.
        offset: Option<u64>,
        /// What is wrong, and what to do.
        complaint: String,
        /// Whether it is but full.
        full: bool,
    },
    /// The cluster does not want it: another member has its name, because this one's data is not that member's.
    #[error("{complaint}")]
    Refused {
        /// What is wrong, and what to do.
        complaint: String,
    },
    /// A bug of ours. Please report it.
    #[error("{complaint}")]
    Internal {
        /// What happened.
        complaint: String,
    },
}

impl Failure {
    pub(super) fn storage(path: impl Into<PathBuf>, what: &str, error: &io::Error) -> Self {
        let full = is_full(error);
        let advice = if full { "; make room and start the member again" } else { "" };
        Self::Storage { path: path.into(), offset: None, complaint: format!("{what}: {error}{advice}"), full }
    }

    /// The disk of this folder is full, and what was kept back for that was used for an end in order.
    pub(super) fn crowded(folder: &Path) -> Self {
        let complaint = "is on a disk that is full: the member has written down what it had begun, has handed over, and has \
                         stopped; make room and start it again";
        Self::Storage { path: folder.into(), offset: None, complaint: complaint.to_owned(), full: true }
    }

    /// What the journal says, of files in this folder.
    pub(super) fn journal(folder: &Path, error: &WalError) -> Self {
        match error {
            WalError::Disk(error) => Self::disk(folder, error),
            WalError::Rotten { segment, offset, what } => {
                let complaint = format!(
                    "is damaged at byte {offset}, where there should be {what}: remove this member from the cluster \
                     and add it again with an empty folder, or restore the file"
                );
                Self::file(folder, segment, Some(*offset), complaint)
            }
            WalError::Missing { segment } => {
                let complaint = "is missing: remove this member from the cluster and add it again with an empty folder, or \
                                 restore the file";
                Self::file(folder, segment, None, complaint.to_owned())
            }
            WalError::UnknownVersion { segment, version } => {
                let complaint =
                    format!("is of version {version}, which this build cannot read: start a build that can");
                Self::file(folder, segment, Some(0), complaint)
            }
            WalError::Malformed { segment, offset, malformed } => {
                let complaint = format!(
                    "has a record at byte {offset} that makes no sense ({malformed}): remove this member from the \
                     cluster and add it again with an empty folder"
                );
                Self::file(folder, segment, Some(*offset), complaint)
            }
            WalError::Exhausted => {
                Self::Storage { path: folder.into(), offset: None, complaint: error.to_string(), full: false }
            }
            WalError::TooLarge { .. } | WalError::Poisoned => Self::Internal { complaint: error.to_string() },
        }
    }

    pub(super) fn disk(folder: &Path, error: &FileError) -> Self {
        let advice = match error.reason {
            Reason::Full => "make room",
            Reason::Failed(_) => "see to the disk",
        };
        Self::Storage {
            path: folder.join(&error.file),
            offset: None,
            complaint: format!("failed ({error}): the member has stopped; {advice} and start it again"),
            full: error.reason == Reason::Full,
        }
    }

    fn file(folder: &Path, segment: &str, offset: Option<u64>, complaint: String) -> Self {
        Self::Storage { path: folder.join(segment), offset, complaint, full: false }
    }
}

//! What can go wrong with a journal, and the way out.

use super::FileError;
use crate::wire::{Malformed, VERSION, VERSION_MIN};

/// Why there is no journal, or why there is none any more.
///
/// All but [`WalError::TooLarge`] end this member's life. Nothing that was durable was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The disk refused. What was not yet durable may or may not be there after a restart; nobody was promised it.
    /// The way out: make room or mend the disk, then start the member again.
    #[error(transparent)]
    Disk(#[from] FileError),
    /// What had been durable is damaged. Nothing was repaired, because the member would forget promises.
    ///
    /// The way out: when a majority of the others is well, remove this member from the cluster and add it again with
    /// an empty folder; it gets everything from them. Otherwise restore the file from a copy of the disk.
    #[error(
        "{segment} is damaged at byte {offset}: {what}; remove this member from the cluster and add it again with an \
         empty folder, or restore the file"
    )]
    Rotten {
        /// The file.
        segment: String,
        /// Where the first damaged part begins.
        offset: u64,
        /// What should be there.
        what: &'static str,
    },
    /// A file of the journal is not there. The way out is that of [`WalError::Rotten`].
    #[error(
        "{segment} is missing; remove this member from the cluster and add it again with an empty folder, or \
         restore the file"
    )]
    Missing {
        /// The file.
        segment: String,
    },
    /// Written by a build that this one cannot read. The way out: start a build that can.
    #[error("{segment} is of version {version}; versions {VERSION_MIN} to {VERSION} are read")]
    UnknownVersion {
        /// The file.
        segment: String,
        /// Its version.
        version: u16,
    },
    /// A sound record that says something no member of ours would say. The way out is that of [`WalError::Rotten`].
    #[error("{segment} has a record at byte {offset} that makes no sense: {malformed}")]
    Malformed {
        /// The file.
        segment: String,
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// A record larger than the queue still takes. Nothing changed; sync what is queued, or write less.
    #[error("a record of {bytes} bytes on {queued} that are queued; {limit} fit")]
    TooLarge {
        /// The record's size.
        bytes: usize,
        /// What is queued.
        queued: usize,
        /// What fits.
        limit: usize,
    },
    /// The numbers of segments or of batches end here. None that counted up to this place was ever written: somebody
    /// renamed the files. The way out is that of [`WalError::Rotten`].
    #[error(
        "the journal's numbers are used up, which none gets to by writing; remove this member from the cluster and \
         add it again with an empty folder, or restore the files"
    )]
    Exhausted,
    /// A write or a sync had failed. It is not tried again; only a restart finds out what the disk has.
    #[error("the journal takes nothing any more, because its disk has failed")]
    Poisoned,
}

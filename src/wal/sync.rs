//! What makes the queue durable, as a value.

use bytes::Bytes;
use std::collections::VecDeque;

use super::{FileError, Files};

/// One thing to do to the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Files::create`].
    Create {
        /// Which file.
        file: String,
        /// How large it will become.
        room: u64,
    },
    /// [`Files::write`].
    Write {
        /// Which file.
        file: String,
        /// Where.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// [`Files::sync`].
    Sync {
        /// Which file.
        file: String,
    },
    /// [`Files::sync_folder`].
    SyncFolder,
    /// [`Files::remove`].
    Remove {
        /// Which file.
        file: String,
    },
}

/// Operations that make everything through [`Sync::covers`] durable when all of them are done in order. The first
/// that fails ends it: tell [`Wal::end_sync`](super::Wal::end_sync), and do no other.
#[derive(Debug)]
#[must_use = "nothing becomes durable until its operations are done"]
pub struct Sync {
    covers: u64,
    operations: VecDeque<Operation>,
}

impl Sync {
    pub(super) const fn new(covers: u64) -> Self {
        Self { covers, operations: VecDeque::new() }
    }

    pub(super) fn push(&mut self, operation: Operation) {
        self.operations.push_back(operation);
    }

    /// The place of the last record that is durable when this is done.
    pub const fn covers(&self) -> u64 {
        self.covers
    }

    /// What is still to be done, in order.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = &Operation> {
        self.operations.iter()
    }

    /// Does the next operation. Returns whether there are more.
    pub fn step(&mut self, files: &mut impl Files) -> Result<bool, FileError> {
        if let Some(operation) = self.operations.pop_front() {
            operation.run(files)?;
        }
        Ok(!self.operations.is_empty())
    }

    /// Does all that is still to be done.
    pub fn run(mut self, files: &mut impl Files) -> Result<(), FileError> {
        while self.step(files)? {}
        Ok(())
    }
}

impl Operation {
    fn run(&self, files: &mut impl Files) -> Result<(), FileError> {
        match self {
            Self::Create { file, room } => files.create(file, *room),
            Self::Write { file, offset, bytes } => files.write(file, *offset, bytes),
            Self::Sync { file } => files.sync(file),
            Self::SyncFolder => files.sync_folder(),
            Self::Remove { file } => files.remove(file),
        }
    }
}

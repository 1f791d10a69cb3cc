//! A journal that survives crashes: segments of checksummed batches, over a small [`Files`] trait. Pure: it opens
//! nothing and waits for nothing.
//!
//! ```text
//!   append append checkpoint append …      the queue, in memory
//!        └─────── begin_sync ──► Sync      file operations, a value: the driver does them, one after the other,
//!                                 │        where and when it likes (a thread of its own, virtual time)
//!   durable: 1 … n  ◄── end_sync ─┘        what it covered is safe: promises may leave
//! ```
//!
//! **Operations are values.** After [`Wal::open`], the journal itself never touches a file. [`Wal::begin_sync`] takes
//! all that is queued (group commit) and hands out a [`Sync`]: the operations that make it durable, in order. A
//! member's sync thread runs it; a simulated disk steps through it, draws how long it takes, and may crash between
//! any two steps. At most one is under way. A failed one is never tried again, because after a failed fsync nobody
//! knows what the disk has (Rebello and others, "Can Applications Recover from fsync Failures?", ATC 2020): the
//! journal is then [poisoned](WalError::Poisoned), and only a restart reads what is there.
//!
//! # On disk
//!
//! ```text
//!  0000000000000003.wal                                         all integers little-endian
//!  │ "coterwal" │ CRC32C │ version u16 │ 0 u16 │ segment u64 │ first batch u64 │     a header of 32 bytes
//!  │ number u64 │ length u32 │ count u32 │ CRC32C of the body │ CRC32C of the 20 bytes before it │
//!  │ length u32, record │ length u32, record │ … zeros, to a multiple of 8 │         batches, one for each sync
//!  │ zeros: room that was reserved ahead                                             (or the end of the file)
//! ```
//!
//! A batch's checksums are seeded with its segment's number, and its own number continues that of the batch before.
//! So stale bytes (a reused block, an old file of the same name, what a torn write left) are never read as valid.
//! The top bit of `count` says that the batch begins with a checkpoint; such a batch always opens a segment.
//!
//! # What recovery may conclude
//!
//! A batch is written only once all before it are durable. Therefore:
//! - a bad batch with nothing behind it is a **torn tail**: nobody was promised anything of it. It is cut off;
//! - a bad batch with the header of a later one behind it had been durable: that is **rot**, and an error
//!   ([`WalError::Rotten`]), because whoever cut it off would forget promises;
//! - the last batch of all, should it rot, cannot be told from a tear. The other members still have it.
//!
//! A checkpoint opens a new segment. Older segments are removed when it is durable and the folder synced, so at every
//! moment one whole journal is there, the old or the new. Recovery begins at the newest sound checkpoint, and before
//! it hands out what it read it writes the last batch again and syncs it: what a killed process had written, or a failed
//! sync had lost, may be in the page cache only.

mod error;
mod files;
mod memory;
mod recovery;
mod segment;
mod sync;

pub use error::WalError;
pub use files::{Action, FileError, Files, Reason};
pub use memory::Memory;
pub use recovery::{Recovery, Stored, Torn};
pub use sync::{Operation, Sync};

use crate::wire::{Encode, VERSION};
use segment::{BatchHeader, SegmentHeader};

/// More than is ever queued at once: a batch's length must fit its header.
const QUEUE_BYTES_MAX: usize = 1 << 30;

/// How the journal lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How large a segment grows before the next one is begun, and how much room is reserved for it. A batch is never
    /// split, so one may be larger. Default 64 MiB.
    pub segment_bytes: u64,
    /// The version in which records are written, and which new segments say. What is read may be of any version that this
    /// build knows. Default: this build's.
    pub version: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, version: VERSION }
    }
}

/// A journal: records go in, and are durable once a [`Sync`] that covers them is done.
#[derive(Debug)]
pub struct Wal {
    settings: Settings,
    disk: Disk,
    queue: Queue,
    /// How many records were appended in this life.
    appended: u64,
    /// How many of them are durable.
    durable: u64,
    /// What the sync under way covers.
    under_way: Option<u64>,
    poisoned: bool,
}

/// What is, or will be when the sync under way is done, on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    /// The oldest segment.
    oldest: u64,
    /// The one that is written. Before the first sync of all it is 0, and there is none.
    newest: u64,
    /// Where its next batch goes.
    end: u64,
    /// The next batch's number.
    batch: u64,
    /// Whether the next batch opens a segment in any case: the newest one is written in another version.
    roll: bool,
}

/// The next batch: room for its header, then the records.
#[derive(Debug)]
struct Queue {
    bytes: Vec<u8>,
    count: u32,
    /// Whether the first record is a checkpoint.
    checkpoint: bool,
}

impl Wal {
    /// Reads what is there, repairs a torn tail, and makes sure that all it hands out is durable: the last batch, of
    /// which an earlier life may never have heard whether the disk had it, is written again.
    pub fn open(files: &mut impl Files, settings: Settings) -> Result<(Self, Recovery), WalError> {
        let (disk, recovery) = recovery::recover(files, settings.version)?;
        let wal = Self {
            settings,
            disk,
            queue: Queue::new(),
            appended: 0,
            durable: 0,
            under_way: None,
            poisoned: false,
        };
        Ok((wal, recovery))
    }

    /// Queues a record. Returns its place: it is durable when [`Wal::durable`] has reached that. Places are counted
    /// from 1 in each life.
    pub fn append(&mut self, record: &[u8]) -> Result<u64, WalError> {
        self.push(record.len(), |out| out.extend_from_slice(record))
    }

    /// [`Wal::append`], written straight into the queue.
    pub fn append_encoded(&mut self, record: &impl Encode) -> Result<u64, WalError> {
        self.push(0, |out| record.encode(out))
    }

    /// Queues a record that replaces all before it. Those that no sync has begun to cover are never written.
    pub fn checkpoint(&mut self, record: &[u8]) -> Result<u64, WalError> {
        self.replace(|wal| wal.append(record))
    }

    /// [`Wal::checkpoint`], written straight into the queue.
    pub fn checkpoint_encoded(&mut self, record: &impl Encode) -> Result<u64, WalError> {
        self.replace(|wal| wal.append_encoded(record))
    }

    /// The operations that make durable all that is queued now. `None` while there is nothing to do: the queue is
    /// empty, another sync is under way, or the journal is poisoned.
    pub fn begin_sync(&mut self) -> Option<Sync> {
        if self.poisoned || self.under_way.is_some() || self.queue.count == 0 {
            return None;
        }
        // The next batch will be about as large as this one.
        let next = Queue::with_capacity(self.queue.bytes.len());
        let queue = std::mem::replace(&mut self.queue, next);
        let mut sync = Sync::new(self.appended);
        let length = queue.length();
        let opens = queue.checkpoint
            || self.disk.roll
            || self.disk.newest == 0
            || (self.disk.end + length > self.settings.segment_bytes && self.disk.end > SegmentHeader::SIZE);
        let before = self.disk;
        if opens {
            self.open_segment(length, &mut sync);
        }
        let name = segment::name(self.disk.newest);
        let checkpoint = queue.checkpoint;
        let batch = queue.seal(self.disk.newest, self.disk.batch);
        sync.push(Operation::Write { file: name.clone(), offset: self.disk.end, bytes: batch });
        sync.push(Operation::Sync { file: name });
        if opens {
            sync.push(Operation::SyncFolder);
        }
        if checkpoint && before.newest > 0 {
            for old in before.oldest..=before.newest {
                sync.push(Operation::Remove { file: segment::name(old) });
            }
            self.disk.oldest = self.disk.newest;
        }
        self.disk.end += length;
        self.disk.batch += 1;
        self.under_way = Some(self.appended);
        Some(sync)
    }

    /// Takes how the sync under way went. Returns [`Wal::durable`]; an error poisons the journal for good.
    pub fn end_sync(&mut self, outcome: Result<(), FileError>) -> Result<u64, WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        let covered = self.under_way.take();
        if let Err(error) = outcome {
            self.poisoned = true;
            return Err(error.into());
        }
        self.durable = covered.unwrap_or(self.durable);
        Ok(self.durable)
    }

    /// Up to which place the records of this life are durable.
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// The place of the last record.
    pub const fn appended(&self) -> u64 {
        self.appended
    }

    /// Whether a sync is under way.
    pub const fn is_syncing(&self) -> bool {
        self.under_way.is_some()
    }

    /// How many bytes wait for a sync to begin.
    pub const fn queued_bytes(&self) -> usize {
        self.queue.bytes.len() - BatchHeader::SIZE
    }

    fn push(&mut self, at_least: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<u64, WalError> {
        const LENGTH: usize = size_of::<u32>();
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        if self.disk.newest.max(self.disk.batch) >= segment::NUMBER_MAX {
            return Err(WalError::Exhausted);
        }
        let start = self.queue.bytes.len();
        if start + at_least <= QUEUE_BYTES_MAX {
            self.queue.bytes.extend_from_slice(&[0; LENGTH]);
            write(&mut self.queue.bytes);
        }
        let bytes = self.queue.bytes.len().saturating_sub(start + LENGTH).max(at_least);
        if start + LENGTH + bytes > QUEUE_BYTES_MAX {
            self.queue.bytes.truncate(start);
            return Err(WalError::TooLarge { bytes, queued: self.queued_bytes(), limit: QUEUE_BYTES_MAX });
        }
        self.queue.bytes[start..start + LENGTH].copy_from_slice(&(bytes as u32).to_le_bytes());
        self.queue.count += 1;
        self.appended += 1;
        Ok(self.appended)
    }

    fn replace(&mut self, append: impl FnOnce(&mut Self) -> Result<u64, WalError>) -> Result<u64, WalError> {
        let before = std::mem::replace(&mut self.queue, Queue { checkpoint: true, ..Queue::new() });
        let appended = append(self);
        if appended.is_err() {
            self.queue = before;
        }
        appended
    }

    fn open_segment(&mut self, length: u64, sync: &mut Sync) {
        let segment = self.disk.newest + 1;
        let file = segment::name(segment);
        let room = self.settings.segment_bytes.max(SegmentHeader::SIZE + length);
        let header = SegmentHeader { version: self.settings.version, segment, first: self.disk.batch };
        sync.push(Operation::Create { file: file.clone(), room });
        sync.push(Operation::Write { file, offset: 0, bytes: header.to_bytes() });
        self.disk.oldest = self.disk.oldest.max(1);
        self.disk.newest = segment;
        self.disk.end = SegmentHeader::SIZE;
        self.disk.roll = false;
    }
}

impl Queue {
    fn new() -> Self {
        Self::with_capacity(BatchHeader::SIZE)
    }

    fn with_capacity(bytes: usize) -> Self {
        const KEPT_MAX: usize = 1 << 20;
        let mut queue = Vec::with_capacity(bytes.min(KEPT_MAX));
        queue.resize(BatchHeader::SIZE, 0);
        Self { bytes: queue, count: 0, checkpoint: false }
    }

    /// How many bytes the batch takes on the disk.
    const fn length(&self) -> u64 {
        self.bytes.len().next_multiple_of(segment::ALIGNMENT) as u64
    }

    fn seal(mut self, segment: u64, number: u64) -> bytes::Bytes {
        self.bytes.resize(self.length() as usize, 0);
        let (head, body) = self.bytes.split_at_mut(BatchHeader::SIZE);
        let header = BatchHeader {
            number,
            length: body.len() as u32,
            count: self.count,
            checkpoint: self.checkpoint,
            checksum: crc32c::crc32c(body),
        };
        head.copy_from_slice(&header.to_array(segment));
        self.bytes.into()
    }
}

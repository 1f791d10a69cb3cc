//! What a journal still says after a crash.

use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::segment::{Batch, SegmentHeader, has_later, name, number};
use super::{Disk, Files, WalError};
use crate::wire::{Decode, VERSION, VERSION_MIN};

/// What the journal kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The records since the newest checkpoint, itself included, in order. All are durable.
    pub records: Vec<Stored>,
    /// What was cut off, if anything was.
    pub repaired: Option<Torn>,
}

/// A record of an earlier life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The version of the encoding in which it was written.
    pub version: u16,
    /// The file that holds it.
    pub segment: Arc<str>,
    /// Where in it.
    pub offset: u64,
    /// The record.
    pub bytes: Bytes,
}

/// The end of a journal that was being written when the lights went out. Nobody was promised anything of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub segment: String,
    /// Where it was cut off; 0: it was removed.
    pub offset: u64,
}

impl Recovery {
    /// Reads the records.
    pub fn decode<R: Decode>(&self) -> Result<Vec<R>, WalError> {
        self.records.iter().map(Stored::decode).collect()
    }
}

impl Stored {
    /// Reads the record.
    pub fn decode<R: Decode>(&self) -> Result<R, WalError> {
        R::from_bytes(self.bytes.clone(), self.version).map_err(|malformed| WalError::Malformed {
            segment: self.segment.to_string(),
            offset: self.offset,
            malformed,
        })
    }
}

/// Reads, repairs, and syncs what it read.
pub(super) fn recover(files: &mut impl Files, version: u16) -> Result<(Disk, Recovery), WalError> {
    let present: BTreeSet<u64> = files.list()?.iter().filter_map(|file| number(file)).collect();
    let chain = chain(files, &present)?;
    let walk = Walk::over(&chain)?;
    let oldest = chain.first().map_or(0, |first| first.number);
    let disk = walk.disk(oldest, &chain, version);
    if let Some(torn) = &walk.torn {
        repair(files, torn)?;
    }
    if let Some(tail) = &walk.tail {
        write_again(files, &chain[tail.place], tail)?;
    }
    if !present.is_empty() {
        files.sync_folder()?;
    }
    // What a checkpoint had replaced, now that the checkpoint is durable for certain.
    for old in present.range(..oldest) {
        files.remove(&name(*old))?;
    }
    Ok((disk, Recovery { records: walk.records, repaired: walk.torn }))
}

fn repair(files: &mut impl Files, torn: &Torn) -> Result<(), WalError> {
    match torn.offset {
        0 => files.remove(&torn.segment)?,
        offset => files.truncate(&torn.segment, offset)?,
    }
    Ok(())
}

/// Makes durable what was read last. A sync alone would not do: when an earlier life's sync had failed, the system may
/// have marked the pages clean though the disk never got them, and what is read comes from the page cache (Rebello and
/// others, ATC 2020, §3.4). Only what has been written again is written for certain. All before it had been synced
/// before it was begun; and the same bytes over the same bytes tear into nothing else.
fn write_again(files: &mut impl Files, segment: &Segment, tail: &Tail) -> Result<(), WalError> {
    let file = name(segment.number);
    files.write(&file, tail.start as u64, &segment.bytes[tail.start..tail.end])?;
    files.sync(&file)?;
    Ok(())
}

/// A segment as it was found.
struct Segment {
    number: u64,
    bytes: Bytes,
    header: Option<SegmentHeader>,
}

impl Segment {
    fn read(files: &mut impl Files, number: u64) -> Result<Self, WalError> {
        let bytes = files.read(&name(number))?;
        let header = SegmentHeader::read(&bytes, number);
        if let Some(SegmentHeader { version, .. }) = header
            && !(VERSION_MIN..=VERSION).contains(&version)
        {
            return Err(WalError::UnknownVersion { segment: name(number), version });
        }
        Ok(Self { number, bytes, header })
    }

    fn batch(&self, at: usize, number: u64) -> Option<Batch> {
        Batch::read(&self.bytes, at, self.number, number)
    }

    fn begins_with_checkpoint(&self) -> bool {
        let first = self.header.and_then(|header| self.batch(SegmentHeader::SIZE as usize, header.first));
        first.is_some_and(|first| first.checkpoint)
    }

    /// Whether something of a batch after `number` is there, from `at` on.
    fn has_later(&self, at: usize, number: u64) -> bool {
        has_later(&self.bytes, at, self.number, number)
    }

    /// Whether only reserved room is left from `at` on.
    fn is_blank(&self, at: usize) -> bool {
        self.bytes[at.min(self.bytes.len())..].iter().all(|byte| *byte == 0)
    }

    fn rotten(&self, offset: usize, what: &'static str) -> WalError {
        WalError::Rotten { segment: name(self.number), offset: offset as u64, what }
    }
}

/// The segments from the newest checkpoint on; without one, all.
fn chain(files: &mut impl Files, present: &BTreeSet<u64>) -> Result<Vec<Segment>, WalError> {
    let mut chain: Vec<Segment> = Vec::new();
    for &segment in present.iter().rev() {
        if let Some(later) = chain.last()
            && segment + 1 != later.number
        {
            return Err(WalError::Missing { segment: name(later.number - 1) });
        }
        chain.push(Segment::read(files, segment)?);
        if chain.last().is_some_and(Segment::begins_with_checkpoint) {
            break;
        }
    }
    chain.reverse();
    match chain.first() {
        // Older segments go only when a checkpoint is durable, so without one the journal begins with the first.
        Some(first) if first.number > 1 && !first.begins_with_checkpoint() => {
            Err(first.rotten(0, "a checkpoint, because nothing before it is there"))
        }
        _ => Ok(chain),
    }
}

/// How far the chain is sound.
struct Walk {
    records: Vec<Stored>,
    /// The next batch's number.
    batch: u64,
    /// The end of what is sound.
    tail: Option<Tail>,
    torn: Option<Torn>,
}

/// What was written last of all that is sound.
struct Tail {
    /// The last segment that stays, as its place in the chain.
    place: usize,
    /// Where its last batch begins; 0 when that was, or was to be, its first: the header was written with it.
    start: usize,
    /// Where its sound part ends.
    end: usize,
}

impl Walk {
    fn over(chain: &[Segment]) -> Result<Self, WalError> {
        let first = chain.first().and_then(|segment| segment.header);
        let batch = first.filter(|header| header.segment > 1).map_or(1, |header| header.first);
        let mut walk = Self { records: Vec::new(), batch, tail: None, torn: None };
        for (place, segment) in chain.iter().enumerate() {
            let is_last = place + 1 == chain.len();
            match segment.header.filter(|header| header.first == walk.batch) {
                Some(header) => {
                    let Range { start, end } = walk.read(segment, header);
                    walk.tail = Some(Tail { place, start, end });
                    if is_last {
                        walk.end(segment, end)?;
                    } else {
                        walk.join(segment, end, &chain[place + 1], place + 2 == chain.len())?;
                    }
                }
                None if is_last && segment.header.is_none() && !segment.has_later(0, walk.batch) => {
                    walk.torn = Some(Torn { segment: name(segment.number), offset: 0 });
                }
                None => return Err(segment.rotten(0, "the header of the segment that follows")),
            }
        }
        Ok(walk)
    }

    /// Takes the sound batches; returns what was written last of them.
    fn read(&mut self, segment: &Segment, header: SegmentHeader) -> Range<usize> {
        let file: Arc<str> = name(segment.number).into();
        let (mut start, mut at) = (0, SegmentHeader::SIZE as usize);
        while let Some(found) = segment.batch(at, self.batch) {
            start = if self.batch == header.first { 0 } else { at };
            self.records.extend(found.records.into_iter().map(|(offset, bytes)| Stored {
                version: header.version,
                segment: file.clone(),
                offset,
                bytes,
            }));
            at = found.end;
            self.batch += 1;
        }
        start..at
    }

    /// The end of the last segment: room, a tear, or rot.
    fn end(&mut self, segment: &Segment, end: usize) -> Result<(), WalError> {
        if segment.has_later(end, self.batch) {
            return Err(segment.rotten(end, "a batch, because a later one is there"));
        }
        if !segment.is_blank(end) {
            self.torn = Some(Torn { segment: name(segment.number), offset: end as u64 });
        }
        Ok(())
    }

    /// The end of a segment that has a next one, which was begun when all of this one was durable.
    fn join(
        &self,
        segment: &Segment,
        end: usize,
        next: &Segment,
        next_is_last: bool,
    ) -> Result<(), WalError> {
        let whole = match next.header {
            Some(header) => header.first <= self.batch,
            // It was only being created: how many batches this one has is not written anywhere.
            None if next_is_last => segment.is_blank(end),
            None => true,
        };
        if whole { Ok(()) } else { Err(segment.rotten(end, "a batch, because a later segment is there")) }
    }

    fn disk(&self, oldest: u64, chain: &[Segment], version: u16) -> Disk {
        match &self.tail {
            Some(tail) => Disk {
                oldest,
                newest: chain[tail.place].number,
                end: tail.end as u64,
                batch: self.batch,
                roll: chain[tail.place].header.is_none_or(|header| header.version != version),
            },
            None => Disk { oldest: 0, newest: 0, end: 0, batch: 1, roll: false },
        }
    }
}

//! The format of a segment: its header, and the batches in it.

use bytes::{Buf, Bytes};
use std::ops::Range;

/// Batches begin at multiples of this, so that a search for one behind a damaged stretch is short.
pub(super) const ALIGNMENT: usize = 8;

const MAGIC: &[u8; 8] = b"coterwal";
const EXTENSION: &str = ".wal";
/// The bit of a batch's count that says that its first record is a checkpoint.
const CHECKPOINT: u32 = 1 << 31;

/// No journal counts further, of segments and of batches: what says so was written by none, and who went on counting from
/// there would overflow. So nothing is written beyond it either: it would not be read.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// The file that holds a segment; names sort as segments do.
pub(super) fn name(segment: u64) -> String {
    format!("{segment:016x}{EXTENSION}")
}

/// The segment that a file holds; `None` when the file is none of ours.
pub(super) fn number(file: &str) -> Option<u64> {
    let segment = u64::from_str_radix(file.strip_suffix(EXTENSION)?, 16).ok()?;
    (name(segment) == file && (1..=NUMBER_MAX).contains(&segment)).then_some(segment)
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Of the records' encoding.
    pub(super) version: u16,
    /// The segment's own number.
    pub(super) segment: u64,
    /// The number of its first batch.
    pub(super) first: u64,
}

impl SegmentHeader {
    pub(super) const SIZE: u64 = 32;
    const SUMMED_AT: usize = 12;

    pub(super) fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(Self::SIZE as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[Self::SUMMED_AT..]);
        bytes[MAGIC.len()..Self::SUMMED_AT].copy_from_slice(&checksum.to_le_bytes());
        bytes.into()
    }

    /// The header of this segment, when it is sound.
    pub(super) fn read(bytes: &[u8], segment: u64) -> Option<Self> {
        let bytes = bytes.get(..Self::SIZE as usize)?;
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let sound = rest.get_u32_le() == crc32c::crc32c(&bytes[Self::SUMMED_AT..]);
        let version = rest.get_u16_le();
        rest.advance(2);
        let header = Self { version, segment: rest.get_u64_le(), first: rest.get_u64_le() };
        (sound && header.segment == segment && (1..=NUMBER_MAX).contains(&header.first)).then_some(header)
    }
}

/// What precedes a batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) number: u64,
    /// Of the body, padding included.
    pub(super) length: u32,
    /// How many records.
    pub(super) count: u32,
    /// Whether the first of them is a checkpoint.
    pub(super) checkpoint: bool,
    /// Of the body, padding included.
    pub(super) checksum: u32,
}

impl BatchHeader {
    pub(super) const SIZE: usize = 24;
    const SUMMED: usize = 20;

    pub(super) fn to_array(self, segment: u64) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        let flag = if self.checkpoint { CHECKPOINT } else { 0 };
        bytes[12..16].copy_from_slice(&(self.count | flag).to_le_bytes());
        bytes[16..20].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = seeded_checksum(segment, &bytes[..Self::SUMMED]);
        bytes[Self::SUMMED..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at the beginning of `bytes`, when it is a sound one of this segment with one of these numbers.
    fn read(bytes: &[u8], segment: u64, numbers: Range<u64>) -> Option<Self> {
        let bytes = bytes.get(..Self::SIZE)?;
        let (summed, mut checksum) = bytes.split_at(Self::SUMMED);
        let mut rest = summed;
        let number = rest.get_u64_le();
        // First the cheap question: recovery asks it at every place behind a damaged one.
        if !numbers.contains(&number) || checksum.get_u32_le() != seeded_checksum(segment, summed) {
            return None;
        }
        let (length, count, checksum) = (rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le());
        Some(Self {
            number,
            length,
            count: count & !CHECKPOINT,
            checkpoint: count & CHECKPOINT != 0,
            checksum,
        })
    }
}

/// A sound batch.
#[derive(Debug)]
pub(super) struct Batch {
    /// Whether it begins with a checkpoint.
    pub(super) checkpoint: bool,
    /// Its records: where each begins, and its bytes.
    pub(super) records: Vec<(u64, Bytes)>,
    /// Where the next batch would begin.
    pub(super) end: usize,
}

impl Batch {
    /// The batch of this number at `at`, when there is a sound one.
    pub(super) fn read(segment: &Bytes, at: usize, segment_number: u64, number: u64) -> Option<Self> {
        let after = number.checked_add(1)?;
        let header = BatchHeader::read(segment.get(at..)?, segment_number, number..after)?;
        let start = at + BatchHeader::SIZE;
        let end = start.checked_add(header.length as usize)?;
        if crc32c::crc32c(segment.get(start..end)?) != header.checksum {
            return None;
        }
        let mut records = Vec::new();
        let mut place = start;
        for _ in 0..header.count {
            let length = segment[place..end].first_chunk().copied().map(u32::from_le_bytes)? as usize;
            let record = place + size_of::<u32>();
            let next = record.checked_add(length).filter(|next| *next <= end)?;
            records.push((place as u64, segment.slice(record..next)));
            place = next;
        }
        Some(Self { checkpoint: header.checkpoint, records, end })
    }
}

/// Whether the header of a batch later than `number` stands anywhere from `at` on. Its body need not be sound: it was
/// written when batch `number` was durable, and that is the question.
pub(super) fn has_later(segment: &[u8], at: usize, segment_number: u64, number: u64) -> bool {
    // Each batch takes its header and at least one aligned record, so numbers cannot have run further than this.
    let farthest = number.saturating_add(2 + (segment.len() / (BatchHeader::SIZE + ALIGNMENT)) as u64);
    let later = number.saturating_add(1)..farthest;
    let mut at = at.next_multiple_of(ALIGNMENT);
    while let Some(rest) = segment.get(at..).filter(|rest| rest.len() >= BatchHeader::SIZE) {
        if BatchHeader::read(rest, segment_number, later.clone()).is_some() {
            return true;
        }
        at += ALIGNMENT;
    }
    false
}

fn seeded_checksum(segment: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), bytes)
}

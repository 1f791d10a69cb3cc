//! Entries, in runs that share their bytes.
//!
//! A [`Run`] is a stretch of the log that one leader appended in one term. Its commands lie in one immutable range
//! of bytes which the log, the messages, the records and the events share: bytes are copied once, when they are
//! proposed, or when they arrive.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

use super::Membership;

/// A leader's period of office, counted from 1 (thesis §3.3). 0 comes before the first election.
pub type Term = u64;
/// A place in the log, counted from 1. 0 comes before the first entry.
pub type Index = u64;

/// A place in the log and the term of the entry there. The order is the thesis's "more up-to-date" (§3.6.1): the
/// later term first, then the longer log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term in which the entry was appended.
    pub term: Term,
    /// Where it stands.
    pub index: Index,
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

/// Commands side by side in one shared range of bytes: for each its length (u32, little-endian), then itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    count: u32,
}

/// Gathers commands into a [`Batch`]. The batches of one builder lie side by side in larger buffers, so that a small
/// batch costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchBuilder {
    bytes: BytesMut,
    count: u32,
}

/// The size of such a buffer.
const BUFFER: usize = 1 << 16;

/// Bytes of a command's length, before the command.
const PREFIX: usize = 4;

impl Batch {
    /// A batch of these commands.
    pub fn new<C: AsRef<[u8]>>(commands: impl IntoIterator<Item = C>) -> Self {
        let mut builder = BatchBuilder::default();
        for command in commands {
            builder.push(command.as_ref());
        }
        builder.seal()
    }

    /// Reads a batch from its wire form, when `bytes` hold exactly `count` commands.
    pub fn from_bytes(bytes: Bytes, count: u32) -> Option<Self> {
        let batch = Self { bytes, count };
        let mut rest = &batch.bytes[..];
        for _ in 0..count {
            let (prefix, after) = rest.split_first_chunk::<PREFIX>()?;
            rest = after.get(u32::from_le_bytes(*prefix) as usize..)?;
        }
        rest.is_empty().then_some(batch)
    }

    /// The wire form.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many commands.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The commands in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (prefix, after) = rest.split_first_chunk::<PREFIX>()?;
            let (command, after) = after.split_at(u32::from_le_bytes(*prefix) as usize);
            rest = after;
            Some(command)
        })
    }

    /// The same commands, each sharing the batch's bytes.
    pub fn shared(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut at = 0;
        self.iter().map(move |command| {
            let start = at + PREFIX;
            at = start + command.len();
            self.bytes.slice(start..at)
        })
    }

    /// Where the command number `place` begins (its length included).
    fn offset(&self, place: usize) -> usize {
        if place >= self.len() {
            return self.bytes.len();
        }
        self.iter().take(place).map(|command| PREFIX + command.len()).sum()
    }

    /// The commands from number `from` up to, but not including, number `to`; shares the bytes.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let (from, to) = (from.min(self.len()), to.min(self.len()));
        if from == 0 && to == self.len() {
            return self.clone();
        }
        let start = self.offset(from);
        let end = if to == self.len() { self.bytes.len() } else { self.offset(to) };
        Self { bytes: self.bytes.slice(start..end), count: (to - from) as u32 }
    }

    /// How many commands, from the first, fit into `bytes`.
    pub fn fit(&self, bytes: usize) -> usize {
        if self.bytes.len() <= bytes {
            return self.len();
        }
        let mut left = bytes;
        let fits = move |command: &&[u8]| {
            let size = PREFIX + command.len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        };
        self.iter().take_while(fits).count()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commands = self.iter().map(|command| command.escape_ascii().to_string());
        f.debug_list().entries(commands).finish()
    }
}

impl BatchBuilder {
    /// An empty builder with room for so many bytes of wire form.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(bytes), count: 0 }
    }

    /// Adds a command, which is copied.
    #[inline]
    pub fn push(&mut self, command: &[u8]) {
        let size = PREFIX + command.len();
        if self.bytes.capacity() - self.bytes.len() < size {
            self.bytes.reserve(size.max(BUFFER));
        }
        self.bytes.put_u32_le(command.len() as u32);
        self.bytes.put_slice(command);
        self.count += 1;
    }

    /// Adds all commands of a batch, copied.
    pub fn extend(&mut self, batch: &Batch) {
        self.bytes.extend_from_slice(&batch.bytes);
        self.count += batch.count;
    }

    /// Bytes gathered so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Commands gathered so far.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch; the builder is empty again.
    pub fn seal(&mut self) -> Batch {
        Batch { bytes: self.bytes.split().freeze(), count: std::mem::take(&mut self.count) }
    }
}

/// What the entries of a run are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// One entry without a command: a new leader's first (thesis §6.4).
    Blank,
    /// One entry: the membership from here on (thesis §4.1: effective as soon as it is in the log).
    Membership(Arc<Membership>),
    /// One entry for each command.
    Commands(Batch),
}

/// A stretch of the log, of one term.
#[derive(Clone, PartialEq, Eq)]
pub struct Run {
    /// The term in which a leader appended it.
    pub term: Term,
    /// The index of its first entry.
    pub first: Index,
    /// Its entries; never none.
    pub payload: Payload,
}

impl Run {
    /// How many entries.
    pub const fn len(&self) -> u64 {
        match &self.payload {
            Payload::Blank | Payload::Membership(_) => 1,
            Payload::Commands(batch) => batch.len() as u64,
        }
    }

    /// Always false for a run of a log; here because [`Run::len`] is.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index of its last entry.
    pub const fn last(&self) -> Index {
        self.first + self.len() - 1
    }

    /// What it weighs in memory and on the wire, roughly.
    pub fn bytes(&self) -> usize {
        match &self.payload {
            Payload::Blank => 1,
            Payload::Membership(membership) => 16 * membership.len().max(1),
            // The sum over any pieces that it is cut into, so that counts of bytes never drift.
            Payload::Commands(batch) => batch.bytes().len(),
        }
    }

    /// How many of its entries, from the first, fit into `bytes`.
    pub(super) fn fit(&self, bytes: usize) -> u64 {
        match &self.payload {
            Payload::Commands(batch) => batch.fit(bytes) as u64,
            _ => u64::from(self.bytes() <= bytes),
        }
    }

    /// Its entries from index `from` through index `to`, as far as it has them; at least one of them must be here.
    #[must_use]
    pub fn slice(&self, from: Index, to: Index) -> Self {
        let (from, to) = (from.max(self.first), to.min(self.last()));
        let payload = match &self.payload {
            Payload::Commands(batch) => {
                Payload::Commands(batch.slice((from - self.first) as usize, (to - self.first) as usize + 1))
            }
            other => other.clone(),
        };
        Self { term: self.term, first: from, payload }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.first)?;
        if self.len() > 1 {
            write!(f, "..{}", self.last())?;
        }
        match &self.payload {
            Payload::Blank => f.write_str(" blank"),
            Payload::Membership(membership) => write!(f, " {membership:?}"),
            Payload::Commands(batch) => write!(f, " {batch:?}"),
        }
    }
}

/// Runs that follow each other without a gap, in the order of their indexes. Mostly one. They are shared, so that
/// a message, a record and an event that carry them stay small.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Entries(SmallVec<[Arc<Run>; 1]>);

impl Entries {
    /// None.
    pub const fn new() -> Self {
        Self(SmallVec::new_const())
    }

    /// One run.
    pub fn one(run: impl Into<Arc<Run>>) -> Self {
        Self(SmallVec::from_buf([run.into()]))
    }

    /// Adds a run, which must follow the last one.
    pub fn push(&mut self, run: impl Into<Arc<Run>>) {
        let run = run.into();
        debug_assert!(self.0.last().is_none_or(|last| last.last() + 1 == run.first));
        self.0.push(run);
    }

    /// The runs.
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.0
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|run| run.len()).sum()
    }

    /// The index of the first entry.
    pub fn first(&self) -> Option<Index> {
        self.0.first().map(|run| run.first)
    }

    /// The index and term of the last entry.
    pub fn last(&self) -> Option<Position> {
        self.0.last().map(|run| Position { term: run.term, index: run.last() })
    }

    /// What they weigh, roughly.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|run| run.bytes()).sum()
    }

    /// Whether each run is not empty, follows the one before it, and has no smaller term: what a log may hold.
    pub fn well_formed(&self) -> bool {
        self.0
            .iter()
            .all(|run| !run.is_empty() && run.first > 0 && run.first.checked_add(run.len()).is_some())
            && self
                .0
                .windows(2)
                .all(|pair| pair[0].last() + 1 == pair[1].first && pair[0].term <= pair[1].term)
    }
}

impl<R: Into<Arc<Run>>> FromIterator<R> for Entries {
    fn from_iter<I: IntoIterator<Item = R>>(runs: I) -> Self {
        Self(runs.into_iter().map(Into::into).collect())
    }
}

impl IntoIterator for Entries {
    type Item = Arc<Run>;
    type IntoIter = smallvec::IntoIter<[Arc<Run>; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

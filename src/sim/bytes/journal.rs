//! A process's journal as files on a disk that loses, tears and rots.

use std::collections::VecDeque;
use std::marker::PhantomData;
use xxhash_rust::xxh3::xxh3_64;

use super::super::medium::{Damage, Failed, Journal};
use crate::check::Violation;
use crate::protocol::Protocol;
use crate::random::{Random, mix, scale};
use crate::wal::{Action, FileError, Files, Memory, Operation, Recovery, Settings, Sync, Wal, WalError};
use crate::wire::{Decode, Encode};

/// The journal of [`wal`](crate::wal) on files in memory.
///
/// The operations of a sync happen when it ends; when a crash comes first, a drawn number of them has happened.
/// Whatever recovery hands out is held against what had been written: all that was durable must be there, then some
/// of what was not, and nothing else.
#[derive(Debug)]
pub struct ByteJournal<R> {
    files: Memory,
    settings: Settings,
    /// `None` while the process is down.
    wal: Option<Wal>,
    under_way: Option<Sync>,
    /// `None`: what is recovered is not looked at, so that only those notice who live with it.
    witness: Option<Witness>,
    /// The files in which a bit flipped.
    rotten: Vec<String>,
    scratch: Vec<u8>,
    records: PhantomData<R>,
}

/// One in this many crashes is of the process alone: what it had written stays, for as long as the power does.
const KILLS: u64 = 4;
/// One in this many recoveries is cut short by another crash.
const INTERRUPTIONS: u64 = 8;

impl<R> ByteJournal<R> {
    /// An empty journal; how large its segments are follows from `word`.
    pub fn new(word: u64) -> Self {
        let files = if word & 1 == 0 { Memory::new() } else { Memory::preallocating() };
        // From a batch or two in a segment to none that is ever full.
        let segment_bytes = 512 << (2 * scale(mix(word), 6));
        Self {
            files,
            settings: Settings { segment_bytes, ..Settings::default() },
            wal: None,
            under_way: None,
            witness: Some(Witness::default()),
            rotten: Vec::new(),
            scratch: Vec::new(),
            records: PhantomData,
        }
    }

    /// The files.
    pub const fn files(&mut self) -> &mut Memory {
        &mut self.files
    }

    /// From now on nobody holds what is recovered against what was written: for tests of other judges.
    pub fn trust(&mut self) {
        self.witness = None;
    }

    /// Opens the journal; now and then a crash comes in between.
    fn open(&mut self, random: &mut Random) -> Result<(Wal, Recovery), WalError> {
        if random.below(INTERRUPTIONS) == 0 {
            self.files.halt_after(random.below(8));
            let begun = Wal::open(&mut self.files, self.settings);
            self.files.resume();
            if let Err(WalError::Disk(_)) = begun {
                self.files.crash(|bound| random.below(bound));
            }
        }
        Wal::open(&mut self.files, self.settings)
    }

    /// What a journal that cannot be read means: rot, which must be noticed, or a bug.
    fn unreadable(&mut self, error: &WalError) -> Damage {
        let files = self.files.list().unwrap_or_default();
        if self.rotten.iter().any(|file| files.contains(file)) {
            Damage::Noticed(error.to_string())
        } else {
            Violation::new("sound journals are read", error.to_string()).into()
        }
    }
}

impl<R: Encode> ByteJournal<R> {
    /// Writes a record down. It can only be refused by a journal whose disk has failed, and then it is never durable.
    fn write(
        &mut self,
        record: &R,
        replaces: bool,
        write: impl FnOnce(&mut Wal, &[u8]) -> Result<u64, WalError>,
    ) {
        self.scratch.clear();
        record.encode(&mut self.scratch);
        if self.wal.as_mut().is_some_and(|wal| write(wal, &self.scratch).is_ok())
            && let Some(witness) = &mut self.witness
        {
            witness.unsure.push_back((xxh3_64(&self.scratch), replaces));
        }
    }
}

impl<P: Protocol> Journal<P> for ByteJournal<P::Record>
where
    P::Record: Encode + Decode,
{
    fn append(&mut self, record: P::Record) {
        self.write(&record, false, Wal::append);
    }

    fn checkpoint(&mut self, record: P::Record) {
        self.write(&record, true, Wal::checkpoint);
    }

    fn begin_sync(&mut self) {
        self.under_way = self.wal.as_mut().and_then(Wal::begin_sync);
    }

    fn end_sync(&mut self, _count: u64, failing: Option<u64>) -> Result<u64, Failed> {
        let (Some(wal), Some(sync)) = (&mut self.wal, self.under_way.take()) else { return Err(Failed) };
        let outcome = match failing {
            Some(word) => fail(sync, &mut self.files, word),
            None => sync.run(&mut self.files),
        };
        let durable = wal.end_sync(outcome).map_err(|_| Failed)?;
        if let Some(witness) = &mut self.witness {
            witness.confirm(durable);
        }
        Ok(durable)
    }

    fn crash(&mut self, random: &mut Random) {
        if let Some(mut sync) = self.under_way.take() {
            let done = random.below(sync.operations().len() as u64 + 1);
            for _ in 0..done {
                if sync.step(&mut self.files).is_err() {
                    break;
                }
            }
        }
        self.wal = None;
        if random.below(KILLS) > 0 {
            self.files.crash(|bound| random.below(bound));
        }
    }

    fn rot(&mut self, random: &mut Random) -> bool {
        let flipped = self.files.rot(|bound| random.below(bound));
        self.rotten.extend(flipped.iter().map(|(file, _)| file.clone()));
        flipped.is_some()
    }

    fn recover(&mut self, random: &mut Random) -> Result<Vec<P::Record>, Damage> {
        let opened = self.open(random).and_then(|(wal, recovery)| Ok((wal, recovery.decode()?, recovery)));
        let (wal, records, recovery) = opened.map_err(|error| self.unreadable(&error))?;
        if let Some(witness) = &mut self.witness {
            witness.recovered(recovery.records.iter().map(|stored| xxh3_64(&stored.bytes)).collect())?;
        }
        self.wal = Some(wal);
        Ok(records)
    }
}

/// Does the operations of a sync up to a drawn one, which fails: with an error, or for want of room.
fn fail(mut sync: Sync, files: &mut Memory, word: u64) -> Result<(), FileError> {
    let sound = scale(word, sync.operations().len() as u64);
    for _ in 0..sound {
        sync.step(files)?;
    }
    let Some(next) = sync.operations().next() else { return Ok(()) };
    let action = action(next);
    if matches!(action, Action::Write | Action::Create) && mix(word) & 1 == 0 {
        files.set_capacity(Some(files.used()));
        // Where room was reserved, nothing fails.
        let outcome = sync.run(files);
        files.set_capacity(None);
        return outcome;
    }
    files.fail_next(action);
    sync.run(files)
}

const fn action(operation: &Operation) -> Action {
    match operation {
        Operation::Create { .. } => Action::Create,
        Operation::Write { .. } => Action::Write,
        Operation::Sync { .. } => Action::Sync,
        Operation::SyncFolder => Action::SyncFolder,
        Operation::Remove { .. } => Action::Remove,
    }
}

/// Knows by digests what was written, and what of it is durable.
#[derive(Debug, Default)]
struct Witness {
    /// What must be there, since the newest durable checkpoint.
    sure: Vec<u64>,
    /// What may be there, in order; `true` marks a checkpoint.
    unsure: VecDeque<(u64, bool)>,
    /// How many appends of this life are durable.
    durable: u64,
}

impl Witness {
    fn confirm(&mut self, durable: u64) {
        let fresh = durable.saturating_sub(self.durable) as usize;
        for (digest, replaces) in self.unsure.drain(..fresh.min(self.unsure.len())) {
            take(&mut self.sure, digest, replaces);
        }
        self.durable = durable;
    }

    /// Holds what recovery handed out against what was written. A new life begins with it.
    fn recovered(&mut self, found: Vec<u64>) -> Result<(), Violation> {
        let mut expected = std::mem::take(&mut self.sure);
        let durable = expected.len();
        let mut rest = std::mem::take(&mut self.unsure).into_iter();
        while expected != found {
            let Some((digest, replaces)) = rest.next() else {
                let detail = format!(
                    "{} records were handed out, {durable} had been durable since the last checkpoint",
                    found.len()
                );
                return Err(Violation::new("recovery hands out what was written", detail));
            };
            take(&mut expected, digest, replaces);
        }
        (self.sure, self.durable) = (found, 0);
        Ok(())
    }
}

/// A journal takes a record.
fn take(journal: &mut Vec<u64>, digest: u64, replaces: bool) {
    if replaces {
        journal.clear();
    }
    journal.push(digest);
}

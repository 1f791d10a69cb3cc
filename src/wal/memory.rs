//! A folder in memory that forgets what a real one would forget.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

use super::{Action, FileError, Files, Reason};

/// What a disk keeps or loses as one.
const SECTOR: usize = 512;

/// Files in memory, with what is durable and what is not kept apart, and with the faults of disks.
///
/// Draws come from a closure that returns a number below the one it is given, so that any seeded generator serves:
/// `memory.crash(|bound| random.below(bound))`.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: BTreeMap<FileId, File>,
    /// The names that would survive a power loss.
    durable: BTreeMap<String, FileId>,
    /// The names as they are.
    names: BTreeMap<String, FileId>,
    /// What was done to the names since the folder was last synced: made, or removed.
    renamings: Vec<(String, Option<FileId>)>,
    born: u64,
    /// The files that were written, the newest write last: when a torn one is removed, the one before it counts.
    latest: Vec<FileId>,
    preallocates: bool,
    capacity: Option<u64>,
    failing: BTreeSet<Action>,
    ignored: BTreeSet<Action>,
    operations: u64,
    halts_at: Option<u64>,
}

type FileId = u64;

#[derive(Clone, Debug, Default)]
struct File {
    /// What would survive a power loss.
    durable: Vec<u8>,
    /// What is read.
    bytes: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Change>,
    /// What was done before a sync that failed: it is read, and no later sync makes it durable, because its pages are
    /// taken for clean.
    abandoned: Vec<Change>,
    /// How much was durable before each write became so: when the last one is cut off, the one before it counts.
    settled: Vec<usize>,
    /// Reserved bytes, which read as zeros.
    room: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Memory {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty folder whose files read as zeros up to the room reserved for them.
    pub fn preallocating() -> Self {
        Self { preallocates: true, ..Self::default() }
    }

    /// Cuts the power. Of what was not synced a drawn part survives: of each file a prefix of the writes with the last
    /// one torn, or any sectors of any; of the folder's names any. (A killed process alone loses nothing: then just
    /// drop the journal.)
    pub fn crash(&mut self, mut below: impl FnMut(u64) -> u64) {
        for (id, file) in &mut self.files {
            let settled = file.durable.len();
            if file.lose(&mut below) {
                file.settled.push(settled);
                wrote(&mut self.latest, *id);
            }
        }
        for (name, file) in std::mem::take(&mut self.renamings) {
            if below(2) == 0 {
                set(&mut self.durable, name, file);
            }
        }
        self.names = self.durable.clone();
        self.forget_the_unnamed();
        self.resume();
    }

    /// Flips a bit of what was durable before the last sync. (A flip in the last synced batch cannot be told from a
    /// tear; after a repair, that is the last one which is left.) Returns the file and the offset, or `None` when there is nothing yet.
    pub fn rot(&mut self, mut below: impl FnMut(u64) -> u64) -> Option<(String, u64)> {
        let latest = self.latest.iter().rev().find(|id| self.durable.values().any(|named| named == *id));
        let settled: Vec<(String, usize)> = self
            .durable
            .iter()
            .map(|(name, id)| {
                let file = &self.files[id];
                (name.clone(), if latest == Some(id) { file.settled() } else { file.durable.len() })
            })
            .collect();
        let all: usize = settled.iter().map(|(_, length)| length).sum();
        let mut at = below(u64::try_from(all).ok().filter(|all| *all > 0)?) as usize;
        for (name, length) in settled {
            if at < length {
                self.flip(&name, at as u64, below(8) as u8);
                return Some((name, at as u64));
            }
            at -= length;
        }
        None
    }

    /// Flips one bit of a file, durably. Returns whether there was one at this place.
    pub fn flip(&mut self, file: &str, offset: u64, bit: u8) -> bool {
        let Some(file) = self.durable.get(file).and_then(|id| self.files.get_mut(id)) else { return false };
        let mut found = false;
        for bytes in [&mut file.durable, &mut file.bytes] {
            if let Some(byte) = bytes.get_mut(offset as usize) {
                *byte ^= 1 << (bit % 8);
                found = true;
            }
        }
        found
    }

    /// From now on the disk holds this many bytes; `None`: no bound. A write that does not fit is done in part.
    pub const fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// How many bytes all files take.
    pub fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[id].length() as u64).sum()
    }

    /// The next action of this kind fails. What a failed sync should have written can be read, but no later sync makes
    /// it durable, unless it is written again: so it is with fsync (Rebello and others, "Can Applications Recover from
    /// fsync Failures?", ATC 2020).
    pub fn fail_next(&mut self, action: Action) {
        self.failing.insert(action);
    }

    /// From now on a disk that lies: it says that it has done such actions, and does not ([`Action::Sync`] and
    /// [`Action::SyncFolder`] alone: what else is not done is seen at once). So a test can see that somebody notices.
    pub fn ignore(&mut self, action: Action) {
        self.ignored.insert(action);
    }

    /// After this many more operations every one fails, until [`Memory::crash`] or [`Memory::resume`]: the process is
    /// dead.
    pub const fn halt_after(&mut self, operations: u64) {
        self.halts_at = Some(self.operations + operations);
    }

    /// Ends [`Memory::halt_after`] and [`Memory::fail_next`].
    pub fn resume(&mut self) {
        self.halts_at = None;
        self.failing.clear();
    }

    /// How many operations were tried so far.
    pub const fn operations(&self) -> u64 {
        self.operations
    }

    fn begin(&mut self, action: Action, file: &str) -> Result<(), FileError> {
        if self.is_halted() {
            return Err(refused(action, file, Reason::Failed("halted".to_owned())));
        }
        self.operations += 1;
        if self.failing.remove(&action) {
            return Err(refused(action, file, Reason::Failed("an input or output error".to_owned())));
        }
        Ok(())
    }

    fn is_halted(&self) -> bool {
        self.halts_at.is_some_and(|at| self.operations >= at)
    }

    fn find(&mut self, action: Action, name: &str) -> Result<&mut File, FileError> {
        let found = self.names.get(name).and_then(|id| self.files.get_mut(id));
        found.ok_or_else(|| refused(action, name, Reason::Failed("no such file".to_owned())))
    }

    fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    /// Drops the files that have no name any more, now or after a power loss.
    fn forget_the_unnamed(&mut self) {
        let renamed = self.renamings.iter().filter_map(|(_, file)| *file);
        let named: BTreeSet<FileId> =
            self.names.values().chain(self.durable.values()).copied().chain(renamed).collect();
        self.files.retain(|id, _| named.contains(id));
        self.latest.retain(|id| named.contains(id));
    }
}

impl Files for Memory {
    fn list(&mut self) -> Result<Vec<String>, FileError> {
        self.begin(Action::List, "")?;
        Ok(self.names.keys().cloned().collect())
    }

    fn read(&mut self, file: &str) -> Result<Bytes, FileError> {
        self.begin(Action::Read, file)?;
        let found = self.find(Action::Read, file)?;
        let mut bytes = found.bytes.clone();
        bytes.resize(found.length(), 0);
        Ok(bytes.into())
    }

    fn create(&mut self, file: &str, room: u64) -> Result<(), FileError> {
        self.begin(Action::Create, file)?;
        if self.names.contains_key(file) {
            return Err(refused(Action::Create, file, Reason::Failed("the file exists".to_owned())));
        }
        let room = if self.preallocates { room } else { 0 };
        if room > self.free() {
            return Err(refused(Action::Create, file, Reason::Full));
        }
        self.born += 1;
        self.files.insert(self.born, File { room: room as usize, ..File::default() });
        self.names.insert(file.to_owned(), self.born);
        self.renamings.push((file.to_owned(), Some(self.born)));
        Ok(())
    }

    fn write(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        self.begin(Action::Write, file)?;
        let free = self.free();
        let found = self.find(Action::Write, file)?;
        let fits = (found.length() as u64).saturating_add(free).saturating_sub(offset);
        let fitting = bytes.len().min(fits as usize);
        found.change(Change::Write { offset: offset as usize, bytes: bytes[..fitting].to_vec() });
        if fitting < bytes.len() { Err(refused(Action::Write, file, Reason::Full)) } else { Ok(()) }
    }

    fn truncate(&mut self, file: &str, length: u64) -> Result<(), FileError> {
        self.begin(Action::Truncate, file)?;
        self.find(Action::Truncate, file)?.change(Change::Truncate(length as usize));
        Ok(())
    }

    fn sync(&mut self, file: &str) -> Result<(), FileError> {
        let (halted, lies) = (self.is_halted(), self.ignored.contains(&Action::Sync));
        let begun = self.begin(Action::Sync, file);
        let id = self.names.get(file).copied();
        let found = self.find(Action::Sync, file)?;
        if let Err(error) = begun {
            // A dead process has not even asked.
            if !halted {
                found.abandon();
            }
            return Err(error);
        }
        if lies {
            return Ok(());
        }
        found.abandoned.clear();
        let settled = found.durable.len();
        let mut written = false;
        for change in std::mem::take(&mut found.pending) {
            written |= matches!(change, Change::Write { .. });
            change.apply(&mut found.durable);
        }
        if written {
            found.settled.push(settled);
            if let Some(id) = id {
                wrote(&mut self.latest, id);
            }
        }
        Ok(())
    }

    fn sync_folder(&mut self) -> Result<(), FileError> {
        self.begin(Action::SyncFolder, "")?;
        if self.ignored.contains(&Action::SyncFolder) {
            return Ok(());
        }
        for (name, file) in std::mem::take(&mut self.renamings) {
            set(&mut self.durable, name, file);
        }
        self.forget_the_unnamed();
        Ok(())
    }

    fn remove(&mut self, file: &str) -> Result<(), FileError> {
        self.begin(Action::Remove, file)?;
        self.find(Action::Remove, file)?;
        self.names.remove(file);
        self.renamings.push((file.to_owned(), None));
        Ok(())
    }
}

impl File {
    fn length(&self) -> usize {
        self.bytes.len().max(self.room)
    }

    /// Where the last write that is still there begins.
    fn settled(&self) -> usize {
        self.settled.iter().rev().copied().find(|at| *at < self.durable.len()).unwrap_or(0)
    }

    /// A sync failed (fsync's semantics on Linux: dirty pages become clean, whether they reached the disk or not).
    fn abandon(&mut self) {
        self.abandoned.append(&mut self.pending);
    }

    fn change(&mut self, change: Change) {
        if let Change::Truncate(length) = change {
            self.room = self.room.min(length);
        }
        change.apply(&mut self.bytes);
        self.pending.push(change);
    }

    /// Keeps a drawn part of what is pending. Returns whether anything was.
    fn lose(&mut self, below: &mut impl FnMut(u64) -> u64) -> bool {
        let mut pending = std::mem::take(&mut self.abandoned);
        pending.append(&mut self.pending);
        let some = !pending.is_empty();
        let in_order = below(2) == 0;
        let kept = below(pending.len() as u64 + 1) as usize;
        for (place, change) in pending.into_iter().enumerate() {
            match change {
                change if in_order && place < kept => change.apply(&mut self.durable),
                Change::Write { offset, mut bytes } if in_order && place == kept => {
                    bytes.truncate(below(bytes.len() as u64 + 1) as usize);
                    Change::Write { offset, bytes }.apply(&mut self.durable);
                }
                Change::Write { offset, bytes } if !in_order => {
                    scatter(offset, &bytes, &mut self.durable, below);
                }
                Change::Truncate(length) if !in_order && below(2) == 0 => {
                    Change::Truncate(length).apply(&mut self.durable);
                }
                _ => {}
            }
        }
        self.bytes.clone_from(&self.durable);
        some
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
            Self::Truncate(length) => to.truncate(*length),
        }
    }
}

fn wrote(latest: &mut Vec<FileId>, id: FileId) {
    latest.retain(|other| *other != id);
    latest.push(id);
}

/// Writes a drawn half of the sectors that `bytes` fall into.
fn scatter(offset: usize, bytes: &[u8], to: &mut Vec<u8>, below: &mut impl FnMut(u64) -> u64) {
    let mut done = 0;
    while done < bytes.len() {
        let at = offset + done;
        let length = (SECTOR - at % SECTOR).min(bytes.len() - done);
        if below(2) == 0 {
            Change::Write { offset: at, bytes: bytes[done..done + length].to_vec() }.apply(to);
        }
        done += length;
    }
}

fn set(names: &mut BTreeMap<String, FileId>, name: String, file: Option<FileId>) {
    match file {
        Some(file) => drop(names.insert(name, file)),
        None => drop(names.remove(&name)),
    }
}

fn refused(action: Action, file: &str, reason: Reason) -> FileError {
    FileError { action, file: file.to_owned(), reason }
}

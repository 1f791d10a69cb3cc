//! What a disk has after its power failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::log::{Id, Record, read};

/// A torn write is whole in units of these.
const SECTOR: u64 = 512;

/// What was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes of files that no sync covered, and that are gone, wholly or in part.
    pub writes: u64,
    /// Those that no sync covered, and that had reached the disk all the same, wholly or in part.
    pub kept: u64,
    /// Names that came, went or changed.
    pub names: u64,
}

/// Undoes in `folder` what no sync covered, and begins the log anew. No process may be at work there. The seed decides
/// what had reached the disk anyway; 0: nothing.
pub fn lose_power(folder: &Path, log: &Path, seed: u64) -> io::Result<Lost> {
    let records = read(log)?;
    let mut random = Random(seed);
    let mut lost = Lost::default();
    let files = find_files(folder, &records)?;
    let synced = last_places(&records, |record| match record {
        Record::Synced { id, place } => Some((*id, *place)),
        _ => None,
    });
    let folders = last_places(&records, |record| match record {
        Record::Folder { path, place } => Some((path.clone(), *place)),
        _ => None,
    });
    let mut undone = Vec::new();
    for (place, record) in records.iter().rev() {
        let (Record::Undo { id, .. } | Record::Resized { id, .. }) = record else { continue };
        if synced.get(id).is_some_and(|covered| place < covered) {
            continue;
        }
        if let Some(file) = files.get(id) {
            undone.push((file, undo(file, record)?));
        }
    }
    for (file, change) in undone.into_iter().rev() {
        let reached = random.share(change.covers());
        if reached > 0 {
            lost.kept += 1;
        }
        if reached < change.covers() {
            lost.writes += 1;
        }
        change.redo(file, reached)?;
    }
    let names: Vec<&Record> = records
        .iter()
        .filter(|(place, record)| {
            changed_folder(record)
                .is_some_and(|folder| folders.get(folder).is_none_or(|covered| place >= covered))
        })
        .map(|(_, record)| record)
        .collect();
    let kept = if seed == 0 { 0 } else { random.below(names.len() as u64 + 1) as usize };
    for record in names[kept..].iter().rev() {
        lost.names += 1;
        rename_back(record)?;
    }
    for file in files.values() {
        file.sync_all()?;
    }
    fs::write(log, b"")?;
    Ok(lost)
}

/// Every file that the log may mean: those that have a name, and those that had one.
fn find_files(folder: &Path, records: &[(u64, Record)]) -> io::Result<BTreeMap<Id, File>> {
    let mut paths = BTreeSet::new();
    walk(folder, &mut paths)?;
    for (_, record) in records {
        if let Record::Removed { stash, .. } | Record::Renamed { stash: Some(stash), .. } = record {
            paths.insert(stash.clone());
        }
    }
    let mut files = BTreeMap::new();
    for path in paths {
        if let Ok(file) = OpenOptions::new().read(true).write(true).open(path) {
            files.insert(Id::of(&file)?, file);
        }
    }
    Ok(files)
}

fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.insert(entry.path());
        }
    }
    Ok(())
}

fn last_places<K: Ord>(
    records: &[(u64, Record)],
    mut look: impl FnMut(&Record) -> Option<(K, u64)>,
) -> BTreeMap<K, u64> {
    let mut last = BTreeMap::new();
    for (key, place) in records.iter().filter_map(|(_, record)| look(record)) {
        let known = last.entry(key).or_insert(place);
        *known = (*known).max(place);
    }
    last
}

fn changed_folder(record: &Record) -> Option<&Path> {
    match record {
        Record::Created { path } | Record::Removed { path, .. } => path.parent(),
        Record::Renamed { to, .. } => to.parent(),
        _ => None,
    }
}

/// What a disk was asked for.
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

/// Takes one change back; the later ones were taken back before it, so that what stands there is what it wrote.
fn undo(file: &File, record: &Record) -> io::Result<Change> {
    match record {
        Record::Undo { length, offset, bytes, covers, .. } => {
            let there = file.metadata()?.len().saturating_sub(*offset).min(*covers);
            let mut written = vec![0; there as usize];
            file.read_exact_at(&mut written, *offset)?;
            file.set_len(*length)?;
            file.write_all_at(bytes, *offset)?;
            Ok(Change::Write { offset: *offset, bytes: written })
        }
        Record::Resized { from, to, tail, .. } => {
            file.set_len(*from)?;
            file.write_all_at(tail, *to)?;
            Ok(Change::Length(*to))
        }
        _ => unreachable!("only changes of files are undone"),
    }
}

impl Change {
    fn covers(&self) -> u64 {
        match self {
            Self::Write { bytes, .. } => bytes.len() as u64,
            Self::Length(_) => 1,
        }
    }

    /// The first `reached` bytes had come to the disk.
    fn redo(&self, file: &File, reached: u64) -> io::Result<()> {
        match self {
            Self::Write { offset, bytes } => file.write_all_at(&bytes[..reached as usize], *offset),
            Self::Length(to) if reached > 0 => file.set_len(*to),
            Self::Length(_) => Ok(()),
        }
    }
}

fn rename_back(record: &Record) -> io::Result<()> {
    match record {
        Record::Created { path } => forgive(fs::remove_file(path)),
        Record::Removed { path, stash } => forgive(fs::rename(stash, path)),
        Record::Renamed { from, to, stash } => {
            forgive(fs::rename(to, from))?;
            stash.as_ref().map_or(Ok(()), |stash| forgive(fs::rename(stash, to)))
        }
        _ => Ok(()),
    }
}

/// The call that a record announces may have failed, or its process was killed before it.
fn forgive(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// SplitMix64. Seed 0 keeps nothing.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.word() % bound }
    }

    /// How much of a write had reached the disk: nothing, all, or some sectors.
    fn share(&mut self, covers: u64) -> u64 {
        if self.0 == 0 {
            return 0;
        }
        match self.below(3) {
            0 => 0,
            1 => covers,
            _ => (self.below(covers / SECTOR + 1) * SECTOR).min(covers),
        }
    }
}

//! Snapshots in files, written by a thread of their own.
//!
//! What is finished has its place's name and `.snap`; what is being written, `.part`. A part becomes finished by being
//! synced and renamed, and the folder synced, before anybody hears of it. Parts do not outlive a life.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

use super::Failure;
use super::folder::sync_folder;
use super::inbox::{Inbox, Input};
use super::reserve::Reserve;
use crate::id::NodeId;
use crate::net::Owned;
use crate::raft::{Snapshot, SnapshotId};
use crate::replica::Request;

/// What is to be done with snapshots.
#[derive(Debug)]
pub(super) enum Job {
    /// Part of one that arrives.
    Write { id: SnapshotId, length: u64, offset: u64, data: Bytes },
    /// Part of this member's own.
    Append { id: SnapshotId, data: Vec<u8>, last: bool },
    /// A range, for another member, which reads versions up to this.
    Read { id: SnapshotId, offset: u64, length: u64, to: NodeId, version: u16 },
    /// Nobody needs it.
    Discard(SnapshotId),
    /// A file of the journal that nobody needs: a large one takes milliseconds, and the journal has no time.
    Remove(PathBuf),
}

/// Does the jobs, in order, until no more can come. `pieces` counts those of this member's own snapshot that wait.
pub(super) fn run(
    path: PathBuf,
    reserve: Arc<Reserve>,
    jobs: &mpsc::Receiver<Job>,
    pieces: &AtomicUsize,
    inbox: &Inbox,
) {
    let mut shelf = Shelf { path, reserve, parts: BTreeMap::new() };
    for job in jobs {
        let piece = matches!(job, Job::Append { .. });
        match shelf.take(job) {
            Ok(Done::Nothing) => {}
            Ok(Done::Ask(request)) => inbox.push(Input::Snapshots(Ok(request))),
            Ok(Done::TooNew { request, id, to }) => {
                inbox.push(Input::TooNew(id, to));
                inbox.push(Input::Snapshots(Ok(request)));
            }
            Err(failure) => {
                inbox.push(Input::Snapshots(Err(failure)));
                return;
            }
        }
        if piece {
            // There is room for another one.
            pieces.fetch_sub(1, Relaxed);
            inbox.nudge();
        }
    }
}

/// A whole snapshot; `None`: there is none of this name and length.
pub(super) fn load(path: &Path, snapshot: &Snapshot) -> Result<Option<Bytes>, Failure> {
    let file = path.join(name(snapshot.id, FINISHED));
    match fs::read(&file) {
        Ok(bytes) if bytes.len() as u64 == snapshot.length => Ok(Some(bytes.into())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::storage(file, "could not be read", &error)),
    }
}

/// Removes all but one, and all parts: what earlier lives have left.
pub(super) fn tidy(path: &Path, kept: Option<SnapshotId>) -> Result<(), Failure> {
    let kept = kept.map(|id| name(id, FINISHED));
    let tidied = (|| {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let file = entry.file_name();
            let ours =
                Path::new(&file).extension().is_some_and(|ending| ending == FINISHED || ending == PART);
            if ours && kept.as_ref().is_none_or(|kept| file != kept.as_str()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    })();
    tidied.map_err(|error: io::Error| Failure::storage(path, "could not be tidied", &error))
}

const FINISHED: &str = "snap";
const PART: &str = "part";

fn name(id: SnapshotId, ending: &str) -> String {
    format!("{:016x}-{:016x}-{:016x}.{ending}", id.last.index, id.last.term, id.by.0)
}

/// What comes of a job.
enum Done {
    Nothing,
    /// The replica hears of it.
    Ask(Request),
    /// The member that is to get it could not read it.
    TooNew {
        request: Request,
        id: SnapshotId,
        to: NodeId,
    },
}

struct Shelf {
    path: PathBuf,
    reserve: Arc<Reserve>,
    /// Those that are being written, and how much of each is there.
    parts: BTreeMap<SnapshotId, (Owned<File>, u64)>,
}

impl Shelf {
    fn take(&mut self, job: Job) -> Result<Done, Failure> {
        let (path, complaint) = match &job {
            Job::Write { id, .. } | Job::Append { id, .. } | Job::Read { id, .. } | Job::Discard(id) => {
                (self.path.join(name(*id, FINISHED)), "could not be written")
            }
            Job::Remove(path) => (path.clone(), "could not be removed"),
        };
        self.perform(job).map_err(|error| Failure::storage(path, complaint, &error))
    }

    fn perform(&mut self, job: Job) -> io::Result<Done> {
        match job {
            Job::Write { id, length, offset, data } => {
                let there = self.write(id, length, offset, &data)?;
                Ok(Done::Ask(Request::Written { snapshot: id, offset: there }))
            }
            Job::Append { id, data, last } => {
                let reserve = Arc::clone(&self.reserve);
                let (file, length) = self.part(id)?;
                reserve.cover(|| file.write_all_at(&data, *length))?;
                *length += data.len() as u64;
                if !last {
                    // Bit by bit: one sync of all of it would keep the journal's syncs waiting for as long.
                    file.sync_data()?;
                    return Ok(Done::Nothing);
                }
                let length = *length;
                self.finish(id)?;
                Ok(Done::Ask(Request::Snapshotted { last: id.last.index, length }))
            }
            Job::Read { id, offset, length, to, version } => {
                let read = self.read(id, offset, length).ok();
                let readable = read.as_ref().is_none_or(|(written, _)| *written <= version);
                let data = read.filter(|_| readable).map(|(_, data)| data);
                let request = Request::Chunk { snapshot: id, offset, to, data };
                Ok(if readable { Done::Ask(request) } else { Done::TooNew { request, id, to } })
            }
            Job::Discard(id) => {
                self.parts.remove(&id);
                for ending in [FINISHED, PART] {
                    match fs::remove_file(self.path.join(name(id, ending))) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                }
                Ok(Done::Nothing)
            }
            Job::Remove(path) => fs::remove_file(path).map(|()| Done::Nothing),
        }
    }

    /// How much is there, from the first byte, durably. What leaves a gap, reaches beyond the end or repeats adds nothing.
    fn write(&mut self, id: SnapshotId, whole: u64, offset: u64, data: &[u8]) -> io::Result<u64> {
        if fs::metadata(self.path.join(name(id, FINISHED))).is_ok_and(|finished| finished.len() == whole) {
            return Ok(whole);
        }
        let reserve = Arc::clone(&self.reserve);
        let (file, there) = self.part(id)?;
        let end = offset.saturating_add(data.len() as u64);
        if offset <= *there && *there < end && end <= whole {
            reserve.cover(|| file.write_all_at(&data[(*there - offset) as usize..], *there))?;
            file.sync_data()?;
            *there = end;
        }
        let there = *there;
        if there == whole {
            self.finish(id)?;
        }
        Ok(there)
    }

    fn part(&mut self, id: SnapshotId) -> io::Result<&mut (Owned<File>, u64)> {
        if !self.parts.contains_key(&id) {
            let path = self.path.join(name(id, PART));
            let options =
                || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            let file = self.reserve.cover(options)?;
            self.parts.insert(id, (Owned::new(file), 0));
        }
        self.parts.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn finish(&mut self, id: SnapshotId) -> io::Result<()> {
        let Some((file, _)) = self.parts.remove(&id) else { return Ok(()) };
        file.sync_all()?;
        fs::rename(self.path.join(name(id, PART)), self.path.join(name(id, FINISHED)))?;
        sync_folder(&self.path)
    }

    /// A range, and in which version the whole is written, which it says first.
    fn read(&self, id: SnapshotId, offset: u64, length: u64) -> io::Result<(u16, Bytes)> {
        let file = File::open(self.path.join(name(id, FINISHED)))?;
        let mut version = [0; size_of::<u16>()];
        file.read_exact_at(&mut version, 0)?;
        let whole = file.metadata()?.len();
        let length = length.min(whole.checked_sub(offset).ok_or(io::ErrorKind::UnexpectedEof)?);
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset)?;
        Ok((u16::from_le_bytes(version), bytes.into()))
    }
}

//! The replicated state of the standard world: the last operation on each key.

use bytes::Bytes;
use std::collections::BTreeMap;

use super::super::host::Host;
use crate::id::NodeId;
use crate::protocol::Application;
use crate::raft::{Entries, Event, Payload, Position, Raft, Request, Snapshot, SnapshotId};
use crate::random::Random;

/// A command: `operation` sets `key` to its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) operation: u64,
    pub(super) key: u64,
}

impl Put {
    pub(super) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.operation.to_le_bytes());
        bytes[8..].copy_from_slice(&self.key.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (operation, key) = bytes.split_first_chunk::<8>()?;
        let key = key.first_chunk::<8>()?;
        Some(Self { operation: u64::from_le_bytes(*operation), key: u64::from_le_bytes(*key) })
    }
}

/// The replicated state: the last operation on each key; with the snapshots that are on its disk.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    id: NodeId,
    values: BTreeMap<u64, u64>,
    applied: Position,
    shelf: Shelf,
}

/// What is on the disk of a [`Keys`]: snapshots, whole and in parts.
pub type Shelf = BTreeMap<SnapshotId, Vec<u8>>;

impl Keys {
    /// The value of `key`.
    pub fn value(&self, key: u64) -> Option<u64> {
        self.values.get(&key).copied()
    }

    /// The last entry that was applied.
    pub const fn applied(&self) -> Position {
        self.applied
    }

    fn apply(&mut self, entries: &Entries) {
        for run in entries.runs() {
            if let Payload::Commands(batch) = &run.payload {
                let puts = batch.iter().filter_map(Put::from_bytes);
                self.values.extend(puts.map(|put| (put.key, put.operation)));
            }
        }
        self.applied = entries.last().unwrap_or(self.applied);
    }

    fn restore(&mut self, snapshot: &Snapshot) {
        let bytes = self.shelf.get(&snapshot.id).map_or(&[][..], Vec::as_slice);
        self.values =
            bytes.chunks_exact(16).filter_map(Put::from_bytes).map(|put| (put.key, put.operation)).collect();
        self.applied = snapshot.id.last;
    }

    fn make_snapshot(&mut self) -> Request {
        let puts = self.values.iter().map(|(&key, &operation)| Put { operation, key });
        let bytes: Vec<u8> = puts.flat_map(Put::to_bytes).collect();
        let length = bytes.len() as u64;
        self.shelf.insert(SnapshotId { last: self.applied, by: self.id }, bytes);
        Request::Snapshotted { last: self.applied.index, length }
    }

    fn write(&mut self, snapshot: SnapshotId, offset: u64, data: &[u8]) -> Request {
        let there = self.shelf.entry(snapshot).or_default();
        if offset == there.len() as u64 {
            there.extend_from_slice(data);
        }
        Request::Written { snapshot, offset: there.len() as u64 }
    }

    fn read(&self, snapshot: SnapshotId, offset: u64, length: u64, to: NodeId) -> Request {
        let range = offset as usize..offset.saturating_add(length) as usize;
        let data = self.shelf.get(&snapshot).and_then(|bytes| bytes.get(range)).map(Bytes::copy_from_slice);
        Request::Chunk { snapshot, offset, to, data }
    }
}

impl Application<Raft> for Keys {
    fn hear(&mut self, event: Event) -> Vec<Request> {
        match event {
            Event::Committed(entries) => self.apply(&entries),
            Event::Restore(snapshot) | Event::Install(snapshot) => self.restore(&snapshot),
            Event::MakeSnapshot => return vec![self.make_snapshot()],
            Event::Write { snapshot, offset, data } => return vec![self.write(snapshot.id, offset, &data)],
            Event::Read { snapshot, offset, length, to } => {
                return vec![self.read(snapshot, offset, length, to)];
            }
            Event::Discard(snapshot) => {
                self.shelf.remove(&snapshot);
            }
            _ => {}
        }
        Vec::new()
    }
}

impl Host<Raft> for Keys {
    type Disk = Shelf;

    fn open(id: NodeId, shelf: Shelf) -> Self {
        Self { id, shelf, ..Self::default() }
    }

    fn crash(self, _random: &mut Random) -> Shelf {
        self.shelf
    }
}

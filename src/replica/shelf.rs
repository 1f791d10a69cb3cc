//! Where a member's snapshots lie: what survives its crashes beside the journal.

use bytes::Bytes;
use std::collections::BTreeMap;

use crate::raft::{Position, Snapshot, SnapshotId};

/// Finished snapshots, and parts of those that are arriving. It stands for a disk that has done what it was told:
/// what a [`Request::Snapshotted`](super::Request::Snapshotted) or a [`Request::Written`](super::Request::Written)
/// speaks of is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shelf {
    finished: BTreeMap<SnapshotId, Bytes>,
    /// Each from its first byte, without a gap.
    arriving: BTreeMap<SnapshotId, Vec<u8>>,
}

impl Shelf {
    /// An empty one.
    pub const fn new() -> Self {
        Self { finished: BTreeMap::new(), arriving: BTreeMap::new() }
    }

    /// Keeps a snapshot that is whole.
    pub fn put(&mut self, id: SnapshotId, bytes: Bytes) {
        self.finished.insert(id, bytes);
    }

    /// Keeps a part, and says how many bytes are there from the first. A part that leaves a gap, reaches beyond the
    /// end or repeats what is there adds nothing.
    pub fn write(&mut self, snapshot: &Snapshot, offset: u64, data: &[u8]) -> u64 {
        if let Some(whole) = self.finished.get(&snapshot.id) {
            return whole.len() as u64;
        }
        let arriving = self.arriving.entry(snapshot.id).or_default();
        let there = arriving.len() as u64;
        let end = offset.saturating_add(data.len() as u64);
        if offset <= there && there < end && end <= snapshot.length {
            arriving.extend_from_slice(&data[(there - offset) as usize..]);
        }
        arriving.len() as u64
    }

    /// A snapshot that is whole, and as long as it should be.
    pub fn finished(&mut self, snapshot: &Snapshot) -> Option<Bytes> {
        let arrived =
            self.arriving.get(&snapshot.id).is_some_and(|part| part.len() as u64 == snapshot.length);
        if arrived {
            let whole = self.arriving.remove(&snapshot.id).unwrap_or_default();
            self.finished.insert(snapshot.id, whole.into());
        }
        self.finished.get(&snapshot.id).filter(|bytes| bytes.len() as u64 == snapshot.length).cloned()
    }

    /// `length` bytes of a snapshot from `offset` on, or as many as there are; `None` when there is no such place.
    pub fn read(&self, id: SnapshotId, offset: u64, length: u64) -> Option<Bytes> {
        let whole = self.finished.get(&id)?;
        let start = usize::try_from(offset).ok().filter(|start| *start <= whole.len())?;
        let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(whole.len());
        Some(whole.slice(start..end))
    }

    /// Forgets a snapshot.
    pub fn discard(&mut self, id: SnapshotId) {
        self.finished.remove(&id);
        self.arriving.remove(&id);
    }

    /// Forgets all that cover less than the entry at `last`.
    pub fn discard_before(&mut self, last: Position) {
        self.finished.retain(|id, _| id.last >= last);
        self.arriving.retain(|id, _| id.last >= last);
    }

    /// The names of those that are whole.
    pub fn names(&self) -> impl Iterator<Item = SnapshotId> {
        self.finished.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::raft::Membership;
    use std::sync::Arc;

    fn snapshot(length: u64) -> Snapshot {
        let id = SnapshotId { last: Position { term: 2, index: 9 }, by: NodeId(1) };
        Snapshot { id, membership: (0, Arc::new(Membership::default())), length }
    }

    #[test]
    fn parts_may_come_twice_and_out_of_order_and_the_rest_after_a_crash() {
        let (mut shelf, snapshot) = (Shelf::new(), snapshot(6));
        assert_eq!(shelf.write(&snapshot, 2, b"cd"), 0, "a gap");
        assert_eq!(shelf.write(&snapshot, 0, b"abc"), 3);
        assert_eq!(shelf.write(&snapshot, 0, b"ab"), 3);
        assert_eq!(shelf.write(&snapshot, 2, b"cdefg"), 3, "beyond the end");
        assert_eq!(shelf.write(&snapshot, u64::MAX, b"x"), 3);
        assert_eq!(shelf.finished(&snapshot), None);
        assert_eq!(shelf.write(&snapshot, 2, b"cdef"), 6);
        assert_eq!(shelf.finished(&snapshot), Some(Bytes::from_static(b"abcdef")));
        assert_eq!(shelf.write(&snapshot, 0, b"xxxxxx"), 6, "what is whole stays as it is");
        assert_eq!(shelf.read(snapshot.id, 4, 100), Some(Bytes::from_static(b"ef")));
        assert_eq!(shelf.read(snapshot.id, 7, 1), None);
        shelf.discard(snapshot.id);
        assert_eq!(shelf.read(snapshot.id, 0, 1), None);
    }
}

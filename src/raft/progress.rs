//! What a leader knows of one other member.

use std::collections::VecDeque;

use super::{Index, Round, SnapshotId};
use crate::id::NodeId;
use crate::time::Instant;

/// How entries travel to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Where the logs agree is not known: one append at a time, until one is accepted.
    Probe {
        /// One is on its way.
        sent: bool,
    },
    /// The logs agree: appends follow each other without waiting.
    Replicate,
    /// It needs entries that are in the log no more.
    Snapshot {
        /// Which snapshot it gets.
        snapshot: SnapshotId,
        /// How much of it has arrived.
        offset: u64,
        /// Beats since something arrived.
        waited: u32,
    },
}

/// One other member, as its leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Progress {
    pub(super) id: NodeId,
    /// The entry that made it a member; its answers must name it, so that those of an earlier membership of the
    /// same member move nothing (drmingdrmer/raft-rejoin-bug).
    pub(super) joined: Index,
    /// Its disk has the leader's log up to here.
    pub(super) matched: Index,
    /// The next entry to send.
    pub(super) next: Index,
    pub(super) stage: Stage,
    /// The commit index that it was told.
    pub(super) told: Index,
    /// Appends on their way: the last index and the bytes of each.
    in_flight: VecDeque<(Index, usize)>,
    in_flight_bytes: usize,
    /// Something was heard of it since the leader last asked itself for its quorum.
    pub(super) active: bool,
    /// The latest round that it has answered.
    pub(super) round: Round,
    /// When the latest beat was sent that it answered with a lease.
    pub(super) leased: Instant,
}

impl Progress {
    pub(super) const fn new(id: NodeId, joined: Index, next: Index) -> Self {
        Self {
            id,
            joined,
            matched: 0,
            next,
            stage: Stage::Probe { sent: false },
            told: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            active: true,
            round: 0,
            leased: Instant::ZERO,
        }
    }

    /// Whether another append may leave.
    #[inline]
    pub(super) fn has_room(&self, messages_max: usize, bytes_max: usize) -> bool {
        match self.stage {
            Stage::Probe { sent } => !sent,
            Stage::Replicate => self.in_flight.len() < messages_max && self.in_flight_bytes < bytes_max,
            Stage::Snapshot { .. } => false,
        }
    }

    /// An append with entries through `last` has left.
    #[inline]
    pub(super) fn sent(&mut self, last: Index, bytes: usize) {
        match &mut self.stage {
            Stage::Probe { sent } => *sent = true,
            Stage::Replicate => {
                self.next = last + 1;
                self.in_flight.push_back((last, bytes));
                self.in_flight_bytes += bytes;
            }
            Stage::Snapshot { .. } => {}
        }
    }

    /// Its disk has the log up to `matched`. Returns whether that was news.
    #[inline]
    pub(super) fn stored(&mut self, matched: Index) -> bool {
        while let Some(&(last, bytes)) = self.in_flight.front() {
            if last > matched {
                break;
            }
            self.in_flight.pop_front();
            self.in_flight_bytes -= bytes;
        }
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        match self.stage {
            Stage::Probe { .. } if news || matched + 1 >= self.next => self.replicate(),
            // It can go on from the log again when the snapshot, or as much by other ways, has arrived.
            Stage::Snapshot { snapshot, .. } if matched >= snapshot.last.index => self.replicate(),
            _ => self.next = self.next.max(self.matched + 1),
        }
        news
    }

    fn replicate(&mut self) {
        self.stage = Stage::Replicate;
        self.next = self.matched + 1;
        self.forget_in_flight();
    }

    /// Ask anew where the logs agree; the next append begins at `next`.
    pub(super) fn probe(&mut self, next: Index) {
        self.stage = Stage::Probe { sent: false };
        self.next = next.max(self.matched + 1);
        self.forget_in_flight();
    }

    /// Send a snapshot.
    pub(super) fn install(&mut self, snapshot: SnapshotId) {
        self.stage = Stage::Snapshot { snapshot, offset: 0, waited: 0 };
        self.forget_in_flight();
    }

    fn forget_in_flight(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }
}

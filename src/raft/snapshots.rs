//! Snapshots (thesis chapter 5): the log ends, and who is too far behind gets the state instead, in chunks.
//!
//! A snapshot's bytes are the application's: the core names ranges of them. One chunk is on its way to a follower
//! at a time, so that beats never wait behind a snapshot; the follower says how much it has, so a transfer goes on
//! where it stopped, even after a restart.

use bytes::Bytes;
use std::sync::Arc;

use super::log::Log;
use super::machine::Raft;
use super::progress::Stage;
use super::{Answer, Checkpoint, Error, Event, Index, Message, Record, Role, Snapshot, SnapshotId};
use crate::id::{NodeId, RequestId};
use crate::protocol::Outbox;

/// A snapshot that is arriving.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Installing {
    snapshot: Arc<Snapshot>,
    /// As the leader's appends name it.
    joined: Index,
}

/// Beats without news of a chunk, until it is sent again.
const CHUNK_BEATS: u32 = 2;

impl Raft {
    /// The application has a durable snapshot: the log before it may go, but for what slow followers may want.
    pub(super) fn snapshotted(&mut self, id: RequestId, last: Index, length: u64, out: &mut Outbox<Self>) {
        let newest = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.id.last.index);
        let Some(position) =
            self.log.position(last).filter(|at| at.index > newest && at.index <= self.handed)
        else {
            out.answer(id, Err(Error::Stale));
            return;
        };
        let membership = self.membership_at(last);
        let snapshot = Snapshot { id: SnapshotId { last: position, by: self.id }, membership, length };
        let old = self.snapshot.replace(Arc::new(snapshot));
        self.snapshot_made();
        let retained = last.saturating_sub(self.settings.retained_entries).max(self.log.base().index);
        self.log.compact(retained);
        while self.memberships.get(1).is_some_and(|(index, _)| *index <= retained) {
            self.memberships.pop_front();
        }
        self.checkpoint(out);
        self.older_snapshots.extend(old);
        self.discard_unused(out);
        out.answer(id, Ok(Answer::Done));
    }

    /// The membership that was effective at `index`, and the entry that set it.
    fn membership_at(&self, index: Index) -> (Index, Arc<super::Membership>) {
        let found = self.memberships.iter().rev().find(|(at, _)| *at <= index);
        found.or_else(|| self.memberships.front()).cloned().unwrap_or_default()
    }

    /// Everything that the journal must hold, in place of all that it holds.
    fn checkpoint(&self, out: &mut Outbox<Self>) {
        let base = self.log.base();
        let checkpoint = Checkpoint {
            cluster: self.settings.cluster,
            id: self.id,
            hard: self.hard,
            snapshot: self.snapshot.as_deref().cloned(),
            base,
            membership: self.membership_at(base.index),
            entries: self.log.entries(base.index + 1, Index::MAX, usize::MAX),
        };
        out.checkpoint(Record::Checkpoint(Box::new(checkpoint)));
    }

    /// Lets the application drop the older snapshots that are not on their way to anybody any more: when the
    /// checkpoint that names a newer one is durable, for until then a start may need them (baidu/braft#461).
    pub(super) fn discard_unused(&mut self, out: &mut Outbox<Self>) {
        let (peers, own, term) = (&self.peers, self.id, self.hard.term);
        self.older_snapshots.retain(|older| {
            let travels = peers
                .iter()
                .any(|peer| matches!(peer.stage, Stage::Snapshot { snapshot, .. } if snapshot == older.id));
            if !travels {
                out.promise(own, Message::Superseded { term, snapshot: older.id });
            }
            travels
        });
    }

    fn known_snapshot(&self, id: SnapshotId) -> Option<&Arc<Snapshot>> {
        self.snapshot.iter().chain(&self.older_snapshots).find(|snapshot| snapshot.id == id)
    }

    /// The peer needs what the log has no more.
    pub(super) fn begin_snapshot(&mut self, at: usize, out: &mut Outbox<Self>) {
        if let Some(snapshot) = self.snapshot.as_ref().map(|snapshot| snapshot.id) {
            self.peers[at].install(snapshot);
            self.read_chunk(at, out);
        }
    }

    fn read_chunk(&self, at: usize, out: &mut Outbox<Self>) {
        let peer = &self.peers[at];
        let Stage::Snapshot { snapshot, offset, .. } = peer.stage else { return };
        if let Some(known) = self.known_snapshot(snapshot) {
            let length = known.length.saturating_sub(offset).min(self.settings.chunk_bytes as u64);
            out.notify(Event::Read { snapshot, offset, length, to: peer.id });
        }
    }

    /// A beat passed: what was sent long ago may be lost.
    pub(super) fn snapshot_waits(&mut self, at: usize, out: &mut Outbox<Self>) {
        let peer = &mut self.peers[at];
        let Stage::Snapshot { waited, .. } = &mut peer.stage else { return };
        *waited += 1;
        // Nothing is read for a peer that is not there.
        if *waited >= CHUNK_BEATS && peer.active {
            *waited = 0;
            self.read_chunk(at, out);
        }
    }

    /// The application has read a range of a snapshot for a follower.
    pub(super) fn chunk_read(
        &mut self,
        id: RequestId,
        chunk: SnapshotId,
        from: u64,
        to: NodeId,
        data: Option<Bytes>,
        out: &mut Outbox<Self>,
    ) {
        let waiting = self.peer_at(to).filter(|&at| {
            matches!(self.peers[at].stage,
                Stage::Snapshot { snapshot, offset, .. } if snapshot == chunk && offset == from)
        });
        let Some(at) = waiting.filter(|_| self.role == Role::Leader) else {
            out.answer(id, Err(Error::Stale));
            return;
        };
        out.answer(id, Ok(Answer::Done));
        match (data, self.known_snapshot(chunk)) {
            (Some(data), Some(snapshot)) => {
                let (term, joined) = (self.hard.term, self.peers[at].joined);
                let snapshot = Arc::clone(snapshot);
                out.send(to, Message::Install { term, snapshot, offset: from, data, joined });
            }
            // It cannot be read: the newest one, if that is another; else again when a beat or two have passed.
            _ if self.snapshot.as_ref().is_some_and(|newest| newest.id != chunk) => {
                self.begin_snapshot(at, out);
            }
            _ => {}
        }
    }

    /// The follower has so much of the snapshot.
    pub(super) fn peer_installed(
        &mut self,
        from: NodeId,
        part: SnapshotId,
        arrived: u64,
        joined: Index,
        out: &mut Outbox<Self>,
    ) {
        let Some(at) = self.peer_at(from).filter(|&at| self.peers[at].joined == joined) else { return };
        self.peers[at].active = true;
        let length = self.known_snapshot(part).map_or(0, |snapshot| snapshot.length);
        let Stage::Snapshot { snapshot, offset, waited } = &mut self.peers[at].stage else { return };
        if *snapshot != part || *offset == arrived || arrived > length {
            return;
        }
        *offset = arrived;
        *waited = 0;
        if arrived < length {
            self.read_chunk(at, out);
        }
    }

    /// Part of a snapshot has come from the leader.
    pub(super) fn install(
        &mut self,
        snapshot: Arc<Snapshot>,
        offset: u64,
        data: Bytes,
        joined: Index,
        out: &mut Outbox<Self>,
    ) {
        let last = snapshot.id.last;
        if last.index <= self.commit {
            self.acknowledge = Some((self.commit, joined));
        } else if self.log.term_at(last.index) == Some(last.term) {
            // The log has all of it, and a snapshot speaks of what is committed.
            self.commit = last.index;
            self.acknowledge = Some((last.index, joined));
        } else {
            self.installing = Some(Installing { snapshot: Arc::clone(&snapshot), joined });
            out.notify(Event::Write { snapshot, offset, data });
        }
    }

    /// The application has stored so much of a snapshot.
    pub(super) fn chunk_written(
        &mut self,
        id: RequestId,
        written: SnapshotId,
        offset: u64,
        out: &mut Outbox<Self>,
    ) {
        let Some(installing) =
            self.installing.as_ref().filter(|installing| installing.snapshot.id == written)
        else {
            out.answer(id, Err(Error::Stale));
            return;
        };
        out.answer(id, Ok(Answer::Done));
        if offset >= installing.snapshot.length {
            self.installed(out);
        } else if let Some(leader) = self.leader {
            let (term, joined) = (self.hard.term, installing.joined);
            out.send(leader, Message::Installed { term, snapshot: written, offset, joined });
        }
    }

    /// The snapshot takes the place of the log.
    fn installed(&mut self, out: &mut Outbox<Self>) {
        let Some(Installing { snapshot, joined }) = self.installing.take() else { return };
        let last = snapshot.id.last;
        if last.index <= self.commit {
            // Meanwhile the log has brought as much.
            self.acknowledge = Some((self.commit, joined));
            if self.known_snapshot(snapshot.id).is_none() {
                out.notify(Event::Discard(snapshot.id));
            }
            return;
        }
        let kept = mutant!(self, ConflictingLogUnderSnapshot) && self.log.last().index > last.index;
        if kept {
            self.log.compact(last.index);
        } else {
            // Also what stands behind it: those entries conflict, for the one at `last` does (hashicorp/raft#697).
            self.log = Log::after(last);
        }
        self.memberships.clear();
        self.memberships.push_back(snapshot.membership.clone());
        self.commit = last.index;
        self.handed = last.index;
        self.acknowledge = Some((last.index, joined));
        let old = self.snapshot.replace(Arc::clone(&snapshot));
        self.older_snapshots.extend(old);
        self.snapshot_made();
        self.checkpoint(out);
        out.notify(Event::Install(snapshot));
        self.discard_unused(out);
        self.tell_membership(out);
        self.answer_decided(out);
    }
}

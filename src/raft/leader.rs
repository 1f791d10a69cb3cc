//! A leader: takes proposals, replicates its log, commits (thesis §3.5, §3.6, §10.2), and asks itself whether it
//! is still followed (§6.2).

use std::sync::Arc;
use std::time::Duration;

use super::machine::Raft;
use super::progress::{Progress, Stage};
use super::{
    Answer, Batch, BatchBuilder, Beat, Entries, Error, Index, Message, Payload, Position, Record, Role, Run,
    Timer,
};
use crate::id::{NodeId, RequestId};
use crate::protocol::Outbox;
use crate::quorum::VoteResult;
use crate::time::Instant;

/// A proposal in the log, whose last entry is at `at`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) at: Position,
    pub(super) deadline: Instant,
}

/// A leader on its way out (§3.10).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
    /// Who asked; nobody, when the leader's own disk has made it go.
    pub(super) request: Option<RequestId>,
    /// The target was told to campaign.
    pub(super) told: bool,
}

impl Raft {
    pub(super) fn become_leader(&mut self, out: &mut Outbox<Self>) {
        self.role = Role::Leader;
        self.leader = Some(self.id);
        self.attempts = 0;
        self.votes.clear();
        self.unset(Timer::Election);
        let orphans = self.pending.drain(..);
        self.orphans.extend(orphans);
        if !mutant!(self, TransferOutlivesItsTerm) {
            self.transfer = None;
        }
        self.lease_floor = self.round;
        self.confirmed_round = self.round;
        self.stored = 0;
        self.storing = 0;
        self.storing_since = None;
        self.uncommitted_bytes = 0;
        self.peers.clear();
        self.term_start = self.log.last().index + 1;
        self.meet_members();
        // Entries of earlier terms are committed only by one of its own (§3.6.2), so it makes one at once.
        self.append_entry(Payload::Blank, out);
        let now = self.now;
        self.set(Timer::Quorum, now + self.settings.election_timeout, out);
        self.beat(out);
        let local = std::mem::take(&mut self.local_reads);
        for read in local {
            self.gather_local_read(read);
        }
    }

    /// Keeps the progress of members that stay, begins that of new ones.
    pub(super) fn meet_members(&mut self) {
        let (joined, membership) = self.membership_entry().clone();
        self.peers.retain(|peer| membership.contains(peer.id));
        let next = self.term_start.max(self.log.base().index + 1);
        for member in membership.each() {
            if member != self.id && self.peers.iter().all(|peer| peer.id != member) {
                self.peers.push(Progress::new(member, joined, next));
            }
        }
    }

    /// Ceases to lead.
    pub(super) fn resign(&mut self, out: &mut Outbox<Self>) {
        for (id, _, _) in std::mem::take(&mut self.gathered) {
            self.refuse(id, out);
        }
        self.gathered_bytes = 0;
        if let Some((id, _)) = self.change.take() {
            out.answer(id, Err(Error::Unknown));
        }
        if mutant!(self, TransferOutlivesItsTerm) {
            self.unset(Timer::Transfer);
        } else if let Some(transfer) = self.transfer.take() {
            // The next leader's name will tell what came of it.
            if let Some(id) = transfer.request {
                self.handed_over = Some(id);
            }
        }
        self.reads_to_local();
        self.peers.clear();
        self.discard_unused(out);
        self.unset(Timer::Heartbeat);
        self.unset(Timer::Quorum);
    }

    pub(super) fn peer_at(&self, id: NodeId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id == id)
    }

    pub(super) fn propose(
        &mut self,
        id: RequestId,
        commands: Batch,
        deadline: Instant,
        out: &mut Outbox<Self>,
    ) {
        if self.role != Role::Leader {
            self.refuse(id, out);
            return;
        }
        if let Err(error) = self.may_propose(&commands, deadline) {
            out.answer(id, Err(error));
            return;
        }
        self.gathered_bytes += commands.bytes().len();
        self.gathered.push((id, commands, deadline));
        self.await_deadline(deadline, out);
    }

    fn may_propose(&self, commands: &Batch, deadline: Instant) -> Result<(), Error> {
        let settings = &self.settings;
        let bytes = commands.bytes().len();
        if let Some(transfer) = self.transfer {
            return Err(Error::Transferring { to: transfer.to });
        }
        let limit = settings.entry_bytes_max;
        let too_large = |size: usize| Err(Error::TooLarge { bytes: size, limit });
        if commands.is_empty() {
            return too_large(0);
        }
        // One look suffices for nearly all of them.
        if bytes > limit
            && let Some(size) = commands.iter().map(<[u8]>::len).find(|&size| size > limit)
        {
            return too_large(size);
        }
        if deadline <= self.now {
            return Err(Error::TimedOut);
        }
        let uncommitted = self.uncommitted_bytes + self.gathered_bytes;
        let overloaded = |limit| Err(Error::Overloaded { limit });
        if uncommitted > 0 && uncommitted + bytes > settings.uncommitted_bytes_max {
            return overloaded("uncommitted_bytes_max");
        }
        if self.log.bytes() + self.gathered_bytes + bytes > settings.log_bytes_max && self.log.bytes() > 0 {
            return overloaded("log_bytes_max");
        }
        if self.waiting() >= settings.pending_max {
            return overloaded("pending_max");
        }
        Ok(())
    }

    /// What was proposed in this batch of inputs becomes one run.
    fn seal(&mut self, out: &mut Outbox<Self>) {
        let Some((_, first, _)) = self.gathered.first() else { return };
        let commands = if self.gathered.len() == 1 {
            first.clone()
        } else {
            let mut builder = BatchBuilder::with_capacity(self.gathered_bytes);
            self.gathered.iter().for_each(|(_, commands, _)| builder.extend(commands));
            builder.seal()
        };
        let mut last = self.log.last().index;
        let term = self.hard.term;
        for (id, commands, deadline) in self.gathered.drain(..) {
            last += commands.len() as u64;
            self.pending.push_back(Pending { id, at: Position { term, index: last }, deadline });
        }
        self.gathered_bytes = 0;
        self.append_entry(Payload::Commands(commands), out);
    }

    /// Appends a run of its own term.
    pub(super) fn append_entry(&mut self, payload: Payload, out: &mut Outbox<Self>) {
        let run = Arc::new(Run { term: self.hard.term, first: self.log.last().index + 1, payload });
        self.uncommitted_bytes += run.bytes();
        let changed = self.note_membership(&run);
        self.log.append(Arc::clone(&run));
        out.persist(Record::Append(Entries::one(run)));
        if changed {
            self.meet_members();
            self.tell_membership(out);
        }
    }

    /// The end of a batch of a leader's inputs.
    pub(super) fn lead(&mut self, out: &mut Outbox<Self>) {
        self.seal(out);
        self.try_commit(out);
        let last = self.log.last().index;
        if last > self.storing {
            self.storing = last;
            self.storing_since.get_or_insert(self.now);
            // It sends before its own disk has answered, and counts itself afterwards (§10.2.1).
            out.promise(self.id, Message::Stored { term: self.hard.term, last });
        }
        if self.begin_read_round() {
            self.ask_all(out);
        }
        for at in 0..self.peers.len() {
            self.replicate(at, out);
        }
        self.answer_confirmed_reads(out);
        if !self.older_snapshots.is_empty() {
            self.discard_unused(out);
        }
        self.leave_if_removed(out);
    }

    /// Commits what a quorum has stored, when it is of its own term (§3.6.2).
    pub(super) fn try_commit(&mut self, out: &mut Outbox<Self>) {
        let membership = Arc::clone(self.membership());
        let (own, stored) = (self.id, self.stored);
        let matched = |id| {
            if id == own { stored } else { self.peer_at(id).map_or(0, |at| self.peers[at].matched) }
        };
        let reached = membership.reached(matched).unwrap_or(0);
        #[cfg(feature = "mutants")]
        let reached = if mutant!(self, MatchAboveTheQuorum) {
            let above =
                self.peers.iter().map(|peer| peer.matched).chain([stored]).filter(|&m| m > reached).min();
            above.unwrap_or(reached)
        } else {
            reached
        };
        let own_term =
            self.log.term_at(reached) == Some(self.hard.term) || mutant!(self, CommitOfAnEarlierTerm);
        if reached > self.commit && own_term {
            self.commit = reached;
            self.membership_may_be_committed(out);
        }
    }

    /// Sends what this peer may get: entries, or only the news of what is committed.
    fn replicate(&mut self, at: usize, out: &mut Outbox<Self>) {
        loop {
            let peer = &self.peers[at];
            let settings = &self.settings;
            if !peer.has_room(settings.in_flight_messages_max, settings.in_flight_bytes_max) {
                return;
            }
            let has_news = peer.next <= self.log.last().index
                || peer.told < self.commit
                || peer.stage == Stage::Probe { sent: false };
            if !has_news || !self.send_append(at, None, true, out) || peer_is_told(&self.peers[at], self) {
                return;
            }
        }
    }

    /// Sends one append. Answers whether it did: a peer that needs what the log has no more gets the snapshot.
    fn send_append(
        &mut self,
        at: usize,
        beat: Option<Beat>,
        with_entries: bool,
        out: &mut Outbox<Self>,
    ) -> bool {
        let peer = &self.peers[at];
        let Some(previous) = self.log.position(peer.next - 1) else {
            self.begin_snapshot(at, out);
            return false;
        };
        let entries = if with_entries && peer.next <= self.log.last().index {
            self.log.entries(peer.next, Index::MAX, self.settings.message_bytes_max)
        } else {
            Entries::new()
        };
        let sent = entries.last().map(|last| (last.index, entries.bytes()));
        let message = Message::Append {
            term: self.hard.term,
            previous,
            commit: self.commit,
            matched: peer.matched,
            joined: peer.joined,
            beat,
            entries,
        };
        out.send(peer.id, message);
        let peer = &mut self.peers[at];
        peer.told = self.commit;
        match sent {
            Some((last, bytes)) => peer.sent(last, bytes),
            None if matches!(peer.stage, Stage::Probe { .. }) => peer.stage = Stage::Probe { sent: true },
            None => {}
        }
        true
    }

    /// Tells all members that it is there, and asks whether they still follow.
    pub(super) fn beat(&mut self, out: &mut Outbox<Self>) {
        self.set(Timer::Heartbeat, self.now + self.settings.heartbeat_interval, out);
        self.round += 1;
        for at in 0..self.peers.len() {
            self.snapshot_waits(at, out);
        }
        self.ask_all(out);
    }

    /// Asks every member the question of this round.
    fn ask_all(&mut self, out: &mut Outbox<Self>) {
        let beat = Beat { round: self.round, sent: self.now };
        for at in 0..self.peers.len() {
            self.ask(at, beat, out);
        }
    }

    /// An append that names the last entry sent finds out whether that has arrived; a peer whose log is not known
    /// to agree, or is not in reach, is asked about nothing.
    fn ask(&mut self, at: usize, beat: Beat, out: &mut Outbox<Self>) {
        let peer = &self.peers[at];
        let in_reach = !matches!(peer.stage, Stage::Snapshot { .. }) && peer.next > self.log.base().index;
        if in_reach {
            // The first probe brings entries along, in the hope that the logs agree; those that ask again do not.
            let first = peer.stage == Stage::Probe { sent: false };
            self.send_append(at, Some(beat), first, out);
            return;
        }
        if peer.stage == Stage::Replicate {
            // What is on its way may be lost, and what comes next is compacted: no append will ever be rejected. When
            // it answers, it gets the snapshot.
            let peer = &mut self.peers[at];
            peer.probe(peer.next);
            peer.stage = Stage::Probe { sent: true };
        }
        let peer = &self.peers[at];
        let (term, matched, joined) = (self.hard.term, peer.matched, peer.joined);
        let previous = Position::default();
        let empty = Entries::new();
        let message =
            Message::Append { term, previous, commit: 0, matched, joined, beat: Some(beat), entries: empty };
        out.send(peer.id, message);
    }

    pub(super) fn own_disk_has(&mut self, last: Index) {
        if self.role != Role::Leader {
            return;
        }
        self.stored = self.stored.max(last.min(self.log.last().index));
        self.storing_since = (self.stored < self.storing).then_some(self.now);
    }

    pub(super) fn peer_stored(
        &mut self,
        from: NodeId,
        matched: Index,
        joined: Index,
        out: &mut Outbox<Self>,
    ) {
        let last = self.log.last().index;
        let Some(at) = self.peer_at(from) else { return };
        let peer = &mut self.peers[at];
        if peer.joined != joined || matched > last {
            return;
        }
        peer.active = true;
        if peer.stored(matched) {
            self.target_may_be_ready(from, out);
        }
    }

    pub(super) fn peer_rejected(&mut self, from: NodeId, previous: Index, hint: Position, joined: Index) {
        let Some(at) = self.peer_at(from) else { return };
        let peer = &self.peers[at];
        let stale = match peer.stage {
            Stage::Replicate => previous <= peer.matched || previous >= peer.next,
            Stage::Probe { .. } => previous + 1 != peer.next,
            Stage::Snapshot { .. } => true,
        };
        if peer.joined != joined || stale {
            return;
        }
        // Neither log agrees with the other above what both say, so whole terms are skipped at once.
        let agreement = self.log.agreement(hint.index.min(previous.saturating_sub(1)), hint.term);
        let next = agreement.map_or_else(|| self.log.base().index, |position| position.index + 1);
        self.peers[at].probe(next);
    }

    pub(super) fn peer_heard(&mut self, from: NodeId, beat: Option<Beat>, lease: bool) {
        let (now, round, floor) = (self.now, self.round, self.lease_floor);
        let late = mutant!(self, LeaseCountsFromTheAnswer);
        let Some(at) = self.peer_at(from) else { return };
        let peer = &mut self.peers[at];
        peer.active = true;
        let Some(beat) = beat.filter(|beat| beat.round <= round && beat.sent <= now) else { return };
        peer.round = peer.round.max(beat.round);
        // It is there: what was asked of it and not answered was lost.
        if peer.stage == (Stage::Probe { sent: true }) {
            peer.stage = Stage::Probe { sent: false };
        }
        if lease && beat.round > floor {
            peer.leased = peer.leased.max(if late { now } else { beat.sent });
        }
        self.confirm_reads();
    }

    pub(super) fn peer_is_gone(&mut self, peer: NodeId) {
        // What was on its way to it may be lost.
        if let Some(peer) = self.peers.iter_mut().find(|progress| progress.id == peer)
            && peer.stage == Stage::Replicate
        {
            peer.probe(peer.matched + 1);
            peer.stage = Stage::Probe { sent: true };
        }
    }

    pub(super) fn peer_is_back(&mut self, peer: NodeId) {
        if let Some(peer) = self.peers.iter_mut().find(|progress| progress.id == peer)
            && let Stage::Probe { sent } = &mut peer.stage
        {
            *sent = false;
        }
    }

    /// Check-quorum (§6.2): a leader that a quorum does not answer must not go on taking requests.
    pub(super) fn ask_for_quorum(&mut self, out: &mut Outbox<Self>) {
        if self.role != Role::Leader {
            return;
        }
        let own = self.id;
        let active = |id| Some(id == own || self.peer_at(id).is_some_and(|at| self.peers[at].active));
        let followed = self.membership().vote(active) == VoteResult::Won;
        self.peers.iter_mut().for_each(|peer| peer.active = false);
        if self.settings.check_quorum && !followed {
            self.become_follower(self.hard.term, None, out);
            return;
        }
        self.set(Timer::Quorum, self.now + self.settings.election_timeout, out);
        self.hand_over_if_the_disk_stalls(out);
    }

    /// Whether a quorum has promised to vote for nobody yet.
    pub(super) fn lease_valid(&self) -> bool {
        self.lease_end().is_some_and(|end| self.now < end)
    }

    /// Until when a quorum has promised to vote for nobody, if it ever has.
    pub(super) fn lease_end(&self) -> Option<Instant> {
        let lease = self.settings.lease?;
        if self.role != Role::Leader || self.transfer.is_some() {
            return None;
        }
        let (own, now) = (self.id, self.now);
        let leased = |id| {
            if id == own { now } else { self.peer_at(id).map_or(Instant::ZERO, |at| self.peers[at].leased) }
        };
        let since = self.membership().reached(leased).filter(|since| *since > Instant::ZERO)?;
        Some(since + lease.length)
    }

    /// Answers the proposals of which the log now tells what became of them.
    pub(super) fn answer_decided(&mut self, out: &mut Outbox<Self>) {
        while let Some(waiting) = self.pending.front().copied() {
            if waiting.at.index > self.handed {
                break;
            }
            self.pending.pop_front();
            self.answer_one_decided(waiting, out);
        }
        let orphans = std::mem::take(&mut self.orphans);
        for waiting in orphans {
            if waiting.at.index > self.handed {
                self.orphans.push(waiting);
            } else {
                self.answer_one_decided(waiting, out);
            }
        }
    }

    fn answer_one_decided(&self, waiting: Pending, out: &mut Outbox<Self>) {
        let outcome = match self.log.term_at(waiting.at.index) {
            Some(term) if term == waiting.at.term => Ok(Answer::Committed(waiting.at)),
            Some(_) => Err(Error::Overwritten),
            // A snapshot came instead of the log.
            None => Err(Error::Unknown),
        };
        out.answer(waiting.id, outcome);
    }

    /// A disk that has not answered for an election time-out makes the leader hand over.
    fn hand_over_if_the_disk_stalls(&mut self, out: &mut Outbox<Self>) {
        let patience: Duration = self.settings.election_timeout;
        let stalled = self.storing_since.is_some_and(|since| self.now >= since + patience);
        if !stalled || self.transfer.is_some() {
            return;
        }
        if let Some(to) = self.best_successor() {
            self.begin_transfer(to, None, out);
        }
    }

    /// The voter that has most of the log.
    pub(super) fn best_successor(&self) -> Option<NodeId> {
        let membership = self.membership();
        let candidates =
            self.peers.iter().filter(|peer| membership.weight(peer.id).is_some_and(|weight| weight > 0));
        candidates.max_by_key(|peer| (peer.matched, std::cmp::Reverse(peer.id))).map(|peer| peer.id)
    }
}

/// Whether nothing is left to tell this peer.
const fn peer_is_told(peer: &Progress, leader: &Raft) -> bool {
    peer.next > leader.log.last().index && peer.told >= leader.commit
}

//! Linearizable reads without the log (thesis §6.4).
//!
//! A leader notes its commit index, and asks all members whether they still follow; what a quorum answers proves
//! that it led after the read came. One question, a *round*, serves all reads that came before it. A follower asks
//! its leader for the index, and serves the read itself.

use std::collections::VecDeque;
use std::time::Duration;

use super::machine::Raft;
use super::{Answer, Error, Index, Message, ReadToken, Role, Round};
use crate::id::{NodeId, RequestId};
use crate::protocol::Outbox;
use crate::time::Instant;

/// A read of this member's own client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LocalRead {
    pub(super) id: RequestId,
    pub(super) deadline: Instant,
}

/// A read that a leader must confirm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LeaderRead {
    asker: Asker,
    /// What the reader must have applied.
    index: Index,
    /// The round that began after it came; `None` until that begins.
    round: Option<Round>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asker {
    Local(LocalRead),
    Peer(NodeId, ReadToken),
}

impl LeaderRead {
    /// The request and its deadline, when this member's own client asked.
    pub(super) const fn local(&self) -> Option<(RequestId, Instant)> {
        match self.asker {
            Asker::Local(read) => Some((read.id, read.deadline)),
            Asker::Peer(..) => None,
        }
    }
}

/// Reads that a follower has asked its leader about, in groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FollowerReads {
    /// The next group's number. It begins at random, so that an answer to an earlier life is nobody's.
    next: ReadToken,
    groups: VecDeque<Group>,
}

#[derive(Clone, Debug, PartialEq)]
struct Group {
    token: ReadToken,
    forwarded: Option<Instant>,
    reads: Vec<LocalRead>,
}

impl FollowerReads {
    pub(super) const fn new(drawn: ReadToken, counts_from_zero: bool) -> Self {
        Self { next: if counts_from_zero { 0 } else { drawn }, groups: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(|group| group.reads.len()).sum()
    }

    /// Another leader must be asked.
    pub(super) fn forward_again(&mut self, local: &mut Vec<LocalRead>) {
        for group in self.groups.drain(..) {
            local.extend(group.reads);
        }
    }

    /// What was asked long ago may be lost: ask again.
    pub(super) fn forward_late(&mut self, now: Instant, patience: Duration) {
        for group in &mut self.groups {
            if group.forwarded.is_some_and(|at| now >= at + patience) {
                group.forwarded = None;
            }
        }
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&LocalRead) -> bool) {
        for group in &mut self.groups {
            group.reads.retain(&mut keep);
        }
        self.groups.retain(|group| !group.reads.is_empty());
    }
}

impl Raft {
    pub(super) fn read(&mut self, id: RequestId, lease: bool, deadline: Instant, out: &mut Outbox<Self>) {
        if deadline <= self.now {
            out.answer(id, Err(Error::TimedOut));
            return;
        }
        if self.waiting() >= self.settings.pending_max {
            out.answer(id, Err(Error::Overloaded { limit: "pending_max" }));
            return;
        }
        if lease && self.commit >= self.term_start && self.lease_valid() {
            out.answer(id, Ok(Answer::Read(self.commit)));
            return;
        }
        let read = LocalRead { id, deadline };
        if self.role == Role::Leader {
            self.gather_local_read(read);
        } else {
            self.local_reads.push(read);
        }
        self.await_deadline(deadline, out);
    }

    pub(super) fn gather_local_read(&mut self, read: LocalRead) {
        self.gather_read(Asker::Local(read));
    }

    /// A follower's reads. A group that is asked about twice is answered twice.
    pub(super) fn peer_reads(&mut self, from: NodeId, token: ReadToken) {
        let asker = Asker::Peer(from, token);
        let waits = self.reads.iter().any(|read| read.asker == asker);
        if !waits && self.reads.len() < self.settings.pending_max {
            self.gather_read(asker);
        }
    }

    fn gather_read(&mut self, asker: Asker) {
        // A new leader's commit index may lag behind what its predecessor acknowledged, but its own first entry
        // comes after all of that.
        let index = self.commit.max(self.term_start);
        // A mutant's read joins the last question, which was asked before the read came.
        let round = mutant!(self, ReusedReadRound).then_some(self.round);
        self.reads.push_back(LeaderRead { asker, index, round });
        if round.is_some() {
            self.confirm_reads();
        }
    }

    /// Begins a round for the reads that came since the last. Answers whether there are any.
    pub(super) fn begin_read_round(&mut self) -> bool {
        // A round in the middle of a transfer would renew leases that the votes for its target must break.
        let handing_over = self.transfer.is_some_and(|transfer| transfer.told);
        if handing_over || self.reads.back().is_none_or(|read| read.round.is_some()) {
            return false;
        }
        self.round += 1;
        let round = self.round;
        self.reads
            .iter_mut()
            .rev()
            .take_while(|read| read.round.is_none())
            .for_each(|read| read.round = Some(round));
        self.confirm_reads();
        true
    }

    /// Notes which reads a quorum has confirmed; they are answered at the end of the batch of inputs.
    pub(super) fn confirm_reads(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let (own, latest) = (self.id, self.round);
        let answered =
            |id| if id == own { latest } else { self.peer_at(id).map_or(0, |at| self.peers[at].round) };
        self.confirmed_round = self.confirmed_round.max(self.membership().reached(answered).unwrap_or(0));
    }

    pub(super) fn answer_confirmed_reads(&mut self, out: &mut Outbox<Self>) {
        while let Some(read) = self.reads.front().copied() {
            if read.round.is_none_or(|round| round > self.confirmed_round) {
                return;
            }
            self.reads.pop_front();
            match read.asker {
                Asker::Local(local) => out.answer(local.id, Ok(Answer::Read(read.index))),
                Asker::Peer(to, token) => {
                    out.send(to, Message::Read { term: self.hard.term, token, index: read.index });
                }
            }
        }
    }

    /// This member does not lead any more: its own clients' reads go to the next leader, others ask there themselves.
    pub(super) fn reads_to_local(&mut self) {
        for read in std::mem::take(&mut self.reads) {
            if let Asker::Local(local) = read.asker {
                self.local_reads.push(local);
            }
        }
    }

    pub(super) fn forward_reads(&mut self, leader: NodeId, out: &mut Outbox<Self>) {
        if !self.local_reads.is_empty() {
            let token = self.forwarded_reads.next;
            self.forwarded_reads.next = token.wrapping_add(1);
            let reads = std::mem::take(&mut self.local_reads);
            self.forwarded_reads.groups.push_back(Group { token, forwarded: None, reads });
        }
        let term = self.hard.term;
        for group in self.forwarded_reads.groups.iter_mut().filter(|group| group.forwarded.is_none()) {
            group.forwarded = Some(self.now);
            out.send(leader, Message::RequestRead { term, token: group.token });
        }
    }

    pub(super) fn forwarded_read_answered(&mut self, token: ReadToken, index: Index, out: &mut Outbox<Self>) {
        let groups = &mut self.forwarded_reads.groups;
        let Some(at) = groups.iter().position(|group| group.token == token && group.forwarded.is_some())
        else {
            return;
        };
        for read in groups.remove(at).map(|group| group.reads).unwrap_or_default() {
            out.answer(read.id, Ok(Answer::Read(index)));
        }
    }
}

//! Elections (thesis §3.4, §9.6): who campaigns when, and who votes for whom.
//!
//! Two promises are never mixed. *Stickiness* (a candidate is ignored while the leader is heard, §4.2.3) serves
//! liveness, and evidence that the leader's process is gone ends it. The *lease* serves safety: who grants one
//! votes for nobody until it has run out, whatever the evidence. Only a transfer ends it, because the leader has
//! then given up its own half first.

use std::time::Duration;

use super::machine::Raft;
use super::{Answer, Beat, Error, Membership, Message, Position, Role, Round, Term, Timer};
use crate::id::{NodeId, RequestId};
use crate::protocol::Outbox;
use crate::quorum::VoteResult;
use crate::time::Instant;

/// A vote that was promised to nobody, until a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LeasePromise {
    until: Instant,
    /// The leader's term and round in which it was given.
    given: (Term, Round),
    /// Until then an earlier life's promise may stand, of which nobody here knows the round: no transfer ends it.
    forgotten_until: Instant,
}

impl LeasePromise {
    /// When votes may be given again.
    fn end(&self) -> Instant {
        self.until.max(self.forgotten_until)
    }
}

impl Raft {
    /// How long this member waits for a leader: one to two election time-outs, and up to one more for a light voter.
    fn patience(&mut self) -> Duration {
        let timeout = self.settings.election_timeout.as_nanos() as u64;
        let drawn = timeout + self.random.below(timeout);
        let (weight, heaviest) = {
            let membership = self.membership();
            (u64::from(membership.weight(self.id).unwrap_or(0)), u64::from(membership.weight_max()))
        };
        let lightness = (heaviest - weight.min(heaviest)) * timeout / heaviest.max(1);
        self.patience_least = Duration::from_nanos(timeout + lightness);
        Duration::from_nanos(drawn + lightness)
    }

    /// A sixtieth to a fifteenth of an election time-out (5 to 20 ms of 300), and twice as much after each attempt.
    fn pause(&mut self) -> Duration {
        let timeout = self.settings.election_timeout.as_nanos() as u64;
        let (least, most) = (timeout / 60, timeout / 15);
        let drawn = least + self.random.below((most - least).max(1));
        Duration::from_nanos((drawn << self.attempts.min(5)).min(timeout * 2))
    }

    pub(super) fn await_leader(&mut self, out: &mut Outbox<Self>) {
        let patience = self.patience();
        self.set(Timer::Election, self.now + patience, out);
    }

    /// Soon, but not at the same moment as everybody else who has learnt the same.
    pub(super) fn campaign_soon(&mut self, out: &mut Outbox<Self>) {
        let window = self.settings.election_timeout.as_nanos() as u64 / 30;
        let pause = Duration::from_nanos(self.random.below(window.max(1)));
        self.set(Timer::Election, self.now + pause, out);
    }

    /// A leader that somebody's higher term has deposed may be the only one that can lead at once: its followers hear it
    /// still, so for an election time-out they vote for nobody else (§4.2.3), and the one who opened the term has asked
    /// in vain. If there is another leader, they hear that one, and refuse the pre-vote.
    pub(super) fn seek_office_again(&mut self, out: &mut Outbox<Self>) {
        self.attempts = 0;
        let pause = self.pause();
        self.set(Timer::Election, self.now + pause, out);
    }

    /// All who granted the lease wait for its end: they must not campaign at the same moment.
    fn campaign_after_the_lease(&mut self, out: &mut Outbox<Self>) {
        let window = self.settings.election_timeout.as_nanos() as u64 / 30;
        let pause = Duration::from_nanos(self.random.below(window.max(1)));
        self.set(Timer::Election, self.lease_promise.end() + pause, out);
    }

    /// Whether this member may lead. A learner never campaigns, nor does a voter without weight. But who is no voter
    /// in a membership that is not committed, and was one before, must: it may be the only one that has the entry
    /// (thesis §4.2.2).
    fn may_campaign(&self) -> bool {
        let may = |membership: &Membership| {
            membership.weight(self.id).map_or_else(|| membership.is_voter(self.id), |weight| weight > 0)
        };
        let uncommitted = self.memberships.iter().rev().take_while(|(index, _)| *index > self.commit).count();
        self.memberships.iter().rev().take(uncommitted + 1).any(|(_, membership)| may(membership))
    }

    pub(super) fn election_expired(&mut self, out: &mut Outbox<Self>) {
        match self.role {
            Role::Leader => {}
            _ if !self.may_campaign() => self.await_leader(out),
            // A candidate votes, too: for itself.
            _ if self.is_leased(None) => self.campaign_after_the_lease(out),
            _ if self.settings.pre_vote => self.ask_for_pre_votes(out),
            _ => self.campaign(None, out),
        }
    }

    pub(super) fn request_campaign(&mut self, id: RequestId, out: &mut Outbox<Self>) {
        if self.role == Role::Leader || !self.may_campaign() {
            out.answer(id, Err(Error::NoTarget { to: self.id }));
            return;
        }
        self.heard = None;
        self.election_expired(out);
        out.answer(id, Ok(Answer::Done));
    }

    /// Asks who would vote, before it disturbs anybody with a new term (§9.6).
    fn ask_for_pre_votes(&mut self, out: &mut Outbox<Self>) {
        self.attempts = if self.role == Role::Follower { 0 } else { self.attempts + 1 };
        self.role = Role::PreCandidate;
        self.leader = None;
        self.forwarded_reads.forward_again(&mut self.local_reads);
        let message = Message::RequestPreVote { term: self.hard.term + 1, last: self.log.last() };
        self.ask_voters(&message, |to, message, out| out.send(to, message), out);
        let pause = self.pause();
        self.set(Timer::Election, self.now + pause, out);
        // Answers of an earlier round speak of an earlier moment (raft-rs#83).
        self.votes.clear();
        self.count_pre_vote(self.id, true, out);
    }

    fn ask_voters(
        &self,
        message: &Message,
        mut ask: impl FnMut(NodeId, Message, &mut Outbox<Self>),
        out: &mut Outbox<Self>,
    ) {
        for voter in self.membership().each_voter().filter(|voter| *voter != self.id) {
            ask(voter, message.clone(), out);
        }
    }

    fn count_pre_vote(&mut self, from: NodeId, granted: bool, out: &mut Outbox<Self>) {
        self.note_vote(from, granted);
        if self.vote_result() == VoteResult::Won {
            self.campaign(None, out);
        }
    }

    pub(super) fn pre_vote_answered(
        &mut self,
        from: NodeId,
        term: Term,
        granted: bool,
        out: &mut Outbox<Self>,
    ) {
        if !granted && term > self.hard.term {
            // A restarted member with a lower term would never learn of it otherwise (openraft#1796).
            self.become_follower(term, None, out);
        } else if self.role == Role::PreCandidate && (!granted || term == self.hard.term + 1) {
            self.count_pre_vote(from, granted, out);
        }
    }

    /// Opens a term, votes for itself in it, and asks the others (§3.4). A request for votes is a promise: it leaves
    /// when the vote for itself is written down.
    pub(super) fn campaign(&mut self, transfer: Option<(Term, Round)>, out: &mut Outbox<Self>) {
        self.attempts = if self.role == Role::Follower { 0 } else { self.attempts };
        self.role = Role::Candidate;
        self.leader = None;
        self.forwarded_reads.forward_again(&mut self.local_reads);
        self.open_term(self.hard.term + 1);
        self.vote_for(self.id);
        self.votes.clear();
        self.write_down(out);
        let term = self.hard.term;
        let message = Message::RequestVote { term, last: self.log.last(), transfer };
        let early = mutant!(self, VoteRequestBeforeItsRecord);
        let ask = |to, message, out: &mut Outbox<Self>| {
            if early { out.send(to, message) } else { out.promise(to, message) }
        };
        self.ask_voters(&message, ask, out);
        // Its own vote counts when it is written down, too: a cluster of one needs no other.
        out.promise(self.id, Message::Vote { term, granted: true });
        if early {
            self.note_vote(self.id, true);
        }
        // Half an election time-out to one, and longer each time: disks and links may be slower than that.
        let half = self.settings.election_timeout.as_nanos() as u64 / 2;
        let wait = (half + self.random.below(half.max(1))) << self.attempts.min(3);
        self.set(Timer::Election, self.now + Duration::from_nanos(wait), out);
    }

    pub(super) fn vote_answered(&mut self, from: NodeId, term: Term, granted: bool, out: &mut Outbox<Self>) {
        if term > self.hard.term {
            self.become_follower(term, None, out);
        } else if term == self.hard.term {
            self.count_vote(from, granted, out);
        }
    }

    pub(super) fn count_vote(&mut self, from: NodeId, granted: bool, out: &mut Outbox<Self>) {
        if self.role != Role::Candidate {
            return;
        }
        self.note_vote(from, granted);
        self.settle_vote(out);
    }

    fn settle_vote(&mut self, out: &mut Outbox<Self>) {
        match self.vote_result() {
            VoteResult::Won => self.become_leader(out),
            VoteResult::Pending => {}
            // Whatever else is heard of it: an election is lost once.
            VoteResult::Lost if self.lost == self.hard.term => {}
            VoteResult::Lost => {
                // A split vote: ask again soon, rather than after a whole time-out.
                self.lost = self.hard.term;
                self.attempts += 1;
                let pause = self.pause();
                self.set(Timer::Election, self.now + pause, out);
            }
        }
    }

    fn note_vote(&mut self, from: NodeId, granted: bool) {
        match self.votes.iter_mut().find(|(voter, _)| *voter == from) {
            // A refusal after a grant is an answer to an earlier question that was late.
            Some((_, vote)) => *vote |= granted,
            None => self.votes.push((from, granted)),
        }
    }

    /// Who seems to be gone will not answer: where one of three is dead, two that voted for themselves have split the
    /// vote, and need not wait for a third.
    fn vote_result(&self) -> VoteResult {
        let answered =
            |voter| self.votes.iter().find(|(from, _)| *from == voter).map(|(_, granted)| *granted);
        let answer = |voter| answered(voter).or_else(|| self.gone.contains(&voter).then_some(false));
        self.membership().vote(answer)
    }

    /// Whether this member holds on to a leader that it hears (or is), against `candidate`.
    fn is_sticky(&self, candidate: NodeId) -> bool {
        match self.role {
            // Check-quorum has it step down when it is not heard any more.
            Role::Leader => self.settings.check_quorum,
            Role::Follower => {
                let heard_lately =
                    self.heard.is_some_and(|heard| self.now < heard + self.settings.election_timeout);
                heard_lately && self.leader.is_some_and(|leader| leader != candidate)
            }
            Role::PreCandidate | Role::Candidate => false,
        }
    }

    /// Whether a lease forbids any vote now. A transfer ends the leases of its leader up to its round.
    fn is_leased(&self, transfer: Option<(Term, Round)>) -> bool {
        let LeasePromise { until, given, forgotten_until } = self.lease_promise;
        self.now < forgotten_until || self.now < until && transfer.is_none_or(|ended| given > ended)
    }

    /// Votes are given whatever one's own view of the membership: a learner that is asked may be a voter already,
    /// and not know it (raft-rs PR 58).
    pub(super) fn asked_for_pre_vote(
        &mut self,
        from: NodeId,
        term: Term,
        last: Position,
        out: &mut Outbox<Self>,
    ) {
        let granted = term > self.hard.term
            && last >= self.log.last()
            && !self.is_sticky(from)
            && !self.is_leased(None);
        if granted {
            self.pre_voted = self.pre_voted.max(term);
            self.step_back(out);
        }
        let term = if granted { term } else { self.hard.term };
        out.send(from, Message::PreVote { term, granted });
    }

    /// Lets another candidate go first.
    fn step_back(&mut self, out: &mut Outbox<Self>) {
        let pause = self.pause();
        if self.role != Role::Leader && self.due(Timer::Election) < self.now + pause {
            self.set(Timer::Election, self.now + pause, out);
        }
    }

    pub(super) fn asked_for_vote(
        &mut self,
        from: NodeId,
        term: Term,
        last: Position,
        transfer: Option<(Term, Round)>,
        out: &mut Outbox<Self>,
    ) {
        if term < self.hard.term {
            out.send(from, Message::Vote { term: self.hard.term, granted: false });
            return;
        }
        // Without an answer, and without taking the term over: a server that was removed or cut off must not depose
        // a leader that the others hear (§4.2.3). But who was given a pre-vote for this term has opened it with a
        // quorum's leave: the leader is deposed by that already, though it may have been heard again in between.
        let wanted = transfer.is_some() || self.pre_voted == term && !mutant!(self, PreVoteIsForgotten);
        if self.is_leased(transfer) || !wanted && self.is_sticky(from) {
            return;
        }
        if term > self.hard.term {
            self.become_follower(term, None, out);
        }
        let free = self.hard.vote.is_none() && self.leader.is_none() || self.hard.vote == Some(from);
        let granted = free && last >= self.log.last();
        if !granted {
            out.send(from, Message::Vote { term, granted });
            return;
        }
        if self.role != Role::Follower {
            // Answers to its own question do not count any more: it has chosen.
            self.role = Role::Follower;
            self.votes.clear();
        }
        self.vote_for(from);
        self.write_down(out);
        if mutant!(self, VoteBeforeItsRecord) {
            out.send(from, Message::Vote { term, granted });
        } else {
            out.promise(from, Message::Vote { term, granted });
        }
        self.await_leader(out);
    }

    /// Takes `from` for the leader of `term`, unless that is over: then it is told so.
    pub(super) fn accepts_leader(
        &mut self,
        from: NodeId,
        term: Term,
        beat: Option<Beat>,
        out: &mut Outbox<Self>,
    ) -> bool {
        if term < self.hard.term {
            let beat = beat.unwrap_or(Beat { round: 0, sent: Instant::ZERO });
            out.send(from, Message::Heard { term: self.hard.term, beat, lease: false });
            return false;
        }
        // Nobody else leads a term that this member leads, or has another leader of: what says so is nonsense.
        if term == self.hard.term
            && (self.role == Role::Leader || self.leader.is_some_and(|leader| leader != from))
        {
            return false;
        }
        if term > self.hard.term || self.role != Role::Follower || self.leader != Some(from) {
            self.become_follower(term, Some(from), out);
        }
        self.heard = Some(self.now);
        self.attempts = 0;
        // What was drawn holds until it has become too short: no draw and no alarm for each append.
        if self.due(Timer::Election) < self.now + self.patience_least {
            self.await_leader(out);
        }
        true
    }

    /// The leader asked whether it is still followed. Answers at once, whatever the disk does.
    pub(super) fn answer_beat(&mut self, to: NodeId, beat: Beat, out: &mut Outbox<Self>) {
        let term = self.hard.term;
        if let Some(lease) = self.settings.lease {
            let until = self.now + lease.length + lease.drift;
            let given = self.lease_promise.given.max((term, beat.round));
            let until = self.lease_promise.until.max(until);
            self.lease_promise = LeasePromise { until, given, ..self.lease_promise };
        }
        out.send(to, Message::Heard { term, beat, lease: self.settings.lease.is_some() });
    }

    /// An earlier life may have granted a lease.
    pub(super) fn wait_out_the_lease(&mut self) {
        if let Some(lease) = self.settings.lease
            && !mutant!(self, RestartForgetsTheLease)
        {
            self.lease_promise.forgotten_until = self.now + lease.length + lease.drift;
        }
    }

    /// The peer's process seems to be gone. That may be wrong, so it costs an election at most.
    pub(super) fn evidence_against(&mut self, peer: NodeId, out: &mut Outbox<Self>) {
        if self.membership().is_voter(peer) && !self.gone.contains(&peer) {
            self.gone.push(peer);
        }
        if self.role == Role::Candidate {
            self.settle_vote(out);
        }
        if self.role == Role::Leader {
            self.peer_is_gone(peer);
        } else if self.leader == Some(peer) {
            self.heard = None;
            if mutant!(self, EvidenceEndsTheLease) {
                self.lease_promise = LeasePromise::default();
            }
            if self.may_campaign() {
                self.campaign_soon(out);
            }
        }
    }

    /// The leader hands over (§3.10): no pre-vote, and the others may forget their leases up to `round`.
    pub(super) fn told_to_campaign(&mut self, from: NodeId, round: Round, out: &mut Outbox<Self>) {
        let transfer = Some((self.hard.term, round));
        let follows = self.role == Role::Follower && self.leader == Some(from);
        if follows && self.may_campaign() && !self.is_leased(transfer) {
            self.campaign(transfer, out);
        }
    }
}

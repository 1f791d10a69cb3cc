//! Changes of who belongs (thesis §4.3) and of who leads (§3.10).

use super::leader::Transfer;
use super::machine::Raft;
use super::progress::Stage;
use super::{Answer, Change, Error, Message, Payload, Role, Timer};
use crate::id::{NodeId, RequestId};
use crate::protocol::Outbox;
use crate::time::Instant;
use std::sync::Arc;

/// How many entries a learner may lack when it becomes a voter; what it lacks, a commit may have to wait for
/// (§4.2.1).
const BEHIND_MAX: u64 = 4096;

impl Raft {
    /// Appends the joint membership that begins a change.
    pub(super) fn begin_change(&mut self, changes: &[Change], out: &mut Outbox<Self>) -> Result<(), Error> {
        if self.role != Role::Leader {
            return Err(Error::NotLeader { term: self.hard.term, leader: self.leader });
        }
        if let Some(transfer) = self.transfer {
            return Err(Error::Transferring { to: transfer.to });
        }
        let (index, membership) = self.membership_entry().clone();
        // One change at a time, and only when an entry of this term is committed: then no earlier leader's change
        // can come back (Ongaro's correction of the single-server change, raft-dev 2015).
        let settled = !membership.is_joint() && index <= self.commit && self.commit >= self.term_start;
        if !settled && !mutant!(self, ChangeOverChange) {
            return Err(Error::ChangeInProgress);
        }
        let joint = membership.begin(changes).map_err(Error::InvalidChange)?;
        self.learners_have_caught_up(changes)?;
        #[cfg(feature = "mutants")]
        let joint = if mutant!(self, ChangeOverChange) { joint.leave() } else { joint };
        self.append_entry(Payload::Membership(Arc::new(joint)), out);
        Ok(())
    }

    fn learners_have_caught_up(&self, changes: &[Change]) -> Result<(), Error> {
        for change in changes {
            let Change::AddVoter(id, _) = *change else { continue };
            let Some(peer) = self.peers.iter().find(|peer| peer.id == id) else { continue };
            let entries = self.log.last().index - peer.matched;
            if peer.stage != Stage::Replicate && !self.membership().is_voter(id) || entries > BEHIND_MAX {
                return Err(Error::Behind { id, entries });
            }
        }
        Ok(())
    }

    /// The commit index has moved: a joint membership that is committed is left, one that is final is done.
    pub(super) fn membership_may_be_committed(&mut self, out: &mut Outbox<Self>) {
        let (index, membership) = self.membership_entry().clone();
        if index > self.commit {
            return;
        }
        if membership.is_joint() {
            self.append_entry(Payload::Membership(Arc::new(membership.leave())), out);
        } else if let Some((id, _)) = self.change.take() {
            out.answer(id, Ok(Answer::Changed(index)));
        }
    }

    /// A leader that is no voter any more leads until that is committed (§4.2.2), and lets another one take over.
    pub(super) fn leave_if_removed(&mut self, out: &mut Outbox<Self>) {
        let (index, membership) = self.membership_entry();
        if *index > self.commit || membership.is_voter(self.id) {
            return;
        }
        // Everybody has been told of the commit by now, as far as messages are not lost.
        if let Some(to) = self.best_successor() {
            out.send(to, Message::TimeoutNow { term: self.hard.term, round: self.round });
        }
        self.become_follower(self.hard.term, None, out);
    }

    pub(super) fn request_transfer(&mut self, id: RequestId, to: NodeId, out: &mut Outbox<Self>) {
        if self.role != Role::Leader {
            self.refuse(id, out);
        } else if let Some(transfer) = self.transfer {
            out.answer(id, Err(Error::Transferring { to: transfer.to }));
        } else if to == self.id || self.membership().weight(to).is_none_or(|weight| weight == 0) {
            out.answer(id, Err(Error::NoTarget { to }));
        } else {
            if let Some(before) = self.handed_over.take() {
                out.answer(before, Err(Error::Unknown));
            }
            self.begin_transfer(to, Some(id), out);
        }
    }

    /// Takes no more proposals, and when the target has the whole log lets it campaign.
    pub(super) fn begin_transfer(&mut self, to: NodeId, request: Option<RequestId>, out: &mut Outbox<Self>) {
        self.transfer = Some(Transfer { to, request, told: false });
        self.set(Timer::Transfer, self.now + self.settings.election_timeout, out);
        self.target_may_be_ready(to, out);
    }

    pub(super) fn target_may_be_ready(&mut self, peer: NodeId, out: &mut Outbox<Self>) {
        let last = self.log.last().index;
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.to == peer && !transfer.told)
        else {
            return;
        };
        // What was gathered in this batch of inputs is not in the log yet, and was taken before the transfer.
        let ready = self.gathered.is_empty()
            && self.peers.iter().any(|progress| progress.id == peer && progress.matched == last);
        if ready {
            transfer.told = true;
            // From here on the others may forget their leases of these rounds, so none counts any more: not even
            // when the transfer has failed and the lease would still run.
            self.lease_floor = self.round;
            self.peers.iter_mut().for_each(|progress| progress.leased = Instant::ZERO);
            out.send(peer, Message::TimeoutNow { term: self.hard.term, round: self.round });
        }
    }

    /// The target did not take over in time: lead on. What it was told may yet reach it.
    pub(super) fn transfer_expired(&mut self, out: &mut Outbox<Self>) {
        if let Some(id) = self.handed_over.take() {
            out.answer(id, Err(Error::Unknown));
        }
        if let Some(transfer) = self.transfer.take()
            && let Some(id) = transfer.request
        {
            out.answer(id, Err(if transfer.told { Error::Unknown } else { Error::TimedOut }));
        }
    }

    /// A leader that has handed over learns who leads now.
    pub(super) fn tell_of_handover(&mut self, out: &mut Outbox<Self>) {
        let Some(leader) = self.leader else { return };
        if let Some(id) = self.handed_over.take() {
            self.unset(Timer::Transfer);
            // It may be this member itself, elected again; and what it told the target may yet reach it.
            let handed_over = leader != self.id;
            let answer = Answer::Transferred { leader, term: self.hard.term };
            out.answer(id, if handed_over { Ok(answer) } else { Err(Error::Unknown) });
        }
    }
}

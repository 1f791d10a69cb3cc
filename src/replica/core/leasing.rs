//! Leases, from renewal to expiry: what the leader counts, what it is asked, and what it proposes.

use super::super::answers::{Asker, Waiter};
use super::super::leases::Standing;
use super::super::renewals::Renewal;
use super::super::{Command, LeaseReply, Message, Timer, Token};
use super::{Replica, Way};
use crate::id::{NodeId, RequestId};
use crate::protocol::{Outbox, Protocol};
use crate::raft::{self, Role, Term};
use crate::store::LeaseId;
use crate::time::Instant;

/// How many questions about leases travel in one message.
const ASKS_MAX: usize = 1024;

impl Replica {
    /// Whether this member leads decides who counts.
    #[inline]
    pub(super) fn take_lead(&mut self, now: Instant) {
        let leads = self.raft.role() == Role::Leader;
        let term = leads.then(|| self.raft.term());
        let no_time = mutant!(self, NewLeaderGrantsNoTime);
        self.leases.lead(now, term, self.settings.grace, no_time);
        self.ages.lead(leads);
    }

    pub(super) fn take_lease(
        &mut self,
        now: Instant,
        id: RequestId,
        (lease, renew): (LeaseId, bool),
        deadline: Instant,
        out: &mut Outbox<Self>,
    ) {
        if let Err(error) = self.may_take(now, 0, deadline) {
            out.answer(id, Err(error));
            return;
        }
        self.answers.pending += 1;
        let asker = Asker::Client(id);
        self.renewals.gathered.push(Renewal { asker, lease, renew, deadline, came: now, due: None });
        self.arm_deadline(deadline, out);
    }

    /// A peer asks for its clients.
    pub(super) fn take_lease_asks(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        asks: Vec<(Token, (LeaseId, bool))>,
        out: &mut Outbox<Self>,
    ) {
        // Whoever asked asks again, and has a deadline of his own.
        let deadline = now + self.settings.raft.election_timeout * 4;
        self.arm_deadline(deadline, out);
        let leads = self.raft.role() == Role::Leader && self.raft.term() == term;
        for (token, (lease, renew)) in asks {
            let asker = Asker::Peer(from, token);
            if leads && self.answers.pending < self.settings.pending_max {
                self.answers.pending += 1;
                self.renewals.gathered.push(Renewal { asker, lease, renew, deadline, came: now, due: None });
            } else {
                let (term, leader) = (self.raft.term(), self.raft.leader());
                self.answers.reply_lease(from, token, LeaseReply::Refused { term, leader });
            }
        }
    }

    pub(super) fn take_lease_replies(
        &mut self,
        from: NodeId,
        replies: Vec<(Token, LeaseReply)>,
        out: &mut Outbox<Self>,
    ) {
        for (token, reply) in replies {
            let Some((sent_in, renewal)) = self.renewals.take(from, token) else { continue };
            match reply {
                LeaseReply::Refused { term, leader } => {
                    self.note_hint(from, term, leader);
                    self.renewals.gathered.push(renewal);
                    // The same way again would be the same answer again.
                    self.renewals.blocked |= self.way() == Way::Forward(sent_in, from);
                }
                reply => self.answers.settle_lease(&renewal, reply, out),
            }
        }
    }

    /// All that was gathered about leases leaves, if there is a way.
    pub(super) fn ask_about_leases(&mut self, now: Instant, out: &mut Outbox<Self>) {
        if self.raft.role() != Role::Leader {
            let led = self.renewals.take_led();
            self.renewals.gathered.extend(led);
        }
        if self.renewals.gathered.is_empty() || self.renewals.blocked {
            return;
        }
        let way = self.way();
        if way != Way::Propose {
            let (term, leader) = (self.raft.term(), self.raft.leader());
            let answers = &mut self.answers;
            self.renewals.gathered.retain(|renewal| {
                let Asker::Peer(from, token) = renewal.asker else { return true };
                answers.pending -= 1;
                answers.reply_lease(from, token, LeaseReply::Refused { term, leader });
                false
            });
        }
        match way {
            Way::Propose => self.confirm_leases(out, now),
            Way::Forward(term, to) => {
                let mut renewals = std::mem::take(&mut self.renewals.gathered);
                while !renewals.is_empty() {
                    let rest = renewals.split_off(renewals.len().min(ASKS_MAX));
                    let asks = self.renewals.forward(now, term, to, renewals);
                    out.send(to, Message::AskLeases { term, asks });
                    renewals = rest;
                }
            }
            Way::Wait => {}
        }
    }

    /// What is promised to a holder must hold under whoever leads next: Raft says whether that one can only come later.
    fn confirm_leases(&mut self, out: &mut Outbox<Self>, now: Instant) {
        let mut renewals = std::mem::take(&mut self.renewals.gathered);
        let latest = renewals.iter().map(|renewal| renewal.deadline).max().unwrap_or(now);
        for renewal in &mut renewals {
            // A question that waited for a leader is one of now.
            renewal.came = now;
            if renewal.renew && !mutant!(self, RenewalIsForgotten) {
                self.leases.renew(now, renewal.lease);
            }
            renewal.due = match self.leases.standing(renewal.lease) {
                Some(Standing::Alive(_, due)) => Some(due),
                _ => None,
            };
        }
        if mutant!(self, RenewalOfADeposedLeader) {
            self.decide_leases(renewals, out);
            return;
        }
        let id = self.next_request();
        self.renewals.asked(id, renewals);
        let lease = self.settings.raft.lease.is_some();
        self.raft.request(now, id, raft::Request::Read { lease, deadline: latest }, &mut self.inner.0);
        self.relay(out);
    }

    pub(super) fn leadership_answered(
        &mut self,
        renewals: Vec<Renewal>,
        answer: &Result<raft::Answer, raft::Error>,
        out: &mut Outbox<Self>,
    ) {
        match *answer {
            Ok(raft::Answer::Read(index)) if self.raft.role() == Role::Leader => {
                if index <= self.applied {
                    self.decide_leases(renewals, out);
                } else {
                    self.renewals.wait_for(index, renewals);
                }
            }
            Err(raft::Error::Halted(_)) => {
                self.renewals.gathered.extend(renewals);
            }
            // A question may always be asked again.
            _ => {
                self.renewals.blocked = true;
                self.renewals.gathered.extend(renewals);
            }
        }
    }

    /// Answers questions about leases, as the one who leads.
    pub(super) fn decide_leases(&mut self, renewals: Vec<Renewal>, out: &mut Outbox<Self>) {
        for renewal in renewals {
            match self.leases.standing(renewal.lease) {
                None => self.renewals.gathered.push(renewal),
                Some(Standing::Ending) => self.renewals.postpone(renewal),
                Some(Standing::Over) => self.answers.settle_lease(&renewal, LeaseReply::Over, out),
                Some(Standing::Alive(terms, due)) => {
                    // Later questions have lengthened it, and of them Raft may never say that this member leads.
                    let full = renewal.came + terms.ttl;
                    let due = due.min(renewal.due.unwrap_or(full));
                    let due = if mutant!(self, RenewalIsForgotten) { full } else { due };
                    let reply = LeaseReply::Alive { ttl: terms.ttl, left: due - renewal.came };
                    self.answers.settle_lease(&renewal, reply, out);
                }
            }
        }
    }

    /// The leader hears of the connections that ended here.
    pub(super) fn tell_who_went(&mut self, out: &mut Outbox<Self>) {
        if !self.leases.untold {
            return;
        }
        match self.way() {
            Way::Propose => self.leases.untold = false,
            Way::Forward(_, leader) => {
                self.leases.untold = false;
                for part in self.leases.ended_here().chunks(ASKS_MAX) {
                    out.send(leader, Message::Detached(part.to_vec()));
                }
            }
            Way::Wait => {}
        }
    }

    pub(super) fn end_leases(&mut self, now: Instant) {
        self.take_lead(now);
        // What is proposed may be refused: then it is proposed again.
        let patience = self.settings.raft.election_timeout;
        for (lease, attachment) in self.leases.take_due(now, patience) {
            if !mutant!(self, NothingExpires) {
                self.propose_own(&Command::Expire { lease, attachment });
            }
        }
    }

    pub(super) fn forget_history(&mut self, now: Instant) {
        self.take_lead(now);
        if let Some(revision) = self.ages.take_old(now, self.settings.history) {
            self.propose_own(&Command::Compact(revision));
        }
    }

    /// What the leader wants itself takes its place among what clients want.
    fn propose_own(&mut self, command: &Command) {
        let mut entry = Vec::new();
        command.encode(&mut entry);
        let asker = Asker::Own(self.raft.term());
        let waiter =
            Waiter { asker, deadline: Instant::NEVER, repeatable: false, uncertain: false, tries: 0 };
        self.answers.pending += 1;
        self.answers.own += 1;
        self.gathered.push(&entry, waiter);
    }

    pub(super) fn arm_leases(&mut self, out: &mut Outbox<Self>) {
        if let Some(due) = self.leases.next_due()
            && self.lease_at.is_none_or(|armed| due < armed)
        {
            self.lease_at = Some(due);
            out.set(Timer::Lease, due);
        }
        if let Some(due) = self.ages.next_due(self.settings.history)
            && self.history_at.is_none_or(|armed| due < armed)
        {
            self.history_at = Some(due);
            out.set(Timer::History, due);
        }
    }
}

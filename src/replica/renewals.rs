//! Questions about leases, from the asking to the leader's word.
//!
//! ```text
//!   request ──► gathered ──► asked (Raft: do I still lead?) ──► barriers (applied so far?) ──► answered
//!                 ▲  │
//!                 │  └─► forwarded (to the leader)
//!                 └────────┘ lost, refused, or another leads
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::Token;
use super::answers::Asker;
use crate::id::{NodeId, RequestId};
use crate::raft::{Index, Term};
use crate::store::LeaseId;
use crate::time::Instant;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Renewal {
    pub(super) asker: Asker,
    pub(super) lease: LeaseId,
    pub(super) renew: bool,
    pub(super) deadline: Instant,
    /// When it came to who decides.
    pub(super) came: Instant,
    /// When the lease was over as it was known then. What lengthened it since may be no leader's word.
    pub(super) due: Option<Instant>,
}

/// A question that was sent to the leader of a term.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sent {
    to: NodeId,
    term: Term,
    at: Instant,
    renewal: Renewal,
}

/// All questions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Renewals {
    pub(super) gathered: Vec<Renewal>,
    /// Raft was asked whether this member still leads.
    asked: BTreeMap<RequestId, Vec<Renewal>>,
    /// The state must have come to this index, or a lease that was just granted would not be known.
    barriers: BTreeMap<Index, Vec<Renewal>>,
    /// It is proposed that their leases be over.
    undecided: Vec<Renewal>,
    forwarded: BTreeMap<Token, Sent>,
    token: Token,
    /// The way out was refused: wait until something changes.
    pub(super) blocked: bool,
}

impl Renewals {
    pub(super) fn starting_at(token: Token) -> Self {
        Self { token, ..Self::default() }
    }

    /// Whether somebody waits for another member, or for a leader.
    pub(super) fn is_waiting(&self) -> bool {
        !self.gathered.is_empty() || !self.forwarded.is_empty()
    }

    pub(super) fn asked(&mut self, id: RequestId, renewals: Vec<Renewal>) {
        self.asked.insert(id, renewals);
    }

    pub(super) fn take_asked(&mut self, id: RequestId) -> Option<Vec<Renewal>> {
        self.asked.remove(&id)
    }

    pub(super) fn wait_for(&mut self, index: Index, renewals: Vec<Renewal>) {
        self.barriers.entry(index).or_default().extend(renewals);
    }

    /// The next questions that a state which has applied `index` may answer.
    pub(super) fn pop_ready(&mut self, index: Index) -> Option<Vec<Renewal>> {
        let first = self.barriers.first_entry()?;
        (*first.key() <= index).then(|| first.remove())
    }

    pub(super) fn postpone(&mut self, renewal: Renewal) {
        self.undecided.push(renewal);
    }

    /// What waits for a proposal, and for having applied: to be looked at again, because something has changed.
    pub(super) fn take_undecided(&mut self) -> Vec<Renewal> {
        std::mem::take(&mut self.undecided)
    }

    /// All that only a leader can wait for, when this member does not lead any more.
    pub(super) fn take_led(&mut self) -> Vec<Renewal> {
        let barriers = std::mem::take(&mut self.barriers);
        let mut all: Vec<Renewal> = barriers.into_values().flatten().collect();
        all.append(&mut self.undecided);
        all
    }

    /// The tokens under which a leader is asked.
    pub(super) fn forward(
        &mut self,
        at: Instant,
        term: Term,
        to: NodeId,
        renewals: Vec<Renewal>,
    ) -> Vec<(Token, (LeaseId, bool))> {
        let mut asks = Vec::with_capacity(renewals.len());
        for renewal in renewals {
            asks.push((self.token, (renewal.lease, renewal.renew)));
            self.forwarded.insert(self.token, Sent { to, term, at, renewal });
            self.token += 1;
        }
        asks
    }

    /// Takes who waits for `token`, if `from` is who was asked; and in which term.
    pub(super) fn take(&mut self, from: NodeId, token: Token) -> Option<(Term, Renewal)> {
        let sent = self.forwarded.get(&token).filter(|sent| sent.to == from)?;
        let taken = (sent.term, sent.renewal);
        self.forwarded.remove(&token);
        Some(taken)
    }

    /// Gathers anew what was sent before `before`, or to who led an earlier term than `term`.
    pub(super) fn reclaim(&mut self, before: Instant, term: Term) {
        let gathered = &mut self.gathered;
        self.forwarded.retain(|_, sent| {
            let lost = sent.at < before || sent.term < term;
            if lost {
                gathered.push(sent.renewal);
            }
            !lost
        });
    }

    /// The deadlines of these have come.
    pub(super) fn abandon(&mut self, asked: &BTreeSet<RequestId>) {
        let waiting = self.gathered.iter_mut().chain(&mut self.undecided);
        let waiting =
            waiting.chain(self.asked.values_mut().flatten()).chain(self.barriers.values_mut().flatten());
        for renewal in waiting.chain(self.forwarded.values_mut().map(|sent| &mut sent.renewal)) {
            if matches!(renewal.asker, Asker::Client(id) if asked.contains(&id)) {
                renewal.deadline = Instant::ZERO;
            }
        }
    }

    /// Takes all whose deadline has come; says when the next one does.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(Renewal)) -> Instant {
        let mut next = Instant::NEVER;
        let mut waits = |renewal: &mut Renewal| {
            if renewal.deadline <= now {
                expired(*renewal);
                return false;
            }
            next = next.min(renewal.deadline);
            true
        };
        self.gathered.retain_mut(&mut waits);
        self.undecided.retain_mut(&mut waits);
        for renewals in self.asked.values_mut() {
            renewals.retain_mut(&mut waits);
        }
        self.barriers.retain(|_, renewals| {
            renewals.retain_mut(&mut waits);
            !renewals.is_empty()
        });
        self.forwarded.retain(|_, sent| waits(&mut sent.renewal));
        next
    }
}

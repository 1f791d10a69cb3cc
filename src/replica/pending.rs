//! Who waits for what: commands on their way into the log, and through it.
//!
//! ```text
//!   request ──► gathered ──► proposed ──► committed ──► answered
//!                 ▲  │           │
//!                 │  └► forwarded┤ (to the leader)
//!                 └──────────────┘ provably nothing happened, or repeating is harmless
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::answers::{Asker, Waiter};
use super::{Reply, Token};
use crate::id::{NodeId, RequestId};
use crate::raft::{Batch, BatchBuilder, Index, Run, Term};
use crate::time::Instant;

/// Commands that wait to leave: for the end of the batch of inputs, or for a leader.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gathering {
    commands: BatchBuilder,
    waiters: Vec<Waiter>,
}

/// Commands with those who wait for them, in the same order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parcel {
    pub(super) commands: Batch,
    pub(super) waiters: Vec<Waiter>,
}

impl Gathering {
    #[inline]
    pub(super) fn push(&mut self, command: &[u8], waiter: Waiter) {
        self.commands.push(command);
        self.waiters.push(waiter);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.commands.bytes()
    }

    pub(super) fn waiters_mut(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.waiters.iter_mut()
    }

    /// Makes room for others when most are gone.
    pub(super) fn forget_the_gone(&mut self) {
        let gone = self.waiters.iter().filter(|waiter| waiter.is_gone()).count();
        if gone > self.waiters.len() / 2 {
            let left = self.seal();
            for (command, waiter) in left.iter().flat_map(Parcel::iter) {
                self.push(command, *waiter);
            }
        }
    }

    /// Takes all that somebody still waits for.
    pub(super) fn seal(&mut self) -> Option<Parcel> {
        let parcel = Parcel { commands: self.commands.seal(), waiters: std::mem::take(&mut self.waiters) };
        let gone = parcel.waiters.iter().filter(|waiter| waiter.is_gone()).count();
        let parcel = if gone == 0 { parcel } else { parcel.without_the_gone() };
        (!parcel.waiters.is_empty()).then_some(parcel)
    }
}

impl Parcel {
    /// Takes off as many commands as fit into `bytes`, at least one; `None` when none are left.
    pub(super) fn split_head(&mut self, bytes: usize) -> Option<Self> {
        let all = self.commands.len();
        let count = self.commands.fit(bytes).max(1).min(all);
        let (commands, rest) = (self.commands.slice(0, count), self.commands.slice(count, all));
        self.commands = rest;
        let rest = self.waiters.split_off(count);
        let waiters = std::mem::replace(&mut self.waiters, rest);
        (count > 0).then_some(Self { commands, waiters })
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &Waiter)> {
        self.commands.iter().zip(&self.waiters)
    }

    fn without_the_gone(&self) -> Self {
        let mut left = Gathering::default();
        for (command, waiter) in self.iter() {
            if !waiter.is_gone() {
                left.push(command, *waiter);
            }
        }
        Self { commands: left.commands.seal(), waiters: left.waiters }
    }
}

/// A parcel in this member's log, at consecutive places.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) id: RequestId,
    pub(super) term: Term,
    pub(super) first: Index,
    pub(super) parcel: Parcel,
    /// How many of its commands are decided, from the first.
    pub(super) decided: usize,
}

/// What this member proposed while it led, until the log tells what became of it: the same entry, committed at the
/// same place, or another. That an entry was overwritten here, or stored by many, says nothing yet (redpanda#3003).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Proposals {
    /// Those of the latest term in which it led, in the order of their places.
    current: VecDeque<Proposal>,
    /// Those of earlier terms. Their places may be taken by now.
    earlier: Vec<Proposal>,
}

impl Proposals {
    pub(super) fn push(&mut self, proposal: Proposal) {
        if self.current.back().is_some_and(|last| last.term != proposal.term) {
            self.earlier.extend(self.current.drain(..));
        }
        self.current.push_back(proposal);
    }

    /// Takes back what Raft refused to append.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<Parcel> {
        let at = self.current.iter().rposition(|proposal| proposal.id == id)?;
        self.current.remove(at).map(|proposal| proposal.parcel)
    }

    /// This run is committed: those who wait for one of its entries go on to `committed`; those whose entry will
    /// never be, because another stands in its place, go back with it to `gathered`.
    #[inline]
    pub(super) fn decide(
        &mut self,
        run: &Run,
        committed: &mut VecDeque<(Index, Waiter)>,
        gathered: &mut Gathering,
    ) {
        let mut decide = |proposal: &mut Proposal| {
            if proposal.term == run.term {
                proposal.commit(run.last(), committed);
            } else {
                proposal.lose(run.last(), |command, waiter| gathered.push(command, waiter));
            }
            proposal.is_decided()
        };
        while let Some(proposal) = self.current.front_mut().filter(|proposal| proposal.first <= run.last()) {
            if !decide(proposal) {
                break;
            }
            self.current.pop_front();
        }
        self.earlier.retain_mut(|proposal| proposal.first > run.last() || !decide(proposal));
    }

    /// The log through `through` is gone, and a snapshot came instead: what became of these is not known.
    pub(super) fn lose(&mut self, through: Index, mut lost: impl FnMut(&[u8], Waiter)) {
        let mut lose = |proposal: &mut Proposal| {
            proposal.lose(through, &mut lost);
            !proposal.is_decided()
        };
        self.current.retain_mut(&mut lose);
        self.earlier.retain_mut(lose);
    }

    pub(super) fn waiters_mut(&mut self) -> impl Iterator<Item = &mut Waiter> {
        let proposals = self.current.iter_mut().chain(&mut self.earlier);
        proposals.flat_map(|proposal| proposal.parcel.waiters.iter_mut().skip(proposal.decided))
    }
}

impl Proposal {
    /// How many of its commands lie through `through`; never fewer than are decided.
    fn reach(&self, through: Index) -> usize {
        let reach = (through + 1).saturating_sub(self.first).min(self.parcel.waiters.len() as u64);
        (reach as usize).max(self.decided)
    }

    fn is_decided(&self) -> bool {
        self.decided == self.parcel.waiters.len()
    }

    fn commit(&mut self, through: Index, committed: &mut VecDeque<(Index, Waiter)>) {
        let reach = self.reach(through);
        let indexes = self.first + self.decided as u64..;
        for (index, waiter) in indexes.zip(&self.parcel.waiters[self.decided..reach]) {
            if !waiter.is_gone() {
                committed.push_back((index, *waiter));
            }
        }
        self.decided = reach;
    }

    fn lose(&mut self, through: Index, mut lost: impl FnMut(&[u8], Waiter)) {
        let reach = self.reach(through);
        for (command, waiter) in self.parcel.iter().take(reach).skip(self.decided) {
            if !waiter.is_gone() {
                lost(command, *waiter);
            }
        }
        self.decided = reach;
    }
}

/// A parcel that was sent to the leader of a term.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forwarded {
    pub(super) to: NodeId,
    pub(super) term: Term,
    pub(super) sent: Instant,
    parcel: Parcel,
    /// How many still wait.
    left: usize,
}

/// What was sent to leaders and is not yet answered, by the token of each parcel's first command.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Forwards {
    parcels: BTreeMap<Token, Forwarded>,
    bytes: usize,
}

impl Forwards {
    pub(super) fn push(&mut self, first: Token, forwarded: Forwarded) {
        self.bytes += forwarded.parcel.commands.bytes().len();
        self.parcels.insert(first, forwarded);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest token that somebody may still wait for.
    pub(super) fn first_token(&self) -> Option<Token> {
        self.parcels.keys().next().copied()
    }

    /// Takes who waits for `token`, if `from` is who was asked.
    pub(super) fn take(&mut self, from: NodeId, token: Token) -> Option<Waiter> {
        let (&first, forwarded) = self.parcels.range_mut(..=token).next_back()?;
        let place = usize::try_from(token - first).ok()?;
        let waiter = forwarded.parcel.waiters.get_mut(place).filter(|_| forwarded.to == from)?;
        let taken = *waiter;
        waiter.asker = Asker::Gone;
        forwarded.left -= usize::from(!taken.is_gone());
        if forwarded.left == 0 {
            self.forget(first);
        }
        (!taken.is_gone()).then_some(taken)
    }

    fn forget(&mut self, first: Token) {
        if let Some(forwarded) = self.parcels.remove(&first) {
            self.bytes -= forwarded.parcel.commands.bytes().len();
        }
    }

    /// Takes the commands that `from` refused, with those who wait for them; says in which terms they were sent.
    pub(super) fn take_refused(
        &mut self,
        from: NodeId,
        replies: &[(Token, Reply)],
        gathered: &mut Gathering,
    ) -> Vec<Term> {
        let mut terms = Vec::new();
        let mut refused =
            replies.iter().filter(|(_, reply)| matches!(reply, Reply::Refused { .. })).peekable();
        // One walk over each parcel, however many of its commands are refused.
        while let Some(&&(token, _)) = refused.peek() {
            let Some((&first, forwarded)) = self.parcels.range_mut(..=token).next_back() else {
                refused.next();
                continue;
            };
            let end = first + forwarded.parcel.waiters.len() as u64;
            let mut named = std::collections::BTreeSet::new();
            while let Some(&&(token, _)) = refused.peek().filter(|(token, _)| (first..end).contains(token)) {
                named.insert(token);
                refused.next();
            }
            if named.is_empty() {
                refused.next();
            } else if forwarded.to == from {
                terms.push(forwarded.term);
                forwarded.take_where(gathered, |place, _| named.contains(&(first + place as u64)));
            }
        }
        if !terms.is_empty() {
            self.forget_settled();
        }
        terms
    }

    /// Takes the repeatable commands of the parcels that `is_lost` speaks of: they may have happened, and may be
    /// sent again all the same.
    pub(super) fn take_repeatable(
        &mut self,
        gathered: &mut Gathering,
        mut is_lost: impl FnMut(&Forwarded) -> bool,
    ) {
        for forwarded in self.parcels.values_mut() {
            if is_lost(forwarded) {
                forwarded.take_repeatable(gathered);
            }
        }
        self.forget_settled();
    }

    /// Forgets the parcels for which nobody waits, after some were answered in place.
    pub(super) fn forget_settled(&mut self) {
        let bytes = &mut self.bytes;
        self.parcels.retain(|_, forwarded| {
            forwarded.left = forwarded.parcel.waiters.iter().filter(|waiter| !waiter.is_gone()).count();
            if forwarded.left == 0 {
                *bytes -= forwarded.parcel.commands.bytes().len();
            }
            forwarded.left > 0
        });
    }

    pub(super) fn waiters_mut(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.parcels.values_mut().flat_map(|forwarded| forwarded.parcel.waiters.iter_mut())
    }
}

impl Forwarded {
    pub(super) const fn new(to: NodeId, term: Term, sent: Instant, parcel: Parcel) -> Self {
        let left = parcel.waiters.len();
        Self { to, term, sent, parcel, left }
    }

    fn take_where(&mut self, gathered: &mut Gathering, mut wanted: impl FnMut(usize, &Waiter) -> bool) {
        for (place, (command, waiter)) in
            self.parcel.commands.iter().zip(&mut self.parcel.waiters).enumerate()
        {
            if !waiter.is_gone() && wanted(place, waiter) {
                gathered.push(command, *waiter);
                waiter.asker = Asker::Gone;
            }
        }
    }

    fn take_repeatable(&mut self, gathered: &mut Gathering) {
        for waiter in &mut self.parcel.waiters {
            waiter.uncertain |= waiter.repeatable;
            waiter.tries = waiter.tries.saturating_add(u8::from(waiter.repeatable));
        }
        self.take_where(gathered, |_, waiter| waiter.repeatable);
    }

    /// How often the one that was sent most often was sent before.
    pub(super) fn tries(&self) -> u8 {
        self.parcel.waiters.iter().map(|waiter| waiter.tries).max().unwrap_or(0)
    }
}

//! Consensus on a log: what the figures of Raft's papers promise, and what any replicated log must.
//!
//! The judge mirrors each member's log by one word an entry: a *chain*, which digests the entry and all before it.
//! Two logs are equal up to an entry when their chains there are equal, so each rule costs one comparison an entry.

use smallvec::SmallVec;
use std::collections::BTreeMap;

use super::Violation;
use crate::id::NodeId;

/// An entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term in which a leader appended it.
    pub term: u64,
    /// A digest of its content.
    pub digest: u64,
}

/// Judges a replicated log while it grows. Indexes count from 1.
#[derive(Clone, Debug, Default)]
pub struct Consensus {
    /// Who was elected, by term, and in which of its lives.
    elected: BTreeMap<u64, (NodeId, u32)>,
    members: BTreeMap<NodeId, Member>,
    /// By index: each entry that any log ever held there, as term and chain.
    known: Vec<SmallVec<[(u64, u64); 1]>>,
    /// By index: what was committed.
    committed: Vec<Committed>,
}

#[derive(Clone, Copy, Debug)]
struct Committed {
    entry: Entry,
    chain: u64,
    /// Who said so first.
    by: NodeId,
    /// The term that it led, if any: the entry was committed in that term.
    led: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    /// The log begins after this index; what is before lies in a snapshot.
    base: u64,
    base_term: u64,
    base_chain: u64,
    /// Term and chain of each entry.
    log: Vec<(u64, u64)>,
    /// Up to where its state machine has applied, in this life.
    applied: u64,
    /// The term that it leads.
    leads: Option<u64>,
    /// Its crashes.
    life: u32,
    /// Up to where it has told others that its disk has the log, as far as that was not replaced since.
    acknowledged: u64,
    /// What the next life must find: an acknowledged entry's index and chain.
    owed: Option<(u64, u64)>,
}

impl Member {
    fn last(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    fn at(&self, index: u64) -> Option<(u64, u64)> {
        if index == self.base {
            return Some((self.base_term, self.base_chain));
        }
        self.log.get(index.checked_sub(self.base + 1)? as usize).copied()
    }
}

impl Consensus {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// `leader` was elected in `term`.
    pub fn elected(&mut self, leader: NodeId, term: u64) -> Result<(), Violation> {
        let member = self.members.entry(leader).or_default();
        if let Some(&(other, life)) = self.elected.get(&term).filter(|&&other| other != (leader, member.life))
        {
            let lives =
                if other == leader { format!(" (lives {life} and {})", member.life) } else { String::new() };
            let detail = format!("{other:?} and {leader:?} both lead term {term}{lives}");
            return Err(Violation::new("election safety", detail));
        }
        let newest = self.elected.last_key_value().is_none_or(|(&latest, _)| latest < term);
        self.elected.insert(term, (leader, member.life));
        member.leads = Some(term);
        // A candidate of an old term may still be elected, by a vote that was long under way: it need not know what
        // later terms have committed.
        if newest { self.is_complete(leader, term) } else { Ok(()) }
    }

    /// `member` does not lead any more.
    pub fn stepped_down(&mut self, member: NodeId) {
        self.members.entry(member).or_default().leads = None;
    }

    /// `member` crashed; its log and its state are unknown until it has recovered.
    pub fn crashed(&mut self, member: NodeId) {
        let member = self.members.entry(member).or_default();
        member.owed = member.at(member.acknowledged).map(|(_, chain)| (member.acknowledged, chain));
        member.leads = None;
        member.life += 1;
        member.log.clear();
        member.applied = 0;
    }

    /// `member` has told others that its disk has its log up to `index`.
    pub fn acknowledged(&mut self, member: NodeId, index: u64) {
        let member = self.members.entry(member).or_default();
        member.acknowledged = member.acknowledged.max(index.min(member.last()));
    }

    /// `leader` holds what is up to `index` for committed, because a quorum has it. Only an entry of its own term may
    /// be committed so (thesis §3.6.2): an earlier one could still be overwritten.
    pub fn counted(&self, leader: NodeId, index: u64) -> Result<(), Violation> {
        let Some(state) = self.members.get(&leader) else { return Ok(()) };
        match (state.leads, state.at(index)) {
            (Some(leads), Some((term, _))) if leads != term => {
                let detail = format!("{leader:?} leads term {leads} and commits {term}/{index} by counting");
                Err(Violation::new("commit by an own entry", detail))
            }
            _ => Ok(()),
        }
    }

    /// `leader` appends a membership, while the one before stands at `before` and all up to `commit` is committed, as
    /// it knows. One change at a time (§4.1), and only after an entry of its own term is committed.
    pub fn changes(&self, leader: NodeId, before: u64, commit: u64) -> Result<(), Violation> {
        let Some(state) = self.members.get(&leader) else { return Ok(()) };
        let Some(leads) = state.leads else { return Ok(()) };
        let settled = state.at(commit).is_none_or(|(term, _)| term == leads);
        if before <= commit && settled {
            return Ok(());
        }
        let detail = format!(
            "{leader:?} leads term {leads}, has committed through {commit}, and replaces the membership of {before}"
        );
        Err(Violation::new("one change at a time", detail))
    }

    /// `member` begins a life with a log that starts after `base`, an entry of `base_term`.
    pub fn recovered(
        &mut self,
        member: NodeId,
        base: u64,
        base_term: u64,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<(), Violation> {
        let chain = self.snapshot_chain(member, base, base_term)?;
        let state = self.members.entry(member).or_default();
        let (life, acknowledged, owed) = (state.life, state.acknowledged, state.owed.take());
        let base_of = Member { base, base_term, base_chain: chain, applied: base, ..Member::default() };
        *state = Member { life, acknowledged, ..base_of };
        self.appended(member, base + 1, entries)?;
        let state = self.members.entry(member).or_default();
        match owed {
            Some((index, chain)) if index >= base && state.at(index).is_none_or(|(_, now)| now != chain) => {
                let detail = format!(
                    "{member:?} had acknowledged {index}, and recovers another log, through {}",
                    state.last()
                );
                Err(Violation::new("a restart forgets no promise", detail))
            }
            _ => Ok(()),
        }
    }

    /// `member` wrote `entries` from index `first` on, in place of whatever stood there and after.
    pub fn appended(
        &mut self,
        member: NodeId,
        first: u64,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<(), Violation> {
        let state = self.members.entry(member).or_default();
        let kept = first.wrapping_sub(state.base + 1);
        if first <= state.base || kept > state.log.len() as u64 {
            let detail = format!("{member:?} has {} to {} and writes {first}", state.base + 1, state.last());
            return Err(Violation::new("a log without gaps", detail));
        }
        let replaced = state.log.split_off(kept as usize);
        let mut chain = state.log.last().map_or(state.base_chain, |&(_, chain)| chain);
        for (index, entry) in (first..).zip(entries) {
            chain = link(chain, entry);
            recognise(&mut self.known, member, index, entry, chain)?;
            state.log.push((entry.term, chain));
        }
        let state = self.members.entry(member).or_default();
        state.acknowledged = state.acknowledged.min(state.agrees_through(first, &replaced));
        self.replaced(member, first, &replaced)
    }

    /// `member` has taken a snapshot that covers all through `last`, an entry of `term`, in place of its state. What
    /// its log had after an equal entry stays.
    pub fn installed(&mut self, member: NodeId, last: u64, term: u64) -> Result<(), Violation> {
        let chain = self.snapshot_chain(member, last, term)?;
        let state = self.members.entry(member).or_default();
        state.rebase(last, term, chain);
        state.applied = state.applied.max(last);
        Ok(())
    }

    /// `member` begins with the state of a snapshot that covers all through `last`, an entry of `term`. Its log may begin
    /// earlier.
    pub fn restored(&mut self, member: NodeId, last: u64, term: u64) -> Result<(), Violation> {
        self.snapshot_chain(member, last, term)?;
        let state = self.members.entry(member).or_default();
        state.applied = state.applied.max(last);
        Ok(())
    }

    /// `member` has dropped its log through `last`, which a snapshot covers.
    pub fn compacted(&mut self, member: NodeId, last: u64, term: u64) -> Result<(), Violation> {
        let chain = self.snapshot_chain(member, last, term)?;
        self.members.entry(member).or_default().rebase(last, term, chain);
        Ok(())
    }

    /// `member` applies `entries` from index `first` on.
    pub fn committed(
        &mut self,
        member: NodeId,
        first: u64,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<(), Violation> {
        let state = self.members.entry(member).or_default();
        if first != state.applied + 1 {
            let detail = format!("{member:?} has applied {} and applies {first}", state.applied);
            return Err(Violation::new("applied in order", detail));
        }
        let mut index = first;
        let mut fresh = false;
        for entry in entries {
            match self.committed.get(index as usize - 1) {
                Some(known) if known.entry == entry => {}
                Some(known) => {
                    let detail = format!(
                        "at index {index} {:?} applied {:?} and {member:?} {entry:?}",
                        known.by, known.entry
                    );
                    return Err(Violation::new("state-machine safety", detail));
                }
                None if index as usize == self.committed.len() + 1 => {
                    let chain = link(self.committed.last().map_or(0, |last| last.chain), entry);
                    recognise(&mut self.known, member, index, entry, chain)?;
                    let led = self.members.get(&member).and_then(|state| state.leads);
                    self.committed.push(Committed { entry, chain, by: member, led });
                    fresh = true;
                }
                None => {
                    let detail =
                        format!("{member:?} applies {index} and nobody the {}", self.committed.len() + 1);
                    return Err(Violation::new("applied in order", detail));
                }
            }
            index += 1;
        }
        self.members.entry(member).or_default().applied = index - 1;
        if fresh { self.newest_leader_is_complete() } else { Ok(()) }
    }

    /// How many entries are known to be committed.
    pub fn commit(&self) -> u64 {
        self.committed.len() as u64
    }

    /// Up to where `member` has applied.
    pub fn applied(&self, member: NodeId) -> u64 {
        self.members.get(&member).map_or(0, |member| member.applied)
    }

    /// The entry that is committed at `index`.
    pub fn entry(&self, index: u64) -> Option<Entry> {
        Some(self.committed.get(index.checked_sub(1)? as usize)?.entry)
    }

    /// Who was elected last, and in which term.
    pub fn newest_leader(&self) -> Option<(NodeId, u64)> {
        self.elected.last_key_value().map(|(&term, &(leader, _))| (leader, term))
    }

    /// How many terms had a leader.
    pub fn elections(&self) -> usize {
        self.elected.len()
    }

    /// Whoever leads the newest term has what is committed now.
    fn newest_leader_is_complete(&self) -> Result<(), Violation> {
        match self.elected.last_key_value() {
            Some((&term, &(leader, _)))
                if self.members.get(&leader).is_some_and(|m| m.leads == Some(term)) =>
            {
                self.is_complete(leader, term)
            }
            _ => Ok(()),
        }
    }

    fn is_complete(&self, leader: NodeId, term: u64) -> Result<(), Violation> {
        let (Some(last), Some(state)) = (self.committed.last(), self.members.get(&leader)) else {
            return Ok(());
        };
        let index = self.committed.len() as u64;
        if index < state.base || state.at(index).is_some_and(|(_, chain)| chain == last.chain) {
            return Ok(());
        }
        let detail = format!(
            "{leader:?} leads term {term} with a log through {} and lacks what {:?} committed through {index}",
            state.last(),
            last.by
        );
        Err(Violation::new("leader completeness", detail))
    }

    /// What was written over: never the entries of a leader, never what is committed.
    fn replaced(&self, member: NodeId, first: u64, replaced: &[(u64, u64)]) -> Result<(), Violation> {
        let Some(state) = self.members.get(&member) else { return Ok(()) };
        for (index, &(term, chain)) in (first..).zip(replaced) {
            if state.at(index).is_some_and(|(_, now)| now == chain) {
                continue;
            }
            if let Some(leads) = state.leads {
                let detail = format!("{member:?} leads term {leads} and overwrites its entry {term}/{index}");
                return Err(Violation::new("leader append-only", detail));
            }
            // Of a leader whose term was over when the entry was committed, a member that has not heard of the later one
            // may still take what replaces it.
            let newest = state.log.last().map_or(state.base_term, |&(term, _)| term);
            let gives_up = |committed: &Committed| {
                committed.chain == chain && committed.led.is_none_or(|led| newest >= led || newest <= term)
            };
            if self.committed.get(index as usize - 1).is_some_and(gives_up) {
                let detail = format!("{member:?} gives up {term}/{index}, which is committed");
                return Err(Violation::new("committed entries stay", detail));
            }
        }
        Ok(())
    }

    /// The chain at the last entry of a snapshot: only what is committed may be in one.
    fn snapshot_chain(&self, member: NodeId, last: u64, term: u64) -> Result<u64, Violation> {
        if last == 0 {
            return Ok(0);
        }
        match self.committed.get(last as usize - 1) {
            Some(committed) if committed.entry.term == term => Ok(committed.chain),
            Some(committed) => {
                let detail = format!(
                    "{member:?} has a snapshot through {term}/{last}, but {}/{last} is committed",
                    committed.entry.term
                );
                Err(Violation::new("state-machine safety", detail))
            }
            None => {
                let detail = format!("{member:?} has a snapshot through {term}/{last}, which nobody applied");
                Err(Violation::new("state-machine safety", detail))
            }
        }
    }
}

impl Member {
    /// Up to where the log is what it was, when `replaced` stood from `first` on.
    fn agrees_through(&self, first: u64, replaced: &[(u64, u64)]) -> u64 {
        let differs = (first..).zip(replaced).find(|(index, was)| self.at(*index) != Some(**was));
        differs.map_or(u64::MAX, |(index, _)| index - 1)
    }

    /// The log begins after `last` now; it keeps what follows an equal entry there.
    fn rebase(&mut self, last: u64, term: u64, chain: u64) {
        if self.at(last).is_some_and(|(_, at)| at == chain) {
            self.log.drain(..(last - self.base) as usize);
        } else {
            self.log.clear();
            // Where the old log began to differ is not known.
            self.acknowledged = 0;
        }
        (self.base, self.base_term, self.base_chain) = (last, term, chain);
    }
}

/// Log matching (thesis §3.5): entries of one index and term have the same content and the same log before them.
fn recognise(
    known: &mut Vec<SmallVec<[(u64, u64); 1]>>,
    member: NodeId,
    index: u64,
    entry: Entry,
    chain: u64,
) -> Result<(), Violation> {
    let place = index as usize - 1;
    if known.len() <= place {
        known.resize_with(place + 1, SmallVec::new);
    }
    match known[place].iter().find(|(term, _)| *term == entry.term) {
        Some(&(_, same)) if same == chain => Ok(()),
        Some(_) => {
            let detail = format!(
                "entry {}/{index} of {member:?}, or one before it, differs from another log's",
                entry.term
            );
            Err(Violation::new("log matching", detail))
        }
        None => {
            known[place].push((entry.term, chain));
            Ok(())
        }
    }
}

/// The chain through `entry`.
const fn link(chain: u64, entry: Entry) -> u64 {
    let word = (chain ^ entry.digest).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 32) ^ entry.term).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}

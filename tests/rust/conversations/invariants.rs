//! What must hold after each command, whatever a script expects (thesis figure 3.2).

use std::collections::BTreeMap;

use coterie::id::NodeId;
use coterie::raft::{Entries, Index, Role, Term};

use super::member::{Entry, Member, one_by_one};

/// What was seen so far.
#[derive(Default)]
pub(super) struct Invariants {
    leaders: BTreeMap<Term, NodeId>,
    committed: BTreeMap<Index, Entry>,
    terms: BTreeMap<NodeId, Term>,
}

impl Invariants {
    /// State-machine safety: nobody commits another entry at an index (§3.6.3).
    pub(super) fn committed(&mut self, id: NodeId, entries: &Entries) -> Result<(), String> {
        for entry in one_by_one(entries) {
            let known = self.committed.entry(entry.index).or_insert_with(|| entry.clone());
            if *known != entry {
                return Err(format!("{id} commits {entry:?}, another has committed {known:?}"));
            }
        }
        Ok(())
    }

    /// A crash: the term that the disk has is all that is left.
    pub(super) fn restarts(&mut self, id: NodeId, term: Term) {
        self.terms.insert(id, term);
    }

    /// Election safety, leader completeness, monotone terms, log matching.
    pub(super) fn check(&mut self, members: &BTreeMap<NodeId, Member>) -> Result<(), String> {
        for (&id, member) in members {
            self.check_member(id, member)?;
        }
        let members: Vec<_> = members.iter().collect();
        for (place, one) in members.iter().enumerate() {
            for other in &members[place + 1..] {
                logs_match(*one, *other)?;
            }
        }
        Ok(())
    }

    fn check_member(&mut self, id: NodeId, member: &Member) -> Result<(), String> {
        let Some(machine) = &member.machine else { return Ok(()) };
        let before = self.terms.insert(id, machine.term()).unwrap_or_default();
        if machine.term() < before {
            return Err(format!("{id} goes back from term {before} to {}", machine.term()));
        }
        if machine.commit() > machine.last().index {
            return Err(format!("{id} has committed {} of {}", machine.commit(), machine.last()));
        }
        if machine.role() == Role::Leader {
            let leader = *self.leaders.entry(machine.term()).or_insert(id);
            if leader != id {
                return Err(format!("both {leader} and {id} lead term {}", machine.term()));
            }
            self.check_completeness(id, machine.term(), member)?;
        }
        Ok(())
    }

    fn check_completeness(&self, id: NodeId, term: Term, member: &Member) -> Result<(), String> {
        // A leader of an earlier term than the last commit may well lack it, and will find out.
        if self.committed.values().next_back().is_some_and(|last| last.term > term) {
            return Ok(());
        }
        let log = member.disk.log();
        for (index, entry) in self.committed.range(log.base.index + 1..) {
            if log.at(*index) != Some(entry) {
                return Err(format!("{id} leads term {term} without the committed {entry:?}"));
            }
        }
        Ok(())
    }
}

/// Where two logs have an entry of the same index and term, they are equal up to there (§3.5).
fn logs_match(one: (&NodeId, &Member), other: (&NodeId, &Member)) -> Result<(), String> {
    let (log, twin) = (one.1.disk.log(), other.1.disk.log());
    let common =
        log.entries.iter().rev().find(|entry| twin.at(entry.index).is_some_and(|at| at.term == entry.term));
    let Some(common) = common else { return Ok(()) };
    for entry in log.entries.iter().filter(|entry| entry.index <= common.index) {
        if twin.at(entry.index).is_some_and(|at| at != entry) {
            return Err(format!(
                "{} and {} agree on {} but not on {}",
                one.0, other.0, common.index, entry.index
            ));
        }
    }
    Ok(())
}

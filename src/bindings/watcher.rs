//! Watches any world in which Raft is spoken: what native members do and what processes in Python say they do.

use std::collections::BTreeMap;

use super::process::{Member, Said};
use crate::check::{Consensus, Violation};
use crate::id::NodeId;
use crate::protocol::{Effect, Protocol};
use crate::raft::{Event, Raft, Record, Role, Term};
use crate::sim::standard::{plain, recall};
use crate::sim::{LEADER, Seen, Watch};
use crate::time::Instant;

/// A protocol some of whose words may be Raft's.
pub(super) trait SpeaksRaft: Protocol {
    /// The record, when it is one of Raft.
    fn record(record: &Self::Record) -> Option<&Record>;
    /// The event, when it is one of Raft.
    fn event(event: &Self::Event) -> Option<&Event>;
    /// The machine, when it is a native one.
    fn machine(&self) -> Option<&Raft>;
}

impl SpeaksRaft for Raft {
    fn record(record: &Record) -> Option<&Record> {
        Some(record)
    }

    fn event(event: &Event) -> Option<&Event> {
        Some(event)
    }

    fn machine(&self) -> Option<&Raft> {
        Some(self)
    }
}

impl SpeaksRaft for Member {
    fn record(record: &Said<Record>) -> Option<&Record> {
        match record {
            Said::Native(record) => Some(record),
            Said::Value(_) => None,
        }
    }

    fn event(event: &Said<Event>) -> Option<&Event> {
        match event {
            Said::Native(event) => Some(event),
            Said::Value(_) => None,
        }
    }

    fn machine(&self) -> Option<&Raft> {
        match self {
            Self::Native(machine) => Some(machine),
            Self::Python(_) | Self::Absent => None,
        }
    }
}

/// Hands what happens to the judge of consensus.
#[derive(Default)]
pub(super) struct Watcher {
    consensus: Consensus,
    roles: BTreeMap<NodeId, (Role, Term)>,
}

impl Watcher {
    /// Who leads the latest term that has a leader.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let leaders = self.roles.iter().filter(|(_, (role, _))| *role == Role::Leader);
        leaders.max_by_key(|(_, (_, term))| *term).map(|(node, _)| *node)
    }

    fn plays(&mut self, node: NodeId, role: Role, term: Term) -> Result<(), Violation> {
        let before = self.roles.insert(node, (role, term));
        if before == Some((role, term)) {
            return Ok(());
        }
        if role == Role::Leader {
            return self.consensus.elected(node, term);
        }
        self.consensus.stepped_down(node);
        Ok(())
    }

    fn wrote(&mut self, node: NodeId, record: &Record) -> Result<(), Violation> {
        match record {
            Record::Identity { .. } | Record::HardState(_) => Ok(()),
            Record::Append(entries) => {
                entries.first().map_or(Ok(()), |first| self.consensus.appended(node, first, plain(entries)))
            }
            Record::Checkpoint(checkpoint) => {
                let base = checkpoint.base;
                self.consensus.compacted(node, base.index, base.term)?;
                let last = checkpoint.entries.last().map_or(base.index, |last| last.index);
                self.consensus.appended(node, last + 1, [])
            }
        }
    }

    fn told(&mut self, node: NodeId, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Committed(entries) => {
                entries.first().map_or(Ok(()), |first| self.consensus.committed(node, first, plain(entries)))
            }
            Event::Restore(snapshot) => {
                let last = snapshot.id.last;
                self.consensus.restored(node, last.index, last.term)
            }
            Event::Install(snapshot) => {
                let last = snapshot.id.last;
                self.consensus.installed(node, last.index, last.term)
            }
            Event::Halted(why) => Err(Violation::new("no member halts", format!("{node:?}: {why}"))),
            _ => Ok(()),
        }
    }
}

impl<P: SpeaksRaft, H> Watch<P, H> for Watcher {
    fn recovered(&mut self, _at: Instant, node: NodeId, records: &[P::Record]) -> Result<(), Violation> {
        let (base, entries) = recall(records.iter().filter_map(P::record));
        self.consensus.recovered(node, base.index, base.term, entries)
    }

    fn handled(&mut self, seen: &Seen<'_, P, H>, _effects: &[Effect<P>]) -> Result<(), Violation> {
        // What a native machine is shows before it says so.
        seen.machine.machine().map_or(Ok(()), |machine| self.plays(seen.node, machine.role(), machine.term()))
    }

    fn effect(&mut self, seen: &Seen<'_, P, H>, effect: &Effect<P>) -> Result<(), Violation> {
        match effect {
            Effect::Persist(record) | Effect::Checkpoint(record) => {
                P::record(record).map_or(Ok(()), |record| self.wrote(seen.node, record))
            }
            Effect::Notify(event) => match P::event(event) {
                Some(Event::Role { role, term, .. }) if seen.machine.machine().is_none() => {
                    self.plays(seen.node, *role, *term)
                }
                Some(event) => self.told(seen.node, event),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn target(&self, whom: NodeId) -> Option<NodeId> {
        if whom == LEADER { self.leader() } else { None }
    }

    fn crashed(&mut self, _at: Instant, node: NodeId) -> Result<(), Violation> {
        self.roles.remove(&node);
        self.consensus.crashed(node);
        Ok(())
    }
}

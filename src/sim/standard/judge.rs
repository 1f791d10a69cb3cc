//! The judge of the standard world: tells `check` what happens, in plain values.

use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use super::super::host::{Seen, Watch};
use super::super::trace::of_hash;
use super::keys::Put;
use super::{Keys, PROGRESS_BOUND};
use crate::check::{Consensus, Ended, Entry, History, OperationId, Progress, Violation};
use crate::id::{NodeId, RequestId};
use crate::protocol::Effect;
use crate::raft::{
    Answer, Entries, Error, Event, Index, Payload, Position, Raft, Record, Request, Role, Run,
};
use crate::time::Instant;

/// Hands what happens to the judges, as plain values.
#[derive(Clone, Debug)]
pub struct Judge {
    /// What Raft promises.
    pub consensus: Consensus,
    /// What clients saw.
    pub history: History,
    /// Whether something happens after the heal.
    pub progress: Progress,
    /// By request: its operation.
    asked: BTreeMap<RequestId, OperationId>,
    /// By a put's number: its operation.
    puts: BTreeMap<u64, OperationId>,
    /// Up to where the log was told to the history.
    told: Index,
    roles: BTreeMap<NodeId, (Role, u64)>,
}

impl Judge {
    /// Nothing has happened. From `whole` on a quorum is whole, and progress is expected.
    pub fn new(whole: Option<Instant>) -> Self {
        let mut progress = Progress::new(PROGRESS_BOUND);
        if let Some(whole) = whole {
            progress.expect_from(whole);
        }
        Self {
            consensus: Consensus::new(),
            history: History::new(),
            progress,
            asked: BTreeMap::new(),
            puts: BTreeMap::new(),
            told: 0,
            roles: BTreeMap::new(),
        }
    }

    fn wrote(&mut self, node: NodeId, record: &Record) -> Result<(), Violation> {
        match record {
            Record::Identity { .. } | Record::HardState(_) => Ok(()),
            Record::Append(entries) => match entries.first() {
                Some(first) => self.consensus.appended(node, first, plain(entries)),
                None => Ok(()),
            },
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
                let Some(first) = entries.first() else { return Ok(()) };
                self.consensus.committed(node, first, plain(entries))?;
                self.tell_history(entries)
            }
            Event::Restore(snapshot) | Event::Install(snapshot) => {
                let last = snapshot.id.last;
                self.consensus.installed(node, last.index, last.term)
            }
            Event::Halted(why) => Err(Violation::new("no member halts", format!("{node:?}: {why}"))),
            _ => Ok(()),
        }
    }

    /// The first member to apply an entry tells what it did.
    fn tell_history(&mut self, entries: &Entries) -> Result<(), Violation> {
        for run in entries.runs().iter().filter(|run| run.last() > self.told) {
            if let Payload::Commands(batch) = &run.payload {
                for (index, command) in
                    (run.first..).zip(batch.iter()).filter(|(index, _)| *index > self.told)
                {
                    let Some(put) = Put::from_bytes(command) else { continue };
                    let operation = self.puts.get(&put.operation).copied().unwrap_or(OperationId(u64::MAX));
                    self.history.applied(index, operation, put.key, Some(put.operation))?;
                }
            }
        }
        self.told = self.told.max(entries.last().map_or(0, |last| last.index));
        Ok(())
    }

    fn answered(
        &mut self,
        at: Instant,
        id: RequestId,
        answer: &Result<Answer, Error>,
    ) -> Result<(), Violation> {
        let Some(operation) = self.asked.remove(&id) else { return Ok(()) };
        let ended = match answer {
            Ok(Answer::Committed(position)) => {
                self.progress.made(at)?;
                Ended::Wrote { index: position.index }
            }
            // What the state is at this index is the application's; here counts that the index is fresh.
            Ok(Answer::Read(index)) => {
                let value = self.history.value_for(operation, *index);
                Ended::Read { index: *index, value }
            }
            Ok(_) | Err(Error::Unknown) => Ended::Unknown,
            Err(_) => Ended::Refused,
        };
        self.history.end(at, operation, ended)
    }

    fn plays(&mut self, node: NodeId, role: Role, term: u64) -> Result<(), Violation> {
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
}

impl Watch<Raft, Keys> for Judge {
    fn recovered(&mut self, _at: Instant, node: NodeId, records: &[Record]) -> Result<(), Violation> {
        let (base, entries) = recall(records);
        self.consensus.recovered(node, base.index, base.term, entries)
    }

    fn asked(
        &mut self,
        at: Instant,
        _node: NodeId,
        id: RequestId,
        request: &Request,
    ) -> Result<(), Violation> {
        match request {
            Request::Propose { commands, .. } => {
                if let Some(put) = commands.iter().next().and_then(Put::from_bytes) {
                    let operation = self.history.begin(at, put.key);
                    self.puts.insert(put.operation, operation);
                    self.asked.insert(id, operation);
                }
            }
            Request::Read { .. } => {
                let operation = self.history.begin(at, 0);
                self.asked.insert(id, operation);
            }
            _ => {}
        }
        Ok(())
    }

    fn handled(&mut self, seen: &Seen<'_, Raft, Keys>, _effects: &[Effect<Raft>]) -> Result<(), Violation> {
        self.plays(seen.node, seen.machine.role(), seen.machine.term())
    }

    fn effect(&mut self, seen: &Seen<'_, Raft, Keys>, effect: &Effect<Raft>) -> Result<(), Violation> {
        match effect {
            Effect::Persist(record) | Effect::Checkpoint(record) => self.wrote(seen.node, record),
            Effect::Notify(event) => self.told(seen.node, event),
            Effect::Answer(id, answer) => self.answered(seen.at, *id, answer),
            _ => Ok(()),
        }
    }

    fn crashed(&mut self, _at: Instant, node: NodeId) -> Result<(), Violation> {
        self.roles.remove(&node);
        self.consensus.crashed(node);
        Ok(())
    }
}

/// The log that these records hold: the entry before its first, and its entries.
pub fn recall<'a>(records: impl IntoIterator<Item = &'a Record>) -> (Position, Vec<Entry>) {
    let (mut base, mut log) = (Position::default(), Vec::new());
    for record in records {
        match record {
            Record::Identity { .. } | Record::HardState(_) => {}
            Record::Append(entries) => {
                let first = entries.first().unwrap_or(base.index + 1);
                log.truncate(first.saturating_sub(base.index + 1) as usize);
                log.extend(plain(entries));
            }
            Record::Checkpoint(checkpoint) => {
                base = checkpoint.base;
                log = plain(&checkpoint.entries).collect();
            }
        }
    }
    (base, log)
}

/// Entries as a judge takes them.
pub fn plain(entries: &Entries) -> impl Iterator<Item = Entry> + '_ {
    entries.runs().iter().flat_map(|run: &Arc<Run>| {
        let term = run.term;
        let single = match &run.payload {
            Payload::Blank => Some(1),
            Payload::Membership(membership) => Some(of_hash(membership)),
            Payload::Commands(_) => None,
        };
        let commands = match &run.payload {
            Payload::Commands(batch) => Some(batch.iter().map(xxh3_64)),
            _ => None,
        };
        single.into_iter().chain(commands.into_iter().flatten()).map(move |digest| Entry { term, digest })
    })
}

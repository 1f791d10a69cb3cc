//! The judge of the standard world: tells `check` what happens, in plain values.

use std::collections::BTreeMap;

use super::super::host::{Seen, Watch};
use super::keys::Put;
use super::raft::RaftJudge;
use super::{Keys, PROGRESS_BOUND};
use crate::check::{Ended, History, OperationId, Progress, Violation};
use crate::id::{NodeId, RequestId};
use crate::protocol::Effect;
use crate::raft::{Answer, Entries, Error, Event, Index, Message, Payload, Raft, Record, Request};
use crate::time::Instant;

/// Hands what happens to the judges, as plain values.
#[derive(Clone, Debug)]
pub struct Judge {
    /// What Raft promises.
    pub raft: RaftJudge,
    /// What clients saw.
    pub history: History,
    /// Whether something happens after the heal.
    pub progress: Progress,
    /// By request: its operation.
    asked: BTreeMap<RequestId, OperationId>,
    /// By member: reads that it was told to serve once it has applied an index.
    reads: BTreeMap<NodeId, Vec<(Index, OperationId)>>,
    /// By a put's number: its operation.
    puts: BTreeMap<u64, OperationId>,
    /// Up to where the log was told to the history.
    told: Index,
}

impl Judge {
    /// Nothing has happened. From `whole` on a quorum is whole, and progress is expected.
    pub fn new(whole: Option<Instant>) -> Self {
        let mut progress = Progress::new(PROGRESS_BOUND);
        if let Some(whole) = whole {
            progress.expect_from(whole);
        }
        Self {
            raft: RaftJudge::default(),
            history: History::new(),
            progress,
            asked: BTreeMap::new(),
            reads: BTreeMap::new(),
            puts: BTreeMap::new(),
            told: 0,
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
        node: NodeId,
        id: RequestId,
        answer: &Result<Answer, Error>,
    ) -> Result<(), Violation> {
        let Some(operation) = self.asked.remove(&id) else { return Ok(()) };
        let ended = match answer {
            Ok(Answer::Committed(position)) => {
                self.progress.made(at)?;
                Ended::Wrote { index: position.index }
            }
            // It is served when the member has applied so much.
            Ok(Answer::Read(index)) => {
                self.reads.entry(node).or_default().push((*index, operation));
                return self.serve_reads(at, node);
            }
            Ok(_) | Err(Error::Unknown) => Ended::Unknown,
            Err(_) => Ended::Refused,
        };
        self.history.end(at, operation, ended)
    }

    /// Serves the reads for which `node` has applied enough. What the state is there is the application's; here counts
    /// that it is fresh.
    fn serve_reads(&mut self, at: Instant, node: NodeId) -> Result<(), Violation> {
        let applied = self.raft.consensus.applied(node);
        let Some(waiting) = self.reads.get_mut(&node).filter(|waiting| !waiting.is_empty()) else {
            return Ok(());
        };
        let mut verdict = Ok(());
        waiting.retain(|&(index, operation)| {
            if index > applied || verdict.is_err() {
                return true;
            }
            let value = self.history.value_for(operation, index);
            verdict = self.history.end(at, operation, Ended::Read { index, value });
            false
        });
        verdict
    }
}

impl Watch<Raft, Keys> for Judge {
    fn recovered(&mut self, _at: Instant, node: NodeId, records: &[Record]) -> Result<(), Violation> {
        self.raft.recovered(node, records)
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
                if let Some(put) = commands.iter().find_map(Put::from_bytes) {
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
        self.raft.handled(seen)
    }

    fn effect(&mut self, seen: &Seen<'_, Raft, Keys>, effect: &Effect<Raft>) -> Result<(), Violation> {
        self.raft.effect(seen, effect)?;
        match effect {
            Effect::Notify(Event::Committed(entries)) => {
                self.tell_history(entries)?;
                self.serve_reads(seen.at, seen.node)
            }
            Effect::Notify(_) => self.serve_reads(seen.at, seen.node),
            Effect::Answer(id, answer) => self.answered(seen.at, seen.node, *id, answer),
            _ => Ok(()),
        }
    }

    fn promised(
        &mut self,
        seen: &Seen<'_, Raft, Keys>,
        to: NodeId,
        message: &Message,
    ) -> Result<(), Violation> {
        self.raft.promised(seen, to, message)
    }

    fn target(&self, whom: NodeId) -> Option<NodeId> {
        self.raft.target(whom)
    }

    fn crashed(&mut self, _at: Instant, node: NodeId) -> Result<(), Violation> {
        // Nobody serves these any more.
        self.reads.remove(&node);
        self.raft.crashed(node);
        Ok(())
    }
}

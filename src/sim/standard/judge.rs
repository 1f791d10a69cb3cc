//! The judge of the standard world: tells `check` what happens, in plain values.

use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use super::super::faults::VOTER;
use super::super::host::{Seen, Watch};
use super::super::trace::of_hash;
use super::keys::Put;
use super::{Keys, PROGRESS_BOUND};
use crate::check::{Consensus, Ended, Entry, History, Leases, OperationId, Progress, Violation, Votes};
use crate::id::{NodeId, RequestId};
use crate::protocol::Effect;
use crate::raft::{
    Answer, Entries, Error, Event, HardState, Index, Message, Payload, Position, Raft, Record, Request, Role,
    Run, Term,
};
use crate::time::Instant;

/// Hands what happens to the judges, as plain values.
#[derive(Clone, Debug)]
pub struct Judge {
    /// What Raft promises.
    pub consensus: Consensus,
    /// To whom members have given their votes.
    pub votes: Votes,
    /// Who has promised to vote for nobody, and who counts on it.
    pub leases: Leases,
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
    roles: BTreeMap<NodeId, Part>,
    /// By member: the entry that set its membership.
    changed: BTreeMap<NodeId, Index>,
}

/// What a member was when it was last seen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    role: Role,
    term: Term,
    commit: Index,
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
            votes: Votes::new(),
            leases: Leases::new(),
            history: History::new(),
            progress,
            asked: BTreeMap::new(),
            reads: BTreeMap::new(),
            puts: BTreeMap::new(),
            told: 0,
            roles: BTreeMap::new(),
            changed: BTreeMap::new(),
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
            Event::Restore(snapshot) => {
                let last = snapshot.id.last;
                self.consensus.restored(node, last.index, last.term)
            }
            Event::Install(snapshot) => {
                let last = snapshot.id.last;
                self.consensus.installed(node, last.index, last.term)
            }
            Event::Membership(index, _) => {
                self.changed.insert(node, *index);
                Ok(())
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
        let applied = self.consensus.applied(node);
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

    fn plays(&mut self, at: Instant, node: NodeId, machine: &Raft) -> Result<(), Violation> {
        let (role, term, commit) = (machine.role(), machine.term(), machine.commit());
        let before = self.roles.insert(node, Part { role, term, commit });
        let stays = before.is_some_and(|before| before.role == role && before.term == term);
        if role != Role::Leader {
            if before.is_some_and(|before| before.role == Role::Leader) {
                self.leases.counts_on_none(node);
            }
            if !stays {
                self.consensus.stepped_down(node);
            }
            return Ok(());
        }
        if !stays {
            self.consensus.elected(node, term)?;
            self.leases.elected(node, term, at)?;
        } else if before.is_some_and(|before| before.commit < commit) {
            // Its log is known up to what it appended before: what a quorum stores is in there.
            self.consensus.counted(node, commit)?;
        }
        self.counts(at, node, machine)
    }

    /// What a leader counts on, and what was promised.
    fn counts(&mut self, at: Instant, node: NodeId, machine: &Raft) -> Result<(), Violation> {
        let Some(left) = machine.lease_left() else {
            if machine.settings().lease.is_some() {
                self.leases.counts_on_none(node);
            }
            return Ok(());
        };
        let until = |voter| if voter == node { Instant::NEVER } else { self.leases.promised_until(voter) };
        let promised = machine.membership().reached(until).unwrap_or(Instant::NEVER);
        self.leases.counts(node, machine.term(), at, left, promised)
    }

    /// A message leaves. What it promises must never be forgotten.
    fn said(
        &mut self,
        at: Instant,
        node: NodeId,
        machine: &Raft,
        to: NodeId,
        message: &Message,
    ) -> Result<(), Violation> {
        match *message {
            Message::Vote { term, granted: true } => self.votes.voted(node, term, to),
            Message::RequestVote { term, .. } => self.votes.voted(node, term, node),
            // What it wrote for a later leader may have replaced this.
            Message::Appended { term, matched: index, .. } | Message::Stored { term, last: index }
                if term == machine.term() =>
            {
                self.consensus.acknowledged(node, index);
                Ok(())
            }
            Message::Heard { term, beat, lease: true } => {
                if let Some(lease) = machine.settings().lease {
                    self.leases.granted(node, at, (term, beat.round), lease.length, lease.drift);
                }
                Ok(())
            }
            Message::TimeoutNow { term, round } => {
                self.leases.given_back(term, round);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A vote is given, though it may not have left yet.
    fn gives(&self, at: Instant, node: NodeId, message: &Message) -> Result<(), Violation> {
        match message {
            Message::Vote { granted: true, .. } | Message::RequestVote { .. } => self.leases.voted(node, at),
            _ => Ok(()),
        }
    }

    /// A leader's new membership follows one that is committed.
    fn changes(&self, node: NodeId, machine: &Raft, entries: &Entries) -> Result<(), Violation> {
        let own =
            |run: &Arc<Run>| matches!(run.payload, Payload::Membership(_)) && run.term == machine.term();
        if machine.role() == Role::Leader && entries.runs().iter().any(own) {
            let before = self.changed.get(&node).copied().unwrap_or(0);
            return self.consensus.changes(node, before, machine.commit());
        }
        Ok(())
    }
}

impl Watch<Raft, Keys> for Judge {
    fn recovered(&mut self, _at: Instant, node: NodeId, records: &[Record]) -> Result<(), Violation> {
        let (base, entries) = recall(records);
        let hard = hard_state(records);
        self.votes.recovered(node, hard.term, hard.vote)?;
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
        self.plays(seen.at, seen.node, seen.machine)
    }

    fn effect(&mut self, seen: &Seen<'_, Raft, Keys>, effect: &Effect<Raft>) -> Result<(), Violation> {
        match effect {
            Effect::Persist(record) | Effect::Checkpoint(record) => {
                if let Record::Append(entries) = record {
                    self.changes(seen.node, seen.machine, entries)?;
                }
                self.wrote(seen.node, record)
            }
            Effect::Send(to, message) => {
                self.gives(seen.at, seen.node, message)?;
                self.said(seen.at, seen.node, seen.machine, *to, message)
            }
            Effect::Promise(_, message) => self.gives(seen.at, seen.node, message),
            Effect::Notify(event) => {
                self.told(seen.node, event)?;
                self.serve_reads(seen.at, seen.node)
            }
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
        self.said(seen.at, seen.node, seen.machine, to, message)
    }

    fn target(&self, whom: NodeId) -> Option<NodeId> {
        if whom == VOTER {
            return self.votes.latest();
        }
        let leaders = self.roles.iter().filter(|(_, part)| part.role == Role::Leader);
        leaders.max_by_key(|(_, part)| part.term).map(|(node, _)| *node)
    }

    fn crashed(&mut self, _at: Instant, node: NodeId) -> Result<(), Violation> {
        self.roles.remove(&node);
        // Nobody serves these any more.
        self.reads.remove(&node);
        self.consensus.crashed(node);
        Ok(())
    }
}

/// The last term and vote that these records hold.
fn hard_state(records: &[Record]) -> HardState {
    let hard = |record: &Record| match record {
        Record::HardState(hard) => Some(*hard),
        Record::Checkpoint(checkpoint) => Some(checkpoint.hard),
        _ => None,
    };
    records.iter().rev().find_map(hard).unwrap_or_default()
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

//! The judge of a replicated world: all that a bare Raft is held to, and what clients were promised.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

use super::super::super::clients::Clients;
use super::super::super::faults::Plan;
use super::super::super::host::{Host, Seen, Watch};
use super::super::raft::RaftJudge;
use super::model::{self, CommandName, Effect, Model};
use super::{Applies, Replicates, heals};
use crate::check::{Ended, History, OperationId, Progress, Violation};
use crate::id::{NodeId, RequestId};
use crate::protocol;
use crate::raft::{Entries, Index, Payload, Record};
use crate::replica::{Answer, Consistency, Error, Event, OperationResult, Request, SessionId};
use crate::time::Instant;
use crate::wire::{Decode, Encode, VERSION};

/// Hands what happens to the judges, as plain values, and holds each answer and each member's state to what the log
/// means.
#[derive(Clone, Debug)]
pub struct Judge {
    /// What Raft promises.
    pub raft: RaftJudge,
    /// What clients saw.
    pub history: History,
    /// Whether something happens after the heal.
    pub progress: Progress,
    model: Model,
    commands: Vec<Command>,
    names: BTreeMap<CommandName, usize>,
    /// What is not yet answered.
    asked: BTreeMap<RequestId, Asked>,
    members: BTreeMap<NodeId, Member>,
    /// By index: a digest of the sessions in a snapshot there.
    sessions: BTreeMap<Index, u64>,
    /// Who is whole in the end; nobody named: everybody.
    core: Vec<NodeId>,
    /// How long an answer may take when all is whole.
    patience: Duration,
    counts: Counts,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that were asked more than once.
    pub retried: u64,
    /// Entries that a session recognised, or refused.
    pub repeated: u64,
    /// Stale reads.
    pub stale_reads: u64,
    /// Sessions given to clients.
    pub sessions: u64,
    /// Answers that a session had gone.
    pub expired: u64,
    /// Comparisons of a member's state with what the log means.
    pub states: u64,
}

/// A command of a client, however often it was asked.
#[derive(Clone, Debug)]
struct Command {
    operation: OperationId,
    /// How many askings wait for their answers.
    waiting: u32,
    /// Some asking ended without saying what became of it.
    unknown: bool,
    acknowledged: bool,
    /// Where it took effect, and the digest of what it gave.
    applied: Option<(Index, u64)>,
}

#[derive(Clone, Debug)]
struct Asked {
    node: NodeId,
    at: Instant,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Command(usize, Option<SessionId>),
    Read(OperationId),
    /// The key, and what the member had applied.
    StaleRead(u64, Index),
    Open,
    Close(SessionId),
    Order,
}

/// A member that is alive.
#[derive(Clone, Debug, Default)]
struct Member {
    /// What its application had applied when it was last looked at.
    applied: Index,
    /// It takes a snapshot: its sessions are to be compared.
    restoring: bool,
}

impl Judge {
    pub(super) fn new(clients: &Clients, plan: &Plan, live: bool, bound: Duration) -> Self {
        let mut progress = Progress::new(bound);
        let (from, core) = heals(plan);
        if let Some(from) = from.filter(|_| live && clients.rate > 0.0 && clients.count > 0) {
            progress.expect_from(Instant::ZERO + from);
        }
        Self {
            raft: RaftJudge::default(),
            history: History::new(),
            progress,
            model: Model::new(),
            commands: Vec::new(),
            names: BTreeMap::new(),
            asked: BTreeMap::new(),
            members: BTreeMap::new(),
            sessions: BTreeMap::new(),
            core,
            patience: clients.timeout * 2 + Duration::from_secs(4),
            counts: Counts::default(),
        }
    }

    /// What was judged beside the history.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// A last word: there was progress, and whoever asked a member that is whole was answered.
    pub fn finish(&self, now: Instant) -> Result<(), Violation> {
        self.progress.check(now)?;
        let whole = |node: NodeId| self.core.is_empty() || self.core.contains(&node);
        let hangs = self.asked.iter().find(|(_, asked)| whole(asked.node) && now - asked.at > self.patience);
        match hangs {
            Some((id, asked)) => {
                let detail =
                    format!("{id:?} waits at {:?} since {:?}: {:?}", asked.node, asked.at, asked.what);
                Err(Violation::new("answered by its deadline", detail))
            }
            None => Ok(()),
        }
    }
}

/// Questions.
impl Judge {
    /// What is asked, and whether somebody is there to hear it.
    fn classify(&mut self, at: Instant, node: NodeId, request: &Request) -> Option<What> {
        let there = self.members.get(&node).map(|member| member.applied);
        Some(match request {
            Request::Command { session, command, .. } => {
                let (key, tag, _) = model::read(command)?;
                let name = session.map(|stamp| CommandName::Stamped(stamp.session, stamp.sequence));
                let place = self.command(at, name.or(tag.map(CommandName::Tagged))?, key);
                let command = &mut self.commands[place];
                command.waiting += u32::from(there.is_some());
                command.unknown |= there.is_none();
                What::Command(place, session.map(|stamp| stamp.session))
            }
            Request::Query { query, consistency, .. } => {
                let (key, ..) = model::read(query)?;
                match consistency {
                    Consistency::Stale => What::StaleRead(key, there.unwrap_or_default()),
                    _ => What::Read(self.history.begin(at, key)),
                }
            }
            Request::OpenSession { .. } => What::Open,
            Request::CloseSession { session, .. } => What::Close(*session),
            Request::Change { .. } | Request::Transfer { .. } => What::Order,
            _ => return None,
        })
    }

    fn command(&mut self, at: Instant, name: CommandName, key: u64) -> usize {
        if let Some(&place) = self.names.get(&name) {
            self.counts.retried += 1;
            return place;
        }
        let operation = self.history.begin(at, key);
        let command = Command { operation, waiting: 0, unknown: false, acknowledged: false, applied: None };
        self.commands.push(command);
        let place = self.commands.len() - 1;
        self.names.insert(name, place);
        place
    }
}

/// The log and the states.
impl Judge {
    fn told<H: Applies>(&mut self, node: NodeId, host: &H, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Apply { entries, .. } => self.advance(entries),
            Event::MakeSnapshot => self.sessions_agree(node, host),
            Event::Restore(_) | Event::Install(_) => {
                self.members.entry(node).or_default().restoring = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The first member to apply an entry tells what stood there.
    fn advance(&mut self, entries: &Entries) -> Result<(), Violation> {
        for run in entries.runs() {
            if run.last() <= self.model.last() {
                continue;
            }
            let known = self.model.last().saturating_sub(run.first - 1) as usize;
            match &run.payload {
                Payload::Commands(batch) => {
                    for command in batch.iter().skip(known) {
                        self.apply(command)?;
                    }
                }
                Payload::Blank | Payload::Membership(_) => self.model.skip(),
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: &[u8]) -> Result<(), Violation> {
        let effect = self.model.apply(entry);
        let index = self.model.last();
        let (name, key, result) = match effect {
            Effect::Applied { name, key, result } => (name, key, result),
            Effect::Nothing => {
                self.counts.repeated += 1;
                return Ok(());
            }
            Effect::Foreign => {
                return Err(Violation::new("no phantom", format!("nobody asked for the entry at {index}")));
            }
        };
        let Some(&place) = self.names.get(&name) else {
            return Err(Violation::new("no phantom", format!("{name:?} at {index} was never asked")));
        };
        let command = &mut self.commands[place];
        self.history.applied(index, command.operation, key, self.model.value(key))?;
        command.applied = Some((index, result));
        command.refused()
    }

    /// A member's state is what the log means, at every index at which it is seen.
    fn state_agrees<H: Applies>(&mut self, node: NodeId, host: &H) -> Result<(), Violation> {
        let index = host.applied().index;
        let member = self.members.entry(node).or_default();
        if index == member.applied {
            return Ok(());
        }
        member.applied = index;
        let restoring = std::mem::take(&mut member.restoring);
        self.counts.states += 1;
        if self.model.digest(index) != Some(model::digest(host.values())) {
            let detail = format!("the state of {node:?} at {index} is not what the log says");
            return Err(Violation::new("state-machine safety", detail));
        }
        if restoring && self.sessions.contains_key(&index) { self.sessions_agree(node, host) } else { Ok(()) }
    }

    /// All that make or take a snapshot at an index have the same sessions.
    fn sessions_agree<H: Applies>(&mut self, node: NodeId, host: &H) -> Result<(), Violation> {
        let index = host.applied().index;
        let digest = xxh3_64(&host.sessions().to_bytes());
        if *self.sessions.entry(index).or_insert(digest) == digest {
            return Ok(());
        }
        let detail = format!("the sessions of {node:?} at {index} are not those of another");
        Err(Violation::new("state-machine safety", detail))
    }
}

/// Answers.
impl Judge {
    fn answered(
        &mut self,
        at: Instant,
        id: RequestId,
        through: Index,
        answer: &Result<Answer, Error>,
    ) -> Result<(), Violation> {
        let Some(asked) = self.asked.remove(&id) else { return Ok(()) };
        match (asked.what, answer) {
            (What::Command(place, session), answer) => self.commanded(at, place, session, answer),
            (What::Read(operation), Ok(Answer::Queried(result))) => {
                let value = value_of(id, result)?;
                self.history.end(at, operation, Ended::Saw { through, value })
            }
            (What::Read(operation), _) => self.history.end(at, operation, Ended::Unknown),
            (What::StaleRead(key, from), Ok(Answer::Queried(result))) => {
                self.counts.stale_reads += 1;
                let value = value_of(id, result)?;
                if self.history.seen(key, value, from, through).is_some() {
                    return Ok(());
                }
                let detail = format!("{id:?} saw key {key} as it never was from {from} to {through}");
                Err(Violation::new("stale reads are of what was", detail))
            }
            (What::Open, Ok(Answer::Session(session))) => {
                self.counts.sessions += 1;
                if self.model.give(*session) {
                    return Ok(());
                }
                let detail = format!("{id:?} was given {session}, which another has or nobody opened");
                Err(Violation::new("a session is one client's", detail))
            }
            (What::Close(session), Ok(_)) if self.model.is_open(session) => {
                Err(Violation::new("a closed session is closed", format!("{id:?} closed {session}")))
            }
            _ => Ok(()),
        }
    }

    fn commanded(
        &mut self,
        at: Instant,
        place: usize,
        session: Option<SessionId>,
        answer: &Result<Answer, Error>,
    ) -> Result<(), Violation> {
        let command = &mut self.commands[place];
        command.waiting -= 1;
        match answer {
            Ok(Answer::Result { index, result }) => {
                self.progress.made(at)?;
                if !std::mem::replace(&mut command.acknowledged, true) {
                    self.history.end(at, command.operation, Ended::Wrote { index: *index })?;
                }
                command.gave(*index, result)
            }
            Err(Error::Unknown) => {
                command.unknown = true;
                Ok(())
            }
            Ok(other) => Err(Violation::new("answers fit their questions", format!("{other:?}"))),
            Err(error) => {
                command.refused()?;
                if *error != Error::SessionExpired {
                    return Ok(());
                }
                self.counts.expired += 1;
                match session.filter(|session| self.model.is_open(*session)) {
                    Some(session) => Err(Violation::new(
                        "a session that has expired is gone",
                        format!("{session} is open"),
                    )),
                    None => Ok(()),
                }
            }
        }
    }

    /// A life has ended: what was asked there may have happened.
    fn forget(&mut self, node: NodeId) {
        let commands = &mut self.commands;
        self.asked.retain(|_, asked| {
            if asked.node != node {
                return true;
            }
            if let What::Command(place, _) = asked.what {
                commands[place].waiting -= 1;
                commands[place].unknown = true;
            }
            false
        });
    }
}

impl Command {
    /// When every asking was refused, nothing has happened and nothing will, until somebody asks again.
    fn refused(&self) -> Result<(), Violation> {
        let refused = self.waiting == 0 && !self.unknown && !self.acknowledged;
        match self.applied {
            Some((index, _)) if refused => {
                let detail = format!("{:?} at {index}", self.operation);
                Err(Violation::new("refused is refused", detail))
            }
            _ => Ok(()),
        }
    }

    /// However often it is asked, the answer is what it gave where it took effect.
    fn gave(&self, index: Index, result: &Bytes) -> Result<(), Violation> {
        if self.applied == Some((index, xxh3_64(result))) {
            return Ok(());
        }
        let detail = format!(
            "{:?} was answered {result:?} at {index}; it took effect {:?}",
            self.operation, self.applied
        );
        Err(Violation::new("results are the log's", detail))
    }
}

/// The digest of what a query saw.
fn value_of(id: RequestId, result: &Bytes) -> Result<Option<u64>, Violation> {
    match OperationResult::from_bytes(result.clone(), VERSION) {
        Ok(OperationResult::Value(value)) => Ok(value.map(|value| xxh3_64(&value))),
        other => Err(Violation::new("answers fit their questions", format!("{id:?}: {other:?}"))),
    }
}

impl<P: Replicates, H: Host<P> + Applies> Watch<P, H> for Judge {
    fn recovered(&mut self, _at: Instant, node: NodeId, records: &[Record]) -> Result<(), Violation> {
        self.members.insert(node, Member::default());
        self.raft.recovered(node, records)
    }

    fn asked(
        &mut self,
        at: Instant,
        node: NodeId,
        id: RequestId,
        request: &Request,
    ) -> Result<(), Violation> {
        if let Some(what) = self.classify(at, node, request)
            && self.members.contains_key(&node)
        {
            self.asked.insert(id, Asked { node, at, what });
        }
        Ok(())
    }

    fn handled(&mut self, seen: &Seen<'_, P, H>, _effects: &[protocol::Effect<P>]) -> Result<(), Violation> {
        self.raft.handled(seen)?;
        self.state_agrees(seen.node, seen.host)
    }

    fn effect(&mut self, seen: &Seen<'_, P, H>, effect: &protocol::Effect<P>) -> Result<(), Violation> {
        self.raft.effect(seen, effect)?;
        match effect {
            protocol::Effect::Notify(event) => self.told(seen.node, seen.host, event),
            protocol::Effect::Answer(id, answer) => {
                self.answered(seen.at, *id, seen.host.applied().index, answer)
            }
            _ => Ok(()),
        }
    }

    fn promised(&mut self, seen: &Seen<'_, P, H>, to: NodeId, message: &P::Message) -> Result<(), Violation> {
        self.raft.promised(seen, to, message)
    }

    fn target(&self, whom: NodeId) -> Option<NodeId> {
        self.raft.target(whom)
    }

    fn crashed(&mut self, _at: Instant, node: NodeId) -> Result<(), Violation> {
        self.members.remove(&node);
        self.forget(node);
        self.raft.crashed(node);
        Ok(())
    }
}

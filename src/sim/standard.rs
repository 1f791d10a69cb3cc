//! The standard world: a Raft that keeps a few keys, clients that ask it, faults by swarm, and all invariants.
//!
//! Five members, three clients, ten keys, a hundred operations a second in all; each kind of fault and of operation
//! is on or off by the seed. At the horizon a drawn quorum heals for good, the rest stays broken, and the quorum must
//! make progress.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

use super::faults::{Kind, Swarm};
use super::host::{Asks, Host, Load, Seen, Watch};
use super::latency::Latency;
use super::settings::Settings;
use super::trace::{Digest, Fingerprint, of_hash};
use super::world::{Failure, World};
use crate::check::{Consensus, Ended, Entry, History, OperationId, Progress, Violation};
use crate::id::{NodeId, RequestId};
use crate::protocol::{Application, Effect};
use crate::raft::{
    Answer, Batch, Change, Entries, Error, Event, Index, Lease, Membership, Message, Payload, Position, Raft,
    Record, Request, Role, Run, Snapshot, SnapshotId, Timer, WEIGHT,
};
use crate::random::{Random, mix};
use crate::time::Instant;

/// How long faults keep coming.
pub const HORIZON: Duration = Duration::from_secs(50);
/// How long the healed quorum is watched after that.
pub const EPILOGUE: Duration = Duration::from_secs(10);
/// How long the healed quorum may go without an acknowledged write.
pub const PROGRESS_BOUND: Duration = Duration::from_secs(6);

/// The world of the standard.
pub type Standard = World<Raft, Keys, Judge, Clients>;

/// What differs from seed to seed, and may be changed before the world is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The world: its seed, network, disks, clocks and faults.
    pub world: Settings,
    /// The members.
    pub raft: crate::raft::Settings,
    /// Who asks.
    pub clients: Workload,
}

/// What clients ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// How many clients; each has one operation under way.
    pub count: u64,
    /// The mean wait between a client's operations.
    pub interval: Duration,
    /// How many keys.
    pub keys: u64,
    /// After how long a client gives up on an answer, and asks somebody else something else.
    pub timeout: Duration,
    /// The share of reads, in thousandths.
    pub reads: u64,
    /// Whether leadership is handed about.
    pub transfers: bool,
    /// Whether members are demoted and promoted again.
    pub changes: bool,
    /// When transfers and changes end.
    pub until: Duration,
}

impl Scenario {
    /// The scenario of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(mix(seed ^ 0x7374_616e_6461_7264));
        let members = 5;
        let mut world = Settings::new(seed, members);
        let lease = (random.below(3) == 0).then(Lease::default);
        let raft = crate::raft::Settings {
            cluster: 1,
            snapshot_log_entries: 200 + random.below(300),
            retained_entries: random.below(100),
            chunk_bytes: 64 + random.below(512) as usize,
            // A lease of 30 ms wants beats three times as often.
            heartbeat_interval: Duration::from_millis(if lease.is_some() { 10 } else { 50 }),
            lease,
            ..crate::raft::Settings::default()
        };
        world.network.fifo = random.below(2) == 0;
        // Worlds differ in their tempo, too: what one never meets is common in another.
        let ms = Duration::from_millis;
        let pick = |random: &mut Random, of: [u64; 4]| of[random.below(4) as usize];
        let sync = Duration::from_micros(pick(&mut random, [100, 1_000, 5_000, 20_000]));
        world.disk.sync = Latency::new(sync / 4, sync);
        let latency = Duration::from_micros(pick(&mut random, [50, 200, 2_000, 10_000]));
        world.network.latency = Latency::new(latency, latency);
        let mut swarm = Swarm::new(members, HORIZON);
        swarm.interval = ms(pick(&mut random, [500, 1_500, 4_000, 8_000]));
        swarm.length = ms(pick(&mut random, [30, 200, 800, 2_000]));
        world.faults = swarm.draw(random.word());
        let clients = Workload {
            count: 3,
            interval: Duration::from_millis(30),
            keys: 10,
            timeout: Duration::from_millis(500),
            reads: 500,
            transfers: random.below(2) == 0,
            changes: random.below(2) == 0,
            until: HORIZON,
        };
        if clients.changes {
            // Which quorum would be one is not known beforehand, so everybody heals.
            for fault in &mut world.faults.faults {
                if let Kind::Heal { core } = &mut fault.kind {
                    core.clear();
                }
            }
        }
        Self { world, raft, clients }
    }

    /// The world itself.
    ///
    /// # Panics
    ///
    /// When the Raft settings cannot work.
    pub fn build(self) -> Standard {
        let raft = self.raft.clone();
        let factory = move |id| Raft::new(id, raft.clone()).expect("settings that work");
        let clients = Clients::new(&self);
        World::with(self.world, factory, Judge::new(Some(Instant::ZERO + HORIZON)), clients)
    }
}

/// Runs the standard world of `seed` to its end.
pub fn run(seed: u64) -> Result<Standard, Failure> {
    run_scenario(Scenario::new(seed))
}

/// Runs a world like it to its end.
pub fn run_scenario(scenario: Scenario) -> Result<Standard, Failure> {
    let mut world = scenario.build();
    finish(&mut world)?;
    Ok(world)
}

/// Runs a standard world from its beginning to its end, and judges its liveness.
pub fn finish(world: &mut Standard) -> Result<(), Failure> {
    world.run(HORIZON + EPILOGUE)?;
    world.finish(|judge, now| judge.progress.check(now))
}

// --- The state -------------------------------------------------------------------------------------------------

/// A command: `operation` sets `key` to its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Put {
    operation: u64,
    key: u64,
}

impl Put {
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.operation.to_le_bytes());
        bytes[8..].copy_from_slice(&self.key.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (operation, key) = bytes.split_first_chunk::<8>()?;
        let key = key.first_chunk::<8>()?;
        Some(Self { operation: u64::from_le_bytes(*operation), key: u64::from_le_bytes(*key) })
    }
}

/// The replicated state: the last operation on each key; with the snapshots that are on its disk.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    id: NodeId,
    values: BTreeMap<u64, u64>,
    applied: Position,
    shelf: Shelf,
}

/// What is on the disk of a [`Keys`]: snapshots, whole and in parts.
pub type Shelf = BTreeMap<SnapshotId, Vec<u8>>;

impl Keys {
    /// The value of `key`.
    pub fn value(&self, key: u64) -> Option<u64> {
        self.values.get(&key).copied()
    }

    /// The last entry that was applied.
    pub const fn applied(&self) -> Position {
        self.applied
    }

    fn apply(&mut self, entries: &Entries) {
        for run in entries.runs() {
            if let Payload::Commands(batch) = &run.payload {
                let puts = batch.iter().filter_map(Put::from_bytes);
                self.values.extend(puts.map(|put| (put.key, put.operation)));
            }
        }
        self.applied = entries.last().unwrap_or(self.applied);
    }

    fn restore(&mut self, snapshot: &Snapshot) {
        let bytes = self.shelf.get(&snapshot.id).map_or(&[][..], Vec::as_slice);
        self.values =
            bytes.chunks_exact(16).filter_map(Put::from_bytes).map(|put| (put.key, put.operation)).collect();
        self.applied = snapshot.id.last;
    }

    fn make_snapshot(&mut self) -> Request {
        let puts = self.values.iter().map(|(&key, &operation)| Put { operation, key });
        let bytes: Vec<u8> = puts.flat_map(Put::to_bytes).collect();
        let length = bytes.len() as u64;
        self.shelf.insert(SnapshotId { last: self.applied, by: self.id }, bytes);
        Request::Snapshotted { last: self.applied.index, length }
    }

    fn write(&mut self, snapshot: SnapshotId, offset: u64, data: &[u8]) -> Request {
        let there = self.shelf.entry(snapshot).or_default();
        if offset == there.len() as u64 {
            there.extend_from_slice(data);
        }
        Request::Written { snapshot, offset: there.len() as u64 }
    }

    fn read(&self, snapshot: SnapshotId, offset: u64, length: u64, to: NodeId) -> Request {
        let range = offset as usize..offset.saturating_add(length) as usize;
        let data = self.shelf.get(&snapshot).and_then(|bytes| bytes.get(range)).map(Bytes::copy_from_slice);
        Request::Chunk { snapshot, offset, to, data }
    }
}

impl Application<Raft> for Keys {
    fn hear(&mut self, event: Event) -> Vec<Request> {
        match event {
            Event::Committed(entries) => self.apply(&entries),
            Event::Restore(snapshot) | Event::Install(snapshot) => self.restore(&snapshot),
            Event::MakeSnapshot => return vec![self.make_snapshot()],
            Event::Write { snapshot, offset, data } => return vec![self.write(snapshot.id, offset, &data)],
            Event::Read { snapshot, offset, length, to } => {
                return vec![self.read(snapshot, offset, length, to)];
            }
            Event::Discard(snapshot) => {
                self.shelf.remove(&snapshot);
            }
            _ => {}
        }
        Vec::new()
    }
}

impl Host<Raft> for Keys {
    type Disk = Shelf;

    fn open(id: NodeId, shelf: Shelf) -> Self {
        Self { id, shelf, ..Self::default() }
    }

    fn crash(self, _random: &mut Random) -> Shelf {
        self.shelf
    }
}

// --- The clients -----------------------------------------------------------------------------------------------

/// Clients that put and read keys, and an operator who moves leadership and changes the membership.
#[derive(Clone, Debug)]
pub struct Clients {
    workload: Workload,
    lease: bool,
    members: u64,
    each: Vec<Client>,
    operations: u64,
    operator: Random,
}

#[derive(Clone, Debug)]
struct Client {
    random: Random,
    /// What it waits for.
    waits: Option<RequestId>,
    /// Who led, when it last heard.
    leader: Option<NodeId>,
}

/// Tokens: a client's next operation has its number; the operator has this.
const OPERATOR: u64 = 1 << 32;
/// A client's time-out has this bit, and the request.
const TIMEOUT: u64 = 1 << 63;
const CLIENT_SHIFT: u32 = 48;

impl Clients {
    /// The clients of this scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let mut random = Random::new(mix(scenario.world.seed ^ 0x636c_6965_6e74));
        let workload = scenario.clients.clone();
        let client = |_| Client { random: random.split(), waits: None, leader: None };
        let each = (0..workload.count).map(client).collect();
        let operator = Random::new(mix(scenario.world.seed ^ 0x6f70_6572));
        let (lease, members) = (scenario.raft.lease.is_some(), scenario.world.members);
        Self { workload, lease, members, each, operations: 0, operator }
    }

    fn ask(&mut self, number: u64, asks: &mut Asks<'_, Raft>) {
        let client = &mut self.each[number as usize];
        let drawn = NodeId(1 + client.random.below(self.members));
        let node = client.leader.filter(|_| client.random.below(10) > 0).unwrap_or(drawn);
        let deadline = asks.clock(node) + self.workload.timeout;
        let key = client.random.below(self.workload.keys);
        let request = if client.random.below(1_000) < self.workload.reads {
            Request::Read { lease: self.lease && client.random.below(2) == 0, deadline }
        } else {
            self.operations += 1;
            let put = Put { operation: self.operations, key };
            Request::Propose { commands: Batch::new([put.to_bytes()]), deadline }
        };
        let id = asks.request(node, request);
        client.waits = Some(id);
        asks.wake_at(asks.now() + self.workload.timeout * 2, TIMEOUT | number << CLIENT_SHIFT | id.0);
    }

    fn next(&mut self, number: u64, soon: bool, asks: &mut Asks<'_, Raft>) {
        let client = &mut self.each[number as usize];
        client.waits = None;
        let wait = self.workload.interval.as_nanos() as u64 * 2;
        let wait = if soon { wait / 8 } else { wait };
        let at = asks.now() + Duration::from_nanos(client.random.below(wait.max(1)));
        asks.wake_at(at, number);
    }

    /// Moves leadership, or demotes a voter, or promotes a learner.
    fn operate(&mut self, asks: &mut Asks<'_, Raft>) {
        if asks.now().since(Instant::ZERO) > self.workload.until {
            return;
        }
        let wait = Duration::from_nanos(self.operator.below(4_000_000_000));
        asks.wake_at(asks.now() + wait, OPERATOR);
        let drawn = NodeId(1 + self.operator.below(self.members));
        let to = NodeId(1 + self.operator.below(self.members));
        let node = self.each[0].leader.unwrap_or(drawn);
        let (demotes, transfers) = (self.operator.below(2) == 0, self.operator.below(2) == 0);
        if self.workload.transfers && (transfers || !self.workload.changes) {
            asks.request(node, Request::Transfer { to });
        } else if self.workload.changes {
            let change = if demotes { Change::Demote(to) } else { Change::AddVoter(to, WEIGHT) };
            let deadline = asks.clock(node) + Duration::from_secs(2);
            asks.request(node, Request::Change { changes: vec![change], deadline });
        }
    }
}

impl Load<Raft> for Clients {
    fn begin(&mut self, asks: &mut Asks<'_, Raft>) {
        let membership = Membership::of((1..=self.members).map(NodeId));
        for node in (1..=self.members).map(NodeId) {
            asks.request(node, Request::Bootstrap(membership.clone()));
        }
        for number in 0..self.workload.count {
            self.next(number, false, asks);
        }
        asks.wake_at(asks.now() + Duration::from_secs(2), OPERATOR);
    }

    fn wake(&mut self, token: u64, asks: &mut Asks<'_, Raft>) {
        if token & TIMEOUT != 0 {
            let number = (token & !TIMEOUT) >> CLIENT_SHIFT;
            let id = RequestId(token & ((1 << CLIENT_SHIFT) - 1));
            if self.each[number as usize].waits == Some(id) {
                self.each[number as usize].leader = None;
                self.next(number, true, asks);
            }
        } else if token == OPERATOR {
            self.operate(asks);
        } else {
            self.ask(token, asks);
        }
    }

    fn answered(
        &mut self,
        node: NodeId,
        id: RequestId,
        answer: Result<Answer, Error>,
        asks: &mut Asks<'_, Raft>,
    ) {
        let Some(number) = self.each.iter().position(|client| client.waits == Some(id)) else { return };
        let client = &mut self.each[number];
        client.leader = match &answer {
            Ok(_) => Some(client.leader.unwrap_or(node)),
            Err(Error::NotLeader { leader, .. }) => *leader,
            Err(_) => None,
        };
        self.next(number as u64, answer.is_err(), asks);
    }
}

// --- The judge -------------------------------------------------------------------------------------------------

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

// --- The digest ------------------------------------------------------------------------------------------------

impl Fingerprint for Raft {
    fn of_message(message: &Message) -> u64 {
        let mut digest = Digest::default();
        digest.fold(message.term());
        match message {
            Message::Append { previous, commit, matched, beat, entries, .. } => {
                digest.fold(previous.index ^ (commit << 20) ^ (matched << 40));
                digest.fold(beat.map_or(0, |beat| beat.round ^ beat.sent.as_nanos()));
                fold_entries(&mut digest, entries);
            }
            Message::Appended { matched, .. } => digest.fold(matched ^ 1 << 60),
            Message::Heard { beat, .. } => digest.fold(beat.round ^ 2 << 60),
            Message::RequestPreVote { last, .. } => digest.fold(last.index ^ 3 << 60),
            Message::RequestVote { last, .. } => digest.fold(last.index ^ 4 << 60),
            Message::PreVote { granted, .. } => digest.fold(u64::from(*granted) ^ 5 << 60),
            Message::Vote { granted, .. } => digest.fold(u64::from(*granted) ^ 6 << 60),
            Message::Rejected { previous, hint, .. } => digest.fold(previous ^ (hint.index << 30) ^ 7 << 60),
            Message::Install { offset, .. } => digest.fold(offset ^ 8 << 60),
            Message::Installed { offset, .. } => digest.fold(offset ^ 9 << 60),
            Message::TimeoutNow { round, .. } => digest.fold(round ^ 10 << 60),
            Message::RequestRead { token, .. } => digest.fold(token ^ 11 << 60),
            Message::Read { index, .. } => digest.fold(index ^ 12 << 60),
            Message::Stored { last, .. } => digest.fold(last ^ 13 << 60),
            Message::Superseded { snapshot, .. } => digest.fold(snapshot.last.index ^ 14 << 60),
        }
        digest.word()
    }

    fn of_record(record: &Record) -> u64 {
        let mut digest = Digest::default();
        match record {
            Record::Identity { cluster, id } => digest.fold(cluster ^ id.0),
            Record::HardState(hard) => digest.fold(hard.term << 8 ^ hard.vote.map_or(0, |vote| vote.0)),
            Record::Append(entries) => fold_entries(&mut digest, entries),
            Record::Checkpoint(checkpoint) => {
                digest.fold(checkpoint.base.index);
                fold_entries(&mut digest, &checkpoint.entries);
            }
        }
        digest.word()
    }

    fn of_timer(timer: Timer) -> u64 {
        timer as u64
    }

    fn of_event(event: &Event) -> u64 {
        let mut digest = Digest::default();
        match event {
            Event::Committed(entries) => fold_entries(&mut digest, entries),
            Event::Role { role, term, leader } => {
                digest.fold(term << 8 ^ (*role as u64) << 4 ^ leader.map_or(0, |leader| leader.0));
            }
            Event::Restore(snapshot) | Event::Install(snapshot) => digest.fold(snapshot.id.last.index),
            Event::Membership(index, membership) => digest.fold(index ^ of_hash(membership)),
            Event::Read { offset, to, .. } => digest.fold(offset ^ to.0 << 40),
            Event::Write { offset, .. } => digest.fold(*offset),
            Event::MakeSnapshot | Event::Discard(_) | Event::Halted(_) => {}
        }
        digest.word()
    }

    fn of_request(request: &Request) -> u64 {
        match request {
            Request::Propose { commands, .. } => xxh3_64(commands.bytes()),
            Request::Read { deadline, .. } => deadline.as_nanos(),
            Request::Snapshotted { last, .. } => *last,
            Request::Chunk { offset, .. } | Request::Written { offset, .. } => *offset,
            Request::Transfer { to } => to.0,
            Request::Bootstrap(_) | Request::Change { .. } | Request::Campaign => super::of_debug(request),
        }
    }

    fn of_answer(answer: &Result<Answer, Error>) -> u64 {
        match answer {
            Ok(Answer::Committed(position)) => position.index ^ position.term << 40,
            Ok(Answer::Read(index) | Answer::Changed(index)) => *index,
            Ok(Answer::Done) => 0,
            other => super::of_debug(other),
        }
    }
}

fn fold_entries(digest: &mut Digest, entries: &Entries) {
    for run in entries.runs() {
        digest.fold(run.first ^ run.term << 40);
        digest.fold(match &run.payload {
            Payload::Blank => 0,
            Payload::Membership(membership) => of_hash(membership),
            Payload::Commands(batch) => xxh3_64(batch.bytes()),
        });
    }
}

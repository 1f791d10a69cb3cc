//! Replicas, driven by a small world of their own: a network and disks that do as they are told.

use bytes::Bytes;
use coterie::id::{NodeId, RequestId};
use coterie::protocol::{Application, Effect, Link, Outbox, Protocol};
use coterie::raft::{Batch, Change, Lease, Membership, Record, Role};
use coterie::random::Random;
use coterie::replica::{
    Answer, Consistency, Error, Event, KeyValue, Limits, Machine, Message, Operation, OperationResult,
    Outcome, Replica, Reply, Request, SessionId, SessionStamp, Settings, Shelf, Timer,
};
use coterie::time::Instant;
use coterie::wire::{Decode, Encode, VERSION};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

// ── The world ───────────────────────────────────────────────────────────────────────────────────────────────────

/// What happens next at a member.
#[derive(Clone, Debug)]
enum Step {
    Deliver {
        from: NodeId,
        message: Message,
    },
    Alarm(Timer),
    Flush,
    /// So many of what was queued for the disk is durable.
    Synced(usize),
    /// The application asks.
    Applied(Request),
}

#[derive(Clone, Debug)]
enum Queued {
    Record(Record),
    Checkpoint(Record),
    Promise(NodeId, Message),
}

struct Member {
    replica: Replica,
    machine: Machine<KeyValue>,
    up: bool,
    life: u64,
    durable: Vec<Record>,
    queued: Vec<Queued>,
    syncing: bool,
    flushing: bool,
    timers: BTreeMap<Timer, Instant>,
    application_free: Instant,
}

struct Faults {
    loss: f64,
    duplication: f64,
    latency: Duration,
    jitter: Duration,
}

struct World {
    now: Instant,
    random: Random,
    settings: Settings,
    limits: Limits,
    members: BTreeMap<NodeId, Member>,
    /// (when, n-th) → (member, life, what).
    agenda: BTreeMap<(Instant, u64), (NodeId, u64, Step)>,
    count: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    faults: Faults,
    answers: BTreeMap<RequestId, Result<Answer, Error>>,
    answered_at: BTreeMap<RequestId, Instant>,
    requests: u64,
    /// Everything sent, for those who look.
    sent: Vec<(NodeId, NodeId, Message)>,
    watching: bool,
}

impl World {
    fn new(members: u64, settings: Settings, seed: u64) -> Self {
        let mut world = Self {
            now: Instant::from_nanos(1_000_000_000),
            random: Random::new(seed),
            settings,
            limits: Limits::default(),
            members: BTreeMap::new(),
            agenda: BTreeMap::new(),
            count: 0,
            cut: BTreeSet::new(),
            faults: Faults { loss: 0.0, duplication: 0.0, latency: ms(1), jitter: Duration::ZERO },
            answers: BTreeMap::new(),
            answered_at: BTreeMap::new(),
            requests: 0,
            sent: Vec::new(),
            watching: false,
        };
        for id in (1..=members).map(NodeId) {
            let member = world.born(id, 0, Vec::new(), Shelf::new());
            world.members.insert(id, member);
            world.start(id);
        }
        let everyone = Membership::of((1..=members).map(NodeId));
        for id in (1..=members).map(NodeId) {
            world.ask(id, Request::Bootstrap(everyone.clone()));
        }
        world
    }

    /// Three members, of whom A leads.
    fn three() -> Self {
        Self::led_by_a(Settings::default())
    }

    fn led_by_a(settings: Settings) -> Self {
        let mut world = Self::new(3, settings, 1);
        world.make_leader(A);
        world
    }

    fn make_leader(&mut self, id: NodeId) {
        for _ in 0..200 {
            if self.leader() == Some(id) && self.everyone_knows(id) {
                return;
            }
            match self.leader() {
                Some(leader) if leader != id => drop(self.ask(leader, Request::Transfer { to: id })),
                _ => drop(self.ask(id, Request::Campaign)),
            }
            self.run(ms(100));
        }
        let seen = self.members.values().map(|member| member.replica.raft().status()).collect::<Vec<_>>();
        panic!("{id:?} does not come to lead: {seen:#?}");
    }

    fn everyone_knows(&self, leader: NodeId) -> bool {
        self.members
            .values()
            .filter(|member| member.up)
            .all(|member| member.replica.raft().leader() == Some(leader))
    }

    fn born(&self, id: NodeId, life: u64, durable: Vec<Record>, shelf: Shelf) -> Member {
        Member {
            replica: Replica::new(id, self.settings.clone()).expect("good settings"),
            machine: Machine::open(id, KeyValue::default(), self.limits, shelf),
            up: true,
            life,
            durable,
            queued: Vec::new(),
            syncing: false,
            flushing: false,
            timers: BTreeMap::new(),
            application_free: self.now,
        }
    }

    fn start(&mut self, id: NodeId) {
        let random = self.random.split();
        let records = self.members[&id].durable.clone();
        self.call(id, |replica, now, out| replica.start(now, random, records, out));
    }

    fn crash(&mut self, id: NodeId) {
        let keep = self.random.below(1 + self.members[&id].queued.len() as u64) as usize;
        let member = self.members.get_mut(&id).expect("a member");
        member.up = false;
        member.life += 1;
        member.syncing = false;
        for queued in member.queued.drain(..).take(keep) {
            match queued {
                Queued::Record(record) => member.durable.push(record),
                Queued::Checkpoint(record) => member.durable = vec![record],
                Queued::Promise(..) => {}
            }
        }
        member.queued.clear();
    }

    fn restart(&mut self, id: NodeId) {
        let old = self.members.remove(&id).expect("a member");
        assert!(!old.up);
        let member = self.born(id, old.life, old.durable, old.machine.crash());
        self.members.insert(id, member);
        self.start(id);
    }

    fn plan(&mut self, at: Instant, id: NodeId, step: Step) {
        self.count += 1;
        let life = self.members[&id].life;
        self.agenda.insert((at, self.count), (id, life, step));
    }

    fn ask(&mut self, id: NodeId, request: Request) -> RequestId {
        self.requests += 1;
        let asked = RequestId(self.requests);
        if self.members[&id].up {
            self.call(id, |replica, now, out| replica.request(now, asked, request, out));
        }
        asked
    }

    fn call(&mut self, id: NodeId, verb: impl FnOnce(&mut Replica, Instant, &mut Outbox<Replica>)) {
        let now = self.now;
        let mut out = Outbox::new();
        let member = self.members.get_mut(&id).expect("a member");
        verb(&mut member.replica, now, &mut out);
        for effect in out.drain() {
            self.perform(id, effect);
        }
        let spread = self.faults.jitter.as_nanos() as u64 / 20;
        let at = now + Duration::from_nanos(self.random.below(1 + spread));
        let member = self.members.get_mut(&id).expect("a member");
        if !std::mem::replace(&mut member.flushing, true) {
            self.plan(at, id, Step::Flush);
        }
    }

    fn perform(&mut self, id: NodeId, effect: Effect<Replica>) {
        let member = self.members.get_mut(&id).expect("a member");
        match effect {
            Effect::Send(to, message) => self.send(id, to, &message),
            Effect::Persist(record) => self.queue(id, Queued::Record(record)),
            Effect::Checkpoint(record) => self.queue(id, Queued::Checkpoint(record)),
            Effect::Promise(to, message) => self.queue(id, Queued::Promise(to, message)),
            Effect::Set(timer, at) => {
                member.timers.insert(timer, at);
                self.plan(at.max(self.now), id, Step::Alarm(timer));
            }
            Effect::Cancel(timer) => drop(member.timers.remove(&timer)),
            Effect::Answer(asked, answer) => {
                if asked.0 < 1 << 40 {
                    let before = self.answers.insert(asked, answer);
                    assert_eq!(before, None, "{asked:?} is answered twice");
                    self.answered_at.insert(asked, self.now);
                }
            }
            Effect::Notify(event) => self.tell(id, event),
        }
    }

    fn tell(&mut self, id: NodeId, event: Event) {
        let spread = self.faults.jitter.as_nanos() as u64 / 4;
        let at = self.now + Duration::from_nanos(self.random.below(1 + spread));
        let member = self.members.get_mut(&id).expect("a member");
        member.application_free = member.application_free.max(at);
        let at = member.application_free;
        for request in member.machine.hear(event) {
            self.plan(at, id, Step::Applied(request));
        }
    }

    fn queue(&mut self, id: NodeId, queued: Queued) {
        let spread = self.faults.jitter.as_nanos() as u64;
        let at = self.now + Duration::from_micros(100) + Duration::from_nanos(self.random.below(1 + spread));
        let member = self.members.get_mut(&id).expect("a member");
        member.queued.push(queued);
        let count = member.queued.len();
        if !std::mem::replace(&mut member.syncing, true) {
            self.plan(at, id, Step::Synced(count));
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: &Message) {
        if self.watching {
            self.sent.push((from, to, message.clone()));
        }
        if self.cut.contains(&(from, to)) || !self.members.contains_key(&to) {
            return;
        }
        let copies = u32::from(self.random.unit() >= self.faults.loss)
            + u32::from(self.random.unit() < self.faults.duplication);
        for _ in 0..copies {
            let jitter = Duration::from_nanos(self.random.below(1 + self.faults.jitter.as_nanos() as u64));
            let at = self.now + self.faults.latency + jitter;
            // It is on its way to whoever lives there when it arrives.
            self.count += 1;
            let step = Step::Deliver { from, message: message.clone() };
            self.agenda.insert((at, self.count), (to, u64::MAX, step));
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((&(at, n), _)) = self.agenda.first_key_value() {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let (id, life, step) = self.agenda.remove(&(at, n)).expect("it is there");
            let member = &self.members[&id];
            if member.up && (life == member.life || life == u64::MAX) {
                self.step(id, step);
            }
        }
        self.now = end;
    }

    fn step(&mut self, id: NodeId, step: Step) {
        match step {
            Step::Deliver { from, message } => {
                if !self.cut.contains(&(from, id)) {
                    self.call(id, |replica, now, out| replica.receive(now, from, message, out));
                }
            }
            Step::Alarm(timer) => {
                let now = self.now;
                let timers = &mut self.members.get_mut(&id).expect("a member").timers;
                if timers.get(&timer).is_some_and(|at| *at <= now) {
                    timers.remove(&timer);
                    self.call(id, |replica, now, out| replica.expire(now, timer, out));
                }
            }
            Step::Flush => {
                self.members.get_mut(&id).expect("a member").flushing = true;
                self.call(id, Replica::flush);
                self.members.get_mut(&id).expect("a member").flushing = false;
            }
            Step::Synced(count) => self.synced(id, count),
            Step::Applied(request) => {
                self.count += 1;
                let asked = RequestId((1 << 40) + self.count);
                self.call(id, |replica, now, out| replica.request(now, asked, request, out));
            }
        }
    }

    fn synced(&mut self, id: NodeId, count: usize) {
        let member = self.members.get_mut(&id).expect("a member");
        member.syncing = false;
        let done: Vec<Queued> = member.queued.drain(..count).collect();
        let more = !member.queued.is_empty();
        for queued in done {
            match queued {
                Queued::Record(record) => self.members.get_mut(&id).expect("a member").durable.push(record),
                Queued::Checkpoint(record) => {
                    self.members.get_mut(&id).expect("a member").durable = vec![record];
                }
                Queued::Promise(to, message) if to == id => {
                    self.call(id, |replica, now, out| replica.receive(now, id, message, out));
                }
                Queued::Promise(to, message) => self.send(id, to, &message),
            }
        }
        let member = self.members.get_mut(&id).expect("a member");
        if more && !std::mem::replace(&mut member.syncing, true) {
            let count = member.queued.len();
            self.plan(self.now + Duration::from_micros(100), id, Step::Synced(count));
        }
    }

    fn isolate(&mut self, id: NodeId) {
        for other in self.members.keys().copied().filter(|other| *other != id) {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    fn heal(&mut self) {
        self.cut.clear();
    }

    fn leader(&self) -> Option<NodeId> {
        let leads = |member: &&Member| member.up && member.replica.raft().role() == Role::Leader;
        let leaders = self.members.values().filter(leads);
        leaders.max_by_key(|member| member.replica.raft().term()).map(|member| member.replica.id())
    }

    fn within(&self, span: Duration) -> Instant {
        self.now + span
    }

    fn answer(&self, asked: RequestId) -> Option<&Result<Answer, Error>> {
        self.answers.get(&asked)
    }

    fn value(&self, id: NodeId, key: &str) -> String {
        let value = self.members[&id].machine.state().get(key.as_bytes());
        value.map_or_else(String::new, |value| String::from_utf8_lossy(value).into_owned())
    }

    fn open_session(&mut self, at: NodeId) -> SessionId {
        let asked = self.ask(at, Request::OpenSession { deadline: self.within(ms(2_000)) });
        self.run(ms(300));
        match self.answer(asked) {
            Some(Ok(Answer::Session(session))) => *session,
            other => panic!("no session: {other:?}"),
        }
    }

    fn append(&mut self, at: NodeId, text: &str, session: Option<SessionStamp>, span: Duration) -> RequestId {
        let command = append("k", text);
        let deadline = self.within(span);
        self.ask(at, Request::Command { session, command, deadline })
    }

    fn read(&mut self, at: NodeId, consistency: Consistency, span: Duration) -> RequestId {
        let query = Operation::Get { key: Bytes::from_static(b"k") }.to_bytes();
        let deadline = self.within(span);
        self.ask(at, Request::Query { query, consistency, deadline })
    }

    /// What a query gave; `None` when it is not answered.
    fn seen(&self, asked: RequestId) -> Option<String> {
        match self.answer(asked)? {
            Ok(Answer::Queried(result)) => match OperationResult::from_bytes(result.clone(), VERSION) {
                Ok(OperationResult::Value(value)) => {
                    Some(value.map_or_else(String::new, |value| String::from_utf8_lossy(&value).into_owned()))
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn is_done(&self, asked: RequestId) -> bool {
        matches!(self.answer(asked), Some(Ok(Answer::Result { .. })))
    }
}

fn append(key: &str, text: &str) -> Bytes {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(text.as_bytes()));
    Operation::Append { key, value }.to_bytes()
}

const fn stamp(session: SessionId, sequence: u64) -> SessionStamp {
    SessionStamp { session, sequence, answered_below: 0 }
}

// ── Commands, wherever they are asked ───────────────────────────────────────────────────────────────────────────

#[test]
fn a_command_is_applied_once_on_every_member_whoever_is_asked() {
    let mut world = World::three();
    let asked: Vec<_> = [(A, "a"), (B, "b"), (C, "c")]
        .into_iter()
        .map(|(at, text)| {
            let asked = world.append(at, text, None, ms(1_000));
            world.run(ms(150));
            asked
        })
        .collect();
    assert!(asked.iter().all(|asked| world.is_done(*asked)), "{:?}", world.answers);
    for id in [A, B, C] {
        assert_eq!(world.value(id, "k"), "abc");
        assert_eq!(world.members[&id].replica.pending(), 0);
    }
}

#[test]
fn commands_of_one_batch_of_inputs_leave_in_one_message_and_keep_their_order() {
    let mut world = World::three();
    world.watching = true;
    let asked: Vec<_> = (0..50).map(|n| world.append(B, &format!("{n},"), None, ms(1_000))).collect();
    world.run(ms(150));
    assert!(asked.iter().all(|asked| world.is_done(*asked)));
    assert_eq!(world.value(C, "k"), (0..50).map(|n| format!("{n},")).collect::<Vec<_>>().concat());
    let forwards = world.sent.iter().filter(|(_, _, message)| matches!(message, Message::Forward { .. }));
    assert_eq!(forwards.count(), 1);
}

#[test]
fn a_stamped_command_asked_again_gets_its_first_answer() {
    let mut world = World::three();
    let session = world.open_session(B);
    let asked: Vec<_> = [B, C, A]
        .into_iter()
        .map(|at| {
            let asked = world.append(at, "x", Some(stamp(session, 1)), ms(1_000));
            world.run(ms(150));
            world.answer(asked).cloned()
        })
        .collect();
    assert!(matches!(asked[0], Some(Ok(Answer::Result { .. }))));
    assert!(asked.iter().all(|answer| *answer == asked[0]), "{asked:?}");
    assert_eq!(world.value(A, "k"), "x");
}

#[test]
fn a_proposal_waits_for_the_next_leader_inside_the_library() {
    let mut world = World::three();
    world.crash(A);
    let asked = world.append(B, "x", None, ms(5_000));
    let held = world.members[&B].replica.pending();
    assert_eq!(held, 1);
    world.run(ms(3_000));
    // It may have been sent to A before B knew: then its outcome is not known.
    assert_eq!(world.answer(asked), None);
    let again = world.append(B, "y", None, ms(5_000));
    world.run(ms(500));
    assert!(world.is_done(again));
    world.run(ms(3_000));
    assert_eq!(world.answer(asked), Some(&Err(Error::Unknown)));
    assert_eq!(world.value(C, "k"), "y");
}

#[test]
fn a_command_without_a_leader_ends_in_time_and_nothing_happened() {
    let mut world = World::three();
    world.crash(A);
    world.crash(C);
    world.run(ms(2_000));
    let asked = world.append(B, "x", None, ms(200));
    let read = world.read(B, Consistency::Linearizable, ms(200));
    world.run(ms(202));
    assert_eq!(world.answer(asked), Some(&Err(Error::TimedOut)));
    assert_eq!(world.answer(read), Some(&Err(Error::TimedOut)));
    assert_eq!(world.members[&B].replica.pending(), 0);
    world.restart(A);
    world.restart(C);
    world.run(ms(2_000));
    assert_eq!(world.value(B, "k"), "");
}

#[test]
fn what_nobody_waits_for_any_more_ends_as_if_its_deadline_had_come() {
    let mut world = World::three();
    world.isolate(A);
    world.run(ms(1_000));
    let (command, query) =
        (world.append(A, "x", None, ms(60_000)), world.read(A, Consistency::Linearizable, ms(60_000)));
    let other = world.append(A, "y", None, ms(60_000));
    world.run(ms(10));
    let abandoned = world.ask(A, Request::Abandon(vec![command, query, RequestId(1 << 40)]));
    world.run(ms(10));
    assert_eq!(world.answer(abandoned), Some(&Ok(Answer::Done)));
    assert_eq!(world.answer(command), Some(&Err(Error::TimedOut)), "it had not left");
    assert_eq!(world.answer(query), Some(&Err(Error::TimedOut)));
    assert_eq!(world.answer(other), None);
    assert_eq!(world.members[&A].replica.pending(), 1);
    world.heal();
    world.run(ms(2_000));
    assert!(world.is_done(other), "what somebody waits for goes on");
}

#[test]
fn a_refused_request_says_why_and_changes_nothing() {
    let settings = Settings { pending_max: 2, ..Settings::default() };
    let mut world = World::led_by_a(settings);
    world.isolate(B);
    world.run(ms(2_000));
    let late = world.append(B, "x", None, Duration::ZERO);
    assert_eq!(world.answer(late), Some(&Err(Error::TimedOut)));
    let large = world.append(B, &"x".repeat(2 << 20), None, ms(100));
    assert!(matches!(world.answer(large), Some(Err(Error::TooLarge { limit, .. })) if *limit == 3 << 19));
    let held = [world.append(B, "x", None, ms(100)), world.append(B, "x", None, ms(100))];
    let more = world.append(B, "x", None, ms(100));
    assert_eq!(world.answer(more), Some(&Err(Error::Overloaded { limit: "pending_max" })));
    let change = Request::Change { changes: vec![Change::Remove(C)], deadline: world.within(ms(100)) };
    let change = world.ask(B, change);
    assert!(matches!(world.answer(change), Some(Err(Error::NotLeader { .. }))));
    world.run(ms(200));
    assert!(held.iter().all(|asked| world.answer(*asked) == Some(&Err(Error::TimedOut))));
}

#[test]
fn a_bounded_number_of_bytes_waits_for_a_leader() {
    let settings = Settings { pending_bytes_max: 1_000, ..Settings::default() };
    let mut world = World::led_by_a(settings);
    world.isolate(B);
    world.run(ms(2_000));
    let first = world.append(B, &"x".repeat(900), None, ms(100));
    let second = world.append(B, &"x".repeat(900), None, ms(100));
    assert_eq!(world.answer(second), Some(&Err(Error::Overloaded { limit: "pending_bytes_max" })));
    world.run(ms(200));
    assert_eq!(world.answer(first), Some(&Err(Error::TimedOut)));
    let third = world.append(B, &"x".repeat(900), None, ms(100));
    assert_eq!(world.answer(third), None, "who is gone leaves room");
}

// ── Forwarding ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_duplicated_forward_is_taken_once_even_without_a_session() {
    let mut world = World::three();
    world.watching = true;
    let asked = world.append(B, "x", None, ms(1_000));
    world.run(ms(100));
    let forward =
        world.sent.iter().find(|(_, _, message)| matches!(message, Message::Forward { .. })).cloned();
    let (_, _, forward) = forward.expect("B asks A");
    for _ in 0..3 {
        world.send(B, A, &forward);
        world.run(ms(100));
    }
    // Nor by the same member when it leads a later term, nor by it in a later life.
    world.make_leader(C);
    world.make_leader(A);
    world.send(B, A, &forward);
    world.run(ms(100));
    world.crash(A);
    world.restart(A);
    world.run(ms(2_000));
    world.make_leader(A);
    world.send(B, A, &forward);
    world.run(ms(100));
    assert!(world.is_done(asked));
    assert_eq!(world.value(A, "k"), "x");
}

#[test]
fn a_member_that_does_not_lead_refuses_with_a_hint_and_sends_nothing_on() {
    let mut world = World::three();
    world.watching = true;
    let term = world.members[&A].replica.raft().term();
    let mut entry = Vec::new();
    coterie::replica::Command::Plain(&append("k", "x")).encode(&mut entry);
    let commands = Batch::new([entry]);
    let forward = Message::Forward {
        term,
        life: 5,
        settled: 5,
        first: 5,
        patience: ms(1_000),
        commands: commands.clone(),
    };
    world.sent.clear();
    world.send(B, C, &forward);
    world.run(ms(100));
    let replies: Vec<_> =
        world.sent.iter().filter(|(_, _, message)| matches!(message, Message::Forwarded(_))).collect();
    let refused = Message::Forwarded(vec![(5, Reply::Refused { term, leader: Some(A) })]);
    assert_eq!(replies, [&(C, B, refused)]);
    assert_eq!(
        world.sent.iter().filter(|(_, _, message)| matches!(message, Message::Forward { .. })).count(),
        1
    );
    assert_eq!(world.value(A, "k"), "");
    // A peer's nonsense is counted, and changes nothing.
    for (life, settled, first, commands) in [
        (5, 4, 9, commands.clone()),
        (5, 10, 9, commands.clone()),
        (u64::MAX, u64::MAX, u64::MAX, commands),
        (5, 5, 9, Batch::new(Vec::<Vec<u8>>::new())),
        (5, 5, 9, Batch::new([b"no entry"])),
    ] {
        world.send(B, A, &Message::Forward { term, life, settled, first, patience: Duration::MAX, commands });
    }
    world.send(
        B,
        A,
        &Message::Forwarded(vec![(7, Reply::Unknown), (u64::MAX, Reply::Refused { term: 9, leader: None })]),
    );
    world.run(ms(100));
    assert_eq!(world.members[&A].replica.nonsense(), 5);
    assert_eq!(world.members[&A].replica.pending(), 0);
}

#[test]
fn raft_rs_58_forwarded_proposals_do_not_hang_when_their_leader_goes() {
    for stamped in [true, false] {
        let mut world = World::three();
        let session = world.open_session(B);
        let session = stamped.then_some(stamp(session, 1));
        // A gets the command and commits it; its reply is lost, and so is A.
        world.cut.insert((A, B));
        let asked = world.append(B, "x", session, ms(4_000));
        world.run(ms(50));
        assert_eq!(world.value(A, "k"), "x", "A has applied it");
        world.crash(A);
        world.heal();
        world.run(ms(2_000));
        if stamped {
            assert!(world.is_done(asked), "sent again to the next leader: {:?}", world.answer(asked));
        } else {
            assert_eq!(world.answer(asked), None);
            world.run(ms(2_100));
            assert_eq!(world.answer(asked), Some(&Err(Error::Unknown)), "it is not sent twice");
        }
        assert_eq!(world.value(C, "k"), "x");
    }
}

#[test]
fn a_lost_forward_is_sent_again_when_it_bears_a_stamp() {
    let mut world = World::three();
    let session = world.open_session(B);
    world.faults.loss = 1.0;
    let asked = world.append(B, "x", Some(stamp(session, 1)), ms(3_000));
    world.run(ms(20));
    world.faults.loss = 0.0;
    world.run(ms(1_000));
    assert!(world.is_done(asked), "{:?}", world.answer(asked));
    assert_eq!(world.value(C, "k"), "x");
}

// ── Bugs that others had (the thread is the name) ───────────────────────────────────────────────────────────────

#[test]
fn hashicorp_raft_696_a_transfer_that_fails_does_not_fence_proposals_for_ever() {
    let mut world = World::three();
    world.isolate(C);
    world.ask(A, Request::Transfer { to: C });
    let at_leader = world.append(A, "a", None, ms(3_000));
    let at_follower = world.append(B, "b", None, ms(3_000));
    world.run(ms(100));
    assert_eq!((world.answer(at_leader), world.answer(at_follower)), (None, None), "they wait");
    world.run(ms(900));
    assert!(world.is_done(at_leader) && world.is_done(at_follower), "{:?}", world.answers);
    // The leader steps down for another reason meanwhile, and leads again.
    world.heal();
    world.run(ms(1_000));
    world.make_leader(A);
    world.isolate(C);
    world.ask(A, Request::Transfer { to: C });
    world.isolate(A);
    world.run(ms(1_000));
    world.heal();
    world.run(ms(1_000));
    world.make_leader(A);
    let again = world.append(A, "c", None, ms(1_000));
    world.run(ms(100));
    assert!(world.is_done(again), "{:?}", world.answer(again));
}

#[test]
fn redpanda_2606_commands_asked_during_a_transfer_are_done_under_the_next_leader() {
    let mut world = World::three();
    // B lacks what A and C commit, so the transfer must wait for it.
    world.cut.insert((A, B));
    let before = world.append(A, "1", None, ms(3_000));
    world.run(ms(20));
    assert!(world.is_done(before));
    world.ask(A, Request::Transfer { to: B });
    let during = [world.append(A, "2", None, ms(3_000)), world.append(C, "3", None, ms(3_000))];
    world.run(ms(10));
    world.heal();
    world.run(ms(1_000));
    assert_eq!(world.leader(), Some(B));
    assert!(during.iter().all(|asked| world.is_done(*asked)), "{:?}", world.answers);
    let mut value: Vec<char> = world.value(A, "k").chars().collect();
    value.sort_unstable();
    assert_eq!(value, ['1', '2', '3']);
}

#[test]
fn redpanda_3003_only_what_is_committed_is_answered() {
    let mut world = World::three();
    world.isolate(A);
    let lost = world.append(A, "lost?", None, ms(10_000));
    world.run(ms(100));
    let last = world.members[&A].replica.raft().last();
    assert!(last.index > world.members[&A].replica.raft().commit(), "A has stored it");
    world.run(ms(2_000));
    let other = world.append(B, "other", None, ms(3_000));
    world.run(ms(500));
    assert!(world.is_done(other));
    assert_eq!(world.answer(lost), None, "stored is not committed");
    world.heal();
    world.run(ms(1_000));
    // Another entry is committed in its place, so it never happened, and is proposed anew.
    assert!(world.is_done(lost), "{:?}", world.answer(lost));
    for id in [A, B, C] {
        assert_eq!(world.value(id, "k"), "otherlost?");
    }
}

#[test]
fn etcd_741_a_leader_in_a_minority_serves_no_linearizable_read() {
    let mut world = World::three();
    let first = world.append(A, "old", None, ms(1_000));
    world.run(ms(100));
    assert!(world.is_done(first));
    world.isolate(A);
    let at_once = world.read(A, Consistency::Linearizable, ms(5_000));
    world.run(ms(1_500));
    let second = world.append(B, "+new", None, ms(1_000));
    world.run(ms(500));
    assert!(world.is_done(second));
    let hopeless = world.read(A, Consistency::Linearizable, ms(100));
    let stale = world.read(A, Consistency::Stale, ms(100));
    world.run(ms(200));
    assert_eq!(world.answer(at_once), None);
    assert_eq!(world.answer(hopeless), Some(&Err(Error::TimedOut)));
    assert_eq!(world.seen(stale).as_deref(), Some("old"), "who asks for stale gets stale");
    world.heal();
    world.run(ms(1_000));
    assert_eq!(world.seen(at_once).as_deref(), Some("old+new"));
}

#[test]
fn openraft_1747_a_lease_does_not_outlive_a_transfer() {
    let mut settings = Settings::default();
    settings.raft.heartbeat_interval = ms(10);
    settings.raft.lease = Some(Lease { length: ms(100), drift: ms(3) });
    let mut world = World::led_by_a(settings);
    world.run(ms(200));
    let held = world.read(A, Consistency::Lease, ms(50));
    assert_eq!(world.answer(held), None);
    world.run(Duration::from_micros(1));
    assert_eq!(world.seen(held).as_deref(), Some(""), "a lease answers without a round trip");
    world.ask(A, Request::Transfer { to: B });
    // From now on A hears nothing, but B is told to campaign.
    world.cut.extend([(B, A), (C, A)]);
    world.run(ms(20));
    assert_eq!(world.members[&B].replica.raft().role(), Role::Leader);
    let write = world.append(B, "new", None, ms(1_000));
    world.run(ms(20));
    assert!(world.is_done(write));
    let read = world.read(A, Consistency::Lease, ms(30));
    world.run(ms(40));
    assert_eq!(world.answer(read), Some(&Err(Error::TimedOut)));
}

#[test]
fn openraft_1828_an_idle_cluster_converges_though_the_log_is_purged() {
    let mut settings = Settings::default();
    settings.raft.snapshot_log_entries = 50;
    settings.raft.retained_entries = 0;
    settings.raft.chunk_bytes = 64;
    let mut world = World::led_by_a(settings);
    let session = world.open_session(A);
    world.isolate(C);
    for n in 0..200 {
        world.append(A, &format!("{n},"), Some(stamp(session, n)), ms(1_000));
        world.run(ms(5));
    }
    assert!(world.members[&A].replica.raft().snapshot().is_some());
    assert_eq!(world.value(C, "k"), "");
    world.heal();
    world.run(ms(1_000));
    // A crash in the middle of the chunks loses none of those that were acknowledged.
    world.crash(C);
    world.restart(C);
    world.run(ms(5_000));
    assert_eq!(world.value(C, "k"), world.value(A, "k"));
    assert!(world.members[&C].machine.sessions() == world.members[&A].machine.sessions());
    let duplicate = world.append(C, "never", Some(stamp(session, 0)), ms(1_000));
    world.run(ms(500));
    assert!(world.is_done(duplicate), "sessions are part of the snapshot");
    assert!(!world.value(A, "k").contains("never"));
}

#[test]
fn dragonboat_25_what_an_earlier_life_asked_answers_nothing_in_this_one() {
    let mut world = World::three();
    world.watching = true;
    let read = world.read(B, Consistency::Linearizable, ms(1_000));
    let command = world.append(B, "1", None, ms(1_000));
    world.run(Duration::from_micros(1_500));
    world.cut.insert((A, B));
    world.run(ms(50));
    world.crash(B);
    let replies: Vec<Message> =
        world.sent.iter().filter(|sent| sent.1 == B).map(|sent| sent.2.clone()).collect();
    world.restart(B);
    world.heal();
    world.run(ms(1_000));
    world.faults.loss = 1.0;
    let new_read = world.read(B, Consistency::Linearizable, ms(400));
    let new_command = world.append(B, "2", None, ms(400));
    world.run(ms(1));
    world.faults.loss = 0.0;
    assert!(replies.iter().any(|message| matches!(message, Message::Forwarded(_))), "A had replied");
    for message in replies {
        if matches!(message, Message::Forwarded(_) | Message::Raft(coterie::raft::Message::Read { .. })) {
            world.send(A, B, &message);
        }
    }
    world.run(ms(20));
    assert_eq!(world.answer(new_command), None, "the reply was the earlier life's");
    assert_eq!(world.answer(new_read), None);
    world.run(ms(1_000));
    assert_eq!((world.answer(read), world.answer(command)), (None, None), "the dead answer nothing");
    assert_eq!(world.answer(new_command), Some(&Err(Error::Unknown)));
}

#[test]
fn etcd_11456_a_session_that_ends_while_its_command_waits_is_noticed_by_the_entry_that_applies_it() {
    let mut world = World::three();
    let session = world.open_session(B);
    world.isolate(B);
    world.run(ms(1_000));
    let waiting = world.append(B, "x", Some(stamp(session, 1)), ms(5_000));
    let close = Request::CloseSession { session, deadline: world.within(ms(1_000)) };
    let close = world.ask(C, close);
    world.run(ms(500));
    assert_eq!(world.answer(close), Some(&Ok(Answer::Done)));
    world.heal();
    world.run(ms(1_000));
    assert_eq!(world.answer(waiting), Some(&Err(Error::SessionExpired)));
    assert_eq!(world.value(A, "k"), "");
}

#[test]
fn nats_jepsen_2025_a_member_with_a_damaged_snapshot_neither_votes_nor_leads() {
    let mut settings = Settings::default();
    settings.raft.snapshot_log_entries = 20;
    let mut world = World::led_by_a(settings);
    for n in 0..60 {
        world.append(A, &format!("{n},"), None, ms(1_000));
        world.run(ms(5));
    }
    world.run(ms(500));
    world.crash(C);
    let shelf = world.members[&C].machine.shelf().clone();
    let name = shelf.names().last().expect("a snapshot");
    let mut bytes = shelf.read(name, 0, u64::MAX).expect("its bytes").to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut damaged = shelf;
    damaged.put(name, bytes.into());
    world.members.get_mut(&C).expect("C").machine =
        Machine::open(C, KeyValue::default(), Limits::default(), damaged);
    world.watching = true;
    world.restart(C);
    world.sent.clear();
    world.run(ms(1));
    assert!(world.members[&C].machine.damage().is_some());
    world.crash(A);
    world.run(ms(3_000));
    assert_eq!(world.leader(), None, "B alone is no quorum");
    assert!(world.sent.iter().all(|(from, _, _)| *from != C));
    let asked = world.append(C, "x", None, ms(100));
    assert!(matches!(world.answer(asked), Some(Err(Error::Halted(_)))));
}

#[test]
fn braft_461_a_snapshot_is_kept_until_the_journal_has_forgotten_it() {
    let mut settings = Settings::default();
    settings.raft.snapshot_log_entries = 20;
    let mut world = World::led_by_a(settings);
    let mut names = 0;
    for n in 0..200 {
        world.append(A, &format!("{n},"), None, ms(1_000));
        // At whatever moment the power fails, the journal names a snapshot that is there.
        for _ in 0..50 {
            world.run(Duration::from_micros(100));
            let member = &world.members[&A];
            let named = member.durable.iter().rev().find_map(|record| match record {
                Record::Checkpoint(checkpoint) => checkpoint.snapshot.clone(),
                _ => None,
            });
            if let Some(snapshot) = named {
                names += 1;
                assert!(
                    member.machine.shelf().names().any(|name| name == snapshot.id),
                    "{:?} is gone",
                    snapshot.id
                );
            }
        }
    }
    let kept = world.members[&A].machine.shelf().names().count();
    assert!(names > 1_000 && kept <= 2, "{names} looks, {kept} kept");
}

// ── The application's side ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_application_that_names_what_is_not_so_is_told() {
    let mut world = World::three();
    let applied = world.members[&A].replica.applied();
    for request in [
        Request::Applied { through: applied + 10, outcomes: Vec::new() },
        Request::Applied { through: applied, outcomes: vec![Outcome::Nothing; 1000] },
        Request::Queried { token: 3, result: Bytes::new() },
    ] {
        let asked = world.ask(A, request);
        assert_eq!(world.answer(asked), Some(&Err(Error::Stale)));
    }
    assert_eq!(world.members[&A].replica.applied(), applied);
}

#[test]
fn a_stale_timer_does_nothing() {
    let mut world = World::three();
    world.append(B, "x", None, ms(1_000));
    let mut replica = world.members[&B].replica.clone();
    let before = format!("{replica:?}");
    let mut out = Outbox::new();
    for timer in [Timer::Deadline, Timer::Retry] {
        replica.expire(world.now, timer, &mut out);
    }
    assert!(out.is_empty());
    assert_eq!(format!("{replica:?}"), before);
}

fn reply() -> impl Strategy<Value = Reply> {
    let outcome = prop_oneof![
        Just(Outcome::Nothing),
        (any::<u64>(), vec(any::<u8>(), 0..20))
            .prop_map(|(index, result)| Outcome::Result { index, result: result.into() }),
        any::<u64>().prop_map(Outcome::Opened),
        Just(Outcome::Closed),
        Just(Outcome::SessionExpired),
        Just(Outcome::TooManyResults),
        Just(Outcome::Answered),
        Just(Outcome::Malformed),
    ];
    prop_oneof![
        outcome.prop_map(Reply::Applied),
        (any::<u64>(), option::of(any::<u64>()))
            .prop_map(|(term, leader)| Reply::Refused { term, leader: leader.map(NodeId) }),
        Just(Reply::Overloaded),
        Just(Reply::Unknown),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let forward = (any::<[u64; 5]>(), vec(vec(any::<u8>(), 0..20), 1..5)).prop_map(|(words, commands)| {
        let [term, life, settled, first, patience] = words;
        let (patience, commands) = (Duration::from_nanos(patience), Batch::new(commands));
        Message::Forward { term, life, settled, first, patience, commands }
    });
    prop_oneof![
        any::<[u64; 3]>().prop_map(|[term, token, index]| {
            Message::Raft(coterie::raft::Message::Read { term, token, index })
        }),
        forward,
        vec((any::<u64>(), reply()), 0..5).prop_map(Message::Forwarded),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_back_as_it_went_and_nothing_shorter_is_one(message in message(), cut in any::<usize>()) {
        let bytes = message.to_bytes();
        let back = Message::from_bytes(bytes.clone(), VERSION);
        prop_assert_eq!(back.as_ref(), Ok(&message));
        prop_assert!(Message::from_bytes(bytes.slice(..cut % bytes.len()), VERSION).is_err());
    }

    #[test]
    fn random_bytes_are_no_message_or_have_one_meaning(tag in 0u8..6, bytes in vec(any::<u8>(), 0..80)) {
        let bytes = Bytes::from([&[tag][..], &bytes].concat());
        if let Ok(message) = Message::from_bytes(bytes.clone(), VERSION) {
            prop_assert_eq!(message.to_bytes(), bytes);
        }
    }
}

// ── The law: exactly once ───────────────────────────────────────────────────────────────────────────────────────

/// A client that asks one thing at a time, anywhere, until it knows.
struct Client {
    session: Option<SessionId>,
    sequence: u64,
    /// What is asked, where, and in which life of the one asked.
    asked: Option<(RequestId, NodeId, u64, Deed)>,
    /// What to ask again.
    again: Option<Deed>,
}

#[derive(Clone, Debug)]
enum Deed {
    Open,
    Stamped(u64, String),
    Plain(String),
    /// With what was acknowledged when it was asked.
    Query(BTreeSet<String>),
}

#[derive(Default)]
struct Tally {
    acknowledged: BTreeSet<String>,
    never: BTreeSet<String>,
    texts: u64,
    queries: u64,
}

fn words(value: &str) -> Vec<String> {
    value.split_terminator(',').map(str::to_owned).collect()
}

impl Client {
    fn act(&mut self, world: &mut World, tally: &mut Tally, random: &mut Random) {
        if let Some((asked, at, life, deed)) = self.asked.clone() {
            let answer = world.answer(asked).cloned();
            let member = &world.members[&at];
            let dead = member.life != life || !member.up;
            if answer.is_none() && !dead {
                return;
            }
            self.asked = None;
            self.learn(answer, deed, tally);
        }
        if random.below(3) > 0 {
            return;
        }
        let deed = self.again.take().unwrap_or_else(|| self.decide(tally, random));
        let at = NodeId(1 + random.below(world.members.len() as u64));
        let deadline = world.within(ms(50 + random.below(1_500)));
        let request = match &deed {
            Deed::Open => Request::OpenSession { deadline },
            Deed::Stamped(sequence, text) => {
                let session = self.session.expect("a session");
                let stamp = SessionStamp { session, sequence: *sequence, answered_below: *sequence };
                Request::Command { session: Some(stamp), command: append("k", text), deadline }
            }
            Deed::Plain(text) => Request::Command { session: None, command: append("k", text), deadline },
            Deed::Query(_) => {
                let query = Operation::Get { key: Bytes::from_static(b"k") }.to_bytes();
                Request::Query { query, consistency: Consistency::Linearizable, deadline }
            }
        };
        if world.members[&at].up {
            let life = world.members[&at].life;
            self.asked = Some((world.ask(at, request), at, life, deed));
        } else {
            self.again = Some(deed);
        }
    }

    fn decide(&mut self, tally: &mut Tally, random: &mut Random) -> Deed {
        if self.session.is_none() {
            return Deed::Open;
        }
        tally.texts += 1;
        match random.below(3) {
            0 => {
                self.sequence += 1;
                Deed::Stamped(self.sequence, format!("s{},", tally.texts))
            }
            1 => Deed::Plain(format!("p{},", tally.texts)),
            _ => Deed::Query(tally.acknowledged.clone()),
        }
    }

    /// Takes the answer; there is none from the dead.
    fn learn(&mut self, answer: Option<Result<Answer, Error>>, deed: Deed, tally: &mut Tally) {
        let dead = answer.is_none();
        match (deed, answer.unwrap_or(Err(Error::Unknown))) {
            (Deed::Open, Ok(Answer::Session(session))) => {
                self.session = Some(session);
                self.sequence = 0;
            }
            (Deed::Stamped(_, text) | Deed::Plain(text), Ok(Answer::Result { .. })) => {
                tally.acknowledged.insert(text.trim_end_matches(',').to_owned());
            }
            (Deed::Stamped(..), Err(Error::SessionExpired)) => self.session = None,
            (deed @ Deed::Stamped(..), Err(_)) => self.again = Some(deed),
            (Deed::Open, Err(_)) | (Deed::Plain(_), Err(Error::Unknown)) => {}
            (Deed::Plain(text), Err(_)) => {
                tally.never.insert(text.trim_end_matches(',').to_owned());
            }
            (Deed::Query(before), Ok(Answer::Queried(result))) => {
                let Ok(OperationResult::Value(value)) = OperationResult::from_bytes(result, VERSION) else {
                    panic!("no value");
                };
                let value = String::from_utf8(value.unwrap_or_default().to_vec()).expect("words");
                let seen: BTreeSet<String> = words(&value).into_iter().collect();
                let missing: Vec<_> = before.difference(&seen).collect();
                assert!(missing.is_empty(), "a linearizable read misses {missing:?}");
                tally.queries += 1;
            }
            (Deed::Query(_), Err(error)) => assert!(dead || error != Error::Unknown),
            (deed, answer) => panic!("{deed:?} is answered with {answer:?}"),
        }
    }
}

fn exactly_once(seed: u64) -> (usize, u64) {
    let mut random = Random::new(seed);
    let mut settings = Settings::default();
    if random.below(2) == 0 {
        settings.raft.snapshot_log_entries = 20 + random.below(60);
        settings.raft.retained_entries = random.below(10);
        settings.raft.chunk_bytes = 50 + random.below(1_000) as usize;
    }
    let members = 3 + 2 * random.below(2);
    let mut world = World::new(members, settings, seed);
    let limits = Limits { sessions_max: 3 + random.below(4) as usize, ..Limits::default() };
    // Every life so far has applied nothing, so the bounds may still be drawn.
    world.limits = limits;
    for (id, member) in &mut world.members {
        member.machine = Machine::open(*id, KeyValue::default(), limits, Shelf::new());
    }
    world.faults = Faults {
        loss: random.unit() * 0.2,
        duplication: random.unit() * 0.3,
        latency: ms(1),
        jitter: ms(1 + random.below(30)),
    };
    let crashes = random.below(2) == 0;
    let cuts = random.below(2) == 0;
    let mut clients: Vec<Client> =
        (0..5).map(|_| Client { session: None, sequence: 0, asked: None, again: None }).collect();
    let mut tally = Tally::default();
    for _ in 0..1_500 {
        world.run(ms(10));
        for client in &mut clients {
            client.act(&mut world, &mut tally, &mut random);
        }
        trouble(&mut world, &mut random, crashes, cuts);
    }
    // Then all is well again, and what is still asked gets its answer.
    world.heal();
    world.faults = Faults { loss: 0.0, duplication: 0.0, latency: ms(1), jitter: ms(1) };
    for id in (1..=members).map(NodeId) {
        if !world.members[&id].up {
            world.restart(id);
        }
    }
    world.run(ms(5_000));
    for client in &mut clients {
        if let Some((asked, _, _, deed)) = client.asked.take() {
            let answer = world.answer(asked).cloned();
            client.learn(answer, deed, &mut tally);
        }
    }
    let value = world.value(NodeId(1), "k");
    let applied = words(&value);
    let distinct: BTreeSet<String> = applied.iter().cloned().collect();
    assert_eq!(distinct.len(), applied.len(), "a command was applied twice");
    let lost: Vec<_> = tally.acknowledged.difference(&distinct).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let risen: Vec<_> = tally.never.intersection(&distinct).collect();
    assert!(risen.is_empty(), "said never to happen, and happened: {risen:?}");
    for member in world.members.values() {
        assert_eq!(member.machine.state(), world.members[&A].machine.state(), "{:?}", member.replica.id());
        assert!(member.machine.sessions() == world.members[&A].machine.sessions());
        assert_eq!(member.replica.pending(), 0, "{:?}", member.replica.id());
    }
    (tally.acknowledged.len(), tally.queries)
}

fn trouble(world: &mut World, random: &mut Random, crashes: bool, cuts: bool) {
    let id = NodeId(1 + random.below(world.members.len() as u64));
    let up = world.members[&id].up;
    if !up && random.below(20) == 0 {
        world.restart(id);
        for other in world.members.keys().copied().collect::<Vec<_>>() {
            if other != id && world.members[&other].up {
                world.call(other, |replica, now, out| replica.link(now, id, Link::Up, out));
            }
        }
    } else if up && crashes && random.below(80) == 0 {
        world.crash(id);
        for other in world.members.keys().copied().collect::<Vec<_>>() {
            if other != id && world.members[&other].up && random.below(2) == 0 {
                world.call(other, |replica, now, out| replica.link(now, id, Link::Down, out));
            }
        }
    }
    if cuts && random.below(60) == 0 {
        if random.below(2) == 0 { world.isolate(id) } else { world.heal() }
    }
    if up && random.below(150) == 0 {
        let to = NodeId(1 + random.below(world.members.len() as u64));
        world.ask(id, Request::Transfer { to });
    }
}

#[test]
fn each_command_is_applied_at_most_once_and_an_acknowledged_one_exactly_once() {
    let (mut acknowledged, mut queries) = (0, 0);
    let seeds =
        std::env::var("COTERIE_REPLICA_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let first = std::env::var("COTERIE_REPLICA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let done = std::panic::catch_unwind(|| exactly_once(seed));
        let (commands, reads) = done.unwrap_or_else(|panic| {
            eprintln!("again: COTERIE_REPLICA_SEED={seed} COTERIE_REPLICA_SEEDS=1 cargo test --test rust each_command");
            std::panic::resume_unwind(panic)
        });
        acknowledged += commands;
        queries += reads;
    }
    println!("{acknowledged} commands acknowledged, {queries} queries answered in {seeds} worlds");
    assert!(acknowledged > 50 * seeds as usize && queries > 20 * seeds, "{acknowledged} {queries}");
}

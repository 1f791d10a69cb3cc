//! Standard worlds of a replica hold, and their judge sees what is planted.

use bytes::Bytes;
use std::time::Duration;

use coterie::id::{NodeId, RequestId};
use coterie::protocol::{Application, Effect, Link, Outbox, Protocol};
use coterie::raft::{self, Batch, Entries, Index, Payload, Raft, Record, Run};
use coterie::random::Random;
use coterie::replica::{
    self, Answer, Command, Consistency, Error, Event, KeyValue, Machine, Message, Operation, OperationResult,
    Replica, Request, Sessions, Shelf, StateMachine, Timer, Token,
};
use coterie::sim::standard::replicated::{self, Applies, LIMITS, Scenario};
use coterie::sim::standard::{RaftInside, Told};
use coterie::sim::{ClientOperation, Clients, Failure, Fingerprint, Host, Settings, Values, replay};
use coterie::store::Response;
use coterie::time::Instant;
use coterie::wire::{Decode, Encode, Malformed, VERSION};

// ── Worlds ──────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn worlds_of_a_replica_hold() {
    let (mut reads, mut writes) = (0, 0);
    let mut seen = [0; 6];
    for seed in 0..15 {
        let world = replicated::run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        let (read, written, _) = world.watch().history.counts();
        (reads, writes) = (reads + read, writes + written);
        let counts = world.watch().counts();
        let words = [
            counts.retried,
            counts.repeated,
            counts.stale_reads,
            counts.sessions,
            counts.expired,
            counts.states,
        ];
        for (sum, count) in seen.iter_mut().zip(words) {
            *sum += count;
        }
    }
    println!("{reads} reads, {writes} writes; retried, repeated, stale, sessions, expired, states: {seen:?}");
    assert!(reads > 3_000 && writes > 10_000, "{reads} reads, {writes} writes");
    assert!(seen.iter().all(|&count| count > 20), "the worlds are too tame: {seen:?}");
}

#[test]
fn a_world_of_a_replica_is_the_same_twice() {
    for seed in [3, 4] {
        replay(|| Scenario::new(seed).build(), Duration::from_secs(20))
            .unwrap_or_else(|differs| panic!("{differs}"));
    }
}

#[test]
fn clients_ask_what_their_settings_say() {
    let clients = Clients {
        count: 5,
        rate: 50.0,
        operations: vec![ClientOperation::Put, ClientOperation::Get],
        keys: 2,
        ..Clients::default()
    };
    let mut world = replicated::world(Settings::new(7, 3), replica::Settings::default(), clients)
        .expect("settings that work");
    world.run(Duration::from_secs(20)).unwrap_or_else(|failure| panic!("{failure}"));
    world.finish(replicated::Judge::finish).unwrap_or_else(|failure| panic!("{failure}"));
    let (reads, writes, _) = world.watch().history.counts();
    assert!((800..1_100).contains(&(reads + writes)), "20 s at 50 a second: {reads} reads, {writes} writes");
    assert_eq!(world.watch().counts().sessions, 0);
    let keys = world.host(NodeId(1)).expect("it is up").state().len();
    assert_eq!(keys, 2);
}

#[test]
fn operations_have_names() {
    for kind in ClientOperation::ALL {
        assert_eq!(ClientOperation::from_name(kind.name()), Some(kind));
    }
    assert_eq!(ClientOperation::from_name("push"), None);
}

// ── Planted violations ──────────────────────────────────────────────────────────────────────────────────────────

/// What the judge calls it, in the first of 30 worlds in which it sees something.
#[track_caller]
fn seen(mut run: impl FnMut(Scenario) -> Result<(), Failure>) -> &'static str {
    let failure = (100..130).find_map(|seed| run(Scenario::new(seed)).err());
    failure.expect("the judge should see it").violation.invariant
}

fn with_trick(trick: Trick) -> impl FnMut(Scenario) -> Result<(), Failure> {
    move |scenario| {
        let make = move |id, settings| Disguise {
            inner: Replica::new(id, settings).expect("settings that work"),
            effects: Outbox::new(),
            trick,
            count: 0,
        };
        replicated::finish(&mut scenario.build_with::<Disguise, Altered<NOT>, Values>(make))
    }
}

fn with_host<H: Host<Replica> + Applies>(scenario: Scenario) -> Result<(), Failure> {
    let make = |id, settings| Replica::new(id, settings).expect("settings that work");
    replicated::finish(&mut scenario.build_with::<Replica, H, Values>(make))
}

#[test]
fn a_disguise_without_a_trick_is_not_seen() {
    for seed in 100..103 {
        with_trick(Trick::None)(Scenario::new(seed)).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn an_answer_before_the_commit_is_seen() {
    assert_eq!(seen(with_trick(Trick::AnswersEarly)), "no acknowledged write lost");
}

#[test]
fn a_lie_that_nothing_happened_is_seen() {
    assert_eq!(seen(with_trick(Trick::Denies)), "refused is refused");
}

#[test]
fn a_swallowed_answer_is_seen() {
    assert_eq!(seen(with_trick(Trick::Swallows)), "answered by its deadline");
}

#[test]
fn a_second_answer_is_seen() {
    assert_eq!(seen(with_trick(Trick::Repeats)), "answered once");
}

#[test]
fn a_stale_read_that_is_called_linearizable_is_seen() {
    assert_eq!(seen(with_trick(Trick::ReadsStale)), "linearizable reads");
}

#[test]
fn a_replica_that_serves_nobody_is_seen() {
    assert_eq!(seen(with_trick(Trick::ServesNobody)), "liveness");
}

#[test]
fn a_machine_that_applies_a_command_twice_is_seen() {
    assert_eq!(seen(with_host::<Machine<Stutters>>), "state-machine safety");
}

#[test]
fn a_compare_and_swap_that_lies_is_seen() {
    assert_eq!(seen(with_host::<Machine<SwapsInWords>>), "results are the log's");
}

#[test]
fn a_machine_that_does_not_know_a_duplicate_is_seen() {
    // Either its answer names the second entry, or its state shows both.
    let name = seen(with_host::<Altered<STAMPLESS>>);
    assert!(
        ["no acknowledged write lost", "results are the log's", "state-machine safety"].contains(&name),
        "{name}"
    );
}

#[test]
fn a_session_that_a_restart_forgets_is_seen() {
    assert_eq!(seen(with_host::<Altered<AMNESIAC>>), "state-machine safety");
}

// ── Replicas in disguise ────────────────────────────────────────────────────────────────────────────────────────

/// A replica that plays a trick on its clients.
struct Disguise {
    inner: Replica,
    effects: Outbox<Replica>,
    trick: Trick,
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trick {
    None,
    /// Acknowledges a command before it is committed.
    AnswersEarly,
    /// Says that nothing happened when it does not know.
    Denies,
    /// Forgets an answer now and then.
    Swallows,
    /// Answers twice now and then.
    Repeats,
    /// Answers all queries at once.
    ReadsStale,
    /// Refuses all commands.
    ServesNobody,
}

impl Disguise {
    fn pass(&mut self, out: &mut Outbox<Self>) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain() {
            match effect {
                Effect::Send(to, message) => out.send(to, message),
                Effect::Persist(record) => out.persist(record),
                Effect::Checkpoint(record) => out.checkpoint(record),
                Effect::Promise(to, message) => out.promise(to, message),
                Effect::Set(timer, at) => out.set(timer, at),
                Effect::Cancel(timer) => out.cancel(timer),
                Effect::Notify(event) => out.notify(event),
                Effect::Answer(id, answer) => self.answer(id, answer, out),
            }
        }
        self.effects = effects;
    }

    fn answer(&mut self, id: RequestId, answer: Result<Answer, Error>, out: &mut Outbox<Self>) {
        let theirs = matches!(answer, Ok(Answer::Result { .. } | Answer::Queried(_)));
        self.count += u64::from(theirs);
        let now_and_then = theirs && self.count.is_multiple_of(64);
        match self.trick {
            Trick::Swallows if now_and_then => {}
            Trick::Repeats if now_and_then => {
                out.answer(id, answer.clone());
                out.answer(id, answer);
            }
            Trick::Denies => out.answer(
                id,
                answer.map_err(|error| if error == Error::Unknown { Error::TimedOut } else { error }),
            ),
            _ => out.answer(id, answer),
        }
    }
}

impl Protocol for Disguise {
    type Message = Message;
    type Record = Record;
    type Timer = Timer;
    type Event = Event;
    type Request = Request;
    type Answer = Answer;
    type Error = Error;

    fn start(&mut self, now: Instant, random: Random, records: Vec<Record>, out: &mut Outbox<Self>) {
        self.inner.start(now, random, records, &mut self.effects);
        self.pass(out);
    }

    fn receive(&mut self, now: Instant, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        self.inner.receive(now, from, message, &mut self.effects);
        self.pass(out);
    }

    fn expire(&mut self, now: Instant, timer: Timer, out: &mut Outbox<Self>) {
        self.inner.expire(now, timer, &mut self.effects);
        self.pass(out);
    }

    fn request(&mut self, now: Instant, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        let request = match (self.trick, request) {
            (Trick::AnswersEarly, Request::Command { .. }) => {
                let index = self.inner.raft().last().index + 1;
                out.answer(id, Ok(Answer::Result { index, result: Bytes::new() }));
                return;
            }
            (Trick::ServesNobody, Request::Command { .. }) => {
                out.answer(id, Err(Error::Overloaded { limit: "goodwill" }));
                return;
            }
            (Trick::ReadsStale, Request::Query { query, deadline, .. }) => {
                Request::Query { query, consistency: Consistency::Stale, deadline }
            }
            (_, request) => request,
        };
        self.inner.request(now, id, request, &mut self.effects);
        self.pass(out);
    }

    fn link(&mut self, now: Instant, peer: NodeId, link: Link, out: &mut Outbox<Self>) {
        self.inner.link(now, peer, link, &mut self.effects);
        self.pass(out);
    }

    fn flush(&mut self, now: Instant, out: &mut Outbox<Self>) {
        self.inner.flush(now, &mut self.effects);
        self.pass(out);
    }
}

impl Fingerprint for Disguise {}

impl RaftInside for Disguise {
    fn raft(&self) -> &Raft {
        self.inner.raft()
    }

    fn inner_message(message: &Message) -> Option<&raft::Message> {
        Replica::inner_message(message)
    }

    fn told(event: &Event) -> Told<'_> {
        Replica::told(event)
    }
}

// ── State machines and applications with a fault ────────────────────────────────────────────────────────────────

/// Applies some commands twice.
#[derive(Default)]
struct Stutters(KeyValue);

/// Says that it swapped when it did not.
#[derive(Default)]
struct SwapsInWords(KeyValue);

macro_rules! state_machine {
    ($name:ident, |$machine:ident, $index:ident, $command:ident| $apply:expr) => {
        impl StateMachine for $name {
            fn apply(&mut self, $index: Index, $command: &Bytes) -> Response {
                let $machine = &mut self.0;
                $apply
            }

            fn query(&mut self, token: Token, query: &Bytes) -> Response {
                self.0.query(token, query)
            }

            fn snapshot(&self) -> Vec<u8> {
                self.0.snapshot()
            }

            fn restore(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
                self.0.restore(bytes)
            }
        }

        impl AsRef<KeyValue> for $name {
            fn as_ref(&self) -> &KeyValue {
                &self.0
            }
        }
    };
}

state_machine!(Stutters, |machine, index, command| {
    let result = machine.apply(index, command);
    if index.is_multiple_of(100) {
        machine.apply(index, command);
    }
    result
});

state_machine!(SwapsInWords, |machine, index, command| {
    let result = machine.apply(index, command);
    let operation = Operation::from_bytes(Bytes::copy_from_slice(command), VERSION);
    match operation {
        Ok(Operation::CompareAndSwap { .. }) => Response::Now(OperationResult::Swapped(true).to_bytes()),
        _ => result,
    }
});

/// An application that is altered in one way.
struct Altered<const HOW: u8> {
    machine: Machine<KeyValue>,
    /// It has taken a snapshot.
    restored: bool,
    no_sessions: Sessions,
}

/// As it should be.
const NOT: u8 = 0;
/// Applies stamped commands as if they bore no stamp.
const STAMPLESS: u8 = 1;
/// What it takes from a snapshot is a state without sessions.
const AMNESIAC: u8 = 2;

impl<const HOW: u8, P: Protocol<Event = Event, Request = Request>> Application<P> for Altered<HOW> {
    fn hear(&mut self, event: Event) -> Vec<Request> {
        self.restored |= matches!(event, Event::Install(_) | Event::Restore(_));
        self.machine.hear(match event {
            Event::Apply { entries, wanted } if HOW == STAMPLESS => {
                Event::Apply { entries: without_stamps(&entries), wanted }
            }
            event => event,
        })
    }
}

impl<const HOW: u8, P: Protocol<Event = Event, Request = Request>> Host<P> for Altered<HOW> {
    type Disk = Shelf;

    fn open(id: NodeId, shelf: Shelf) -> Self {
        let machine = Machine::open(id, KeyValue::default(), LIMITS, shelf);
        Self { machine, restored: false, no_sessions: Sessions::new(LIMITS) }
    }

    fn crash(self, _random: &mut Random) -> Shelf {
        self.machine.crash()
    }
}

impl<const HOW: u8> Applies for Altered<HOW> {
    fn applied(&self) -> raft::Position {
        self.machine.applied()
    }

    fn values(&self) -> &KeyValue {
        self.machine.state()
    }

    fn sessions(&self) -> &Sessions {
        if self.restored && HOW == AMNESIAC { &self.no_sessions } else { self.machine.sessions() }
    }
}

fn without_stamps(entries: &Entries) -> Entries {
    let mut plain = Entries::new();
    for run in entries.runs() {
        let payload = match &run.payload {
            Payload::Commands(batch) => {
                let commands = batch.iter().map(|entry| {
                    let mut bytes = Vec::new();
                    match Command::decode(entry) {
                        Some(Command::Stamped(_, command)) => Command::Plain(command).encode(&mut bytes),
                        _ => bytes.extend_from_slice(entry),
                    }
                    bytes
                });
                Payload::Commands(Batch::new(commands))
            }
            other => other.clone(),
        };
        plain.push(Run { payload, ..(**run).clone() });
    }
    plain
}

//! Standard worlds of a store hold, their judge sees what is planted, and what a client may rely on, told one by one.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

use coterie::id::{NodeId, RequestId};
use coterie::protocol::Application;
use coterie::raft::{Batch, Entries, Membership, Payload, Role, Run, Snapshot};
use coterie::replica::{
    self, Answer, Consistency, Error, Event, Machine, Replica, Request, SessionId, SessionStamp, Shelf,
};
use coterie::sim::standard::PROGRESS_BOUND;
use coterie::sim::standard::replicated::LIMITS;
use coterie::sim::standard::stored::{self, Keeper, Scenario};
#[cfg(feature = "mutants")]
use coterie::sim::standard::{EPILOGUE, HORIZON};
use coterie::sim::{Clocks, Latency, Settings, World, replay};
use coterie::store::{
    self, Command, Keys, LeaseId, Put, Query, Range, Refusal, Reply, Store, Watch, lock_key,
};
use coterie::wire::{Decode, Encode, VERSION};

// ── Worlds ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn worlds_of_a_store_hold() {
    let mut seen = [0; 11];
    for seed in 0..25 {
        let world = stored::run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        let counts = world.watch().counts();
        let words = [
            counts.answers,
            counts.reads,
            counts.events,
            counts.compacted,
            counts.sections,
            counts.waited,
            counts.renewals,
            counts.expired,
            counts.transactions,
            counts.states,
            counts.closed,
        ];
        for (sum, count) in seen.iter_mut().zip(words) {
            *sum += count;
        }
    }
    println!(
        "answers, reads, events, compacted, sections, waited, renewals, expired, transactions, states, closed: {seen:?}"
    );
    assert!(seen.iter().all(|&count| count > 50), "the worlds are too tame: {seen:?}");
}

/// Each chunk of a snapshot waits for the one before: links, and disks that write it, are as slow as the world's.
#[test]
fn a_snapshot_gets_across_within_the_bound_of_progress() {
    const SNAPSHOT_BYTES: usize = 16 << 10;
    for seed in 0..2_000 {
        let Scenario { world, replica, .. } = Scenario::new(seed);
        let chunks = SNAPSHOT_BYTES.div_ceil(replica.raft.chunk_bytes) as u32;
        let mean = |latency: Latency| latency.min + latency.tail;
        let each = mean(world.network.latency) * 2 + mean(world.disk.sync);
        assert!(each * chunks <= PROGRESS_BOUND, "seed {seed}: {chunks} chunks, {each:?} each");
    }
}

#[test]
fn a_world_of_a_store_is_the_same_twice() {
    for seed in [3, 4] {
        replay(|| Scenario::new(seed).build(), Duration::from_secs(20))
            .unwrap_or_else(|differs| panic!("{differs}"));
    }
}

/// A leader was paused, and had taken renewals before it heard that it is none any more: an earlier question, which Raft
/// confirmed late, was answered with what they had brought.
#[test]
fn a_renewal_is_worth_what_it_was_when_it_was_asked() {
    let mut world = Scenario::through_bytes(21_801).build_over::<coterie::sim::Bytes, 0>();
    stored::finish_within(&mut world, Duration::from_secs(20)).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Each planted bug is found within its first worlds. `examples/worlds.rs` measures more ranges.
#[cfg(feature = "mutants")]
#[test]
fn mutants_of_the_store_are_found() {
    const LIMIT: u64 = 300;
    let find = |name: String, run: &dyn Fn(Scenario) -> Result<(), coterie::sim::Failure>| {
        let found =
            (0..LIMIT).find_map(|seed| run(Scenario::new(seed)).err().map(|failure| (seed + 1, failure)));
        let (worlds, failure) = found.unwrap_or_else(|| panic!("{name} is not seen in {LIMIT} worlds"));
        println!("{name}: seen in world {worlds}: {}", failure.violation.invariant);
    };
    for (place, mutant) in store::Mutant::ALL.iter().enumerate() {
        find(format!("{mutant:?}"), &|scenario| stored::run_mutant(scenario, place + 1, HORIZON + EPILOGUE));
    }
    for mutant in replica::Mutant::ALL {
        find(format!("{mutant:?}"), &|mut scenario: Scenario| {
            scenario.replica.mutant = Some(*mutant);
            stored::run_mutant(scenario, 0, HORIZON + EPILOGUE)
        });
    }
}

// ── One by one ──────────────────────────────────────────────────────────────────────────────────────────────────────

type Small = World<Replica, Keeper, (), ()>;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Three members that have a leader.
struct Cluster {
    world: Small,
    leader: NodeId,
    session: SessionId,
    sequence: u64,
}

impl Cluster {
    fn new(grace: Option<Duration>) -> Self {
        // Clocks that show the world's time, so that tests can name deadlines.
        let clock = Clocks { skew_max: Duration::ZERO, drift_ppm_max: 0 };
        let settings = Settings { clock, ..Settings::new(5, 3) };
        let replica = replica::Settings { grace, ..replica::Settings::default() };
        let make = move |id| Replica::new(id, replica.clone()).expect("settings that work");
        let mut world = World::with(settings, make, (), ());
        for node in [A, B, C] {
            world.request(node, Request::Bootstrap(Membership::of([A, B, C])));
        }
        let mut cluster = Self { world, leader: A, session: 0, sequence: 0 };
        cluster.run(ms(900));
        cluster.leader = cluster.find_leader();
        let asked = cluster.ask(A, Request::OpenSession { deadline: coterie::time::Instant::NEVER });
        cluster.run(ms(90));
        match cluster.answer(asked) {
            Some(Ok(Answer::Session(session))) => cluster.session = session,
            other => panic!("no session: {other:?}"),
        }
        cluster
    }

    fn run(&mut self, span: Duration) {
        self.world.run(span).unwrap_or_else(|failure| panic!("{failure}"));
    }

    fn find_leader(&self) -> NodeId {
        let leads = |node: &NodeId| {
            self.world.machine(*node).is_some_and(|machine| machine.raft().role() == Role::Leader)
        };
        let leaders: Vec<NodeId> = [A, B, C].into_iter().filter(leads).collect();
        let term = |node: &NodeId| self.world.machine(*node).map(|machine| machine.raft().term());
        leaders.into_iter().max_by_key(term).expect("a leader")
    }

    fn follower(&self) -> NodeId {
        [A, B, C].into_iter().find(|node| *node != self.leader).expect("another")
    }

    fn ask(&mut self, node: NodeId, request: Request) -> RequestId {
        self.world.request(node, request)
    }

    fn answer(&self, asked: RequestId) -> Option<Result<Answer, Error>> {
        self.world.answer(asked).cloned()
    }

    /// Asks for a command, exactly once.
    fn command(&mut self, node: NodeId, command: &Command) -> RequestId {
        self.sequence += 1;
        let session = SessionStamp { session: self.session, sequence: self.sequence, answered_below: 0 };
        let (session, command) = (Some(session), command.to_bytes());
        self.ask(node, Request::Command { session, command, deadline: coterie::time::Instant::NEVER })
    }

    fn reply(&self, asked: RequestId) -> Option<Reply> {
        let result = match self.answer(asked)? {
            Ok(Answer::Result { result, .. } | Answer::Queried(result)) => result,
            other => panic!("{other:?}"),
        };
        Some(store::Answer::from_bytes(result, VERSION).expect("an answer").reply)
    }

    #[track_caller]
    fn done(&mut self, node: NodeId, command: &Command) -> Reply {
        let asked = self.command(node, command);
        self.run(ms(100));
        self.reply(asked).expect("an answer within 100 ms")
    }

    fn grant(&mut self, node: NodeId, lease: LeaseId, ttl: Duration) -> u64 {
        match self.done(node, &Command::Grant { lease, ttl, home: node.0 }) {
            Reply::Granted { attachment, .. } => attachment,
            other => panic!("{other:?}"),
        }
    }

    fn acquire(&mut self, node: NodeId, name: &str, lease: LeaseId) -> RequestId {
        self.command(node, &Command::Acquire { name: bytes(name), lease, value: Bytes::new(), wait: true })
    }

    fn renew(&mut self, node: NodeId, lease: LeaseId) -> RequestId {
        self.ask(node, Request::Lease { lease, renew: true, deadline: coterie::time::Instant::NEVER })
    }

    fn query(&mut self, node: NodeId, query: &Query) -> RequestId {
        let (query, consistency) = (query.to_bytes(), Consistency::Stale);
        self.ask(node, Request::Query { query, consistency, deadline: coterie::time::Instant::NEVER })
    }

    fn store(&self, node: NodeId) -> &store::Store {
        self.world.host(node).expect("it is up").as_ref().state()
    }

    fn is_there(&self, key: &[u8]) -> bool {
        self.store(self.find_leader()).get(key).is_some()
    }
}

#[test]
fn a_lease_that_nobody_renews_ends_and_its_keys_with_it() {
    let mut cluster = Cluster::new(None);
    let node = cluster.follower();
    cluster.grant(node, 7, ms(500));
    let put = Put { lease: store::PutLease::With(7), ..Put::new(bytes("k"), bytes("v")) };
    cluster.done(node, &Command::Put(put));
    for _ in 0..10 {
        let asked = cluster.renew(node, 7);
        cluster.run(ms(200));
        let left = match cluster.answer(asked) {
            Some(Ok(Answer::Lease { ttl, left })) if ttl == ms(500) => left,
            other => panic!("{other:?}"),
        };
        assert_eq!(left, ms(500), "counted from when it was asked");
    }
    assert!(cluster.is_there(b"k"));
    cluster.run(ms(290));
    assert!(cluster.is_there(b"k"), "490 ms after it was renewed");
    cluster.run(ms(60));
    assert!(!cluster.is_there(b"k"));
    let asked = cluster.renew(node, 7);
    cluster.run(ms(100));
    assert_eq!(cluster.answer(asked), Some(Err(Error::LeaseNotFound)));
}

#[test]
fn renewals_leave_no_trace_in_the_log() {
    let mut cluster = Cluster::new(None);
    let node = cluster.follower();
    cluster.grant(node, 7, ms(500));
    let last = cluster.world.machine(cluster.leader).map(|machine| machine.raft().last());
    for _ in 0..20 {
        cluster.renew(node, 7);
        cluster.run(ms(100));
    }
    assert_eq!(cluster.world.machine(cluster.leader).map(|machine| machine.raft().last()), last);
}

#[test]
fn who_waits_for_a_lock_at_a_follower_is_answered_though_the_leader_died_meanwhile() {
    let mut cluster = Cluster::new(None);
    let node = cluster.follower();
    cluster.grant(node, 1, ms(10_000));
    cluster.grant(node, 2, ms(10_000));
    let first = cluster.acquire(node, "lock", 1);
    let second = cluster.acquire(node, "lock", 2);
    cluster.run(ms(100));
    assert!(matches!(cluster.reply(first), Some(Reply::Locked { .. })));
    assert_eq!(cluster.reply(second), None, "it waits");
    cluster.world.crash(cluster.leader);
    cluster.command(node, &Command::Release { name: bytes("lock"), lease: 1 });
    cluster.run(ms(500));
    let Some(Reply::Locked { key, .. }) = cluster.reply(second) else { panic!("it waits for ever") };
    assert_eq!(key, lock_key(b"lock", 2));
}

#[test]
fn a_lock_whose_holder_went_without_goodbye_is_free_after_the_grace() {
    let mut cluster = Cluster::new(Some(ms(30)));
    let node = cluster.follower();
    let attachment = cluster.grant(node, 1, ms(10_000));
    cluster.grant(node, 2, ms(10_000));
    cluster.acquire(node, "lock", 1);
    let second = cluster.acquire(node, "lock", 2);
    cluster.run(ms(100));
    assert_eq!(cluster.reply(second), None);
    cluster.ask(node, Request::Detached { lease: 1, attachment });
    cluster.run(ms(25));
    assert_eq!(cluster.reply(second), None, "it may come back");
    cluster.run(ms(25));
    assert!(matches!(cluster.reply(second), Some(Reply::Locked { .. })), "50 ms after its holder had gone");
}

#[test]
fn who_comes_back_within_the_grace_keeps_his_lock() {
    let mut cluster = Cluster::new(Some(ms(30)));
    let node = cluster.follower();
    let attachment = cluster.grant(node, 1, ms(10_000));
    cluster.acquire(node, "lock", 1);
    cluster.run(ms(100));
    cluster.ask(node, Request::Detached { lease: 1, attachment });
    cluster.run(ms(10));
    let back = cluster.done(cluster.leader, &Command::Attach { lease: 1, home: cluster.leader.0 });
    assert!(matches!(back, Reply::Attached { .. }));
    cluster.run(ms(200));
    assert!(cluster.is_there(&lock_key(b"lock", 1)));
    // The same story told again, by whoever was slow, changes nothing.
    cluster.ask(node, Request::Detached { lease: 1, attachment });
    cluster.run(ms(200));
    assert!(cluster.is_there(&lock_key(b"lock", 1)));
}

#[test]
fn a_lock_held_in_the_process_of_a_leader_that_died_is_free_long_before_its_lease_would_end() {
    let mut cluster = Cluster::new(Some(ms(30)));
    let (leader, node) = (cluster.leader, cluster.follower());
    cluster.grant(leader, 1, ms(60_000));
    cluster.grant(node, 2, ms(60_000));
    cluster.acquire(leader, "lock", 1);
    cluster.run(ms(20));
    let second = cluster.acquire(node, "lock", 2);
    cluster.run(ms(100));
    assert_eq!(cluster.reply(second), None, "it waits");
    cluster.world.crash(leader);
    cluster.run(ms(1_000));
    assert!(matches!(cluster.reply(second), Some(Reply::Locked { .. })));
}

#[test]
fn a_watch_goes_on_at_another_member_where_it_was_left() {
    let mut cluster = Cluster::new(None);
    let (leader, node) = (cluster.leader, cluster.follower());
    let watch =
        |from| Query::Watch(Watch { keys: Keys::prefix(bytes("k")), from, previous: false, wait: true });
    let first = cluster.query(node, &watch(2));
    cluster.run(ms(100));
    assert_eq!(cluster.reply(first), None, "nothing has happened");
    cluster.done(leader, &Command::Put(Put::new(bytes("k1"), bytes("a"))));
    let Some(Reply::Events { events, next }) = cluster.reply(first) else { panic!("it was not told") };
    assert_eq!((events.len(), &events[0].entry.value[..], next), (1, &b"a"[..], 3));
    cluster.done(leader, &Command::Put(Put::new(bytes("k2"), bytes("b"))));
    cluster.done(leader, &Command::Put(Put::new(bytes("other"), bytes("c"))));
    let second = cluster.query(leader, &watch(next));
    cluster.run(ms(10));
    let Some(Reply::Events { events, next }) = cluster.reply(second) else { panic!("it was not told") };
    assert_eq!((events.len(), &events[0].entry.value[..], next), (1, &b"b"[..], 5));
}

#[test]
fn a_query_that_waits_ends_at_its_deadline_and_is_forgotten() {
    let mut cluster = Cluster::new(None);
    let query = Query::Watch(Watch { keys: Keys::all(), from: 0, previous: false, wait: true }).to_bytes();
    let deadline = cluster.world.now() + ms(50);
    let asked = cluster.ask(A, Request::Query { query, consistency: Consistency::Stale, deadline });
    cluster.run(ms(40));
    assert_eq!((cluster.answer(asked), cluster.store(A).watches()), (None, 1));
    cluster.run(ms(20));
    assert_eq!((cluster.answer(asked), cluster.store(A).watches()), (Some(Err(Error::TimedOut)), 0));
}

#[test]
fn malformed_commands_are_answered_and_change_nothing() {
    let mut cluster = Cluster::new(None);
    let deadline = coterie::time::Instant::NEVER;
    let asked = cluster.ask(A, Request::Command { session: None, command: bytes("nonsense"), deadline });
    cluster.run(ms(100));
    assert_eq!(cluster.reply(asked), Some(Reply::Refused(Refusal::Malformed)));
    let all = cluster.query(A, &Query::Range(Range::of(Keys::all())));
    cluster.run(ms(100));
    assert!(matches!(cluster.reply(all), Some(Reply::Done(store::Done::Range { count: 0, .. }))));
}

#[test]
fn a_snapshot_written_in_pieces_is_of_the_moment_when_it_began() {
    let put = |index: u64| {
        let command = Command::Put(Put::new(bytes(&format!("k{}", index % 50)), bytes("value"))).to_bytes();
        let mut entry = Vec::new();
        replica::Command::Plain(&command).encode(&mut entry);
        let payload = Payload::Commands(Batch::new([entry]));
        Event::Apply { entries: Entries::one(Run { term: 1, first: index, payload }), wanted: false }
    };
    let new = |shelf| Machine::open(A, Store::new(stored::limits()), LIMITS, shelf);
    let mut machine = new(Shelf::new());
    for index in 1..=700 {
        machine.hear(put(index));
    }
    let then = machine.clone();
    let mut writing = machine.begin_snapshot(VERSION);
    let mut written = Vec::new();
    let mut index = 700;
    while machine.write_snapshot(&mut writing, 100, &mut written) {
        index += 1;
        machine.hear(put(index));
    }
    assert!(writing.is_whole() && index > 750, "others went on meanwhile: {index}");
    let id = writing.id();
    machine.end_snapshot(writing);
    let mut shelf = Shelf::new();
    let length = written.len() as u64;
    shelf.put(id, written.into());
    let mut restored = new(shelf);
    let snapshot = Snapshot { id, membership: (0, Arc::new(Membership::default())), length };
    restored.hear(Event::Restore(Arc::new(snapshot)));
    assert_eq!(restored.damage(), None);
    assert_eq!(restored.state().contents(), then.state().contents());
    assert_eq!((restored.applied(), restored.state().digest()), (then.applied(), then.state().digest()));
    assert_eq!(restored.sessions(), then.sessions());
}

//! The store: against a plain one that is obviously right, against the threads in which others found their bugs, and
//! as bytes.

use crate::wire::{bytes_of, hexadecimal};
use bytes::Bytes;
use coterie::sim::standard::stored::Plain;
use coterie::store::{
    Answer, Command, Compare, Comparison, Done, Entry, EventKind, Expected, Keys, LeaseTerms, Limits,
    Operation, Order, Past, Put, PutLease, Query, Range, Refusal, Reply, Response, Sort, Store, Target,
    Watch, lock_key,
};
use coterie::wire::{Decode, Encode, VERSION};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

// ── Anything that may be asked ──────────────────────────────────────────────────────────────────────────────────────

/// Few keys, so that commands meet; some under the names of locks.
fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => (0u8..6).prop_map(|n| bytes(&format!("k{n}"))),
        2 => (0u8..3).prop_map(|n| bytes(&format!("k1{}", char::from(b'a' + n)))),
        3 => (0u64..3, 1u64..5).prop_map(|(name, lease)| lock_key(format!("l{name}").as_bytes(), lease)),
        1 => Just(bytes("l0/sub/x")),
        1 => Just(Bytes::new()),
        1 => vec(254u8.., 0..3).prop_map(Bytes::from),
    ]
}

fn keys() -> impl Strategy<Value = Keys> {
    prop_oneof![
        4 => key().prop_map(Keys::One),
        2 => key().prop_map(Keys::prefix),
        2 => (key(), key()).prop_map(|(start, end)| Keys::Between(start, end)),
        1 => key().prop_map(Keys::From),
        1 => Just(Keys::all()),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(b'a'..b'd', 0..4), vec(b'x'..b'y', 0..60)].prop_map(Bytes::from)
}

fn lease() -> impl Strategy<Value = u64> {
    1u64..5
}

fn put_lease() -> impl Strategy<Value = PutLease> {
    prop_oneof![
        3 => Just(PutLease::None),
        3 => (0u64..5).prop_map(PutLease::With),
        1 => Just(PutLease::Keep),
    ]
}

fn put() -> impl Strategy<Value = Put> {
    (key(), option::weighted(0.9, value()), put_lease(), any::<bool>())
        .prop_map(|(key, value, lease, previous)| Put { key, value, lease, previous })
}

fn past() -> impl Strategy<Value = Past> {
    prop_oneof![3 => Just(Past::Now), 1 => (0u64..80).prop_map(Past::At)]
}

fn range() -> impl Strategy<Value = Range> {
    let by = prop_oneof![
        Just(Target::Key),
        Just(Target::Version),
        Just(Target::Created),
        Just(Target::Modified),
        Just(Target::Value)
    ];
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    let bounds = || option::weighted(0.2, (0u64..40, 0u64..60));
    (keys(), past(), 0u64..4, (by, order), any::<bool>(), option::weighted(0.1, Just(())), bounds(), bounds())
        .prop_map(|(keys, past, limit, (by, order), keys_only, counts, modified, created)| Range {
            keys,
            past,
            limit,
            sort: Sort { by, order },
            keys_only,
            count_only: counts.is_some(),
            modified,
            created,
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => put().prop_map(Operation::Put),
        2 => (keys(), any::<bool>()).prop_map(|(keys, previous)| Operation::Delete { keys, previous }),
        2 => range().prop_map(Operation::Range),
    ]
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        value().prop_map(Expected::Value),
        (0u64..3).prop_map(Expected::Version),
        (0u64..40).prop_map(Expected::Created),
        (0u64..40).prop_map(Expected::Modified),
        (0u64..5).prop_map(Expected::Lease),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let is = prop_oneof![
        Just(Comparison::Equal),
        Just(Comparison::NotEqual),
        Just(Comparison::Greater),
        Just(Comparison::Less)
    ];
    (keys(), is, expected()).prop_map(|(keys, is, expected)| Compare { keys, is, expected })
}

fn name() -> impl Strategy<Value = Bytes> {
    (0u64..3).prop_map(|name| bytes(&format!("l{name}")))
}

fn command() -> impl Strategy<Value = Command> {
    let ttl = prop_oneof![9 => (1u64..9).prop_map(Duration::from_secs), 1 => Just(Duration::ZERO)];
    prop_oneof![
        8 => put().prop_map(Command::Put),
        3 => (keys(), any::<bool>()).prop_map(|(keys, previous)| Command::Delete { keys, previous }),
        4 => (vec(compare(), 0..3), vec(operation(), 0..5), vec(operation(), 0..5))
            .prop_map(|(compares, success, failure)| Command::Transaction { compares, success, failure }),
        3 => (key(), option::of(expected()), option::weighted(0.8, value()), put_lease())
            .prop_map(|(key, expected, value, lease)| Command::CompareAndSwap { key, expected, value, lease }),
        3 => (0u64..5, ttl, 0u64..3).prop_map(|(lease, ttl, home)| Command::Grant { lease, ttl, home }),
        2 => lease().prop_map(|lease| Command::Revoke { lease }),
        1 => (lease(), 0u64..3).prop_map(|(lease, home)| Command::Attach { lease, home }),
        1 => (0u64..60).prop_map(|revision| Command::Compact { revision }),
        6 => (name(), lease(), value(), any::<bool>())
            .prop_map(|(name, lease, value, wait)| Command::Acquire { name, lease, value, wait }),
        3 => (name(), lease()).prop_map(|(name, lease)| Command::Release { name, lease }),
        1 => Just(Command::Disarm),
    ]
}

fn watch() -> impl Strategy<Value = Watch> {
    (keys(), 0u64..60, any::<bool>(), any::<bool>()).prop_map(|(keys, from, previous, wait)| Watch {
        keys,
        from,
        previous,
        wait,
    })
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        4 => range().prop_map(Query::Range),
        2 => name().prop_map(Query::Holder),
        1 => lease().prop_map(Query::Lease),
        1 => Just(Query::Leases),
        1 => Just(Query::Status),
        2 => watch().prop_map(Query::Watch),
    ]
}

/// What happens to a store.
#[derive(Clone, Debug)]
enum Step {
    Command(Command),
    /// The time of a lease is over, for its present connection or for one long ago.
    Expire(u64, bool),
    Query(Query),
    Watch(Watch),
    /// It is written out and read back.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => command().prop_map(Step::Command),
        2 => (lease(), any::<bool>()).prop_map(|(lease, late)| Step::Expire(lease, late)),
        6 => query().prop_map(Step::Query),
        3 => watch().prop_map(Step::Watch),
        1 => Just(Step::Restart),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (option::weighted(0.3, 200u64..4_000), option::weighted(0.5, 1u64..20), option::weighted(0.3, 20u64..200))
        .prop_map(|(quota, revisions, answer)| Limits {
            quota: quota.unwrap_or(Limits::default().quota),
            revisions_max: revisions.unwrap_or(0),
            answer_bytes_max: answer.unwrap_or(Limits::default().answer_bytes_max),
            operations_max: 4,
            ..Limits::default()
        })
}

// ── The twin ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A store and its twin, to which the same things happen.
struct Twins {
    store: Store,
    plain: Plain,
    index: u64,
    /// Watches that wait, by token, and what they wait for.
    watches: Vec<(u64, Watch)>,
    told: u64,
}

impl Twins {
    fn new(limits: Limits) -> Self {
        Self { store: Store::new(limits), plain: Plain::new(limits), index: 0, watches: Vec::new(), told: 0 }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Command(command) => self.command(&command),
            Step::Expire(lease, late) => {
                self.index += 1;
                let attachment = self.plain.lease(lease).map_or(0, |terms| terms.attachment);
                let attachment = attachment - u64::from(late && attachment > 0);
                self.store.expire(lease, attachment);
                self.plain.expire(lease, attachment);
            }
            Step::Query(query) => self.query(&query),
            Step::Watch(watch) => self.watch(watch),
            Step::Restart => {
                let snapshot = self.store.snapshot();
                let digest = self.store.digest();
                self.store.restore(snapshot.into()).expect("what was written out");
                assert_eq!(self.store.digest(), digest);
            }
        }
        self.compare();
    }

    fn command(&mut self, command: &Command) {
        self.index += 1;
        let answer = match self.store.execute(self.index, &command.to_bytes()) {
            Response::Now(answer) => Some(Answer::from_bytes(answer, VERSION).expect("an answer")),
            Response::Later => None,
        };
        assert_eq!(answer, self.plain.operate(self.index, command), "{command:?}");
    }

    fn query(&mut self, query: &Query) {
        match query {
            Query::Watch(watch) => self.watch(Watch { wait: false, ..watch.clone() }),
            Query::Status => {
                let status = self.store.status();
                assert_eq!(status.keys, self.plain.state().len() as u64);
                assert_eq!(status.bytes, self.plain.bytes());
            }
            query => assert_eq!(self.store.query(query), self.plain.query(query), "{query:?}"),
        }
    }

    fn watch(&mut self, mut watch: Watch) {
        self.told += 1;
        if watch.from == 0 {
            watch.from = self.plain.revision() + 1;
        }
        match self.store.watch(self.told, watch.clone()) {
            Response::Now(answer) => self.watched(&watch, &answer),
            Response::Later => {
                assert!(watch.wait);
                self.watches.push((self.told, watch));
            }
        }
    }

    /// What a watch was told is the beginning of all that happened.
    fn watched(&self, watch: &Watch, answer: &Answer) {
        let Reply::Events { events, next } = &answer.reply else {
            assert_eq!(answer, &self.plain.query(&Query::Watch(watch.clone())), "{watch:?}");
            return;
        };
        let expected = self.plain.happened(watch.from, *next);
        let expected: Vec<_> = expected
            .filter(|(_, event)| watch.keys.contains(&event.entry.key))
            .map(|(_, event)| {
                let previous =
                    event.previous.clone().filter(|entry| watch.previous && self.plain.knows(entry));
                coterie::store::Event { previous, ..event.clone() }
            })
            .collect();
        assert_eq!(events, &expected, "{watch:?}");
        assert!(*next > watch.from || events.is_empty());
        assert!(*next <= self.plain.revision().max(watch.from) + 1);
        // It ended because that was all, or because an answer was full.
        let all = *next > self.plain.revision();
        assert!(all || !events.is_empty(), "{watch:?} was told nothing, and has not come to the end");
    }

    /// Everything is the same, and whoever waits does so for a reason.
    fn compare(&mut self) {
        assert_eq!(self.store.contents(), self.plain.contents());
        assert_eq!(self.store.bytes(), self.plain.bytes());
        let mut woken = self.store.take_woken();
        woken.sort_by_key(|(ticket, _)| *ticket);
        assert_eq!(woken, self.plain.take_woken());
        for (token, answer) in self.store.take_watched() {
            let at = self.watches.iter().position(|(waits, _)| *waits == token).expect("it waits");
            let (_, watch) = self.watches.remove(at);
            assert!(!matches!(&answer.reply, Reply::Events { events, .. } if events.is_empty()));
            self.watched(&watch, &answer);
        }
        for (_, watch) in &self.watches {
            let mut since = self.plain.happened(watch.from, u64::MAX);
            assert!(!since.any(|(_, event)| watch.keys.contains(&event.entry.key)), "{watch:?} was not told");
        }
        let leases: Vec<(u64, LeaseTerms)> = self.store.leases().collect();
        assert_eq!(leases, self.plain.leases().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn it_is_as_the_plain_one(limits in limits(), steps in vec(step(), 1..90)) {
        let mut twins = Twins::new(limits);
        for step in steps {
            twins.take(step);
        }
    }

    /// A state that is written out in pieces is the one that was pinned, whatever happens meanwhile.
    #[test]
    fn a_pinned_state_stays_as_it_was(
        limits in limits(),
        before in vec(command(), 1..60),
        meanwhile in vec((command(), 1usize..300), 1..60),
    ) {
        let mut store = Store::new(limits);
        for (index, command) in (1..).zip(before) {
            store.operate(index, command);
        }
        let (contents, digest) = (store.contents(), store.digest());
        let mut pinned = store.pin(VERSION);
        let mut written = Vec::new();
        for (index, (command, size)) in (100..).zip(meanwhile) {
            store.write(&mut pinned, size, &mut written);
            store.operate(index, command);
        }
        while store.write(&mut pinned, 50, &mut written) {}
        prop_assert!(pinned.is_whole());
        store.unpin(pinned);
        let mut restored = Store::default();
        restored.restore(written.into()).expect("what was written out");
        prop_assert_eq!(restored.contents(), contents);
        prop_assert_eq!(restored.digest(), digest);
        prop_assert_eq!(restored.limits(), limits);
    }

    #[test]
    fn what_is_asked_and_answered_comes_back_as_it_went(command in command(), query in query()) {
        comes_back(&command);
        comes_back(&query);
        let mut store = Store::default();
        if let Response::Now(answer) = store.operate(1, command) {
            comes_back(&answer);
        }
        comes_back(&store.query(&query));
    }

    #[test]
    fn noise_is_refused_everywhere_and_changes_nothing(noise in vec(any::<u8>(), 0..80), tag in 0u8..14) {
        let noise: Vec<u8> = std::iter::once(tag).chain(noise).collect();
        let mut store = Store::default();
        let before = store.contents();
        if let Err(refused) = Command::from_bytes(noise.clone().into(), VERSION) {
            let answer = Answer { revision: 1, reply: Reply::Refused(Refusal::Malformed) };
            prop_assert_eq!(store.execute(1, &noise.clone().into()), Response::Now(answer.to_bytes()), "{}", refused);
            prop_assert_eq!(store.contents(), before);
        } else {
            store.execute(1, &noise.clone().into());
        }
        store.ask(1, &noise.clone().into());
        let _ = Answer::from_bytes(noise.clone().into(), VERSION);
        let _ = store.restore(noise.into());
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing(
        commands in vec(command(), 1..40), at in any::<usize>(), damage in 1u8.., cut in any::<usize>()
    ) {
        let mut store = Store::default();
        for (index, command) in (1..).zip(commands) {
            store.operate(index, command);
        }
        let snapshot = store.snapshot();
        let mut restored = Store::default();
        restored.operate(1, Command::Put(Put::new(bytes("k"), bytes("v"))));
        let before = restored.contents();
        prop_assert!(restored.restore(snapshot[..cut % snapshot.len()].to_vec().into()).is_err());
        let mut damaged = snapshot;
        let at = at % damaged.len();
        damaged[at] ^= damage;
        // A lease or a bound may have become another one: the machine's checksum over the whole sees that.
        if restored.restore(damaged.into()).is_err() {
            prop_assert_eq!(restored.contents(), before);
        }
    }
}

fn comes_back<T: Encode + Decode + PartialEq + Debug>(value: &T) {
    let bytes = value.to_bytes();
    assert_eq!(T::from_bytes(bytes.clone(), VERSION).as_ref(), Ok(value));
    for cut in 0..bytes.len().min(40) {
        assert!(T::from_bytes(bytes.slice(..cut), VERSION).is_err());
    }
}

// ── From the threads in which others found their bugs ───────────────────────────────────────────────────────────────

/// A store to which commands are given one after the other.
#[derive(Default)]
struct Log {
    store: Store,
    index: u64,
}

impl Log {
    fn with(limits: Limits) -> Self {
        Self { store: Store::new(limits), index: 0 }
    }

    /// What a command that does not wait gives.
    #[track_caller]
    fn run(&mut self, command: Command) -> Reply {
        match self.give(command) {
            Response::Now(answer) => answer.reply,
            Response::Later => panic!("it waits"),
        }
    }

    fn give(&mut self, command: Command) -> Response<Answer> {
        self.index += 1;
        self.store.operate(self.index, command)
    }

    fn put(&mut self, key: &str, value: &str) -> u64 {
        let reply = self.run(Command::Put(Put::new(bytes(key), bytes(value))));
        assert_eq!(reply, Reply::Done(Done::Put { previous: None }));
        self.store.revision()
    }

    fn delete(&mut self, key: &str) -> u64 {
        self.run(Command::Delete { keys: Keys::One(bytes(key)), previous: false });
        self.store.revision()
    }

    fn grant(&mut self, lease: u64) {
        let ttl = Duration::from_secs(10);
        let reply = self.run(Command::Grant { lease, ttl, home: 0 });
        assert!(matches!(reply, Reply::Granted { .. }), "{reply:?}");
    }

    fn acquire(&mut self, name: &str, lease: u64) -> Option<Reply> {
        let (name, value) = (bytes(name), Bytes::new());
        match self.give(Command::Acquire { name, lease, value, wait: true }) {
            Response::Now(answer) => Some(answer.reply),
            Response::Later => None,
        }
    }

    /// What a watch of that key is told, from that revision on: values, and `None` for a deletion.
    fn told(&self, key: &str, from: u64) -> Vec<(u64, Option<String>)> {
        let watch = Watch { keys: Keys::One(bytes(key)), from, previous: false, wait: false };
        let Reply::Events { events, .. } = self.store.query(&Query::Watch(watch)).reply else {
            panic!("history should reach back to {from}")
        };
        let value = |entry: &Entry| String::from_utf8_lossy(&entry.value).into_owned();
        let told = events.iter().map(|event| {
            (event.entry.mod_revision, (event.kind == EventKind::Put).then(|| value(&event.entry)))
        });
        told.collect()
    }

    fn read(&self, key: &str, past: Past) -> Result<Option<String>, Refusal> {
        match self.store.query(&Query::Range(Range { past, ..Range::one(bytes(key)) })).reply {
            Reply::Done(Done::Range { entries, .. }) => {
                Ok(entries.first().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
            }
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn restart(&mut self) {
        let snapshot = self.store.snapshot();
        self.store = Store::default();
        self.store.restore(snapshot.into()).expect("what was written out");
    }
}

#[test]
fn etcd_18089_and_19179_a_watch_from_the_very_revision_of_a_compacted_deletion_is_told_of_it() {
    for restarts in [false, true] {
        let mut log = Log::default();
        for value in ["v2", "v3", "v4"] {
            log.put("k1", value);
        }
        let deleted = log.delete("k1");
        log.put("k1", "v6");
        assert_eq!(log.run(Command::Compact { revision: deleted }), Reply::Compacted { revision: deleted });
        if restarts {
            log.restart();
        }
        assert_eq!(log.told("k1", deleted), [(5, None), (6, Some("v6".to_owned()))]);
        assert_eq!(log.read("k1", Past::At(deleted)), Ok(None));
        assert_eq!(log.read("k1", Past::At(deleted - 1)), Err(Refusal::Compacted { revision: deleted }));
        // The next compaction forgets it, and with it that the key ever was.
        log.delete("k1");
        log.run(Command::Compact { revision: log.store.revision() });
        log.put("other", "");
        log.run(Command::Compact { revision: log.store.revision() });
        assert_eq!(log.store.contents().versions.len(), 1);
    }
}

#[test]
fn etcd_17780_and_16693_the_revision_never_decreases_though_the_latest_one_was_a_compacted_deletion() {
    let mut log = Log::default();
    log.put("a", "1");
    log.put("b", "2");
    let deleted = log.delete("b");
    log.run(Command::Compact { revision: deleted });
    let digest = log.store.digest();
    log.restart();
    assert_eq!((log.store.revision(), log.store.digest()), (deleted, digest));
    assert_eq!(log.put("c", "3"), deleted + 1);
    let future = log.run(Command::Compact { revision: deleted + 9 });
    assert_eq!(future, Reply::Refused(Refusal::Future { revision: deleted + 1 }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// There, members applied the same log in another order; and a crash between the two writes of a compaction left one
    /// member with another history.
    #[test]
    fn etcd_14571_members_that_replay_the_log_from_other_places_have_equal_digests(
        commands in vec(command(), 1..80), places in vec(any::<prop::sample::Index>(), 0..4)
    ) {
        let (mut straight, mut restarting) = (Log::default(), Log::default());
        let places: Vec<usize> = places.iter().map(|place| place.index(commands.len())).collect();
        for (place, command) in commands.into_iter().enumerate() {
            if places.contains(&place) {
                restarting.restart();
            }
            prop_assert_eq!(straight.give(command.clone()), restarting.give(command));
            prop_assert_eq!(straight.store.digest(), restarting.store.digest());
        }
        prop_assert_eq!(straight.store.contents(), restarting.store.contents());
    }
}

#[test]
fn etcd_11456_and_10811_a_lock_is_not_granted_by_a_lease_that_ended_while_it_waited() {
    let mut log = Log::default();
    log.grant(1);
    log.grant(2);
    log.grant(3);
    let token = |reply| match reply {
        Some(Reply::Locked { token, .. }) => token,
        other => panic!("{other:?}"),
    };
    let first = token(log.acquire("lock", 1));
    assert_eq!((log.acquire("lock", 2), log.acquire("lock", 3)), (None, None));
    let (second, third) = (log.index - 1, log.index);
    // The holder and the next go together: the third holds in the same entry, and nobody held in between.
    log.run(Command::Transaction {
        compares: Vec::new(),
        success: vec![Operation::Delete { keys: Keys::One(lock_key(b"lock", 2)), previous: false }],
        failure: Vec::new(),
    });
    let reply = |woken: &[(u64, Answer)], ticket| {
        woken.iter().find(|(of, _)| *of == ticket).map(|(_, answer)| answer.reply.clone())
    };
    assert_eq!(reply(&log.store.take_woken(), second), Some(Reply::Released { was_queued: true }));
    log.run(Command::Revoke { lease: 1 });
    let woken = log.store.take_woken();
    let granted = token(reply(&woken, third));
    assert!(granted > first);
    // What comes too late is refused in the entry that would have granted.
    assert_eq!(log.acquire("lock", 1), Some(Reply::Refused(Refusal::LeaseNotFound)));
    // And whoever waits with a lease that ends is told so.
    log.grant(4);
    assert_eq!(log.acquire("lock", 4), None);
    log.run(Command::Revoke { lease: 4 });
    let refused = Some(Reply::Refused(Refusal::LeaseNotFound));
    assert_eq!(reply(&log.store.take_woken(), log.index - 1), refused);
}

#[test]
fn pysyncobj_108_a_lock_has_one_holder_and_is_handed_on_in_the_order_of_the_queue() {
    let mut log = Log::default();
    let mut tokens = Vec::new();
    for lease in 1..=8 {
        log.grant(lease);
        if let Some(Reply::Locked { token, .. }) = log.acquire("l", lease) {
            tokens.push(token);
        }
    }
    assert_eq!(tokens.len(), 1);
    for lease in 1..8 {
        let entries = log.index;
        log.run(Command::Release { name: bytes("l"), lease });
        let woken = log.store.take_woken();
        let [(_, Answer { reply: Reply::Locked { key, token }, .. })] = &woken[..] else {
            panic!("{woken:?}")
        };
        assert_eq!((key, log.index), (&lock_key(b"l", lease + 1), entries + 1), "one entry hands it on");
        tokens.push(*token);
    }
    assert!(tokens.is_sorted() && tokens.len() == 8);
}

#[test]
fn whoever_locks_as_etcds_clients_do_and_whoever_locks_as_we_do_exclude_each_other() {
    let mut log = Log::default();
    log.grant(0x694d);
    log.grant(7);
    // etcdctl lock: create the key if it is not there, then wait until no older one is under the name.
    let key = bytes("mylock/694d");
    let put = Put { lease: PutLease::With(0x694d), ..Put::new(key.clone(), Bytes::new()) };
    let absent = Compare { keys: Keys::One(key), is: Comparison::Equal, expected: Expected::Created(0) };
    log.run(Command::Transaction {
        compares: vec![absent],
        success: vec![Operation::Put(put)],
        failure: Vec::new(),
    });
    let theirs = log.store.revision();
    let held =
        log.run(Command::Acquire { name: bytes("mylock"), lease: 7, value: Bytes::new(), wait: false });
    assert_eq!(held, Reply::Held { token: theirs });
    assert_eq!(log.acquire("mylock", 7), None);
    log.run(Command::Delete { keys: Keys::One(bytes("mylock/694d")), previous: false });
    let woken = log.store.take_woken();
    let ours = Reply::Locked { key: bytes("mylock/7"), token: theirs + 1 };
    assert_eq!(woken.first().map(|(_, answer)| &answer.reply), Some(&ours));
    // Their way of asking who comes before: the youngest key that is older than one's own.
    let before = Range {
        created: Some((0, theirs)),
        limit: 1,
        sort: Sort { by: Target::Created, order: Order::Descending },
        ..Range::of(Keys::prefix(bytes("mylock/")))
    };
    let Reply::Done(Done::Range { entries, .. }) = log.store.query(&Query::Range(before)).reply else {
        panic!()
    };
    assert_eq!(entries, []);
}

#[test]
fn a_transaction_is_one_revision_or_nothing() {
    let mut log = Log::default();
    log.grant(1);
    let put = |key: &str, lease| {
        Operation::Put(Put { lease: PutLease::With(lease), ..Put::new(bytes(key), bytes("v")) })
    };
    let transaction = |steps: Vec<Operation>| Command::Transaction {
        compares: Vec::new(),
        success: steps,
        failure: Vec::new(),
    };
    let revision = log.store.revision();
    let refused = log.run(transaction(vec![put("a", 1), put("b", 1), put("c", 9)]));
    assert_eq!(refused, Reply::Refused(Refusal::LeaseNotFound));
    assert_eq!((log.store.revision(), log.store.get(b"a")), (revision, None));
    let clash = Operation::Delete { keys: Keys::prefix(bytes("a")), previous: false };
    let refused = log.run(transaction(vec![put("ab", 1), clash]));
    assert_eq!(refused, Reply::Refused(Refusal::DuplicateKey));
    let many = (0..129).map(|n| put(&format!("k{n}"), 1)).collect();
    assert_eq!(log.run(transaction(many)), Reply::Refused(Refusal::TooMany { count: 129, limit: 128 }));
    let many = (0..128).map(|n| put(&format!("k{n}"), 1)).collect();
    assert!(matches!(log.run(transaction(many)), Reply::Transaction { succeeded: true, .. }));
    let all = log.store.query(&Query::Range(Range::of(Keys::prefix(bytes("k"))))).reply;
    let Reply::Done(Done::Range { entries, count: 128, more: false }) = all else { panic!("{all:?}") };
    assert!(entries.iter().all(|entry| entry.mod_revision == revision + 1));
    // All of it at once, too, when it goes with its lease.
    assert_eq!(log.run(Command::Revoke { lease: 1 }), Reply::Revoked { count: 128 });
    assert_eq!(log.store.revision(), revision + 2);
}

#[test]
fn jepsen_a_watch_from_revision_0_begins_with_what_comes_next() {
    let mut log = Log::default();
    log.put("k", "before");
    let watch = Watch { keys: Keys::One(bytes("k")), from: 0, previous: true, wait: true };
    assert_eq!(log.store.watch(1, watch.clone()), Response::Later);
    log.put("other", "");
    assert_eq!(log.store.take_watched(), []);
    log.put("k", "after");
    let watched = log.store.take_watched();
    let [(1, Answer { reply: Reply::Events { events, next: 5 }, .. })] = &watched[..] else {
        panic!("{watched:?}")
    };
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].entry.value, "after");
    assert_eq!(events[0].previous.as_ref().map(|entry| &entry.value[..]), Some(&b"before"[..]));
    assert_eq!((log.store.watch(1, watch), log.store.watches()), (Response::Later, 1));
    log.store.forget(1);
    assert_eq!(log.store.watches(), 0);
}

#[test]
fn one_revision_is_told_whole_however_little_an_answer_may_carry() {
    let mut log = Log::with(Limits { answer_bytes_max: 100, ..Limits::default() });
    let steps =
        (0..20).map(|n| Operation::Put(Put::new(bytes(&format!("k{n:02}")), bytes("value")))).collect();
    log.run(Command::Transaction { compares: Vec::new(), success: steps, failure: Vec::new() });
    log.put("k99", "");
    let watch = Watch { keys: Keys::all(), from: 2, previous: false, wait: false };
    let first = log.store.query(&Query::Watch(watch.clone())).reply;
    let Reply::Events { events, next: 3 } = first else { panic!("{first:?}") };
    assert_eq!(events.len(), 20);
    let rest = log.store.query(&Query::Watch(Watch { from: 3, ..watch })).reply;
    assert!(matches!(rest, Reply::Events { events, next: 4 } if events.len() == 1));
}

#[test]
fn a_full_store_refuses_what_adds_until_there_is_room_and_somebody_says_so() {
    let mut log = Log::with(Limits { quota: 2_000, ..Limits::default() });
    let full = Reply::Refused(Refusal::Quota { limit: 2_000 });
    let value = "x".repeat(500);
    log.put("a", &value);
    log.put("b", &value);
    assert_eq!(log.run(Command::Put(Put::new(bytes("c"), bytes(&"x".repeat(900))))), full);
    assert!(log.store.is_alarmed());
    assert_eq!(log.run(Command::Put(Put::new(bytes("c"), Bytes::new()))), full, "though it would fit");
    assert_eq!(log.run(Command::Grant { lease: 1, ttl: Duration::from_secs(1), home: 0 }), full);
    log.delete("a");
    log.put_refused("c", &full);
    log.run(Command::Compact { revision: log.store.revision() });
    log.restart();
    assert!(log.store.is_alarmed());
    assert_eq!(log.run(Command::Disarm), Reply::Disarmed);
    log.put("c", &value);
}

impl Log {
    fn put_refused(&mut self, key: &str, refused: &Reply) {
        assert_eq!(&self.run(Command::Put(Put::new(bytes(key), Bytes::new()))), refused);
    }
}

#[test]
fn what_is_too_large_is_refused_and_history_is_bounded() {
    let mut log = Log::with(Limits { request_bytes_max: 100, revisions_max: 10, ..Limits::default() });
    let large = Command::Put(Put::new(bytes("k"), bytes(&"x".repeat(100))));
    let size = large.to_bytes().len() as u64;
    let Response::Now(refused) = log.store.execute(1, &large.to_bytes()) else { panic!("it does not wait") };
    let refused = Answer::from_bytes(refused, VERSION).expect("an answer");
    assert_eq!(refused.refusal(), Some(Refusal::TooLarge { bytes: size, limit: 100 }));
    for n in 0..100 {
        log.put(&format!("k{}", n % 3), "v");
    }
    assert_eq!(log.store.compacted(), log.store.revision() - 10);
    assert!(log.store.contents().versions.len() <= 11 + 3);
}

#[test]
fn an_expiry_that_a_new_connection_has_overtaken_is_void() {
    let mut log = Log::default();
    log.grant(1);
    let attached = log.run(Command::Attach { lease: 1, home: 2 });
    assert_eq!(attached, Reply::Attached { attachment: 2 });
    log.store.expire(1, 1);
    assert!(log.store.lease(1).is_some());
    log.store.expire(1, 2);
    assert_eq!(log.store.lease(1), None);
    // A later lease of the same name is another one.
    log.grant(1);
    log.store.expire(1, 2);
    assert!(log.store.lease(1).is_some());
}

#[test]
fn a_prefix_of_the_greatest_bytes_has_no_end() {
    assert_eq!(Keys::prefix(bytes("ab")), Keys::Between(bytes("ab"), bytes("ac")));
    let greatest = Bytes::from_static(&[b'a', 255, 255]);
    assert_eq!(Keys::prefix(greatest.clone()), Keys::Between(greatest, bytes("b")));
    assert_eq!(Keys::prefix(Bytes::from_static(&[255])), Keys::From(Bytes::from_static(&[255])));
    assert_eq!(Keys::prefix(Bytes::new()), Keys::all());
}

// ── Bytes that must stay readable ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn version_1_of_the_store_is_written_as_it_always_was() {
    let pinned: BTreeMap<String, String> =
        serde_json::from_str(include_str!("../data/store-v1.json")).expect("names and hexadecimal bytes");
    let mut written = BTreeMap::new();
    let mut log = Log::default();
    for (name, command) in examples_of_commands() {
        written.insert(format!("command {name}"), hexadecimal(&command.to_bytes()));
        match log.give(command) {
            Response::Now(answer) => {
                written.insert(format!("answer {name}"), hexadecimal(&answer.to_bytes()));
            }
            Response::Later => assert_eq!(name, "acquire, and wait"),
        }
    }
    for (name, query) in examples_of_queries() {
        written.insert(format!("query {name}"), hexadecimal(&query.to_bytes()));
        if query != Query::Status {
            let answer = log.store.query(&query);
            written.insert(format!("answer to query {name}"), hexadecimal(&answer.to_bytes()));
        }
    }
    written.insert("snapshot".to_owned(), hexadecimal(&log.store.snapshot()));
    println!("{} examples", written.len());
    assert_eq!(written, pinned, "\n{}\n", serde_json::to_string_pretty(&written).expect("strings"));
    let mut restored = Store::default();
    restored.restore(bytes_of(&pinned["snapshot"])).expect("a snapshot of version 1");
    assert_eq!(restored.contents(), log.store.contents());
}

fn examples_of_commands() -> Vec<(&'static str, Command)> {
    let put = Put { previous: true, ..Put::new(bytes("key"), bytes("value")) };
    let compare = |is, expected| Compare { keys: Keys::One(bytes("key")), is, expected };
    let range = Range {
        keys: Keys::Between(bytes("a"), bytes("z")),
        past: Past::At(2),
        limit: 5,
        sort: Sort { by: Target::Created, order: Order::Descending },
        keys_only: true,
        count_only: false,
        modified: Some((1, 9)),
        created: None,
    };
    let acquire = |lease, wait| Command::Acquire { name: bytes("lock"), lease, value: bytes("me"), wait };
    vec![
        ("put", Command::Put(put.clone())),
        ("grant", Command::Grant { lease: 7, ttl: Duration::from_secs(10), home: 3 }),
        ("grant by another name", Command::Grant { lease: 0, ttl: Duration::from_millis(1), home: 0 }),
        (
            "put with a lease",
            Command::Put(Put { value: None, lease: PutLease::With(7), key: bytes("key"), previous: false }),
        ),
        ("attach", Command::Attach { lease: 7, home: 2 }),
        (
            "transaction",
            Command::Transaction {
                compares: vec![
                    compare(Comparison::Equal, Expected::Value(bytes("value"))),
                    compare(Comparison::NotEqual, Expected::Version(9)),
                    compare(Comparison::Greater, Expected::Created(1)),
                    compare(Comparison::Less, Expected::Modified(9)),
                    compare(Comparison::Equal, Expected::Lease(7)),
                ],
                success: vec![
                    Operation::Put(Put { lease: PutLease::Keep, ..put }),
                    Operation::Range(range),
                    Operation::Delete { keys: Keys::From(bytes("z")), previous: true },
                ],
                failure: Vec::new(),
            },
        ),
        (
            "compare and swap",
            Command::CompareAndSwap {
                key: bytes("new"),
                expected: None,
                value: Some(bytes("1")),
                lease: PutLease::None,
            },
        ),
        ("acquire", acquire(7, true)),
        ("acquire, or not", acquire(3, false)),
        ("acquire, and wait", acquire(3, true)),
        ("release", Command::Release { name: bytes("other"), lease: 7 }),
        ("delete", Command::Delete { keys: Keys::One(bytes("new")), previous: true }),
        ("compact", Command::Compact { revision: 4 }),
        ("compact again", Command::Compact { revision: 4 }),
        ("revoke what is not there", Command::Revoke { lease: 99 }),
        ("disarm", Command::Disarm),
    ]
}

fn examples_of_queries() -> Vec<(&'static str, Query)> {
    let watch = Watch { keys: Keys::prefix(bytes("k")), from: 4, previous: true, wait: true };
    vec![
        ("range", Query::Range(Range::of(Keys::all()))),
        ("holder", Query::Holder(bytes("lock"))),
        ("lease", Query::Lease(7)),
        ("leases", Query::Leases),
        ("status", Query::Status),
        ("watch", Query::Watch(watch)),
    ]
}

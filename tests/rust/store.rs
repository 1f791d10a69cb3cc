//! The store: against a plain one that is obviously right, against the threads in which others found their bugs, and
//! as bytes.

use bytes::Bytes;
use coterie::sim::standard::stored::Plain;
use coterie::store::{
    Answer, Command, Compare, Comparison, Expected, Keys, LeaseTerms, Limits, Operation, Order, Past, Put,
    PutLease, Query, Range, Refusal, Reply, Response, Sort, Store, Target, Watch, lock_key,
};
use coterie::wire::{Decode, Encode, VERSION};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
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
        let mut pinned = store.pin();
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

//! Measures a store in memory, without replication: what one command, read or watch costs.
//!
//! ```text
//! cargo run --release --example store -- [--keys 100000] [--count 1000000] [--bytes 256]
//! ```
#![expect(clippy::disallowed_methods, reason = "a command: it measures")]

use bytes::Bytes;
use coterie::random::Random;
use coterie::store::{Command, Keys, Limits, Operation, Put, PutLease, Query, Range, Response, Store, Watch};
use coterie::wire::Encode;
use std::time::{Duration, Instant};

struct Options {
    keys: u64,
    count: u64,
    bytes: usize,
}

fn options() -> Options {
    let mut options = Options { keys: 100_000, count: 1_000_000, bytes: 256 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        let value: u64 = value.unwrap_or_else(|| panic!("{name} needs a number"));
        match name.as_str() {
            "--keys" => options.keys = value,
            "--count" => options.count = value,
            "--bytes" => options.bytes = value as usize,
            other => panic!("{other}? See the head of examples/store.rs"),
        }
    }
    options
}

fn main() {
    let options = options();
    let mut random = Random::new(1);
    let key = |number: u64| Bytes::from(format!("/registry/pods/default/{number:08}"));
    let value = Bytes::from(vec![b'x'; options.bytes]);
    let puts: Vec<Bytes> = (0..options.count)
        .map(|_| Command::Put(Put::new(key(random.below(options.keys)), value.clone())).to_bytes())
        .collect();
    println!("{} keys, {} commands, values of {} bytes", options.keys, options.count, options.bytes);

    let mut store = Store::new(Limits { quota: u64::MAX, ..Limits::default() });
    measure("put, from bytes to bytes, history bounded", options.count, || {
        for (index, put) in (1..).zip(&puts) {
            store.execute(index, put);
        }
    });

    let mut whole = Store::new(Limits { quota: u64::MAX, revisions_max: 0, ..Limits::default() });
    measure("put, all history kept", options.count, || {
        for (index, put) in (1..).zip(&puts) {
            whole.execute(index, put);
        }
    });
    let half = whole.revision() / 2;
    measure("compact half of it, per revision", half, || {
        whole.operate(options.count + 1, Command::Compact { revision: half });
    });

    let gets: Vec<Bytes> = (0..options.count)
        .map(|_| Query::Range(Range::one(key(random.below(options.keys)))).to_bytes())
        .collect();
    measure("get, from bytes to bytes", options.count, || {
        for get in &gets {
            store.ask(1, get);
        }
    });
    let pages = options.count / 100;
    measure("range of 100 keys", pages, || {
        for _ in 0..pages {
            let from = Keys::From(key(random.below(options.keys)));
            store.query(&Query::Range(Range::of(from).limit(100)));
        }
    });
    measure("transaction of 10 puts", options.count / 10, || {
        for index in 0..options.count / 10 {
            // Ten places apart, so that no two steps meet.
            let first = random.below(options.keys);
            let step = |n: u64| Operation::Put(Put::new(key((first + n * 7) % options.keys), value.clone()));
            let success = (0..10).map(step).collect();
            store.operate(index, Command::Transaction { compares: Vec::new(), success, failure: Vec::new() });
        }
    });
    watches(&mut store, &puts, options.keys, key);
    leases_and_locks(options.count / 10);

    let mut bytes = 0;
    measure("snapshot, per key", options.keys, || bytes = store.snapshot().len());
    let snapshot = Bytes::from(store.snapshot());
    measure("restore, per key", options.keys, || {
        Store::default().restore(snapshot).expect("its own snapshot");
    });
    println!("{:>12.1} MB of snapshot", bytes as f64 / 1e6);
}

/// Ten thousand watches of a key each, and a hundred of a prefix that never changes.
fn watches(store: &mut Store, puts: &[Bytes], keys: u64, key: impl Fn(u64) -> Bytes) {
    let watch = |keys| Watch { keys, from: 0, previous: false, wait: true };
    for token in 0..10_000.min(keys) {
        store.watch(token, watch(Keys::One(key(token))));
    }
    for token in 10_000..10_100 {
        store.watch(token, watch(Keys::prefix(format!("/quiet/{token}").into())));
    }
    let mut told = 0;
    measure("put under 10,000 watches of one key each", puts.len() as u64, || {
        for (index, put) in (1..).zip(puts) {
            store.execute(index, put);
            for (token, _) in store.take_watched() {
                told += 1;
                store.watch(token, watch(Keys::One(key(token))));
            }
        }
    });
    println!("{told:>12} of them told");
}

/// Leases that come and go with a key each, and a lock that goes round among 8.
fn leases_and_locks(count: u64) {
    let mut store = Store::default();
    let ttl = Duration::from_secs(10);
    let mut index = 0;
    let mut give = |store: &mut Store, command| {
        index += 1;
        matches!(store.operate(index, command), Response::Later)
    };
    measure("grant, put under the lease, revoke", count, || {
        for lease in 1..=count {
            let put = Put { lease: PutLease::With(lease), ..Put::new("key".into(), "value".into()) };
            give(&mut store, Command::Grant { lease, ttl, home: 0 });
            give(&mut store, Command::Put(put));
            give(&mut store, Command::Revoke { lease });
        }
    });
    for lease in 1..=8 {
        give(&mut store, Command::Grant { lease, ttl, home: 0 });
    }
    let acquire = |lease| Command::Acquire { name: "lock".into(), lease, value: Bytes::new(), wait: true };
    let mut waits = (1..=8).filter(|lease| give(&mut store, acquire(*lease))).count() as u64;
    measure("hand-over of a lock among 8: release and queue again", count, || {
        for turn in 0..count {
            let lease = 1 + turn % 8;
            give(&mut store, Command::Release { name: "lock".into(), lease });
            waits += u64::from(give(&mut store, acquire(lease)));
        }
    });
    assert_eq!(waits, count + 7);
}

fn measure(what: &str, count: u64, work: impl FnOnce()) {
    let begun = Instant::now();
    work();
    let each = begun.elapsed().as_nanos() as f64 / count.max(1) as f64;
    println!("{each:>9.0} ns  {what}");
}

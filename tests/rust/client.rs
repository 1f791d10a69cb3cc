//! A client and a member in memory: exactly once, one holder at a time, nothing missed.

#![expect(clippy::disallowed_methods, reason = "clients are used from threads")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use coterie::client::{Acquire, Batch, Client, Failure, Held, Memory, Settings, Watcher};
use coterie::store::{
    Answer, Command, Done, EventKind, Keys, Limits, Put, Query, Range, Refusal, Reply, Revision,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// What `call` hands to its continuation.
fn wait<T: Send + 'static>(call: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |value| drop(sender.send(value))));
    receiver.recv_timeout(PATIENCE).expect("an answer in time")
}

fn client(memory: &Arc<Memory>) -> Client {
    Client::new(memory.connect(), Settings::default())
}

fn memory() -> Arc<Memory> {
    Memory::start().expect("a thread")
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn run(client: &Client, command: &Command) -> Result<Answer, Failure> {
    wait(|done| client.command(command, PATIENCE, done))
}

fn put(client: &Client, key: &str, value: &str) -> Revision {
    run(client, &Command::Put(Put::new(bytes(key), bytes(value)))).expect("a put").revision
}

fn get(client: &Client, key: &str) -> Option<String> {
    let answer = wait(|done| client.query(&Query::Range(Range::one(bytes(key))), PATIENCE, done));
    let Ok(Answer { reply: Reply::Done(Done::Range { entries, .. }), .. }) = answer else {
        panic!("not a range: {answer:?}")
    };
    entries.first().map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}

fn wanting(name: &str, wait: bool) -> Acquire {
    Acquire { name: bytes(name), value: Bytes::new(), ttl: PATIENCE, wait, patience: PATIENCE }
}

fn acquire(client: &Client, name: &str, queues: bool) -> Option<Held> {
    let held: Result<Option<Held>, Failure> = wait(|done| drop(client.acquire(wanting(name, queues), done)));
    held.expect("an answer of the lock")
}

fn release(held: Held) -> bool {
    wait(|done| held.release(PATIENCE, done)).expect("a release")
}

fn keys_of(client: &Client, prefix: &str) -> u64 {
    let range = Range { count_only: true, ..Range::of(Keys::prefix(bytes(prefix))) };
    let answer = wait(|done| client.query(&Query::Range(range), PATIENCE, done)).expect("a count");
    let Reply::Done(Done::Range { count, .. }) = answer.reply else { panic!("{answer:?}") };
    count
}

fn next(watcher: &Arc<Watcher>) -> Result<Option<Batch>, Failure> {
    wait(|done| watcher.next(done))
}

#[test]
fn what_one_client_puts_another_one_gets() {
    let memory = memory();
    let (one, other) = (client(&memory), client(&memory));
    assert_eq!(get(&other, "k"), None);
    let first = put(&one, "k", "v");
    assert_eq!(get(&other, "k").as_deref(), Some("v"));
    assert_eq!(put(&other, "k", "w"), first + 1);
    assert_eq!(get(&one, "k").as_deref(), Some("w"));
}

#[test]
fn thousands_of_commands_in_flight_are_each_applied_once() {
    let memory = memory();
    let client = client(&memory);
    let (sender, receiver) = mpsc::channel();
    for n in 0..10_000 {
        let sender = sender.clone();
        let command = Command::Put(Put::new(bytes("k"), bytes(&n.to_string())));
        client.command(&command, PATIENCE, move |answer| drop(sender.send(answer)));
    }
    drop(sender);
    let revisions: BTreeSet<Revision> =
        receiver.iter().map(|answer| answer.expect("a put").revision).collect();
    assert_eq!(revisions.len(), 10_000);
    assert_eq!(revisions.last().map(|last| last - 10_000), revisions.first().map(|first| first - 1));
    assert_eq!(get(&client, "k").as_deref(), Some("9999"), "in the order in which they were asked");
}

#[test]
fn a_refusal_says_what_is_wrong_and_changes_nothing() {
    let memory = memory();
    let client = client(&memory);
    let refused = run(&client, &Command::Put(Put::new(Bytes::new(), bytes("v"))));
    assert_eq!(refused, Err(Failure::Refused(Refusal::EmptyKey)));
    assert_eq!(put(&client, "k", "v"), 2);
}

#[test]
fn memories_of_one_name_are_one_and_others_are_their_own() {
    let one = client(&Memory::named("shared by a test").expect("a thread"));
    let other = client(&Memory::named("shared by a test").expect("a thread"));
    put(&one, "k", "v");
    assert_eq!(get(&other, "k").as_deref(), Some("v"));
    assert_eq!(get(&client(&Memory::named("another").expect("a thread")), "k"), None);
    drop((one, other));
    let anew = client(&Memory::named("shared by a test").expect("a thread"));
    assert_eq!(get(&anew, "k"), None, "what it kept is gone with its last client");
}

#[test]
fn a_lock_has_one_holder_whoever_asks_and_tokens_grow() {
    let memory = memory();
    let clients = [client(&memory), client(&memory)];
    let (inside, entries) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tokens = thread::scope(|scope| {
        let holders: Vec<_> = (0..6)
            .map(|n| {
                let client = clients[n % 2].clone();
                let (inside, entries) = (Arc::clone(&inside), Arc::clone(&entries));
                scope.spawn(move || {
                    let mut tokens = Vec::new();
                    for _ in 0..50 {
                        let held = acquire(&client, "lock", true).expect("it was waited for");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "somebody else is inside");
                        tokens.push((entries.fetch_add(1, Ordering::SeqCst), held.token()));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        assert!(release(held));
                    }
                    tokens
                })
            })
            .collect();
        let mut tokens: Vec<_> =
            holders.into_iter().flat_map(|holder| holder.join().expect("no panic")).collect();
        tokens.sort_unstable();
        tokens
    });
    assert_eq!(tokens.len(), 300);
    assert!(tokens.is_sorted_by(|one, other| one.1 < other.1), "who enters later has the greater token");
}

#[test]
fn a_lock_is_handed_on_in_the_order_of_asking() {
    let memory = memory();
    let client = client(&memory);
    let first = acquire(&client, "lock", true).expect("it is free");
    let (sender, receiver) = mpsc::channel();
    for n in 0..20 {
        let sender = sender.clone();
        client.acquire(wanting("lock", true), move |held| drop(sender.send((n, held))));
        while keys_of(&client, "lock/") < n + 2 {}
    }
    assert!(release(first));
    for expected in 0..20 {
        let (n, held) = receiver.recv_timeout(PATIENCE).expect("the next one");
        assert_eq!(n, expected);
        assert!(release(held.expect("held").expect("held")));
    }
    assert_eq!(keys_of(&client, "lock/"), 0);
}

#[test]
fn who_does_not_wait_is_told_at_once_and_leaves_nothing_behind() {
    let memory = memory();
    let client = client(&memory);
    let held = acquire(&client, "lock", false).expect("it is free");
    assert!(acquire(&client, "lock", false).is_none());
    assert_eq!(keys_of(&client, "lock/"), 1);
    assert!(release(held));
    assert!(acquire(&client, "lock", false).is_some());
}

#[test]
fn a_place_in_the_queue_is_given_up() {
    let memory = memory();
    let client = client(&memory);
    let held = acquire(&client, "lock", true).expect("it is free");
    for _ in 0..20 {
        let waiting = client.acquire(wanting("lock", true), |_| panic!("nobody wants to know"));
        assert!(waiting.cancel());
        assert!(!waiting.cancel());
    }
    let later = client.acquire(wanting("lock", true), |_| panic!("nobody wants to know"));
    while keys_of(&client, "lock/") != 2 {}
    assert!(later.cancel());
    while keys_of(&client, "lock/") != 1 {}
    assert!(release(held));
    let again = acquire(&client, "lock", false);
    assert!(again.is_some(), "those who gave up have left nothing");
}

#[test]
fn what_is_dropped_unreleased_is_given_back() {
    let memory = memory();
    let client = client(&memory);
    drop(acquire(&client, "lock", true));
    assert!(acquire(&client, "lock", true).is_some());
}

#[test]
fn a_lock_is_lost_when_its_lease_ends_and_the_next_one_gets_it() {
    let memory = memory();
    let (one, other) = (client(&memory), client(&memory));
    let acquire_shortly = Acquire { ttl: Duration::from_millis(300), ..wanting("lock", true) };
    let held: Result<Option<Held>, Failure> = wait(|done| drop(one.acquire(acquire_shortly, done)));
    let held = held.expect("an answer").expect("it is free");
    let (sender, receiver) = mpsc::channel();
    held.lost().listen(move || {
        let _ = sender.send(());
    });
    assert!(receiver.recv_timeout(Duration::from_millis(700)).is_err(), "it is renewed");
    run(&other, &Command::Revoke { lease: held.lease() }).expect("an operator may");
    receiver.recv_timeout(PATIENCE).expect("it is lost");
    assert!(held.lost().is_lost());
    let next = acquire(&other, "lock", true).expect("it is free");
    assert!(next.token() > held.token());
    assert!(!release(held));
    assert!(acquire(&one, "lock", false).is_none(), "the release of what was lost releases nothing");
}

#[test]
fn locks_of_a_client_that_goes_without_goodbye_are_free_soon() {
    let memory = memory();
    let (one, other) = (client(&memory), client(&memory));
    let mut held = acquire(&one, "lock", true).expect("it is free");
    held.keep();
    drop((held, one));
    // Its time to live is ten seconds: within half of them it cannot have ended by itself.
    let (sender, receiver) = mpsc::channel();
    other.acquire(wanting("lock", true), move |held| drop(sender.send(held.map(|held| held.is_some()))));
    assert_eq!(receiver.recv_timeout(PATIENCE / 2), Ok(Ok(true)));
}

#[test]
fn closing_gives_back_and_ends_what_waits() {
    let memory = memory();
    let (one, other) = (client(&memory), client(&memory));
    let held = acquire(&one, "lock", true).expect("it is free");
    let (sender, receiver) = mpsc::channel();
    one.acquire(wanting("lock", true), move |held| drop(sender.send(held.map(|held| held.is_some()))));
    wait(|done| one.close(move || done(())));
    assert!(held.lost().is_lost());
    assert!(acquire(&other, "lock", false).is_some());
    let ended = receiver.recv_timeout(PATIENCE).expect("who waits hears of it");
    assert!(ended.is_err(), "{ended:?}");
    let late = run(&one, &Command::Put(Put::new(bytes("k"), bytes("v"))));
    assert!(matches!(late, Err(Failure::Stopped(_))), "{late:?}");
    wait(|done| one.close(move || done(())));
}

#[test]
fn a_watch_misses_nothing_and_goes_on_where_another_one_stopped() {
    let memory = memory();
    let client = client(&memory);
    put(&client, "a/before", "0");
    let watcher = client.watch(Keys::prefix(bytes("a/")), None, false);
    while watcher.next_revision().is_none() {}
    for n in 0..50 {
        put(&client, &format!("a/{n}"), "v");
        put(&client, &format!("b/{n}"), "v");
    }
    run(&client, &Command::Delete { keys: Keys::One(bytes("a/7")), previous: false }).expect("a deletion");
    let mut events = Vec::new();
    while events.len() < 20 {
        events.extend(next(&watcher).expect("events").expect("it is open").events);
    }
    let resumed = client.watch(Keys::prefix(bytes("a/")), watcher.next_revision(), false);
    while events.len() < 51 {
        events.extend(next(&resumed).expect("events").expect("it is open").events);
    }
    let keys: Vec<_> =
        events.iter().map(|event| String::from_utf8_lossy(&event.entry.key).into_owned()).collect();
    let expected: Vec<_> = (0..50).map(|n| format!("a/{n}")).chain(["a/7".to_owned()]).collect();
    assert_eq!(keys, expected);
    assert_eq!(events[50].kind, EventKind::Delete);
}

#[test]
fn what_comes_when_nobody_waits_is_kept_and_what_is_put_back_comes_again() {
    let memory = memory();
    let client = client(&memory);
    let watcher = client.watch(Keys::prefix(bytes("a/")), Some(1), false);
    watcher.next(|_| panic!("nobody waits any more"));
    assert!(watcher.cancel());
    put(&client, "a/1", "v");
    let batch = next(&watcher).expect("events").expect("it is open");
    watcher.put_back(batch.clone());
    assert_eq!(next(&watcher), Ok(Some(batch)));
    let waiting = Arc::clone(&watcher);
    let closing = thread::spawn(move || next(&waiting));
    watcher.close();
    assert_eq!(closing.join().expect("no panic"), Ok(None));
    assert_eq!(next(&watcher), Ok(None));
}

#[test]
fn who_is_too_late_for_history_is_told() {
    let memory = Memory::with(Limits { revisions_max: 10, ..Limits::default() }).expect("a thread");
    let client = client(&memory);
    for n in 0..50 {
        put(&client, "a/1", &n.to_string());
    }
    let watcher = client.watch(Keys::prefix(bytes("a/")), Some(2), false);
    assert_eq!(next(&watcher), Err(Failure::Refused(Refusal::Compacted { revision: 41 })));
}

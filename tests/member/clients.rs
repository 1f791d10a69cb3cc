//! Clients over TCP: they find a member, find the leader, and go on when members end.

use crate::group::{Group, PATIENCE, eventually};
use bytes::Bytes;
use coterie::client::{Acquire, Client, Endpoints, Failure, Held, Network, Settings, Transport};
use coterie::net::Secret;
use coterie::store::{Answer, Command, Done, Keys, Put, Query, Range, Reply};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

fn wait<T: Send + 'static>(call: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |value| drop(sender.send(value))));
    receiver.recv_timeout(PATIENCE * 2).expect("an answer in time")
}

fn endpoints(addresses: impl IntoIterator<Item = String>) -> Endpoints {
    Endpoints {
        addresses: addresses.into_iter().collect(),
        cluster: "coterie".to_owned(),
        secret: Some(Secret::new(b"the secret of these tests")),
        tls: None,
    }
}

fn connect(group: &Group) -> (Client, Arc<Network>) {
    let network = Network::start(endpoints(group.peers.values().cloned())).expect("a thread");
    let transport: Arc<dyn Transport> = network.clone();
    (Client::new(transport, Settings::default()), network)
}

fn put(client: &Client, key: &str, value: &str) -> Result<Answer, Failure> {
    let put = Command::Put(Put::new(key.to_owned().into(), value.to_owned().into()));
    wait(|done| client.command(&put, PATIENCE, done))
}

fn get(client: &Client, key: &str) -> Option<Bytes> {
    let query = Query::Range(Range::one(key.to_owned().into()));
    let answer = wait(|done| client.query(&query, PATIENCE, done)).expect("read");
    let Reply::Done(Done::Range { entries, .. }) = answer.reply else { panic!("{answer:?}") };
    entries.first().map(|entry| entry.value.clone())
}

fn acquire(client: &Client, name: &str, queues: bool) -> Option<Held> {
    let acquire = Acquire {
        name: name.to_owned().into(),
        value: Bytes::new(),
        ttl: PATIENCE,
        wait: queues,
        patience: PATIENCE,
    };
    let held: Result<Option<Held>, Failure> = wait(|done| drop(client.acquire(acquire, done)));
    held.expect("an answer of the lock")
}

#[test]
fn a_client_writes_and_reads_and_settles_with_the_leader() {
    let group = Group::start(3);
    let leader = group.members[&group.leader()].id();
    let (client, network) = connect(&group);
    assert_eq!(put(&client, "x", "1").expect("written").revision, 2);
    assert_eq!(get(&client, "x").as_deref(), Some(&b"1"[..]));
    eventually("a connection to the leader", || {
        put(&client, "y", "2").expect("written");
        (network.connection()?.member == leader).then_some(())
    });
}

#[test]
fn a_call_that_is_made_while_nobody_leads_waits_for_the_next_leader() {
    let mut group = Group::start(3);
    let (client, _) = connect(&group);
    for round in 0..3 {
        put(&client, "x", "before").expect("written");
        let leader = group.leader();
        group.kill(&leader);
        let begun = Instant::now();
        put(&client, "x", "after").expect("written by the next leader");
        println!("round {round}: {:?} without a write", begun.elapsed());
        assert_eq!(get(&client, "x").as_deref(), Some(&b"after"[..]));
        group.start_one(&leader);
        group.leader();
    }
}

#[test]
fn nothing_is_done_twice_and_nothing_is_lost_when_leaders_are_killed_under_load() {
    let mut group = Group::start(3);
    let (client, _) = connect(&group);
    put(&client, "first", "0").expect("written");
    let (sender, receiver) = mpsc::channel();
    let mut asked = 0;
    for round in 0..3 {
        for _ in 0..200 {
            let put = Command::Put(Put::new(format!("k{asked}").into(), Bytes::from_static(b"v")));
            let sender = sender.clone();
            client.command(&put, PATIENCE, move |answer| drop(sender.send(answer)));
            asked += 1;
        }
        let leader = group.leader();
        group.kill(&leader);
        group.leader();
        group.start_one(&leader);
        println!("round {round}");
    }
    for _ in 0..asked {
        receiver.recv_timeout(PATIENCE).expect("each is answered").expect("and written");
    }
    // Each key was set once: nobody applied a command twice that was sent twice.
    let count = Range { limit: 0, ..Range::of(Keys::prefix(Bytes::from_static(b"k"))) };
    let answer = wait(|done| client.query(&Query::Range(count), PATIENCE, done)).expect("read");
    let Reply::Done(Done::Range { entries, .. }) = answer.reply else { panic!("{answer:?}") };
    assert_eq!(entries.len(), asked);
    assert!(entries.iter().all(|entry| entry.version == 1));
    assert_eq!(answer.revision, 2 + asked as u64);
}

#[test]
fn a_client_that_ends_without_goodbye_frees_its_lock_at_once() {
    let group = Group::start(3);
    group.leader();
    let (first, network) = connect(&group);
    let (second, _) = connect(&group);
    let held = acquire(&first, "door", true).expect("free");
    assert!(acquire(&second, "door", false).is_none());
    let begun = Instant::now();
    network.close();
    let next = acquire(&second, "door", true).expect("freed");
    println!("freed after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "long before its time to live");
    assert!(next.token() > held.token());
    drop(held);
}

#[test]
fn a_lock_outlives_the_member_to_which_its_holder_was_connected() {
    let mut group = Group::start(3);
    let leader = group.leader();
    let (client, network) = connect(&group);
    let held = acquire(&client, "door", true).expect("free");
    eventually("a connection to the leader", || {
        put(&client, "y", "2").expect("written");
        (network.connection()?.member == group.members[&leader].id()).then_some(())
    });
    group.kill(&leader);
    put(&client, "x", "1").expect("written");
    assert!(!held.lost().is_lost(), "it was attached to another member in time");
    assert!(wait(|done| held.release(PATIENCE, done)).expect("released"));
}

#[test]
fn who_does_not_know_the_secret_is_told_so_at_once() {
    let group = Group::start(1);
    group.leader();
    let endpoints = Endpoints { secret: None, ..endpoints(group.peers.values().cloned()) };
    let client = Client::new(Network::start(endpoints).expect("a thread"), Settings::default());
    let begun = Instant::now();
    let failure = put(&client, "x", "1").expect_err("refused");
    assert!(matches!(failure, Failure::Auth(_)), "{failure:?}");
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[test]
fn nobody_there_is_unavailable_when_the_patience_is_over() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let client = Client::new(Network::start(endpoints([address])).expect("a thread"), Settings::default());
    let begun = Instant::now();
    let put = Command::Put(Put::new(Bytes::from_static(b"x"), Bytes::new()));
    let failure = wait(|done| client.command(&put, Duration::from_millis(300), done)).expect_err("nobody");
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure:?}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn what_no_member_takes_ends_no_connection() {
    let group = Group::start(1);
    let (client, network) = connect(&group);
    put(&client, "k", "v").expect("written");
    let connection = network.connection();
    for bytes in [9 << 20, 5 << 20, 2 << 20] {
        let refused = put(&client, "k", &"v".repeat(bytes));
        assert!(matches!(refused, Err(Failure::Refused(_))), "{bytes} bytes: {refused:?}");
    }
    assert_eq!(network.connection(), connection);
}

#[test]
fn closing_says_goodbye() {
    let group = Group::start(3);
    let ((one, _), (other, _)) = (connect(&group), connect(&group));
    let held = acquire(&one, "lock", true).expect("it is free");
    wait(|done: Box<dyn FnOnce(()) + Send>| one.close(move || done(())));
    assert!(held.lost().is_lost());
    assert!(acquire(&other, "lock", false).is_some());
    assert!(matches!(put(&one, "k", "v"), Err(Failure::Stopped(_))));
}

//! Clients ask over sockets; strangers are refused, counted, and harm nobody.

use crate::client::{Client, SECRET, hello, refused};
use crate::group::{Group, eventually, get, put, put_command};
use bytes::Bytes;
use coterie::id::NodeId;
use coterie::net::{Hello, MESSAGE, Party, Refusal, Refused, Secret};
use coterie::replica::Consistency;
use coterie::replica::asks::{Answer, Ask};
use coterie::store::{self, Command, Put, PutLease, Reply as Said};
use coterie::wire::{Decode, Encode, VERSION, frame};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn result(answer: Answer) -> store::Answer {
    match answer {
        Answer::Result { result, .. } => store::Answer::from_bytes(result, VERSION).expect("an answer"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_of_any_member_asks_much_at_once_and_hears_of_everything_once() {
    let group = Group::start(3);
    group.leader();
    for address in group.peers.values() {
        let mut client = Client::connect(address).expect("a connection");
        assert!(client.member.members.len() >= 2, "a client learns where the members are");
        let asks = (0..2_000)
            .map(|place| Ask::Command { stamp: None, command: put_command("x", &place.to_string()) });
        let replies = client.ask_all(asks, Duration::from_secs(20)).expect("replies");
        let mut revisions: Vec<u64> =
            replies.into_iter().map(|reply| result(reply.expect("written")).revision).collect();
        revisions.dedup();
        assert_eq!(revisions.len(), 2_000, "each in the order in which it was asked");
        assert!(revisions.is_sorted());
        let Some(Ok(Answer::Members { members, leader, .. })) = client.ask(Ask::Members) else {
            panic!("members")
        };
        assert_eq!(members.len(), 3);
        assert!(
            members
                .iter()
                .any(|member| Some(member.id) == leader && group.peers[&member.name] == member.address)
        );
        assert!(
            matches!(client.ask(Ask::Status), Some(Ok(Answer::Status(status))) if status.applied > 2_000)
        );
    }
}

#[test]
fn a_lease_ends_soon_after_its_holder_s_connection_unless_it_is_held_elsewhere() {
    let group = Group::start(3);
    group.leader();
    let address = &group.peers["a"];
    let grant = |client: &mut Client, key: &str| {
        let grant = Command::Grant { lease: 0, ttl: Duration::from_secs(60), home: client.member.id.0 };
        let granted = client.ask(Ask::Command { stamp: None, command: grant.to_bytes() });
        let Said::Granted { lease, attachment } = result(granted.expect("up").expect("granted")).reply else {
            panic!("a lease")
        };
        let put =
            Put { lease: PutLease::With(lease), ..Put::new(key.to_owned().into(), Bytes::from_static(b"1")) };
        let put = client.ask(Ask::Command { stamp: None, command: Command::Put(put).to_bytes() });
        put.expect("up").expect("written");
        let held = client.ask(Ask::Hold { lease, attachment });
        assert_eq!(held, Some(Ok(Answer::Done)));
    };
    let (mut lost, mut kept) = (Client::connect(address).expect("up"), Client::connect(address).expect("up"));
    grant(&mut lost, "lost");
    grant(&mut kept, "kept");
    drop(lost);
    let begun = Instant::now();
    let there = |key| get(&group.members["b"], key, Consistency::Linearizable).expect("read").is_some();
    eventually("an end of the lease", || (!there("lost")).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(10), "long before its time to live");
    assert!(there("kept"));
}

#[test]
fn strangers_are_refused_and_counted_and_the_cluster_goes_on() {
    let group = Group::start(3);
    let leader = group.leader();
    let address = &group.peers[&leader];
    let count =
        |what: &str| refused(&group.members[&leader].status().network).get(what).copied().unwrap_or(0);
    let counted = |what: &str, at_least: u64| {
        eventually(what, || (count(what) >= at_least).then_some(()));
        put(&group.members[&leader], "x", "1").expect("the cluster goes on");
    };
    let why = |hello: &Hello, secret: Option<&str>| {
        let secret = secret.map(|words| Secret::new(words.as_bytes()));
        match Client::connect_as(address, hello, secret.as_ref()) {
            Err(Refused::Here(refusal) | Refused::ByPeer(refusal)) => refusal,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a stranger was let in"),
        }
    };
    assert_eq!(why(&hello("coterie"), Some("another secret of somebody")), Refusal::Secret);
    assert_eq!(why(&hello("coterie"), None), Refusal::Secret);
    counted("strangers", 2);
    let secret = std::str::from_utf8(SECRET).expect("text");
    assert_eq!(why(&hello("theirs"), Some(secret)), Refusal::OtherCluster);
    counted("other_clusters", 1);
    let impostor = Hello { party: Party::Peer, name: "b".to_owned(), id: NodeId(7), ..hello("coterie") };
    assert!(matches!(why(&impostor, Some(secret)), Refusal::NameTaken { .. }));
    counted("names_taken", 1);

    let mut garbage = TcpStream::connect(address).expect("a connection");
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").expect("sent");
    assert_eq!(garbage.read(&mut [0; 16]).unwrap_or(0), 0, "it is closed without a word");
    counted("garbage", 1);
    drop(TcpStream::connect(address).expect("a connection"));
    counted("half_open", 1);

    // Those who belong here, and then say what nobody understands.
    let mut client = Client::connect(address).expect("a connection");
    client.send_raw(&[0xff; 64]);
    assert_eq!(client.ask(Ask::Status), None);
    counted("bad_frames", 1);
    let mut client = Client::connect(address).expect("a connection");
    let mut frame = Vec::new();
    frame::write(MESSAGE, 0, &mut frame, |payload| {
        payload.extend_from_slice(b"a peer's frame from a client");
    });
    client.send_raw(&frame);
    assert_eq!(client.ask(Ask::Status), None);
    counted("bad_frames", 2);

    // One that says nothing holds nobody up, and is sent away.
    let mut silent = TcpStream::connect(address).expect("a connection");
    counted("too_slow", 1);
    assert_eq!(silent.read(&mut [0; 16]).unwrap_or(0), 0);
}

//! What clients and members say to each other comes back as it went, and nothing else is taken for it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coterie::id::NodeId;
use coterie::raft::Role;
use coterie::replica::asks::{
    Answer, Ask, Asked, Error, MemberChange, MemberInfo, MemberStatus, Replied, Reply,
};
use coterie::replica::{Consistency, Request, SessionStamp};
use coterie::time::Instant;
use coterie::wire::{Decode, Encode, VERSION};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn asks_and_replies_come_back_as_they_went(asks in vec(asked(), 0..5), replies in vec(replied(), 0..5)) {
        prop_assert_eq!(Vec::<Asked>::from_bytes(asks.to_bytes(), VERSION), Ok(asks));
        prop_assert_eq!(Vec::<Replied>::from_bytes(replies.to_bytes(), VERSION), Ok(replies));
    }

    #[test]
    fn a_damaged_ask_or_reply_is_refused_or_is_another_one(
        ask in asked(), reply in replied(), at in any::<usize>(), damage in 1u8..
    ) {
        for mut bytes in [ask.to_bytes().to_vec(), reply.to_bytes().to_vec()] {
            let at = at % bytes.len();
            bytes[at] ^= damage;
            one_way_to_write_it(bytes);
        }
    }

    #[test]
    fn nothing_shorter_or_longer_is_an_ask(ask in asked(), extra in 1usize..9, cut in any::<usize>()) {
        let bytes = ask.to_bytes();
        let mut longer = bytes.to_vec();
        longer.resize(bytes.len() + extra, 0);
        prop_assert!(Asked::from_bytes(longer.into(), VERSION).is_err());
        prop_assert!(Asked::from_bytes(bytes.slice(..cut % bytes.len()), VERSION).is_err());
    }

    #[test]
    fn random_bytes_are_refused_or_have_one_meaning(bytes in vec(any::<u8>(), 0..200)) {
        one_way_to_write_it(bytes);
    }
}

#[test]
fn version_1_of_asks_is_written_as_it_always_was() {
    let pinned: BTreeMap<String, String> =
        serde_json::from_str(include_str!("../data/asks-v1.json")).expect("names and hexadecimal bytes");
    let asks = examples_of_asks().into_iter().map(|ask| {
        let name = format!("{ask:?}");
        (name, Asked { id: 7, patience: Duration::from_secs(5), ask }.to_bytes())
    });
    let replies = examples_of_replies().into_iter().map(|reply| {
        let name = format!("{reply:?}");
        (name, Replied { id: 7, reply }.to_bytes())
    });
    let written: BTreeMap<String, String> =
        asks.chain(replies).map(|(name, bytes)| (name, hexadecimal(&bytes))).collect();
    println!("{} examples", written.len());
    assert_eq!(written, pinned, "\n{}\n", serde_json::to_string_pretty(&written).expect("strings"));
}

#[test]
fn patience_for_ever_is_a_deadline_that_never_comes() {
    let asked = Asked { id: 1, patience: Duration::MAX, ask: Ask::OpenSession };
    let read = Asked::from_bytes(asked.to_bytes(), VERSION).expect("what was written is read");
    let deadline = Instant::from_nanos(123) + read.patience;
    assert_eq!(read.ask.into_request(deadline), Ok(Request::OpenSession { deadline: Instant::NEVER }));
}

#[test]
fn what_a_replica_does_not_know_comes_back_to_its_driver() {
    for ask in examples_of_asks() {
        let drivers = matches!(ask, Ask::Hold { .. } | Ask::Status | Ask::Members | Ask::Change(_));
        assert_eq!(ask.clone().into_request(Instant::NEVER).is_err(), drivers, "{ask:?}");
    }
}

fn one_way_to_write_it(bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    if let Ok(ask) = Asked::from_bytes(bytes.clone(), VERSION) {
        assert_eq!(ask.to_bytes(), bytes);
    }
    if let Ok(reply) = Replied::from_bytes(bytes.clone(), VERSION) {
        assert_eq!(reply.to_bytes(), bytes);
    }
}

fn examples_of_asks() -> Vec<Ask> {
    let stamp = SessionStamp { session: 3, sequence: 9, answered_below: 8 };
    let command = Bytes::from_static(b"command");
    let query = Bytes::from_static(b"query");
    let add = MemberChange::Add { name: "d".to_owned(), address: "127.0.0.1:7433".to_owned() };
    vec![
        Ask::OpenSession,
        Ask::CloseSession(3),
        Ask::Command { stamp: None, command: command.clone() },
        Ask::Command { stamp: Some(stamp), command },
        Ask::Query { query: query.clone(), consistency: Consistency::Linearizable },
        Ask::Query { query: query.clone(), consistency: Consistency::Lease },
        Ask::Query { query, consistency: Consistency::Stale },
        Ask::Lease { lease: 5, renew: true },
        Ask::Hold { lease: 5, attachment: 12 },
        Ask::Detached { lease: 5, attachment: 12 },
        Ask::Status,
        Ask::Members,
        Ask::Change(vec![add, MemberChange::Promote { id: NodeId(4), weight: 2 }]),
        Ask::Change(vec![MemberChange::Demote(NodeId(4)), MemberChange::Remove(NodeId(1))]),
        Ask::Transfer(NodeId(2)),
    ]
}

fn examples_of_replies() -> Vec<Reply> {
    let status = MemberStatus {
        cluster: 1,
        id: NodeId(2),
        name: "b".to_owned(),
        role: Role::Leader,
        term: 3,
        leader: Some(NodeId(2)),
        last: 6,
        commit: 5,
        applied: 4,
        pending: 1,
    };
    let role = |role| Ok(Answer::Status(MemberStatus { role, leader: None, ..status.clone() }));
    let voter = MemberInfo {
        id: NodeId(2),
        name: "b".to_owned(),
        address: "127.0.0.1:7433".to_owned(),
        vote: Some(1),
    };
    let learner = MemberInfo { id: NodeId(3), vote: None, ..voter.clone() };
    vec![
        Ok(Answer::Done),
        Ok(Answer::Session(9)),
        Ok(Answer::Result { index: 12, result: Bytes::from_static(b"result") }),
        Ok(Answer::Queried(Bytes::from_static(b"result"))),
        Ok(Answer::Lease { ttl: Duration::from_secs(10), left: Duration::from_secs(7) }),
        Ok(Answer::Changed(13)),
        Ok(Answer::Transferred { leader: NodeId(2), term: 4 }),
        Ok(Answer::Status(status.clone())),
        role(Role::Follower),
        role(Role::PreCandidate),
        role(Role::Candidate),
        Ok(Answer::Members { term: 3, leader: Some(NodeId(2)), members: vec![voter, learner] }),
        Err(Error::NotLeader { term: 3, leader: None }),
        Err(Error::Overloaded { limit: "pending_max".to_owned() }),
        Err(Error::TooLarge { bytes: 9, limit: 8 }),
        Err(Error::TimedOut),
        Err(Error::SessionExpired),
        Err(Error::LeaseNotFound),
        Err(Error::Malformed),
        Err(Error::Refused("no such member".to_owned())),
        Err(Error::Stopped("closed".to_owned())),
        Err(Error::Unknown),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let ask = prop_oneof![
        3 => proptest::sample::select(examples_of_asks()),
        1 => vec(any::<u8>(), 0..40).prop_map(|command| Ask::Command { stamp: None, command: command.into() }),
    ];
    (any::<u64>(), any::<u64>(), ask).prop_map(|(id, patience, ask)| Asked {
        id,
        patience: Duration::from_nanos(patience),
        ask,
    })
}

fn replied() -> impl Strategy<Value = Replied> {
    let reply = prop_oneof![
        3 => proptest::sample::select(examples_of_replies()),
        1 => (any::<u64>(), vec(any::<u8>(), 0..40))
            .prop_map(|(index, result)| Ok(Answer::Result { index, result: result.into() })),
    ];
    (any::<u64>(), reply).prop_map(|(id, reply)| Replied { id, reply })
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

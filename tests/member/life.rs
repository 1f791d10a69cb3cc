//! Members begin, write, end, and begin again.

use crate::group::{Group, ask, eventually, get, put};
use coterie::node::{Failure, Member, Part, StartError};
use coterie::replica::Consistency;
use coterie::replica::asks::{Answer, Ask, MemberChange};

#[test]
fn three_members_elect_one_and_all_of_them_write_and_read() {
    let group = Group::start(3);
    group.leader();
    for (place, (name, member)) in group.members.iter().enumerate() {
        let answer = put(member, name, "here").expect("written");
        assert_eq!(answer.revision, 2 + place as u64);
    }
    for member in group.members.values() {
        for name in group.members.keys() {
            let found = get(member, name, Consistency::Linearizable).expect("read");
            assert_eq!(found.as_deref(), Some("here"));
        }
    }
}

#[test]
fn what_was_acknowledged_survives_that_all_members_are_killed() {
    let mut group = Group::start(3);
    let leader = group.leader();
    for place in 0..50 {
        put(&group.members[&leader], &format!("key {place}"), &place.to_string()).expect("written");
    }
    for name in ["a", "b", "c"] {
        group.kill(name);
    }
    for name in ["a", "b", "c"] {
        group.start_one(name);
    }
    let leader = group.leader();
    for place in 0..50 {
        let found = get(&group.members[&leader], &format!("key {place}"), Consistency::Linearizable);
        assert_eq!(found.expect("read"), Some(place.to_string()));
    }
    eventually("all revisions", || {
        group.members.values().all(|member| member.status().revision == 51).then_some(())
    });
}

#[test]
fn a_member_alone_is_a_cluster() {
    let group = Group::start(1);
    assert_eq!(put(&group.members["a"], "x", "1").expect("written").revision, 2);
}

#[test]
fn a_leader_that_closes_hands_over_and_what_it_said_holds() {
    let mut group = Group::start(3);
    let leader = group.leader();
    put(&group.members[&leader], "x", "1").expect("written");
    let begun = std::time::Instant::now();
    group.members.remove(&leader).expect("a member").close();
    assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    let next = group.leader();
    assert_ne!(next, leader);
    let found = get(&group.members[&next], "x", Consistency::Linearizable).expect("read");
    assert_eq!(found.as_deref(), Some("1"));
}

#[test]
fn a_folder_serves_one_member_and_one_name() {
    let mut group = Group::start(1);
    let complaint = |outcome: Result<Member, StartError>| match outcome {
        Err(StartError::Config(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let again = complaint(Member::start(&group.config("a")));
    assert!(again.contains("in use by process"), "{again}");
    group.kill("a");
    let mut config = group.config("a");
    config.name = "z".to_owned();
    config.peers.clear();
    let other = complaint(Member::start(&config));
    assert!(other.contains("is of the member \"a\""), "{other}");
    config = group.config("a");
    config.cluster = "another".to_owned();
    let other = complaint(Member::start(&config));
    assert!(other.contains("is of the cluster \"coterie\""), "{other}");
}

#[test]
fn blank_data_under_an_old_name_is_refused() {
    let mut group = Group::start(3);
    let follower = group.follower();
    group.kill(&follower);
    std::fs::remove_dir_all(group.scratch.path().join(&follower)).expect("removed");
    group.start_one(&follower);
    let failure = group.failure(&follower);
    assert!(
        matches!(&failure, Failure::Refused { complaint } if complaint.contains("is a member")),
        "{failure}"
    );
}

#[test]
fn a_member_that_was_added_gets_everything_and_votes_when_it_is_promoted() {
    let mut group = Group::start(3);
    let leader = group.leader();
    put(&group.members[&leader], "x", "1").expect("written");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    group.peers.insert("d".to_owned(), address.clone());
    group.start_one("d");
    let add = MemberChange::Add { name: "d".to_owned(), address };
    let added = ask(&group.members[&leader], Ask::Change(vec![add]));
    assert!(matches!(added, Ok(Answer::Changed(_))), "{added:?}");
    let id = group.members["d"].id();
    eventually("a learner that has all", || (group.members["d"].status().revision == 2).then_some(()));
    let promoted = eventually("a promotion", || {
        let promote = MemberChange::Promote { id, weight: 1 };
        ask(&group.members[&leader], Ask::Change(vec![promote])).ok()
    });
    assert!(matches!(promoted, Answer::Changed(_)));
    // Two of the four are gone, and the new one is needed for a majority: three of four.
    let other = group.members.keys().find(|name| **name != leader && *name != "d").expect("another").clone();
    group.kill(&other);
    put(&group.members["d"], "y", "2").expect("written");
    let removed = ask(&group.members[&leader], Ask::Change(vec![MemberChange::Remove(id)]));
    assert!(matches!(removed, Ok(Answer::Changed(_))), "{removed:?}");
    let members = eventually("a membership", || {
        let members = group.members[&leader].status().members;
        (members.len() == 3).then_some(members)
    });
    assert!(members.iter().all(|member| member.name != "d"));
}

#[test]
fn an_observer_gets_everything_and_has_no_vote() {
    let group = Group::start_with(3, |config| config.observer = config.name == "c");
    let leader = group.leader();
    put(&group.members[&leader], "x", "1").expect("written");
    let observer = &group.members["c"];
    let part = eventually("a learner", || Some(observer.status().part).filter(|part| *part == Part::Learner));
    assert_eq!(part, Part::Learner);
    assert_eq!(get(observer, "x", Consistency::Linearizable).expect("read").as_deref(), Some("1"));
    let members = observer.status().members;
    assert_eq!(members.iter().filter(|member| member.vote.is_some()).count(), 2);
}

#[test]
fn a_member_that_has_moved_tells_the_others_where_it_is() {
    let mut group = Group::start(3);
    group.leader();
    put(&group.members["a"], "x", "1").expect("written");
    group.kill("b");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let elsewhere = free.local_addr().expect("bound").to_string();
    drop(free);
    group.peers.insert("b".to_owned(), elsewhere.clone());
    group.start_one("b");
    // Without the third it is needed, and must be found by who has only heard of it.
    let third = if group.leader() == "c" { "a" } else { "c" };
    eventually("the new address", || {
        let members = group.members.values().map(|member| member.status().members);
        let mut of_b = members.flatten().filter(|member| member.name == "b");
        of_b.all(|member| member.address == elsewhere).then_some(())
    });
    group.kill(third);
    let left = group.members.keys().next().expect("two").clone();
    put(&group.members[&left], "x", "2").expect("the two go on");
}

#[test]
fn a_port_that_was_left_open_is_the_same_at_each_start() {
    let mut group = Group::prepare(1);
    group.change = Box::new(|config| {
        config.listen = "127.0.0.1:0".to_owned();
        config.peers.clear();
    });
    group.start_all();
    let (address, id) = (group.members["a"].address(), group.members["a"].id());
    put(&group.members["a"], "x", "1").expect("written");
    group.kill("a");
    group.start_one("a");
    assert_eq!((group.members["a"].address(), group.members["a"].id()), (address, id));
    let found = get(&group.members["a"], "x", Consistency::Linearizable).expect("read");
    assert_eq!(found.as_deref(), Some("1"));
}

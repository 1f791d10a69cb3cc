//! What becomes of a member whose disk has lied.

use crate::group::{Group, get, put};
use coterie::node::{Failure, Member, StartError};
use coterie::replica::Consistency;
use std::fs;
use std::path::PathBuf;

fn segments(group: &Group, name: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(group.scratch.path().join(name).join("wal")).expect("a journal");
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

#[test]
fn a_bit_that_has_flipped_is_named_with_its_file_its_place_and_the_way_out() {
    let mut group = Group::start(1);
    for number in 0..20 {
        put(&group.members["a"], "x", &number.to_string()).expect("written");
    }
    group.kill("a");
    let file = segments(&group, "a").pop().expect("a segment");
    let mut bytes = fs::read(&file).expect("readable");
    bytes[300] ^= 1;
    fs::write(&file, bytes).expect("written");
    let Err(StartError::Failure(Failure::Storage { path, offset, complaint, full: false })) =
        Member::start(&group.config("a"))
    else {
        panic!("it started")
    };
    assert_eq!(path.file_name(), file.file_name());
    assert!(offset.is_some_and(|offset| offset <= 300), "{offset:?}");
    assert!(complaint.contains("remove this member from the cluster and add it again"), "{complaint}");
}

#[test]
fn a_torn_end_is_repaired_and_a_journal_that_is_gone_is_not() {
    let mut group = Group::start(1);
    put(&group.members["a"], "x", "1").expect("written");
    group.kill("a");
    let file = segments(&group, "a").pop().expect("a segment");
    let mut bytes = fs::read(&file).expect("readable");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("something");
    bytes.truncate(end + 32);
    bytes.extend_from_slice(b"half of a batch that was being written");
    fs::write(&file, bytes).expect("written");
    group.start_one("a");
    let found = get(&group.members["a"], "x", Consistency::Linearizable).expect("read");
    assert_eq!(found.as_deref(), Some("1"));
    group.kill("a");
    for file in segments(&group, "a") {
        fs::remove_file(file).expect("removed");
    }
    let outcome = Member::start(&group.config("a"));
    assert!(matches!(outcome, Err(StartError::Failure(Failure::Storage { .. }))), "{outcome:?}");
}

#[test]
fn snapshots_end_the_journal_and_bring_a_late_member_up_to_date() {
    let small = |config: &mut coterie::node::Config| {
        config.snapshot_entries = 500;
        config.segment_bytes = 1 << 16;
    };
    let mut group = Group::start_with(3, small);
    let leader = group.leader();
    let late = group.follower();
    group.kill(&late);
    for number in 0..4_000 {
        put(&group.members[&leader], &format!("key {}", number % 50), &number.to_string()).expect("written");
    }
    let first = segments(&group, &leader).remove(0);
    assert!(!first.ends_with("0000000000000001.wal"), "what a snapshot holds is gone from the journal");
    group.start_one(&late);
    crate::group::eventually("all of it", || {
        (group.members[&late].status().revision == group.members[&leader].status().revision).then_some(())
    });
    group.kill(&late);
    group.start_one(&late);
    let found = get(&group.members[&late], "key 49", Consistency::Linearizable).expect("read");
    assert_eq!(found.as_deref(), Some("3999"));
}

//! Members of two releases in one cluster: whoever is newer speaks and writes as whoever is older reads.
//!
//! Only in a build whose version is raised, which `make test-upgrade` makes while there is no tag to start from: there are two
//! versions then.

use crate::client::{Client, Persistent};
use crate::group::{Group, ask, eventually, get, put};
use crate::upgrade::writes_are_kept;
use coterie::replica::Consistency;
use coterie::replica::asks::Ask;
use coterie::wire::{VERSION, VERSION_MIN};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

const OLD: u16 = VERSION_MIN;
const NEW: u16 = VERSION;
const _: () = assert!(OLD < NEW, "two releases");

/// Which release each member is of; those that are not named are old.
#[derive(Clone, Default)]
struct Releases(Arc<Mutex<BTreeMap<String, u16>>>);

impl Releases {
    fn set(&self, name: &str, version: u16) {
        self.0.lock().expect("sound").insert(name.to_owned(), version);
    }

    fn of(&self, name: &str) -> u16 {
        self.0.lock().expect("sound").get(name).copied().unwrap_or(OLD)
    }

    fn start(&self, count: usize) -> Group {
        let releases = self.clone();
        Group::start_with(count, move |config| {
            config.format_version = releases.of(&config.name);
            config.snapshot_entries = 300;
            config.segment_bytes = 1 << 16;
        })
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    found.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

fn word_at(file: &Path, at: usize) -> u16 {
    let bytes = fs::read(file).expect("readable");
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The versions of a member's journal and snapshots, as its files say.
fn written(group: &Group, name: &str) -> (Vec<u16>, Vec<u16>) {
    let folder = group.scratch.path().join(name);
    let journal = files(&folder.join("wal"), "wal").iter().map(|file| word_at(file, 12)).collect();
    let snapshots = files(&folder.join("snap"), "snap").iter().map(|file| word_at(file, 0)).collect();
    (journal, snapshots)
}

fn lead(group: &Group, name: &str) {
    eventually("the leader that is wanted", || {
        let leader = group.leader();
        if leader == name {
            return Some(());
        }
        let to = group.members[name].id();
        let _ = ask(&group.members[&leader], Ask::Transfer(to));
        None
    });
}

fn write_many(group: &Group, through: &str, count: usize) {
    for number in 0..count {
        put(&group.members[through], &format!("key {}", number % 20), &number.to_string()).expect("written");
    }
}

fn caught_up(group: &Group, name: &str, leader: &str) {
    let revision = |name: &str| group.members[name].status().revision;
    eventually("all of it", || (revision(name) == revision(leader)).then_some(()));
}

fn no_frame_was_refused(group: &Group) {
    for (name, member) in &group.members {
        assert_eq!(member.status().network.bad_frames, 0, "{name} was told what it does not read");
    }
}

#[test]
fn entries_go_both_ways_and_a_snapshot_to_an_older_member() {
    let releases = Releases::default();
    releases.set("a", NEW);
    let mut group = releases.start(3);
    for leader in ["a", "b"] {
        lead(&group, leader);
        for through in ["a", "b", "c"] {
            put(&group.members[through], leader, through).expect("written");
            let found = get(&group.members[through], leader, Consistency::Linearizable).expect("read");
            assert_eq!(found.as_deref(), Some(through));
        }
    }
    for (name, version) in [("a", NEW), ("b", OLD)] {
        let client = Client::connect(&group.peers[name]).expect("a connection");
        assert_eq!(client.version, version, "clients, too, hear the version of their member");
    }
    lead(&group, "a");
    group.kill("c");
    write_many(&group, "a", 4_000);
    group.start_one("c");
    caught_up(&group, "c", "a");
    let by = format!("{:016x}", group.members["a"].id().0);
    let theirs = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(&by));
    let got = files(&group.scratch.path().join("c/snap"), "snap");
    assert!(got.iter().any(theirs), "the leader's own snapshot: {got:?}");
    no_frame_was_refused(&group);
    for name in ["b", "c"] {
        let (journal, snapshots) = written(&group, name);
        assert!(journal.iter().chain(&snapshots).all(|version| *version == OLD), "{journal:?} {snapshots:?}");
    }
    let (journal, _) = written(&group, "a");
    assert!(journal.iter().all(|version| *version == NEW), "{journal:?}");
}

#[test]
fn a_member_that_went_back_gets_a_snapshot_that_is_made_anew() {
    let releases = Releases::default();
    for name in ["a", "b", "c"] {
        releases.set(name, NEW);
    }
    let mut group = releases.start(3);
    lead(&group, "a");
    group.kill("c");
    write_many(&group, "a", 4_000);
    let (_, snapshots) = written(&group, "a");
    assert!(snapshots.contains(&NEW), "one that all could read when it was made: {snapshots:?}");
    // As a member that lost its disk and was set up with the build before.
    releases.set("c", OLD);
    group.start_one("c");
    eventually("all of it, by a snapshot in its version", || {
        put(&group.members["a"], "more", "more").expect("written");
        let (_, snapshots) = written(&group, "c");
        let revision = |name: &str| group.members[name].status().revision;
        (snapshots == [OLD] && revision("c") + 5 > revision("a")).then_some(())
    });
    no_frame_was_refused(&group);
}

#[test]
fn a_cluster_is_upgraded_member_by_member_while_it_writes_and_loses_nothing() {
    let releases = Releases::default();
    let mut group = releases.start(3);
    group.leader();
    let addresses: Vec<String> = group.peers.values().cloned().collect();
    let client = || Persistent::new(addresses.clone());
    writes_are_kept(client, |acknowledged| {
        // The way there, back for one of them, and there again.
        for (name, version) in [("a", NEW), ("b", NEW), ("a", OLD), ("a", NEW), ("c", NEW)] {
            let before = acknowledged.load(SeqCst);
            group.members.remove(name).expect("a member").close();
            releases.set(name, version);
            group.start_one(name);
            eventually("writes", || (acknowledged.load(SeqCst) > before + 400).then_some(()));
            caught_up_once(&group, name);
            no_frame_was_refused(&group);
        }
    });
    for name in ["a", "b", "c"] {
        let client = Client::connect(&group.peers[name]).expect("a connection");
        assert_eq!(client.version, NEW, "{name}");
    }
}

/// A member that has all that was there when it was asked.
fn caught_up_once(group: &Group, name: &str) {
    let revision = |name: &str| group.members[name].status().revision;
    let wanted = group.members.keys().map(|name| revision(name)).max().expect("members");
    eventually("all of it", || (revision(name) >= wanted).then_some(()));
}

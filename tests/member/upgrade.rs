//! Processes of an earlier build are replaced by processes of this one, which take over their data.

use crate::client::{Client, Persistent};
use crate::group::{eventually, put_command};
use crate::processes::{Processes, read};
use coterie::wire::VERSION;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Clients write numbers under keys of their own while `meddle` does its worst; what they were told is there is there.
pub(crate) fn writes_are_kept(client: impl Fn() -> Persistent + Sync, meddle: impl FnOnce(&AtomicU64)) {
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (mut client, over, acknowledged) = (client(), &over, &acknowledged);
                scope.spawn(move || {
                    let mut number = 0u64;
                    while !over.load(SeqCst) {
                        number += 1;
                        let key = format!("{writer}/{}", number % 50);
                        client.command(&put_command(&key, &number.to_string()));
                        acknowledged.fetch_add(1, SeqCst);
                    }
                    number
                })
            })
            .collect();
        // Whatever goes wrong, the writers must hear that it is over.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meddle(&acknowledged)));
        over.store(true, SeqCst);
        let mut reader = client();
        for (writer, thread) in writers.into_iter().enumerate() {
            let last = thread.join().expect("a writer");
            for number in last.saturating_sub(49).max(1)..=last {
                let found = read(&mut reader, &format!("{writer}/{}", number % 50));
                assert_eq!(found, Some(number), "writer {writer} was told that {number} is written");
            }
        }
        outcome.expect("an upgrade");
    });
}

/// `make test-upgrade` names the build before: its tests, whose processes are members.
#[test]
fn processes_of_the_build_before_and_of_this_one_make_a_cluster() {
    let Some(before) = std::env::var_os("COTERIE_BUILD_BEFORE") else {
        println!("skipped: COTERIE_BUILD_BEFORE does not name the tests of a build of the version before");
        return;
    };
    let mut group = Processes::prepare(3);
    for name in ["a", "b", "c"] {
        group.builds.insert(name.to_owned(), PathBuf::from(&before));
        group.start_one(name);
    }
    let addresses: Vec<String> = group.peers.values().cloned().collect();
    let client = || Persistent::new(addresses.clone());
    writes_are_kept(client, |acknowledged| {
        let wait = |count| {
            let seen = acknowledged.load(SeqCst);
            eventually("writes", || (acknowledged.load(SeqCst) > seen + count).then_some(()));
        };
        wait(100);
        for name in ["a", "b", "c"] {
            group.kill(name);
            group.builds.remove(name);
            group.start_one(name);
            wait(3_000);
            let client = Client::connect(&group.peers[name]).expect("a member");
            assert_eq!(client.version, VERSION, "{name}");
            // Whoever is still of the build before is killed and comes back, and gets a snapshot by then.
            if let Some(old) = group.builds.keys().next().cloned() {
                group.kill(&old);
                wait(4_000);
                group.start_one(&old);
                wait(100);
            }
            assert!(group.ended().is_empty(), "{:?} could not go on", group.ended());
        }
    });
}

//! Members in processes of their own: killed, stopped, out of disk.

use crate::client::{Client, Persistent, SECRET};
use crate::group::{Scratch, eventually, put_command};
use coterie::node::{Config, Member, SecretSource};
use coterie::raft::Role;
use coterie::replica::Consistency;
use coterie::replica::asks::{Answer, Ask, MemberStatus};
use coterie::store::{self, Done, Query, Range, Reply};
use coterie::wire::{Decode, Encode, VERSION};
use std::collections::BTreeMap;
use std::env;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const MEMBER: &str = "COTERIE_TEST_MEMBER";

/// No test, but what the processes of tests run: this binary, asked for this alone.
#[test]
fn a_member_in_a_process_of_its_own() {
    let Ok(settings) = env::var(MEMBER) else { return };
    let [name, folder, peers] = settings.splitn(3, '|').collect::<Vec<_>>()[..] else { panic!("{settings}") };
    let peers: BTreeMap<String, String> = peers
        .split(',')
        .filter_map(|peer| peer.split_once('='))
        .map(|(name, at)| (name.to_owned(), at.to_owned()))
        .collect();
    let mut config = Config::new(name, Path::new(folder));
    config.listen.clone_from(&peers[name]);
    config.peers = peers;
    config.secret = SecretSource::Bytes(SECRET.to_vec());
    config.snapshot_entries = 2_000;
    config.segment_bytes = 1 << 20;
    let tell = |failure: &dyn std::fmt::Display| {
        let mut told = std::fs::File::create(Path::new(folder).with_extension("failure")).expect("a file");
        write!(told, "{failure}").expect("written");
    };
    let member = match Member::start(&config) {
        Ok(member) => member,
        Err(error) => {
            tell(&error);
            std::process::exit(4);
        }
    };
    std::thread::spawn(|| {
        // Its parent is gone, or wants it to end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    member.wait(Duration::from_secs(600));
    let failure = member.failure().expect("nobody has told it to end");
    tell(&failure);
    std::process::exit(3);
}

pub(crate) struct Processes {
    scratch: Scratch,
    pub(crate) peers: BTreeMap<String, String>,
    children: BTreeMap<String, Child>,
    /// The tests of another build, for the members that are to be of it.
    pub(crate) builds: BTreeMap<String, PathBuf>,
}

impl Processes {
    fn start(count: usize) -> Self {
        let mut group = Self::prepare(count);
        for name in group.peers.clone().into_keys() {
            group.start_one(&name);
        }
        group
    }

    /// None of them runs yet.
    pub(crate) fn prepare(count: usize) -> Self {
        let names = (0..count).map(|place| char::from(b'a' + place as u8).to_string());
        let free: Vec<_> =
            names.map(|name| (name, TcpListener::bind("127.0.0.1:0").expect("a port"))).collect();
        let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
        let peers: BTreeMap<_, _> =
            free.iter().map(|(name, listener)| (name.clone(), address(listener))).collect();
        drop(free);
        let (children, builds) = (BTreeMap::new(), BTreeMap::new());
        Self { scratch: Scratch::new("processes"), peers, children, builds }
    }

    pub(crate) fn start_one(&mut self, name: &str) {
        let peers: Vec<String> = self.peers.iter().map(|(name, at)| format!("{name}={at}")).collect();
        let folder = self.scratch.path().join(name);
        let settings = format!("{name}|{}|{}", folder.display(), peers.join(","));
        let build = self.builds.get(name).cloned();
        let child = Command::new(build.unwrap_or_else(|| env::current_exe().expect("this binary")))
            .args([
                "--exact",
                "processes::a_member_in_a_process_of_its_own",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(MEMBER, settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        self.children.insert(name.to_owned(), child);
    }

    /// Those that have ended by themselves.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.children {
            if child.try_wait().expect("a child").is_some() {
                ended.push(name.clone());
            }
        }
        ended
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, name: &str) {
        let mut child = self.children.remove(name).expect("a process");
        child.kill().expect("killed");
        child.wait().expect("gone");
    }

    fn signal(&self, name: &str, signal: libc::c_int) {
        let process = self.children[name].id() as libc::pid_t;
        // SAFETY: it is a child of ours that nobody has waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(process, signal) }, 0);
    }

    fn client(&self) -> Persistent {
        Persistent::new(self.peers.values().cloned())
    }

    /// Who leads, as those say who answer.
    fn leader(&self, except: &str) -> String {
        eventually("a leader", || {
            let of = |name: &String| status(&self.peers[name]).map(|status| (name.clone(), status));
            let statuses = self.children.keys().filter(|name| *name != except).filter_map(of);
            let leads = statuses.filter(|(_, status)| status.role == Role::Leader);
            leads.max_by_key(|(_, status)| status.term).map(|(name, _)| name)
        })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn status(address: &str) -> Option<MemberStatus> {
    match Client::connect(address).ok()?.ask(Ask::Status)? {
        Ok(Answer::Status(status)) => Some(status),
        _ => None,
    }
}

/// The number under a key, as the whole cluster has it.
pub(crate) fn read(client: &mut Persistent, key: &str) -> Option<u64> {
    let query = Query::Range(Range::one(key.to_owned().into())).to_bytes();
    let Answer::Queried(result) = client.ask(&Ask::Query { query, consistency: Consistency::Linearizable })
    else {
        panic!("an answer to a query")
    };
    match store::Answer::from_bytes(result, VERSION).expect("an answer").reply {
        Reply::Done(Done::Range { entries, .. }) => {
            let value = &entries.first()?.value;
            Some(std::str::from_utf8(value).expect("text").parse().expect("a number"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_acknowledged_write_is_lost_while_members_are_killed_again_and_again() {
    let mut group = Processes::start(3);
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let longest = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (mut client, over, acknowledged) = (group.client(), &over, &acknowledged);
                scope.spawn(move || {
                    let (mut number, mut longest) = (0u64, Duration::ZERO);
                    while !over.load(SeqCst) {
                        let begun = Instant::now();
                        number += 1;
                        client.command(&put_command(
                            &format!("{writer}/{}", number % 100),
                            &number.to_string(),
                        ));
                        longest = longest.max(begun.elapsed());
                        acknowledged.fetch_add(1, SeqCst);
                    }
                    (number, longest)
                })
            })
            .collect();
        for round in 0..8 {
            // Every other time the leader, else whoever's turn it is.
            let name = if round % 2 == 0 { group.leader("") } else { ["a", "b", "c"][round % 3].to_owned() };
            let before = acknowledged.load(SeqCst);
            group.kill(&name);
            eventually("writes by the other two", || (acknowledged.load(SeqCst) > before + 20).then_some(()));
            group.start_one(&name);
            let before = acknowledged.load(SeqCst);
            eventually("writes by all three", || (acknowledged.load(SeqCst) > before + 20).then_some(()));
        }
        over.store(true, SeqCst);
        let mut client = group.client();
        let mut longest = Duration::ZERO;
        for (writer, thread) in writers.into_iter().enumerate() {
            let (last, slowest) = thread.join().expect("a writer");
            longest = longest.max(slowest);
            for number in last.saturating_sub(99).max(1)..=last {
                let found = read(&mut client, &format!("{writer}/{}", number % 100));
                assert_eq!(found, Some(number), "writer {writer} was told that {number} is written");
            }
        }
        longest
    });
    println!("{} writes, the slowest in {longest:?}", acknowledged.load(SeqCst));
}

#[test]
fn a_leader_that_stood_still_reads_nothing_old_when_it_goes_on() {
    let group = Processes::start(3);
    let mut client = group.client();
    client.command(&put_command("x", "1"));
    let leader = group.leader("");
    let mut stopped = Client::connect(&group.peers[&leader]).expect("a connection");
    group.signal(&leader, libc::SIGSTOP);
    let others = group.peers.iter().filter(|(name, _)| **name != leader).map(|(_, address)| address.clone());
    let mut others = Persistent::new(others);
    others.command(&put_command("x", "2"));
    assert_ne!(group.leader(&leader), leader);
    group.signal(&leader, libc::SIGCONT);
    let query = Query::Range(Range::one("x".into())).to_bytes();
    for consistency in [Consistency::Lease, Consistency::Linearizable] {
        let found = stopped.ask(Ask::Query { query: query.clone(), consistency }).expect("up").expect("read");
        let Answer::Queried(result) = found else { panic!("{found:?}") };
        let Reply::Done(Done::Range { entries, .. }) =
            store::Answer::from_bytes(result, VERSION).expect("an answer").reply
        else {
            panic!("a range")
        };
        assert_eq!(entries[0].value, "2", "{consistency:?}");
    }
}

/// A disk of its own for a member that has not started: a small one. Whoever may not mount one learns nothing here.
fn give_a_small_disk(folder: &Path, bytes: usize) -> Option<SmallDisk> {
    std::fs::create_dir_all(folder).expect("a folder");
    let size = format!("size={bytes}");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "coterie"]).arg(folder).status();
    if mounted.is_ok_and(|status| status.success()) {
        return Some(SmallDisk(folder.to_owned()));
    }
    println!("skipped: no disk can be mounted here");
    None
}

struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Takes all room that is left but `bytes`.
    fn fill(&self, bytes: usize) {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast).expect("a file");
        while file.write_all(&[1; 1 << 12]).is_ok() {}
        let length = file.metadata().expect("there").len();
        file.set_len(length.saturating_sub(bytes as u64)).expect("shorter");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_leader_whose_disk_is_full_hands_over_and_stops_and_comes_back_when_there_is_room() {
    let mut group = Processes::prepare(3);
    let folder = group.scratch.path().join("c");
    let Some(disk) = give_a_small_disk(&folder, 16 << 20) else { return };
    for name in ["a", "b", "c"] {
        group.start_one(name);
    }
    let mut client = group.client();
    client.command(&put_command("x", "1"));
    eventually("the leadership of the one with the small disk", || {
        let leader = group.leader("");
        let heir = status(&group.peers["c"])?.id;
        if leader != "c" {
            Client::connect(&group.peers[&leader]).ok()?.ask(Ask::Transfer(heir));
        }
        (leader == "c").then_some(())
    });
    assert!(folder.join("reserve").exists());
    disk.fill(100_000);
    let (big, mut number) = ("x".repeat(100_000), 1);
    let ended = eventually("an end for want of room", || {
        number += 1;
        client.command(&put_command(&format!("big {}", number % 30), &big));
        client.command(&put_command("x", &number.to_string()));
        group.children.get_mut("c").expect("a process").try_wait().expect("a child")
    });
    let told = || std::fs::read_to_string(folder.with_extension("failure")).expect("it has said why");
    assert_eq!(ended.code(), Some(3));
    assert!(told().contains("has handed over, and has stopped; make room"), "{}", told());
    assert!(!folder.join("reserve").exists(), "it was needed");
    assert_ne!(group.leader("c"), "c");
    assert_eq!(read(&mut client, "x"), Some(number));

    // There is no use in a start that could not even end in order.
    group.children.remove("c");
    disk.fill(100_000);
    group.start_one("c");
    let ended = eventually("a refusal", || {
        group.children.get_mut("c").expect("a process").try_wait().expect("a child")
    });
    assert_eq!(ended.code(), Some(4));
    assert!(told().contains("reserve could not be given"), "{}", told());
    group.children.remove("c");
    disk.make_room();
    group.start_one("c");
    let committed = status(&group.peers[&group.leader("c")]).expect("a leader").commit;
    eventually("it has what the others have", || {
        status(&group.peers["c"]).filter(|status| status.applied >= committed).map(|_| ())
    });
}

//! What members on this machine do: latency, throughput, reads, fail-over, hand-over.
//!
//! One member runs in this process and two in processes of their own. `cargo run --release --features member --example
//! members -- FOLDER` writes below that folder, which should be on the disk that is to be measured.
#![expect(clippy::disallowed_methods, reason = "it measures by the real clock")]

use bytes::Bytes;
use coterie::id::NodeId;
use coterie::node::{Config, Member, Part, SecretSource};
use coterie::replica::asks::{Answer, Ask, Reply};
use coterie::replica::{Consistency, SessionStamp};
use coterie::store::{Command, Put, Query, Range};
use coterie::wire::Encode;
use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(10);
const VALUE_BYTES: usize = 256;

fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["member", name, folder, peers, lease] => serve(name, folder.as_ref(), peers, lease == "lease"),
        [folder] => {
            measure(folder.as_ref(), false)?;
            measure(folder.as_ref(), true)
        }
        _ => Err("usage: members FOLDER".into()),
    }
}

/// A member in a process of its own, which ends with its standard input.
fn serve(name: &str, folder: &Path, peers: &str, lease: bool) -> Outcome {
    let peers = peers
        .split(',')
        .filter_map(|peer| peer.split_once('='))
        .map(|(name, at)| (name.to_owned(), at.to_owned()));
    let member = Member::start(&config(name, folder, &peers.collect(), lease))?;
    for line in std::io::stdin().lines() {
        let heir = line?.trim().parse()?;
        let _ = ask(&member, Ask::Transfer(NodeId(heir)));
    }
    member.close();
    Ok(())
}

fn config(name: &str, folder: &Path, peers: &BTreeMap<String, String>, lease: bool) -> Config {
    let mut config = Config::new(name, folder.join(name));
    config.listen.clone_from(&peers[name]);
    config.peers.clone_from(peers);
    config.secret = SecretSource::Bytes(b"a secret for measuring".to_vec());
    config.lease = lease.then_some(Duration::from_millis(30));
    config
}

struct Cluster {
    folder: PathBuf,
    peers: BTreeMap<String, String>,
    lease: bool,
    member: Member,
    children: BTreeMap<String, Child>,
}

impl Cluster {
    fn start(folder: &Path, lease: bool) -> Outcome<Self> {
        let folder = folder.join(format!("members-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let free: Vec<_> = ["a", "b", "c"].map(|name| (name, TcpListener::bind("127.0.0.1:0"))).into();
        let mut peers = BTreeMap::new();
        for (name, listener) in &free {
            let address = listener.as_ref().map_err(ToString::to_string)?.local_addr()?;
            peers.insert((*name).to_owned(), address.to_string());
        }
        drop(free);
        let begun = Instant::now();
        let mut children = BTreeMap::new();
        for name in ["b", "c"] {
            children.insert(name.to_owned(), child(name, &folder, &peers, lease)?);
        }
        let member = Member::start(&config("a", &folder, &peers, lease))?;
        let cluster = Self { folder, peers, lease, member, children };
        cluster.put(0).map_err(|error| error.to_string())?;
        println!("start of three members to the first write: {:.0?}", begun.elapsed());
        Ok(cluster)
    }

    fn put(&self, number: u64) -> Reply {
        ask(&self.member, put(number))
    }

    /// The member of this process comes to lead: whoever leads hands over to it.
    fn lead(&mut self) -> Outcome {
        let begun = Instant::now();
        while self.member.status().part != Part::Leader {
            if begun.elapsed() > PATIENCE {
                return Err("the member of this process does not come to lead".into());
            }
            let (leader, own) = (self.leader()?, self.member.id());
            if let Some(stdin) = self.children.get_mut(&leader).and_then(|child| child.stdin.as_mut()) {
                writeln!(stdin, "{}", own.0)?;
            }
            thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    }

    fn leader(&self) -> Outcome<String> {
        let begun = Instant::now();
        loop {
            let status = self.member.status();
            let leader = status.members.iter().find(|info| Some(info.id) == status.member.leader);
            match leader {
                Some(info) => return Ok(info.name.clone()),
                None if begun.elapsed() > PATIENCE => return Err("no leader".into()),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.member.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn child(name: &str, folder: &Path, peers: &BTreeMap<String, String>, lease: bool) -> Outcome<Child> {
    let peers: Vec<String> = peers.iter().map(|(name, at)| format!("{name}={at}")).collect();
    let mut process = Process::new(env::current_exe()?);
    process.arg("member").arg(name).arg(folder).arg(peers.join(",")).arg(if lease {
        "lease"
    } else {
        "none"
    });
    Ok(process.stdin(Stdio::piped()).spawn()?)
}

fn put(number: u64) -> Ask {
    let key = format!("key {:08}", number % 10_000);
    let command = Command::Put(Put::new(key.into(), Bytes::from(vec![7; VALUE_BYTES])));
    Ask::Command { stamp: None, command: command.to_bytes() }
}

fn get(consistency: Consistency) -> Ask {
    let query = Query::Range(Range::one(Bytes::from_static(b"key 00000000"))).to_bytes();
    Ask::Query { query, consistency }
}

fn ask(member: &Member, ask: Ask) -> Reply {
    let (sender, receiver) = mpsc::sync_channel(1);
    member.submit(PATIENCE, ask, move |reply| {
        let _ = sender.send(reply);
    });
    receiver.recv().map_err(|_| coterie::replica::asks::Error::Unknown)?
}

fn measure(folder: &Path, lease: bool) -> Outcome {
    println!("== {}", if lease { "leases of 30 ms" } else { "default settings" });
    let mut cluster = Cluster::start(folder, lease)?;
    cluster.lead()?;
    one_at_a_time(&cluster)?;
    for window in [16, 256, 4096] {
        in_flight(&cluster, window)?;
    }
    lease_reads(&cluster);
    hand_over(&mut cluster)?;
    follower_reads(&cluster)?;
    fail_over(&mut cluster)
}

fn one_at_a_time(cluster: &Cluster) -> Outcome {
    let mut times = Vec::new();
    for number in 0..3_000 {
        let begun = Instant::now();
        cluster.put(number).map_err(|error| error.to_string())?;
        times.push(begun.elapsed());
    }
    report("put, one at a time, in the leader's process", &mut times);
    Ok(())
}

fn in_flight(cluster: &Cluster, window: usize) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let submit = |number: usize| {
        let (sender, begun) = (sender.clone(), Instant::now());
        cluster.member.submit(PATIENCE, put(number as u64), move |reply| {
            let _ = sender.send((begun.elapsed(), reply.is_ok()));
        });
    };
    let count = window * 40 + 20_000;
    let (begun, cpu) = (Instant::now(), cpu_time());
    (0..window).for_each(submit);
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let (time, done) = receiver.recv()?;
        if !done {
            return Err("a put failed".into());
        }
        times.push(time);
        if number + window < count {
            submit(number + window);
        }
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let cpu = cpu_time().saturating_sub(cpu) / count as u32;
    report(
        &format!("put, {window} in flight: {rate:.0}/s, {cpu:.1?} of this process's CPU each"),
        &mut times,
    );
    Ok(())
}

/// What the threads of this process have computed so far. Says more than the clock on a machine that others share.
fn cpu_time() -> Duration {
    // SAFETY: a timespec is plain numbers, and it is written by the call.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is a place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn lease_reads(cluster: &Cluster) {
    if !cluster.lease {
        return;
    }
    let (count, begun) = (1_000_000u32, Instant::now());
    let held = (0..count)
        .filter(|_| cluster.member.lease_read(|store| store.get(b"key 00000000").is_some()).is_some());
    let held = held.count();
    println!(
        "lease read in the leader's process: {:.0?} ({held} of {count} had a lease)",
        begun.elapsed() / count
    );
}

/// Hands the leadership over and looks for the longest time without an acknowledged write.
fn hand_over(cluster: &mut Cluster) -> Outcome {
    let mut gaps = Vec::new();
    for round in 0..60 {
        if cluster.member.status().part != Part::Leader {
            cluster.lead()?;
        }
        let voters = cluster.member.status().members;
        let own = cluster.member.id();
        let others: Vec<_> = voters.iter().filter(|info| info.id != own).map(|info| info.id).collect();
        let to = others[round % others.len()];
        let cluster = &*cluster;
        let handed = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut longest, begun) = (Duration::ZERO, Instant::now());
                let mut last = begun;
                let mut number = 0;
                while begun.elapsed() < Duration::from_millis(60) {
                    number += 1;
                    if cluster.put(number).is_ok() {
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                    }
                }
                longest
            });
            thread::sleep(Duration::from_millis(20));
            let answer = ask(&cluster.member, Ask::Transfer(to));
            (matches!(answer, Ok(Answer::Transferred { .. })), writer.join())
        });
        if let (true, Ok(gap)) = handed {
            gaps.push(gap);
        }
    }
    report("longest gap between writes at a hand-over", &mut gaps);
    Ok(())
}

fn follower_reads(cluster: &Cluster) -> Outcome {
    if cluster.member.status().part == Part::Leader {
        let status = cluster.member.status();
        let to = status.members.iter().find(|info| info.id != status.member.id).ok_or("another member")?.id;
        let _ = ask(&cluster.member, Ask::Transfer(to));
    }
    for (what, consistency) in [("read index", Consistency::Linearizable), ("stale read", Consistency::Stale)]
    {
        let mut times = Vec::new();
        for _ in 0..3_000 {
            let begun = Instant::now();
            ask(&cluster.member, get(consistency)).map_err(|error| error.to_string())?;
            times.push(begun.elapsed());
        }
        report(&format!("{what} at a follower"), &mut times);
    }
    Ok(())
}

/// Kills the leader's process and writes at a follower.
fn fail_over(cluster: &mut Cluster) -> Outcome {
    let mut times = Vec::new();
    let Answer::Session(session) =
        ask(&cluster.member, Ask::OpenSession).map_err(|error| error.to_string())?
    else {
        return Err("no session".into());
    };
    for round in 0..20u64 {
        let leader = cluster.leader()?;
        if leader == "a" {
            let status = cluster.member.status();
            let to =
                status.members.iter().find(|info| info.id != status.member.id).ok_or("another member")?.id;
            let _ = ask(&cluster.member, Ask::Transfer(to));
            continue;
        }
        cluster.put(round).map_err(|error| error.to_string())?;
        let child = cluster.children.get_mut(&leader).ok_or("a child")?;
        child.kill()?;
        let begun = Instant::now();
        // With a stamp it may be sent again: the dead leader may have had it.
        let stamp = Some(SessionStamp { session, sequence: round + 1, answered_below: round });
        let Ask::Command { command, .. } = put(round) else { return Err("a put is a command".into()) };
        ask(&cluster.member, Ask::Command { stamp, command }).map_err(|error| error.to_string())?;
        times.push(begun.elapsed());
        let child = cluster.children.get_mut(&leader).ok_or("a child")?;
        child.wait()?;
        *child = self::child(&leader, &cluster.folder, &cluster.peers, cluster.lease)?;
        thread::sleep(Duration::from_millis(400));
    }
    report("SIGKILL of the leader to the next write", &mut times);
    Ok(())
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    if times.is_empty() {
        println!("{what}: none");
        return;
    }
    println!("{what}: p50 {:.0?}, p99 {:.0?}, max {:.0?} (n={})", at(0.5), at(0.99), at(1.0), times.len());
}

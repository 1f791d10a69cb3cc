//! Networks that lie: connections that end though both ends live, and directions that fail alone.

use crate::group::{Group, ask, ask_within, eventually, get, put, put_command};
use coterie::node::{Config, Member, Part};
use coterie::raft::Role;
use coterie::replica::asks::{Answer, Ask};
use coterie::replica::{Consistency, SessionStamp};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Stands before a member: whoever wants to reach it comes through here.
struct Proxy {
    address: String,
    /// What comes is taken and goes nowhere.
    deaf: Arc<AtomicBool>,
    through: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (deaf, through) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let proxy = Self { address, deaf: Arc::clone(&deaf), through: Arc::clone(&through) };
        std::thread::spawn(move || {
            for outer in listener.incoming() {
                let Ok(outer) = outer else { return };
                let Ok(inner) = TcpStream::connect(&target) else {
                    let _ = outer.shutdown(Shutdown::Both);
                    continue;
                };
                for stream in [&outer, &inner] {
                    stream.set_nodelay(true).expect("set");
                    through.lock().expect("a list").push(stream.try_clone().expect("a copy"));
                }
                let (back, forth) = (inner.try_clone().expect("a copy"), outer.try_clone().expect("a copy"));
                let deaf = Arc::clone(&deaf);
                std::thread::spawn(move || pass(outer, inner, Some(&deaf)));
                std::thread::spawn(move || pass(back, forth, None));
            }
        });
        proxy
    }

    /// Ends all connections at once, though both ends live.
    fn break_all(&self) {
        for stream in self.through.lock().expect("a list").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, deaf: Option<&AtomicBool>) {
    let mut bytes = [0; 1 << 14];
    while let Ok(count) = from.read(&mut bytes) {
        // What is dropped would leave a gap, so a connection through which something was dropped is never used again.
        let dropped = deaf.is_some_and(|deaf| deaf.load(SeqCst));
        if count == 0 || (!dropped && to.write_all(&bytes[..count]).is_err()) {
            break;
        }
        if dropped {
            while from.read(&mut bytes).is_ok_and(|count| count > 0) {}
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Three members, each behind a proxy, that grant leases.
fn behind_proxies() -> (Group, BTreeMap<String, Proxy>) {
    let mut group = Group::prepare(3);
    let before = |(name, address): (&String, &String)| (name.clone(), Proxy::before(address.clone()));
    let proxies: BTreeMap<String, Proxy> = group.peers.iter().map(before).collect();
    let outside = |(name, proxy): (&String, &Proxy)| (name.clone(), proxy.address.clone());
    let outside: BTreeMap<String, String> = proxies.iter().map(outside).collect();
    group.change = Box::new(move |config: &mut Config| {
        config.advertise = Some(outside[&config.name].clone());
        config.peers.clone_from(&outside);
        config.lease = Some(Duration::from_millis(60));
    });
    group.start_all();
    (group, proxies)
}

#[test]
fn false_evidence_costs_elections_and_never_a_stale_read() {
    let (group, proxies) = behind_proxies();
    group.leader();
    put(&group.members["a"], "x", "0").expect("written");
    let (over, acknowledged, leased) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let value = |member: &Member| {
        member.lease_read(|store| {
            let entry = store.get(b"x").expect("it is there");
            std::str::from_utf8(&entry.value).expect("text").parse::<u64>().expect("a number")
        })
    };
    std::thread::scope(|scope| {
        for member in group.members.values() {
            let (over, acknowledged, leased) = (&over, &acknowledged, &leased);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    let before = acknowledged.load(SeqCst);
                    if let Some(found) = value(member) {
                        assert!(found >= before, "read {found}, though {before} was acknowledged before");
                        leased.fetch_add(1, SeqCst);
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
        }
        let (group, over, acknowledged) = (&group, &over, &acknowledged);
        scope.spawn(move || {
            let Ok(Answer::Session(session)) = ask(&group.members["a"], Ask::OpenSession) else {
                panic!("a session")
            };
            let (mut number, mut turn) = (1, 0);
            while !over.load(SeqCst) {
                turn += 1;
                let member = &group.members[["a", "b", "c"][turn % 3]];
                // Asked until it is acknowledged, so that none comes late, after a greater one.
                let stamp = Some(SessionStamp { session, sequence: number, answered_below: number });
                let asked = Ask::Command { stamp, command: put_command("x", &number.to_string()) };
                if ask_within(member, Duration::from_millis(500), asked).is_ok() {
                    acknowledged.store(number, SeqCst);
                    number += 1;
                }
            }
        });
        let begun = Instant::now();
        let mut breaks = 0;
        while begun.elapsed() < Duration::from_secs(4) {
            std::thread::sleep(Duration::from_millis(if breaks % 4 == 0 { 300 } else { 30 }));
            let leader = group.members.iter().find(|(_, member)| member.status().member.role == Role::Leader);
            if let Some((name, _)) = leader {
                proxies[name].break_all();
            }
            breaks += 1;
        }
        over.store(true, SeqCst);
        println!(
            "{breaks} breaks, {} acknowledged, {} reads under a lease, term {}",
            acknowledged.load(SeqCst),
            leased.load(SeqCst),
            group.members["a"].status().member.term
        );
    });
    assert!(acknowledged.load(SeqCst) > 0 && leased.load(SeqCst) > 0, "there was something to see");
    put(&group.members["a"], "x", "0").expect("the cluster goes on");
}

#[test]
fn a_leader_that_hears_nobody_is_replaced_and_serves_no_stale_read() {
    let (group, proxies) = behind_proxies();
    let leader = group.leader();
    put(&group.members[&leader], "x", "1").expect("written");
    proxies[&leader].deaf.store(true, SeqCst);
    let others: Vec<&Member> =
        group.members.iter().filter(|(name, _)| **name != leader).map(|(_, member)| member).collect();
    eventually("another leader", || {
        others.iter().any(|member| member.status().part == Part::Leader).then_some(())
    });
    put(others[0], "x", "2").expect("the other two go on");
    let stale = group.members[&leader].lease_read(|store| store.get(b"x").expect("there").value);
    assert!(stale.is_none_or(|value| value == "2"));
    let query = |patience| {
        let query = coterie::store::Query::Range(coterie::store::Range::one("x".into()));
        let query = coterie::wire::Encode::to_bytes(&query);
        ask_within(&group.members[&leader], patience, Ask::Query { query, consistency: Consistency::Lease })
    };
    assert!(query(Duration::from_millis(200)).is_err(), "it cannot know");
    proxies[&leader].deaf.store(false, SeqCst);
    proxies[&leader].break_all();
    let found = get(&group.members[&leader], "x", Consistency::Linearizable).expect("it is back");
    assert_eq!(found.as_deref(), Some("2"));
}

#[test]
fn a_member_that_is_cut_off_silently_is_replaced_and_comes_back() {
    let group = Group::start(3);
    let leader = group.leader();
    put(&group.members[&leader], "x", "1").expect("written");
    for name in group.members.keys().filter(|name| **name != leader) {
        group.members[&leader].partition(name);
    }
    let begun = Instant::now();
    let others: Vec<&Member> =
        group.members.iter().filter(|(name, _)| **name != leader).map(|(_, member)| member).collect();
    eventually("another leader", || {
        others.iter().any(|member| member.status().part == Part::Leader).then_some(())
    });
    println!("another leader {:?} after a silent cut", begun.elapsed());
    put(others[0], "x", "2").expect("the other two go on");
    group.members[&leader].heal();
    let found = get(&group.members[&leader], "x", Consistency::Linearizable).expect("it is back");
    assert_eq!(found.as_deref(), Some("2"));
}

//! Raft cores side by side: three members in one thread, no disk, no network. `bench_raft_core.py` calls this by
//! turns for each core and prints ratios.
//!
//! ```text
//! raftcore <coterie|raft-rs> propose <bytes> <in flight> <value|wire> <seconds>
//! raftcore <coterie|raft-rs> elections|transfers <seconds>
//! ```
//!
//! prints what was done in a second.

mod contestant;
mod ours;
mod raft_rs;
mod trio;

use contestant::Contestant;
use std::time::{Duration, Instant};
use trio::Trio;

/// Entries between two compactions, so that memory stays small.
const COMPACT_EACH: u64 = 1 << 16;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (core, work) = arguments.split_first().expect("coterie or raft-rs");
    let rate = match *core {
        "coterie" => run::<ours::Ours>(work),
        "raft-rs" => run::<raft_rs::RaftRs>(work),
        other => panic!("no core is named {other}"),
    };
    println!("{rate:.0}");
}

fn run<C: Contestant>(work: &[&str]) -> f64 {
    let number = |text: &str| text.parse().expect("a number");
    let span = |text: &str| Duration::from_secs_f64(text.parse().expect("seconds"));
    match *work {
        ["propose", bytes, in_flight, way, seconds] => {
            propose::<C>(number(bytes) as usize, number(in_flight), way == "wire", span(seconds))
        }
        ["elections", seconds] => elections::<C>(span(seconds)),
        ["transfers", seconds] => transfers::<C>(span(seconds)),
        _ => panic!("propose, elections or transfers; see the head of main.rs"),
    }
}

/// Entries a second: `in_flight` commands are handed in one by one, all messages are delivered, and again.
fn propose<C: Contestant>(bytes: usize, in_flight: u64, wire: bool, span: Duration) -> f64 {
    let mut trio = Trio::<C>::new(wire);
    let leader = trio.elect(None);
    trio.agree();
    let mut command = vec![7; bytes];
    let (mut proposed, mut compacted) = (0u64, 0);
    let mut go = |trio: &mut Trio<C>, span: Duration| {
        let start = Instant::now();
        while start.elapsed() < span {
            for _ in 0..in_flight {
                command[..8].copy_from_slice(&proposed.to_le_bytes());
                trio.member(leader).propose(&command);
                proposed += 1;
            }
            trio.settle();
            if proposed - compacted >= COMPACT_EACH {
                trio.compact();
                compacted = proposed;
            }
        }
        (proposed, start.elapsed())
    };
    let (before, _) = go(&mut trio, span / 5);
    let (after, passed) = go(&mut trio, span);
    trio.agree();
    assert!(trio.applied().iter().all(|applied| *applied == after), "every member applies every entry once");
    (after - before) as f64 / passed.as_secs_f64()
}

/// Elections a second: the leader is cut off, time passes until another leads, the cut heals, all agree.
fn elections<C: Contestant>(span: Duration) -> f64 {
    let mut trio = Trio::<C>::new(false);
    let mut leader = trio.elect(None);
    trio.agree();
    let (mut count, start) = (0, Instant::now());
    while start.elapsed() < span {
        trio.cut = Some(leader);
        leader = trio.elect(Some(leader));
        trio.cut = None;
        trio.tick();
        trio.agree();
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// Transfers a second: the leader hands over to the next member, all agree.
fn transfers<C: Contestant>(span: Duration) -> f64 {
    let mut trio = Trio::<C>::new(false);
    let mut leader = trio.elect(None);
    trio.agree();
    let (mut count, start) = (0, Instant::now());
    while start.elapsed() < span {
        let next = (leader + 1) % trio::MEMBERS;
        trio.member(leader).transfer(trio::id(next));
        trio.settle();
        trio.agree();
        assert_eq!(trio.leader(), Some(next), "the transfer succeeds");
        leader = next;
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

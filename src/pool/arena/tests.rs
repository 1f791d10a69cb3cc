//! Parties that share a piece of ordinary memory.

use std::thread;

use proptest::prelude::*;

use super::*;
use crate::random::Random;

const GRANULES: usize = 96;

struct Memory {
    _index: Box<[u64]>,
    _bytes: Vec<u8>,
}

/// As the system does it: what is given back is zero afterwards.
fn forget(start: NonNull<u8>, length: usize) {
    // SAFETY: the arena gives back granules of its own.
    unsafe { start.as_ptr().write_bytes(0, length) };
}

/// An arena as the pool and each worker see it.
fn parties(granules: usize, workers: usize) -> Vec<Arc<Arena>> {
    let layout = Layout::of(granules * GRANULE, workers);
    let mut index = vec![0_u64; layout.index_bytes() / 8].into_boxed_slice();
    let mut bytes = vec![0_u8; layout.bytes() + 4096];
    let skipped = bytes.as_ptr().addr().next_multiple_of(4096) - bytes.as_ptr().addr();
    let places = (NonNull::from(&mut index[0]).cast(), NonNull::from(&mut bytes[skipped]));
    let memory: Arc<dyn Any + Send + Sync> = Arc::new(Memory { _index: index, _bytes: bytes });
    let parties = [Party::Pool].into_iter().chain((0..workers).map(Party::Worker));
    let arena = |party| {
        // SAFETY: the memory is as large as the layout says, and kept; boxes and vectors do not move what they own.
        unsafe { Arena::new(places.0, places.1, layout, party, Some(forget), Arc::clone(&memory)) }
    };
    parties.map(|party| Arc::new(arena(party))).collect()
}

fn bytes(slot: &Slot, length: usize) -> &[u8] {
    // SAFETY: the extent is ours and at least so long.
    unsafe { std::slice::from_raw_parts(slot.base().as_ptr(), length) }
}

#[test]
fn what_is_claimed_is_in_one_piece_and_nobody_elses() {
    let arenas = parties(GRANULES, 1);
    let slots: Vec<Slot> =
        (0..GRANULES / 3).map(|_| arenas[0].claim(3 * GRANULE - 1).expect("room")).collect();
    assert!(arenas[0].claim(1).is_none(), "it is full");
    let heads: Vec<u32> = slots.iter().map(|slot| slot.head).collect();
    assert_eq!(heads, (0..GRANULES as u32).step_by(3).collect::<Vec<_>>());
    drop(slots);
    assert_eq!(arenas[0].used(), 0);
    assert!(arenas[1].claim(GRANULES * GRANULE).is_some(), "pieces grow together again");
}

#[test]
fn an_argument_is_free_when_the_worker_looks_at_it_no_more() {
    let arenas = parties(GRANULES, 1);
    let slot = arenas[0].claim(5).expect("room");
    slot.fill(b"hello");
    let place = slot.place(5);
    let looked = arenas[1].adopt(&place, Party::Pool).expect("it is the pool's").look();
    drop(slot);
    assert_eq!(arenas[0].used(), GRANULE, "the pool has given away what it had");
    drop(looked);
    assert_eq!(arenas[0].used(), 0);
    assert!(arenas[1].adopt(&place, Party::Pool).is_none(), "it is there once");
}

#[test]
fn what_nobody_took_over_is_free_when_the_pool_gives_it_back() {
    let arenas = parties(GRANULES, 1);
    let slot = arenas[0].claim(5).expect("room");
    let place = slot.place(5);
    drop(slot);
    assert_eq!(arenas[0].used(), 0);
    let later = arenas[0].claim(5).expect("room");
    assert_eq!(later.head, place.head);
    assert!(arenas[1].adopt(&place, Party::Pool).is_none(), "a later one in the same place is another");
    assert!(!arenas[1].copy(&place, &mut [0; 5]));
    assert!(arenas[1].copy(&later.place(5), &mut [0; 5]));
}

#[test]
fn what_a_dead_worker_had_is_swept_and_what_it_sent_is_not() {
    let arenas = parties(GRANULES, 2);
    let sent = arenas[1].claim(2 * GRANULE).expect("room");
    let place = sent.place(2 * GRANULE);
    sent.send();
    let result = arenas[0].adopt(&place, Party::Worker(0)).expect("it was sent");
    std::mem::forget(arenas[1].claim(7 * GRANULE).expect("room"));
    let other = arenas[2].claim(GRANULE).expect("room");
    arenas[0].sweep(0);
    assert_eq!(arenas[0].used(), 3 * GRANULE);
    drop((result, other));
    assert_eq!(arenas[0].used(), 0);
}

#[test]
fn a_place_that_reaches_past_its_extent_is_refused() {
    let arenas = parties(GRANULES, 1);
    let slot = arenas[0].claim(GRANULE).expect("room");
    let _next = arenas[0].claim(GRANULE).expect("room");
    let place = Place { length: GRANULE + 1, ..slot.place(0) };
    assert!(arenas[1].adopt(&place, Party::Pool).is_none());
    assert!(arenas[1].adopt(&Place { head: u32::MAX, ..place }, Party::Pool).is_none());
    assert!(arenas[1].view_shared(&Place { offset: usize::MAX, ..place }).is_none());
}

#[test]
fn what_is_shared_goes_with_the_last_look() {
    let arenas = parties(GRANULES, 2);
    let slot = arenas[0].claim(9).expect("room");
    let start = slot.base();
    let shared = slot.share();
    let (found, place) = arenas[0].find_shared(start.as_ptr().wrapping_add(2), 3).expect("it is shared");
    assert_eq!((place.offset, place.length), (2, 3));
    drop(found);
    let (one, two) = (arenas[1].view_shared(&place), arenas[1].view_shared(&place));
    let three = arenas[2].view_shared(&place).expect("it is there");
    drop(shared);
    assert!(arenas[0].find_shared(start.as_ptr(), 1).is_none(), "the pool has no handle of it");
    assert!(arenas[2].view_shared(&place).is_none(), "and nobody looks anew");
    drop((one, two));
    assert_eq!(arenas[0].used(), GRANULE);
    drop(three);
    assert_eq!(arenas[0].used(), 0);
}

#[test]
fn what_only_a_dead_worker_looked_at_is_swept() {
    let arenas = parties(GRANULES, 1);
    let shared = arenas[0].claim(9).expect("room").share();
    let (_, place) = arenas[0].find_shared(shared.base().as_ptr(), 9).expect("it is shared");
    std::mem::forget(arenas[1].view_shared(&place));
    drop(shared);
    assert_eq!(arenas[0].used(), GRANULE);
    arenas[0].sweep(0);
    assert_eq!(arenas[0].used(), 0);
}

#[test]
fn only_free_memory_is_given_back() {
    let arenas = parties(GRANULES, 1);
    let slots: Vec<Slot> = (0..3).map(|_| arenas[0].claim(2 * GRANULE).expect("room")).collect();
    for slot in &slots {
        slot.fill(&vec![7; 2 * GRANULE]);
    }
    let [first, second, third] = <[Slot; 3]>::try_from(slots).expect("three");
    let bytes_of_second = second.base();
    drop(second);
    arenas[0].trim();
    assert!(bytes(&first, 2 * GRANULE).iter().chain(bytes(&third, 2 * GRANULE)).all(|&byte| byte == 7));
    let again = arenas[1].claim(2 * GRANULE).expect("room");
    assert_eq!(again.base(), bytes_of_second, "what was given back can be taken");
    assert!(bytes(&again, 2 * GRANULE).iter().all(|&byte| byte == 0));
    arenas[0].retire();
    drop((first, third, again));
    assert_eq!(arenas[0].used(), 0);
}

#[test]
fn what_was_looked_at_when_the_process_forked_is_never_used_again() {
    let arenas = parties(GRANULES, 1);
    let argument = arenas[0].claim(5).expect("room");
    let looked = arenas[1].adopt(&argument.place(5), Party::Pool).expect("there").look();
    let mut kept = Vec::new();
    arenas[1].pin(|start, length| kept.push((start, length)));
    arenas[1].pin(|_, _| panic!("once is enough"));
    assert_eq!(kept, [(looked.base(), GRANULE)]);
    drop(looked);
    arenas[0].sweep(0);
    assert_eq!(arenas[0].used(), GRANULE);
}

proptest! {
    /// Whatever parties claim, send, take over and drop, and whoever dies: bytes stay as they were written, and in the
    /// end everything is free.
    #[test]
    fn nothing_is_lost_and_nobody_meets(seed in any::<u64>()) {
        let workers = 3;
        let arenas = parties(GRANULES, workers);
        let mut random = Random::new(seed);
        let mut held: Vec<Vec<(Slot, usize, u8)>> = (0..=workers).map(|_| Vec::new()).collect();
        for step in 0..300_u32 {
            let who = random.below(workers as u64 + 1) as usize;
            let mark = step as u8;
            match random.below(10) {
                0..5 => {
                    let length = 1 + random.below(6 * GRANULE as u64) as usize;
                    let Some(slot) = arenas[who].claim(length) else { continue };
                    slot.fill(&vec![mark; length]);
                    held[who].push((slot, length, mark));
                }
                5..7 if !held[who].is_empty() => {
                    let at = random.below(held[who].len() as u64) as usize;
                    held[who].swap_remove(at);
                }
                7..9 if !held[who].is_empty() => {
                    // From a worker to the pool, or from the pool to a worker.
                    let at = random.below(held[who].len() as u64) as usize;
                    let (slot, length, mark) = held[who].swap_remove(at);
                    let to = if who == 0 { 1 + random.below(workers as u64) as usize } else { 0 };
                    let from = if who == 0 { Party::Pool } else { Party::Worker(who - 1) };
                    let place = slot.place(length);
                    slot.send();
                    held[to].push((arenas[to].adopt(&place, from).expect("sent"), length, mark));
                }
                9 if who > 0 => {
                    held[who].drain(..).for_each(|(slot, ..)| slot.send()); // it dies with what it has
                    arenas[0].sweep(who - 1);
                }
                _ => {}
            }
            // Its ends are enough: whoever meets us writes there.
            for (slot, length, mark) in held.iter().flatten() {
                let found = bytes(slot, *length);
                prop_assert!((0..*length).step_by(GRANULE).all(|at| found[at] == *mark));
                prop_assert_eq!(found[*length - 1], *mark);
            }
        }
        held.clear();
        prop_assert_eq!(arenas[0].used(), 0);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "parties are processes; threads meet in the same words")]
fn parties_that_claim_and_free_at_the_same_time_never_meet() {
    let arenas = parties(24, 3);
    thread::scope(|scope| {
        for (party, arena) in arenas.iter().enumerate() {
            scope.spawn(move || {
                let mut random = Random::new(party as u64);
                let mut held = Vec::new();
                for _ in 0..3000 {
                    let length = 1 + random.below(5 * GRANULE as u64) as usize;
                    if let Some(slot) = arena.claim(length) {
                        let mark = party as u8;
                        // Its ends are enough: whoever meets us writes his own there.
                        for at in (0..length).step_by(GRANULE).chain([length - 1]) {
                            // SAFETY: inside the extent.
                            unsafe { slot.base().add(at).write(mark) };
                        }
                        held.push((slot, length));
                    }
                    if held.len() > random.below(4) as usize {
                        let (slot, length) = held.swap_remove(random.below(held.len() as u64) as usize);
                        let found = bytes(&slot, length);
                        assert!((0..length).step_by(GRANULE).all(|at| found[at] == party as u8));
                        assert_eq!(found[length - 1], party as u8);
                    }
                }
            });
        }
    });
    assert_eq!(arenas[0].used(), 0);
}

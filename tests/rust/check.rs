//! Judges see what is planted, and let pass what is right.

use std::time::Duration;

use coterie::check::{Consensus, Ended, Entry, History, Leases, OperationId, Progress, Violation, Votes};
use coterie::id::NodeId;
use coterie::random::Random;
use coterie::time::Instant;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn at(time: u64) -> Instant {
    Instant::from_nanos(time)
}

fn entries(terms: &[u64]) -> Vec<Entry> {
    terms.iter().map(|&term| Entry { term, digest: term * 100 }).collect()
}

#[track_caller]
fn violates(invariant: &str, verdict: Result<(), Violation>) {
    match verdict {
        Err(violation) => assert_eq!(violation.invariant, invariant, "{violation}"),
        Ok(()) => panic!("{invariant} should be violated"),
    }
}

/// A leads term 1 and has committed two entries; B has them, C has one.
fn two_committed() -> Consensus {
    let mut judge = Consensus::new();
    judge.elected(A, 1).expect("the first leader");
    judge.appended(A, 1, entries(&[1, 1])).expect("it writes");
    judge.appended(B, 1, entries(&[1, 1])).expect("it follows");
    judge.appended(C, 1, entries(&[1])).expect("it follows");
    judge.committed(A, 1, entries(&[1, 1])).expect("two have them");
    judge
}

#[test]
fn two_leaders_of_one_term_are_seen() {
    let mut judge = two_committed();
    judge.elected(A, 1).expect("the same again");
    violates("election safety", judge.elected(B, 1));
}

#[test]
fn a_member_that_leads_one_term_in_two_lives_is_seen() {
    let mut judge = two_committed();
    judge.crashed(A);
    judge.recovered(A, 0, 0, entries(&[1, 1])).expect("it kept its log");
    judge.clone().elected(A, 2).expect("another term");
    violates("election safety", judge.elected(A, 1));
}

#[test]
fn a_restart_that_forgets_an_acknowledged_entry_is_seen() {
    let mut judge = two_committed();
    judge.acknowledged(B, 2);
    judge.crashed(B);
    judge.clone().recovered(B, 0, 0, entries(&[1, 1])).expect("it kept both");
    judge.clone().recovered(B, 0, 0, entries(&[1, 1, 1])).expect("more than it told");
    judge.clone().recovered(B, 2, 1, []).expect("a snapshot holds both");
    violates("a restart forgets no promise", judge.recovered(B, 0, 0, entries(&[1])));
}

#[test]
fn what_a_later_leader_replaced_is_owed_no_more() {
    let mut judge = two_committed();
    judge.appended(C, 2, entries(&[1, 1])).expect("one more than is committed");
    judge.acknowledged(C, 3);
    judge.appended(C, 3, entries(&[2])).expect("a later leader's");
    judge.crashed(C);
    judge.clone().recovered(C, 0, 0, entries(&[1, 1])).expect("neither third entry need survive");
    violates("a restart forgets no promise", judge.recovered(C, 0, 0, entries(&[1])));
}

#[test]
fn a_commit_by_counting_an_earlier_terms_entry_is_seen() {
    let mut judge = two_committed();
    judge.elected(B, 2).expect("it has both");
    judge.appended(B, 3, entries(&[2])).expect("its first");
    violates("commit by an own entry", judge.counted(B, 2));
    judge.counted(B, 3).expect("its own");
    judge.stepped_down(B);
    judge.counted(B, 2).expect("a follower is told");
}

#[test]
fn a_change_over_a_change_is_seen() {
    let mut judge = two_committed();
    judge.changes(A, 2, 2).expect("the last one is committed");
    violates("one change at a time", judge.changes(A, 2, 1));
    judge.elected(B, 2).expect("it has both");
    violates("one change at a time", judge.changes(B, 2, 2));
    judge.appended(B, 3, entries(&[2])).expect("its first");
    judge.changes(B, 2, 3).expect("its own entry is committed");
}

#[test]
fn a_second_vote_in_a_term_is_seen_over_all_lives() {
    let mut votes = Votes::new();
    votes.voted(A, 3, B).expect("the first");
    votes.voted(A, 3, B).expect("the same again");
    violates("one vote a term", votes.clone().voted(A, 3, C));
    violates("one vote a term", votes.clone().voted(A, 2, C));
    votes.recovered(A, 3, Some(B)).expect("it remembers");
    votes.recovered(A, 4, None).expect("a later term");
    violates("a restart forgets no promise", votes.recovered(A, 3, None));
    violates("a restart forgets no promise", votes.recovered(A, 2, Some(C)));
    votes.voted(A, 4, C).expect("another term");
    assert_eq!(votes.latest(), Some(A));
}

const LEASE: Duration = Duration::from_nanos(100);
const MARGIN: Duration = Duration::from_nanos(10);

#[test]
fn a_vote_within_a_lease_is_seen() {
    let mut leases = Leases::new();
    leases.granted(A, at(1_000), (1, 5), LEASE, MARGIN);
    violates("who grants a lease votes for nobody", leases.voted(A, at(1_099)));
    leases.voted(A, at(1_100)).expect("it has run out");
    leases.voted(B, at(1_050)).expect("it has granted none");
    leases.given_back(1, 4);
    violates("who grants a lease votes for nobody", leases.voted(A, at(1_050)));
    leases.given_back(1, 5);
    leases.voted(A, at(1_050)).expect("the leader hands over");
    leases.granted(A, at(1_010), (1, 6), LEASE, MARGIN);
    violates("who grants a lease votes for nobody", leases.voted(A, at(1_050)));
}

#[test]
fn a_lease_that_nobody_promised_is_seen() {
    let mut leases = Leases::new();
    leases.granted(A, at(1_000), (1, 5), LEASE, MARGIN);
    // Its own clock may be slow by a tenth, and the leader's quick.
    assert_eq!(leases.promised_until(A), at(1_121));
    leases.counts(B, 1, at(1_000), LEASE, leases.promised_until(A)).expect("so much was promised");
    let left = Duration::from_nanos(150);
    let promised = leases.promised_until(A);
    violates("a lease is what a quorum has promised", leases.counts(B, 1, at(1_000), left, promised));
}

#[test]
fn a_leader_elected_while_another_has_a_lease_is_seen() {
    let mut leases = Leases::new();
    leases.counts(A, 1, at(1_000), LEASE, at(2_000)).expect("promised");
    violates("one leader while a lease lasts", leases.elected(B, 2, at(1_089)));
    leases.elected(B, 2, at(1_090)).expect("it may have run out");
    leases.elected(A, 1, at(1_050)).expect("its own term");
    leases.counts_on_none(A);
    leases.elected(B, 2, at(1_050)).expect("it was given back");
}

#[test]
fn a_life_begins_with_a_snapshot_and_a_log_that_begins_earlier() {
    let mut judge = two_committed();
    judge.crashed(A);
    judge.recovered(A, 0, 0, entries(&[1, 1])).expect("it kept its log");
    judge.restored(A, 2, 1).expect("and has a snapshot");
    assert_eq!(judge.applied(A), 2);
    judge.compacted(A, 1, 1).expect("its log began before");
    violates("state-machine safety", judge.restored(A, 3, 1));
}

#[test]
fn a_leader_that_lacks_what_is_committed_is_seen() {
    let mut judge = two_committed();
    violates("leader completeness", judge.clone().elected(C, 2));
    judge.elected(B, 2).expect("it has both");
    // B had an empty third place; what A then commits there without B was never safe.
    judge.appended(A, 3, entries(&[1])).expect("it writes");
    violates("leader completeness", judge.committed(A, 3, entries(&[1])));
}

#[test]
fn a_candidate_of_an_old_term_may_win_late() {
    let mut judge = Consensus::new();
    judge.elected(A, 5).expect("the first leader");
    judge.appended(A, 1, entries(&[5])).expect("it writes");
    judge.committed(A, 1, entries(&[5])).expect("it commits");
    judge.elected(B, 4).expect("its last vote was long under way");
}

#[test]
fn a_leader_that_overwrites_itself_is_seen() {
    let mut judge = two_committed();
    judge.appended(A, 3, entries(&[1, 1])).expect("it appends");
    judge.appended(A, 3, entries(&[1, 1])).expect("the same again changes nothing");
    violates("leader append-only", judge.appended(A, 4, [Entry { term: 2, digest: 7 }]));
}

#[test]
fn a_follower_may_give_up_what_is_not_committed_and_nothing_else() {
    let mut judge = two_committed();
    judge.stepped_down(A);
    judge.appended(A, 3, entries(&[1, 1])).expect("it appends");
    judge.appended(A, 3, entries(&[2])).expect("a later leader's");
    violates("committed entries stay", judge.clone().appended(A, 2, entries(&[3, 3])));
    violates("committed entries stay", judge.appended(A, 2, []));
}

#[test]
fn who_has_not_heard_of_the_term_that_committed_it_may_give_it_up() {
    // A's entry of term 1 is not committed when C, who leads term 2 without it, replaces it; meanwhile B has committed it in
    // term 3.
    let mut judge = Consensus::new();
    judge.elected(A, 1).expect("the first leader");
    judge.appended(A, 1, entries(&[1])).expect("it writes");
    judge.stepped_down(A);
    judge.appended(B, 1, entries(&[1])).expect("it follows");
    judge.elected(C, 2).expect("nothing is committed");
    judge.appended(C, 1, entries(&[2])).expect("it writes");
    judge.elected(B, 3).expect("the third leader");
    judge.appended(B, 2, entries(&[3])).expect("it writes");
    judge.committed(B, 1, entries(&[1, 3])).expect("of its own term");
    judge.clone().appended(A, 1, entries(&[2])).expect("A knows nothing of term 3");
    judge.appended(A, 2, entries(&[3])).expect("A hears of it");
    violates("committed entries stay", judge.appended(A, 1, entries(&[2])));
}

#[test]
fn logs_that_differ_under_an_equal_entry_are_seen() {
    let mut judge = Consensus::new();
    judge.appended(A, 1, entries(&[1, 2, 3])).expect("one log");
    judge.appended(B, 1, entries(&[1, 1])).expect("another");
    violates("log matching", judge.clone().appended(B, 3, entries(&[3])));
    violates("log matching", judge.appended(C, 1, [Entry { term: 1, digest: 5 }]));
}

#[test]
fn members_that_apply_different_entries_are_seen() {
    let mut judge = two_committed();
    violates("applied in order", judge.clone().committed(B, 2, entries(&[1])));
    judge.committed(B, 1, entries(&[1])).expect("the same");
    violates("state-machine safety", judge.clone().committed(B, 2, [Entry { term: 1, digest: 5 }]));
    violates("state-machine safety", judge.clone().committed(B, 2, entries(&[2])));
    violates("applied in order", judge.committed(B, 1, entries(&[1])));
}

#[test]
fn a_gap_in_a_log_is_seen() {
    let mut judge = two_committed();
    violates("a log without gaps", judge.clone().appended(C, 3, entries(&[1])));
    violates("a log without gaps", judge.appended(C, 0, entries(&[1])));
}

#[test]
fn snapshots_hold_what_is_committed_and_lives_go_on_from_them() {
    let mut judge = two_committed();
    violates("state-machine safety", judge.clone().installed(C, 3, 1));
    violates("state-machine safety", judge.clone().installed(C, 2, 2));
    judge.installed(C, 2, 1).expect("what A committed");
    assert_eq!(judge.applied(C), 2);
    judge.appended(C, 3, entries(&[1])).expect("it goes on from there");
    judge.compacted(A, 1, 1).expect("it forgets the first");
    judge.crashed(A);
    judge.recovered(A, 1, 1, entries(&[1])).expect("it kept the second");
    assert_eq!(judge.applied(A), 1);
    judge.committed(A, 2, entries(&[1])).expect("it applies it again");
    judge.elected(C, 2).expect("a snapshot is as good as the entries");
}

#[test]
fn logs_are_judged_as_a_naive_twin_judges_them() {
    // The twin keeps whole logs and compares every pair, entry by entry, after each step.
    let mut agreed = [0; 2];
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let mut judge = Consensus::new();
        let mut logs: [Vec<Entry>; 3] = Default::default();
        let mut ever: Vec<Vec<Entry>> = Vec::new();
        let mut broken = false;
        for _ in 0..12 {
            let who = random.below(3) as usize;
            let keep = random.below(logs[who].len() as u64 + 1) as usize;
            // Mostly what somebody else has, seldom something new that may clash.
            let source = logs[random.below(3) as usize].clone();
            let mut fresh: Vec<Entry> = source.get(keep..).unwrap_or_default().to_vec();
            if source.get(..keep) != Some(&logs[who][..keep]) && random.below(8) > 0 {
                fresh.clear();
            }
            if random.below(2) == 0 {
                let last = fresh.last().or(logs[who][..keep].last()).map_or(1, |entry| entry.term);
                let term = last + random.below(2);
                let digest = term * 10 + u64::from(random.below(12) == 0);
                fresh.push(Entry { term, digest });
            }
            logs[who].truncate(keep);
            logs[who].extend(&fresh);
            ever.push(logs[who].clone());
            broken |= !match_each_other(&ever);
            let verdict = judge.appended(NodeId(who as u64 + 1), keep as u64 + 1, fresh);
            assert_eq!(verdict.is_err(), broken, "seed {seed}: {verdict:?} {ever:?}");
            if broken {
                break;
            }
        }
        agreed[usize::from(broken)] += 1;
    }
    assert!(agreed.iter().all(|&count| count > 300), "both verdicts must come up: {agreed:?}");
}

fn match_each_other(logs: &[Vec<Entry>]) -> bool {
    logs.iter().all(|one| {
        logs.iter().all(|two| {
            let last_equal =
                (0..one.len().min(two.len())).rev().find(|&place| one[place].term == two[place].term);
            last_equal.is_none_or(|last| one[..=last] == two[..=last])
        })
    })
}

#[test]
fn a_read_of_an_old_state_is_seen() {
    let mut history = History::new();
    let write = history.begin(at(1), 7);
    let early = history.begin(at(1), 7);
    history.applied(1, write, 7, Some(70)).expect("it takes effect");
    history.end(at(5), write, Ended::Wrote { index: 1 }).expect("it is acknowledged");
    history
        .end(at(6), early, Ended::Read { index: 0, value: None })
        .expect("it began before the acknowledgement");
    let late = history.begin(at(7), 7);
    violates("linearizable reads", history.end(at(8), late, Ended::Read { index: 0, value: None }));
}

#[test]
fn a_read_older_than_another_read_is_seen() {
    let mut history = History::new();
    let write = history.begin(at(1), 7);
    history.applied(1, write, 7, Some(70)).expect("it takes effect");
    let one = history.begin(at(2), 7);
    history.end(at(3), one, Ended::Read { index: 1, value: Some(70) }).expect("not acknowledged, but there");
    let two = history.begin(at(4), 7);
    violates("linearizable reads", history.end(at(5), two, Ended::Read { index: 0, value: None }));
}

#[test]
fn a_read_of_what_was_not_there_is_seen() {
    let mut history = History::new();
    let write = history.begin(at(1), 7);
    history.applied(3, write, 7, Some(70)).expect("it takes effect");
    let read = history.begin(at(2), 7);
    violates(
        "linearizable reads",
        history.clone().end(at(3), read, Ended::Read { index: 3, value: Some(71) }),
    );
    violates(
        "linearizable reads",
        history.clone().end(at(3), read, Ended::Read { index: 2, value: Some(70) }),
    );
    history.end(at(3), read, Ended::Read { index: 9, value: Some(70) }).expect("later entries left it alone");
    assert_eq!((history.value(7, 2), history.value(8, 9)), (None, None));
}

#[test]
fn a_read_that_tells_only_its_value_saw_some_state_since_it_began() {
    let mut history = History::new();
    for (index, value) in [(1, Some(10)), (2, Some(20)), (3, None), (4, Some(10))] {
        let write = history.begin(at(index), 7);
        history.applied(index, write, 7, value).expect("it takes effect");
        history.end(at(index), write, Ended::Wrote { index }).expect("it is acknowledged");
        if index == 2 {
            let early = history.begin(at(index), 7);
            assert_eq!(early, OperationId(2));
        }
    }
    let saw = |through, value| Ended::Saw { through, value };
    let early = OperationId(2);
    history.clone().end(at(9), early, saw(4, Some(20))).expect("it was so when it began");
    history.clone().end(at(9), early, saw(4, None)).expect("it was so meanwhile");
    history.clone().end(at(9), early, saw(4, Some(10))).expect("it is so now");
    violates("linearizable reads", history.clone().end(at(9), early, saw(3, Some(10))));
    violates("linearizable reads", history.clone().end(at(9), early, saw(1, Some(10))));
    violates("linearizable reads", history.clone().end(at(9), early, saw(4, Some(30))));
    let late = history.begin(at(8), 7);
    history.clone().end(at(9), late, saw(4, Some(10))).expect("it is so");
    violates("linearizable reads", history.end(at(9), late, saw(4, None)));
}

#[test]
fn a_read_after_a_read_sees_no_earlier_value() {
    let mut history = History::new();
    let reads: Vec<OperationId> = (0..2).map(|_| history.begin(at(1), 7)).collect();
    for (index, value) in [(1, Some(10)), (2, Some(20))] {
        let write = history.begin(at(1), 7);
        history.applied(index, write, 7, value).expect("it takes effect");
    }
    history.end(at(2), reads[0], Ended::Saw { through: 2, value: Some(20) }).expect("it is so");
    let after = history.begin(at(3), 7);
    history
        .end(at(4), reads[1], Ended::Saw { through: 2, value: Some(10) })
        .expect("it began before the other ended");
    violates("linearizable reads", history.end(at(4), after, Ended::Saw { through: 2, value: Some(10) }));
}

#[test]
fn a_lost_write_and_a_doubled_one_are_seen() {
    let mut history = History::new();
    let (one, two) = (history.begin(at(1), 7), history.begin(at(1), 8));
    violates("no acknowledged write lost", history.clone().end(at(2), one, Ended::Wrote { index: 1 }));
    history.applied(1, one, 7, Some(70)).expect("it takes effect");
    violates("no acknowledged write lost", history.clone().end(at(2), one, Ended::Wrote { index: 2 }));
    violates("exactly once", history.clone().applied(2, one, 7, Some(70)));
    violates("no phantom", history.clone().applied(2, OperationId(9), 7, Some(70)));
    history.end(at(2), two, Ended::Refused).expect("refused");
    violates("refused is refused", history.clone().applied(2, two, 8, Some(80)));
    violates("refused is refused", history.clone().end(at(2), one, Ended::Refused));
    violates("answered once", history.end(at(3), two, Ended::Unknown));
}

#[test]
fn an_unknown_outcome_may_take_effect_late_but_not_before_it_began() {
    let mut history = History::new();
    let lost = history.begin(at(1), 7);
    history.end(at(2), lost, Ended::Unknown).expect("nobody knows");
    let sure = history.begin(at(3), 7);
    history.applied(4, sure, 7, Some(1)).expect("it takes effect");
    history.end(at(4), sure, Ended::Wrote { index: 4 }).expect("it is acknowledged");
    let later = history.begin(at(5), 7);
    history.applied(5, lost, 7, Some(2)).expect("it took its time");
    violates("applied in order", history.applied(4, later, 7, Some(3)));
}

#[test]
fn histories_are_judged_as_a_naive_twin_judges_them() {
    // One key, random operations on a log; the twin compares every pair of operations.
    let mut verdicts = [0; 2];
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let mut history = History::new();
        let mut open: Vec<OperationId> = Vec::new();
        let mut done: Vec<(u64, u64, u64)> = Vec::new();
        let mut begun: Vec<u64> = Vec::new();
        let (mut index, mut value) = (0, None);
        let mut states = vec![None];
        let mut verdict = Ok(());
        for time in 1..30 {
            match random.below(3) {
                0 => {
                    open.push(history.begin(at(time), 0));
                    begun.push(time);
                }
                1 if !open.is_empty() => {
                    let id = open.swap_remove(random.below(open.len() as u64) as usize);
                    index += 1;
                    value = Some(time);
                    states.push(value);
                    history.applied(index, id, 0, value).expect("a fresh index");
                    verdict = history.end(at(time), id, Ended::Wrote { index });
                    done.push((begun[id.0 as usize], time, index));
                }
                _ if !open.is_empty() => {
                    let id = open.swap_remove(random.below(open.len() as u64) as usize);
                    let seen = if random.below(6) == 0 { random.below(index + 1) } else { index };
                    verdict =
                        history.end(at(time), id, Ended::Read { index: seen, value: states[seen as usize] });
                    done.push((begun[id.0 as usize], time, seen));
                }
                _ => {}
            }
            if verdict.is_err() {
                break;
            }
        }
        let stale = done
            .iter()
            .any(|&(begin, _, seen)| done.iter().any(|&(_, end, other)| end < begin && other > seen));
        assert_eq!(verdict.is_err(), stale, "seed {seed}: {verdict:?} {done:?}");
        verdicts[usize::from(stale)] += 1;
        let _ = value;
    }
    assert!(verdicts.iter().all(|&count| count > 300), "both verdicts must come up: {verdicts:?}");
}

#[test]
fn a_standstill_is_seen_once_progress_is_due() {
    let mut progress = Progress::new(Duration::from_nanos(10));
    progress.check(at(1_000)).expect("nothing is due");
    progress.expect_from(at(100));
    progress.check(at(110)).expect("in time");
    violates("liveness", progress.check(at(111)));
    progress.made(at(108)).expect("in time");
    progress.made(at(112)).expect("in time");
    violates("liveness", progress.made(at(123)));
    assert_eq!(progress.longest(), Duration::from_nanos(8));
}

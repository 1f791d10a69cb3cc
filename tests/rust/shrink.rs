//! Failing plans shrink to what matters, and keep failing in the same way.

use std::time::Duration;

use coterie::check::pattern;
use coterie::id::NodeId;
use coterie::sim::{Fault, Kind, Links, Plan, Shrunk, Swarm, Trial, shrink};
use coterie::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

fn swarm(seed: u64) -> Plan {
    Swarm { share: 1.0, ..Swarm::new(5, Duration::from_secs(50)) }.draw(seed)
}

/// The first moment at which `fails` says that a plan fails, looked for once a millisecond of what is in force.
fn overlap(plan: &Plan, fails: impl Fn(&Kind) -> bool, also: impl Fn(&Kind) -> bool) -> Option<Duration> {
    let of = |fails: &dyn Fn(&Kind) -> bool| {
        plan.faults.iter().filter(|fault| fails(&fault.kind)).cloned().collect::<Vec<Fault>>()
    };
    let pairs =
        of(&fails).into_iter().flat_map(|one| of(&also).into_iter().map(move |two| (one.clone(), two)));
    pairs
        .filter_map(|(one, two)| {
            let start = one.start.max(two.start);
            (start < one.end() && start < two.end()).then(|| start.since(Instant::ZERO))
        })
        .min()
}

const fn is_crash(kind: &Kind) -> bool {
    matches!(kind, Kind::Crash { node: NodeId(3) })
}

const fn is_slow_disk(kind: &Kind) -> bool {
    matches!(kind, Kind::SlowDisk { .. })
}

fn within(at: Option<Duration>, length: Duration) -> Trial {
    at.filter(|at| *at <= length).map_or(Trial::Different, Trial::Same)
}

#[test]
fn two_faults_that_must_overlap_are_all_that_is_left() {
    let mut looked = 0;
    for seed in 0..40 {
        let plan = swarm(seed);
        let Some(at) = overlap(&plan, is_crash, is_slow_disk) else { continue };
        looked += 1;
        let shrunk = shrink(&plan, at, |plan, length| {
            assert!(length <= at, "a run is never longer than the first");
            within(overlap(plan, is_crash, is_slow_disk), length)
        })
        .expect("it fails again");
        assert_eq!(shrunk.plan.faults.len(), 2, "{:?}", shrunk.plan);
        assert_eq!(overlap(&shrunk.plan, is_crash, is_slow_disk), Some(shrunk.length));
        assert!(shrunk.length < Duration::from_millis(2), "both can begin at once: {shrunk:?}");
        assert!(shrunk.exhausted);
    }
    assert!(looked > 5, "{looked} of 40 plans had such a pair");
}

#[test]
fn numbers_become_round_and_keys_need_not_be_written() {
    // It must not begin before this moment.
    let fails = |plan: &Plan| {
        let late = |fault: &&Fault| is_crash(&fault.kind) && fault.start >= Instant::from_seconds(1.2345);
        plan.faults.iter().find(late).map(|fault| fault.start.since(Instant::ZERO))
    };
    let fault = Fault::new(Duration::from_nanos(7_654_321_987), MINUTE, Kind::Crash { node: NodeId(3) });
    let plan = Plan::new([Fault { key: 0xdead_beef, ..fault }]);
    let at = fails(&plan).expect("it fails");
    let shrunk = shrink(&plan, at, |plan, length| within(fails(plan), length)).expect("it fails again");
    let [fault] = &shrunk.plan.faults[..] else { panic!("{shrunk:?}") };
    assert_eq!(fault.key, 1);
    let start = fault.start.as_nanos();
    assert!((1_234_500_000..2_500_000_000).contains(&start), "{fault:?}");
    assert_eq!(start % 1_000_000, 0, "whole milliseconds at least: {fault:?}");
}

#[test]
fn kinds_become_plainer() {
    let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
    let plan = Plan::new([
        Fault::new(Duration::ZERO, MINUTE, Kind::Partition { side: nodes(&[1, 2, 4]) }),
        Fault::new(Duration::ZERO, MINUTE, Kind::Drop { on: Links::ALL, rate: 0.25 }),
        Fault::new(Duration::ZERO, MINUTE, Kind::Bridge { left: nodes(&[1, 2]), right: nodes(&[4, 5]) }),
    ]);
    let fails = |plan: &Plan| {
        let cuts = |fault: &Fault| match &fault.kind {
            Kind::Partition { side } => side.contains(&NodeId(2)),
            Kind::Drop { rate, .. } => *rate > 0.0,
            Kind::Bridge { left, right } => left.contains(&NodeId(1)) && right.contains(&NodeId(5)),
            _ => false,
        };
        (plan.faults.iter().filter(|fault| cuts(fault)).count() == 3).then_some(Duration::from_secs(1))
    };
    let shrunk = shrink(&plan, MINUTE, |plan, length| within(fails(plan), length)).expect("it fails again");
    let kinds: Vec<Kind> = shrunk.plan.faults.into_iter().map(|fault| fault.kind).collect();
    assert_eq!(
        kinds,
        [
            Kind::Partition { side: nodes(&[2]) },
            Kind::Drop { on: Links::ALL, rate: 1.0 },
            Kind::Bridge { left: nodes(&[1]), right: nodes(&[5]) }
        ]
    );
}

#[test]
fn a_run_that_does_not_fail_again_is_not_shrunk() {
    assert_eq!(shrink(&swarm(1), MINUTE, |_, _| Trial::Different), None);
}

#[test]
fn who_has_no_patience_gets_what_there_is() {
    let plan = swarm(2);
    let at = Duration::from_secs(10);
    let mut trials = 0;
    let shrunk = shrink(&plan, at, |_, _| {
        trials += 1;
        if trials > 5 { Trial::Stop } else { Trial::Same(at) }
    });
    let Shrunk { plan: left, trials: told, exhausted, .. } = shrunk.expect("it fails again");
    assert!(!exhausted);
    assert!((trials, told) == (6, 6), "nothing is tried after that: {trials}, {told}");
    assert!(left.faults.len() < plan.faults.len());
}

#[test]
fn the_same_failure_shrinks_in_the_same_way() {
    let shrunk = |seed| {
        let plan = swarm(seed);
        let at = overlap(&plan, is_crash, is_slow_disk)?;
        shrink(&plan, at, |plan, length| within(overlap(plan, is_crash, is_slow_disk), length))
    };
    for seed in 0..10 {
        assert_eq!(shrunk(seed), shrunk(seed));
    }
}

#[test]
fn failures_of_a_kind_differ_in_names_and_numbers_alone() {
    assert_eq!(pattern("n3 and n12 both lead term 7"), "# and # both lead term #");
    assert_eq!(pattern("waits 2.75s, not 10.5ms"), "waits #, not #");
    assert_eq!(pattern("no leader"), "no leader");
    assert_eq!(pattern(""), "");
}

/// What the planted bugs do, in small.
#[cfg(feature = "mutants")]
mod mutants {
    use super::*;
    use coterie::raft::Mutant;
    use coterie::sim::Failure;
    use coterie::sim::standard::{EPILOGUE, HORIZON, Scenario, finish_within};

    /// So many runs, that a slow machine does the same as a fast one.
    const TRIALS: u64 = 800;

    fn run(mutant: Mutant, seed: u64, plan: Option<&Plan>, length: Duration) -> Result<(), Failure> {
        let mut scenario = Scenario::new(seed);
        scenario.raft.mutant = Some(mutant);
        scenario.world.faults = plan.cloned().unwrap_or(scenario.world.faults);
        finish_within(&mut scenario.build(), length)
    }

    #[test]
    fn failures_of_mutants_shrink_to_the_same_failure() {
        let whole = HORIZON + EPILOGUE;
        let (mut faults, mut lengths) = (Vec::new(), Vec::new());
        for &mutant in Mutant::ALL {
            let failing = |seed| run(mutant, seed, None, whole).err().map(|failure| (seed, failure));
            let (seed, failure) = (0..1_000).find_map(failing).expect("each is seen");
            let kind = failure.violation.kind();
            let plan = Scenario::new(seed).world.faults;
            let mut trials = 0;
            let shrunk = shrink(&plan, failure.at.since(Instant::ZERO), |plan, length| {
                trials += 1;
                match run(mutant, seed, Some(plan), length) {
                    _ if trials > TRIALS => Trial::Stop,
                    Err(failure) if failure.violation.kind() == kind => {
                        Trial::Same(failure.at.since(Instant::ZERO))
                    }
                    _ => Trial::Different,
                }
            })
            .expect("the same world fails again");
            let again = run(mutant, seed, Some(&shrunk.plan), shrunk.length).expect_err("it fails");
            assert_eq!(again.violation.kind(), kind, "{mutant:?}");
            println!(
                "{mutant:?}, seed {seed}: {} -> {} faults, {:?} -> {:?}: {again}",
                plan.faults.len(),
                shrunk.plan.faults.len(),
                failure.at.since(Instant::ZERO),
                shrunk.length
            );
            faults.push(shrunk.plan.faults.len());
            lengths.push(shrunk.length);
        }
        faults.sort_unstable();
        lengths.sort_unstable();
        let median = (faults[faults.len() / 2], lengths[lengths.len() / 2]);
        assert!(median.0 <= 10 && median.1 <= whole / 10, "{faults:?} {lengths:?}");
    }
}

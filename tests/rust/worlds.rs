//! Standard worlds: swarms of faults, all invariants, and progress in the end.

use std::time::Duration;

use coterie::id::NodeId;
use coterie::sim::standard::{self, EPILOGUE, HORIZON, Scenario};
use coterie::sim::{Disk, Fault, Kind, Network, Plan, replay};

#[test]
fn standard_worlds_hold() {
    let mut faults = [0; Kind::NAMES.len()];
    let (mut steps, mut reads, mut writes) = (0, 0, 0);
    for seed in 0..30 {
        let world = standard::run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        steps += world.steps();
        let (read, written, _) = world.watch().history.counts();
        (reads, writes) = (reads + read, writes + written);
        for (sum, count) in faults.iter_mut().zip(world.statistics().faults) {
            *sum += count;
        }
    }
    println!("{steps} inputs, {reads} reads, {writes} writes");
    for (name, count) in Kind::NAMES.iter().zip(faults) {
        println!("{count:>6} {name}");
    }
    assert!(reads > 20_000 && writes > 20_000, "{reads} reads, {writes} writes");
}

/// The appends on their way to a follower are lost, as many as may be; meanwhile the log behind them is compacted.
#[test]
fn a_follower_whose_next_entry_is_compacted_gets_the_snapshot() {
    for seed in 0..10 {
        let mut scenario = Scenario::new(seed);
        let cut = Kind::OneWay { from: Vec::new(), to: vec![NodeId(3)] };
        scenario.world.faults =
            Plan::new([Fault::new(Duration::from_secs(3), Duration::from_millis(250), cut)]);
        (scenario.world.disk, scenario.world.network) = (Disk::default(), Network::default());
        (scenario.clients.transfers, scenario.clients.changes) = (false, false);
        scenario.clients.campaigns = false;
        let raft = &mut scenario.raft;
        (raft.pre_vote, raft.in_flight_messages_max, raft.message_bytes_max) = (true, 1, 1);
        (raft.snapshot_log_entries, raft.retained_entries) = (5, 0);
        let mut world = scenario.build();
        world.run(Duration::from_secs(5)).unwrap_or_else(|failure| panic!("{failure}"));
        let commits = world.nodes().map(|node| world.machine(node).expect("nothing crashes").commit());
        let (least, most) = (commits.clone().min(), commits.max());
        assert!(least.zip(most).is_some_and(|(least, most)| most - least < 20), "{least:?} {most:?}");
    }
}

#[test]
fn a_standard_world_is_the_same_twice() {
    for seed in [3, 4] {
        replay(|| Scenario::new(seed).build(), Duration::from_secs(20))
            .unwrap_or_else(|differs| panic!("{differs}"));
    }
}

/// How fast worlds go; `cargo test --release --test rust speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn speed_of_standard_worlds() {
    let begun = std::time::Instant::now();
    let (mut steps, mut failures) = (0, 0);
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(100);
    for seed in 0..seeds {
        match standard::run(1_000 + seed) {
            Ok(world) => steps += world.steps(),
            Err(failure) => {
                println!("{failure}");
                failures += 1;
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let simulated = seeds as f64 * (HORIZON + EPILOGUE).as_secs_f64();
    println!(
        "{seeds} worlds, {failures} failures, {steps} inputs in {took:.1} s: {:.2} M inputs/s, {:.0} simulated s/s",
        f64::from(steps as u32) / took / 1e6,
        simulated / took
    );
}

/// Each planted bug is found within its first worlds. `examples/worlds.rs` measures more ranges.
#[cfg(feature = "mutants")]
#[test]
fn mutants_are_found() {
    const LIMIT: u64 = 1_000;
    let range = |mutant: coterie::raft::Mutant| {
        (0..LIMIT).find_map(|seed| {
            let mut scenario = Scenario::new(seed);
            scenario.raft.mutant = Some(mutant);
            standard::run_scenario(scenario).err().map(|failure| (seed + 1, failure.violation.invariant))
        })
    };
    for &mutant in coterie::raft::Mutant::ALL {
        let (worlds, invariant) =
            range(mutant).unwrap_or_else(|| panic!("{mutant:?} is not seen in {LIMIT} worlds"));
        println!("{mutant:?}: seen in world {worlds}: {invariant}");
    }
}

/// Runs one world again and prints how it ends; `SEED=7 cargo test --test rust one_world -- --ignored --nocapture`.
#[test]
#[ignore = "for one who looks into a failure"]
fn one_world() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let scenario = Scenario::new(seed);
    println!("{:?}\n{:?}", scenario.clients, scenario.raft);
    for fault in scenario
        .world
        .faults
        .faults
        .iter()
        .filter(|fault| fault.end() > coterie::time::Instant::ZERO + HORIZON)
    {
        println!("{fault:?}");
    }
    let mut world = scenario.build();
    let verdict = world.run(HORIZON + EPILOGUE);
    for node in world.nodes() {
        println!("{node:?} {:?}", world.machine(node).map(coterie::raft::Raft::status));
    }
    for row in world.trace().rows().rev().take(60).collect::<Vec<_>>().into_iter().rev() {
        println!("{row}");
    }
    println!("{verdict:?} {:?}", world.watch().progress.check(world.now()));
}

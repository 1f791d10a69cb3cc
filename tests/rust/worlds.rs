//! Standard worlds: swarms of faults, all invariants, and progress in the end.

use std::time::Duration;

use coterie::sim::standard::{self, EPILOGUE, HORIZON, Scenario};
use coterie::sim::{Kind, replay};

#[test]
fn standard_worlds_hold() {
    let mut faults = [0; Kind::NAMES.len()];
    let (mut steps, mut reads, mut writes) = (0, 0, 0);
    for seed in 0..20 {
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

/// How many worlds it takes to find each planted bug;
/// `SEEDS=200 MUTANT=Name cargo test --release --features mutants --test rust mutants -- --ignored --nocapture`.
#[cfg(feature = "mutants")]
#[test]
#[ignore = "a measurement"]
fn mutants_are_found() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    let wanted = std::env::var("MUTANT").unwrap_or_default();
    for &mutant in coterie::raft::Mutant::ALL
        .iter()
        .filter(|mutant| wanted.contains(&format!("{mutant:?}")) || wanted.is_empty())
    {
        let mut found = Vec::new();
        let mut first = None;
        for seed in 0..seeds {
            let mut scenario = Scenario::new(seed);
            scenario.raft.mutant = Some(mutant);
            if let Err(failure) = standard::run_scenario(scenario) {
                found.push(seed);
                first.get_or_insert(failure);
            }
        }
        let first = first.map_or_else(|| "never".to_owned(), |failure| failure.to_string());
        println!("{mutant:?}: {} of {seeds}; {first}", found.len());
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

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

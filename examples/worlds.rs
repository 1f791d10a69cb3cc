//! Runs standard worlds, and says what happened in them.
//!
//! ```text
//! cargo run --release --example worlds -- [--from 0] [--count 10000] [--budget SECONDS] [--threads 2] \
//!     [--world replica|store|bare] [--fidelity values|bytes]
//! cargo run --release --example worlds --features mutants -- --mutants all [--ranges 20] [--limit 1000]
//! ```
//!
//! The standard world is a replica's, with clients that have sessions; `--world store` is of the real store, with leases,
//! locks and watches; `--world bare` is of Raft alone.
//!
//! The first form runs worlds of consecutive seeds and fails when an invariant is violated; with a budget it stops
//! when the time is up, and prints the seeds that it has run; through bytes, messages travel in frames, records lie in
//! journals, and journals rot. The second plants each bug in turn, and counts the worlds
//! until the judge sees it, in disjoint ranges of seeds.
#![expect(clippy::disallowed_methods, reason = "a command: it measures, and uses all cores")]

use coterie::sim::standard::{self, EPILOGUE, HORIZON, replicated, stored};
use coterie::sim::{Bytes, Failure, Fingerprint, Host, Kind, Load, Medium, Watch, World};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

struct Options {
    from: u64,
    count: u64,
    budget: Duration,
    threads: usize,
    bytes: bool,
    mutants: Option<String>,
    ranges: u64,
    limit: u64,
    world: Kindred,
}

/// Which standard world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kindred {
    Bare,
    Replica,
    Store,
}

fn options() -> Options {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options {
        from: 0,
        count: 10_000,
        budget: Duration::MAX,
        threads: cores,
        bytes: false,
        mutants: None,
        ranges: 20,
        limit: 1000,
        world: Kindred::Replica,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("{name} needs a number, not {value}"));
        match name.as_str() {
            "--from" => options.from = number(),
            "--count" => options.count = number(),
            "--budget" => options.budget = Duration::from_secs(number()),
            "--threads" => options.threads = number() as usize,
            "--fidelity" => {
                options.bytes = match value.as_str() {
                    "values" => false,
                    "bytes" => true,
                    other => panic!("--fidelity is values or bytes, not {other}"),
                }
            }
            "--mutants" => options.mutants = Some(value),
            "--ranges" => options.ranges = number(),
            "--limit" => options.limit = number(),
            "--world" => match value.as_str() {
                "bare" => options.world = Kindred::Bare,
                "replica" => options.world = Kindred::Replica,
                "store" => options.world = Kindred::Store,
                other => {
                    panic!("there are worlds of `bare` Raft, of a `replica` and of a `store`, not of {other}")
                }
            },
            other => panic!("{other}? See the head of examples/worlds.rs"),
        }
    }
    options
}

fn main() -> ExitCode {
    let options = options();
    let good = match &options.mutants {
        None => worlds(&options),
        Some(which) => mutants(&options, which),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What all worlds together have seen.
#[derive(Default)]
struct Sum {
    worlds: u64,
    steps: u64,
    reads: u64,
    writes: u64,
    corrupted: u64,
    rotted: u64,
    damaged: u64,
    faults: [u64; Kind::NAMES.len()],
    failures: Vec<String>,
}

/// Runs worlds until they are done or the time is up. Answers whether all held.
fn worlds(options: &Options) -> bool {
    let begun = Instant::now();
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(options.from);
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                while begun.elapsed() < options.budget {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.from + options.count {
                        return;
                    }
                    one_world(options, seed, &sum);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no thread has panicked");
    report(options, &sum, begun.elapsed());
    sum.failures.is_empty()
}

fn one_world(options: &Options, seed: u64, sum: &Mutex<Sum>) {
    // Only bare worlds go through bytes.
    if options.bytes {
        let mut world = standard::Scenario::through_bytes(seed).build_over::<Bytes>();
        let outcome = standard::finish(&mut world);
        let (reads, writes, _) = world.watch().history.counts();
        add(sum, &world, outcome, (reads, writes));
    } else if options.world == Kindred::Store {
        let mut world = stored::Scenario::new(seed).build();
        let outcome = stored::finish(&mut world);
        let counts = world.watch().counts();
        add(sum, &world, outcome, (counts.reads, counts.answers));
    } else if options.world == Kindred::Bare {
        let mut world = standard::Scenario::new(seed).build();
        let outcome = standard::finish(&mut world);
        let (reads, writes, _) = world.watch().history.counts();
        add(sum, &world, outcome, (reads, writes));
    } else {
        let mut world = replicated::Scenario::new(seed).build();
        let outcome = replicated::finish(&mut world);
        let (reads, writes, _) = world.watch().history.counts();
        add(sum, &world, outcome, (reads, writes));
    }
}

fn add<P, H, W, L, M>(
    sum: &Mutex<Sum>,
    world: &World<P, H, W, L, M>,
    outcome: Result<(), Failure>,
    (reads, writes): (u64, u64),
) where
    P: Fingerprint,
    H: Host<P>,
    W: Watch<P, H>,
    L: Load<P>,
    M: Medium<P>,
{
    let mut sum = sum.lock().expect("no thread has panicked");
    sum.worlds += 1;
    sum.steps += world.steps();
    sum.reads += reads;
    sum.writes += writes;
    sum.corrupted += world.statistics().corrupted;
    sum.rotted += world.statistics().rotted;
    sum.damaged += world.statistics().damaged;
    for (all, count) in sum.faults.iter_mut().zip(world.statistics().faults) {
        *all += count;
    }
    if let Err(failure) = outcome {
        println!("{failure}");
        sum.failures.push(failure.to_string());
    }
}

fn report(options: &Options, sum: &Sum, took: Duration) {
    let (first, last) = (options.from, options.from + sum.worlds.saturating_sub(1));
    let simulated = sum.worlds as f64 * (HORIZON + EPILOGUE).as_secs_f64();
    let seconds = took.as_secs_f64();
    println!(
        "{} standard worlds, seeds {first} to {last}: {} violations, {:.1} min on {} threads",
        sum.worlds,
        sum.failures.len(),
        seconds / 60.0,
        options.threads
    );
    println!(
        "{} events, {:.2} M a second; {:.0} simulated seconds a second; {} writes and {} reads judged",
        sum.steps,
        sum.steps as f64 / seconds / 1e6,
        simulated / seconds,
        sum.writes,
        sum.reads
    );
    println!(
        "{} damaged frames refused; {} bits rotted in journals, {} journals refused",
        sum.corrupted, sum.rotted, sum.damaged
    );
    for (name, count) in Kind::NAMES.iter().zip(sum.faults) {
        println!("{count:>10} {name}");
    }
}

#[cfg(not(feature = "mutants"))]
fn mutants(_options: &Options, _which: &str) -> bool {
    println!("mutants need --features mutants");
    false
}

/// A bug to plant, and where.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug)]
enum Planted {
    Raft(coterie::raft::Mutant),
    Replica(coterie::replica::Mutant),
    /// By its number, counted from 1.
    Store(usize),
}

#[cfg(feature = "mutants")]
impl Planted {
    /// Those that a world can see. What is planted below the store is seen in the others.
    fn all(world: Kindred) -> Vec<Self> {
        if world == Kindred::Store {
            let replica = coterie::replica::Mutant::ALL.iter().copied().map(Self::Replica);
            let store = (1..=coterie::store::Mutant::ALL.len()).map(Self::Store);
            return replica.chain(store).collect();
        }
        coterie::raft::Mutant::ALL.iter().copied().map(Self::Raft).collect()
    }

    fn name(self) -> String {
        match self {
            Self::Raft(mutant) => format!("{mutant:?}"),
            Self::Replica(mutant) => format!("{mutant:?}"),
            Self::Store(number) => format!("{:?}", coterie::store::Mutant::ALL[number - 1]),
        }
    }
}

/// Plants each bug and counts the worlds until it is seen.
#[cfg(feature = "mutants")]
fn mutants(options: &Options, which: &str) -> bool {
    let all = Planted::all(options.world);
    let chosen: Vec<Planted> =
        all.iter().copied().filter(|mutant| which == "all" || mutant.name() == which).collect();
    let names: Vec<String> = all.iter().map(|mutant| mutant.name()).collect();
    assert!(!chosen.is_empty(), "no mutant is called {which}; there are {names:?}");
    let mut good = true;
    println!("{:34} {:>6} {:>6} {:>6}  seen as", "worlds until it is seen", "least", "median", "most");
    for mutant in chosen {
        let (mut counts, seen) = hunt(options, mutant);
        counts.sort_unstable();
        let median = counts[counts.len() / 2];
        let most = counts[counts.len() - 1];
        println!("{:34} {:>6} {median:>6} {most:>6}  {seen}", mutant.name(), counts[0]);
        good &= most <= options.limit && median <= 50;
    }
    good
}

#[cfg(feature = "mutants")]
fn run_mutant(options: &Options, mutant: Planted, seed: u64) -> Result<(), Failure> {
    match mutant {
        Planted::Store(number) => stored::run_mutant(stored::Scenario::new(seed), number),
        Planted::Replica(mutant) => {
            let mut scenario = stored::Scenario::new(seed);
            scenario.replica.mutant = Some(mutant);
            stored::run_mutant(scenario, 0)
        }
        Planted::Raft(mutant) if options.world == Kindred::Bare => {
            let mut scenario = standard::Scenario::new(seed);
            scenario.raft.mutant = Some(mutant);
            standard::finish(&mut scenario.build())
        }
        Planted::Raft(mutant) => {
            let mut scenario = replicated::Scenario::new(seed);
            scenario.replica.raft.mutant = Some(mutant);
            replicated::finish(&mut scenario.build())
        }
    }
}

/// For each range of seeds, how many worlds it took; and what the judge called it, most often first.
#[cfg(feature = "mutants")]
fn hunt(options: &Options, mutant: Planted) -> (Vec<u64>, String) {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicBool;

    let counts = Mutex::new(Vec::new());
    let names = Mutex::new(BTreeMap::<&'static str, u64>::new());
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let range = next.fetch_add(1, Ordering::Relaxed);
                    if range >= options.ranges {
                        return;
                    }
                    let first = options.from + range * options.limit;
                    let mut found = options.limit + 1;
                    for count in 0..options.limit {
                        if let Err(failure) = run_mutant(options, mutant, first + count) {
                            *names
                                .lock()
                                .expect("no panic")
                                .entry(failure.violation.invariant)
                                .or_default() += 1;
                            found = count + 1;
                            break;
                        }
                    }
                    counts.lock().expect("no panic").push(found);
                }
            });
        }
    });
    let names = names.into_inner().expect("no panic");
    let mut names: Vec<_> = names.into_iter().map(|(name, count)| (count, name)).collect();
    names.sort_unstable_by(|one, other| other.cmp(one));
    let names: Vec<String> = names.into_iter().map(|(count, name)| format!("{name} ({count})")).collect();
    (counts.into_inner().expect("no panic"), names.join(", "))
}

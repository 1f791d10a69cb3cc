//! Runs standard worlds, and says what happened in them.
//!
//! ```text
//! cargo run --release --example worlds -- [--from 0] [--count 10000] [--budget SECONDS] [--threads 2] \
//!     [--world replica|store|bare] [--fidelity values|bytes]
//! cargo run --release --example worlds --features mutants -- --mutants all [--ranges 20] [--limit 1000] [--shrink 30]
//! ```
//!
//! The standard world is a replica's, with clients that have sessions; `--world store` is of the real store, with leases,
//! locks and watches; `--world bare` is of Raft alone.
//!
//! The first form runs worlds of consecutive seeds and fails when an invariant is violated; with a budget it stops
//! when the time is up, and prints the seeds that it has run; through bytes, messages travel in frames, records lie in
//! journals, and journals rot. The second plants each bug in turn, and counts the worlds
//! until the judge sees it, in disjoint ranges of seeds; told to shrink, it then makes each of these failures smaller,
//! for at most so many seconds, and says how small.
#![expect(clippy::disallowed_methods, reason = "a command: it measures, and uses all cores")]

use coterie::raft::Raft;
use coterie::replica::Replica;
use coterie::sim::standard::replicated::Replicated;
use coterie::sim::standard::stored::Stored;
use coterie::sim::standard::{self, EPILOGUE, HORIZON, Standard, replicated, stored};
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
    shrink: Option<Duration>,
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
        shrink: None,
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
            "--shrink" => options.shrink = Some(Duration::from_secs(number())),
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
    match (options.world, options.bytes) {
        (Kindred::Bare, false) => bare(standard::Scenario::new(seed).build(), sum),
        (Kindred::Bare, true) => bare(standard::Scenario::through_bytes(seed).build_over::<Bytes>(), sum),
        (Kindred::Replica, false) => replica(replicated::Scenario::new(seed).build(), sum),
        (Kindred::Replica, true) => {
            replica(replicated::Scenario::through_bytes(seed).build_over::<Bytes>(), sum);
        }
        (Kindred::Store, false) => store(stored::Scenario::new(seed).build(), sum),
        (Kindred::Store, true) => store(stored::Scenario::through_bytes(seed).build_over::<Bytes, 0>(), sum),
    }
}

fn bare<M: Medium<Raft>>(mut world: Standard<M>, sum: &Mutex<Sum>) {
    let outcome = standard::finish(&mut world);
    let (reads, writes, _) = world.watch().history.counts();
    add(sum, &world, outcome, (reads, writes));
}

fn replica<M: Medium<Replica>>(mut world: Replicated<M>, sum: &Mutex<Sum>) {
    let outcome = replicated::finish(&mut world);
    let (reads, writes, _) = world.watch().history.counts();
    add(sum, &world, outcome, (reads, writes));
}

fn store<M: Medium<Replica>>(mut world: Stored<M>, sum: &Mutex<Sum>) {
    let outcome = stored::finish(&mut world);
    let counts = world.watch().counts();
    add(sum, &world, outcome, (counts.reads, counts.answers));
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
    match options.shrink {
        None => planted::hunt_all(options, &chosen),
        Some(patience) => planted::shrink_all(options, &chosen, patience),
    }
}

#[cfg(feature = "mutants")]
mod planted {
    use std::collections::BTreeMap;

    use super::{
        AtomicU64, Duration, EPILOGUE, Failure, HORIZON, Instant, Kindred, Mutex, Options, Ordering, Planted,
        replicated, standard, stored,
    };
    use coterie::sim::{Plan, Trial, shrink};

    /// A planted bug that was seen.
    struct Found {
        seed: u64,
        worlds: u64,
        failure: Failure,
    }

    /// Counts the worlds until each bug is seen.
    pub(super) fn hunt_all(options: &Options, chosen: &[Planted]) -> bool {
        let mut good = true;
        println!("{:34} {:>6} {:>6} {:>6}  seen as", "worlds until it is seen", "least", "median", "most");
        for &mutant in chosen {
            let found = hunt(options, mutant);
            let worlds = |found: &Option<Found>| found.as_ref().map_or(options.limit + 1, |it| it.worlds);
            let mut counts: Vec<u64> = found.iter().map(worlds).collect();
            counts.sort_unstable();
            let median = counts[counts.len() / 2];
            let most = counts[counts.len() - 1];
            let mut names = BTreeMap::<&'static str, u64>::new();
            for one in found.iter().flatten() {
                *names.entry(one.failure.violation.invariant).or_default() += 1;
            }
            let mut names: Vec<_> = names.into_iter().map(|(name, count)| (count, name)).collect();
            names.sort_unstable_by(|one, other| other.cmp(one));
            let names: Vec<String> =
                names.into_iter().map(|(count, name)| format!("{name} ({count})")).collect();
            let name = mutant.name();
            println!("{name:34} {:>6} {median:>6} {most:>6}  {}", counts[0], names.join(", "));
            good &= most <= options.limit && median <= 50;
        }
        good
    }

    /// Makes each failure that is found smaller, and says how small.
    pub(super) fn shrink_all(options: &Options, chosen: &[Planted], patience: Duration) -> bool {
        let mut all = Vec::new();
        println!(
            "{:34} {:>6} {:>13} {:>17} {:>6} {:>7}  seen as",
            "", "seed", "faults", "seconds", "took", "trials"
        );
        for &mutant in chosen {
            for found in hunt(options, mutant).into_iter().flatten() {
                all.push(shrink_one(options, mutant, &found, patience));
            }
        }
        let median = |of: fn(&Size) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (faults, share, took) = (median(|it| it.faults), median(|it| it.share), median(|it| it.took));
        println!(
            "{} failures; medians: {faults} faults, {:.1} % of the run, {took:.1} s",
            all.len(),
            share * 100.0
        );
        faults <= 10.0 && share <= 0.1 && took <= 30.0
    }

    struct Size {
        faults: f64,
        share: f64,
        took: f64,
    }

    fn shrink_one(options: &Options, mutant: Planted, found: &Found, patience: Duration) -> Size {
        let begun = Instant::now();
        let plan = plan_of(options, found.seed);
        let kind = found.failure.violation.kind();
        let at = found.failure.at.since(coterie::time::Instant::ZERO);
        let trial = |plan: &Plan, length| {
            if begun.elapsed() > patience {
                return Trial::Stop;
            }
            match run(options, mutant, found.seed, Some(plan), length) {
                Err(failure) if failure.violation.kind() == kind => {
                    Trial::Same(failure.at.since(coterie::time::Instant::ZERO))
                }
                _ => Trial::Different,
            }
        };
        let shrunk = shrink(&plan, at, trial).expect("the same world fails again");
        let took = begun.elapsed().as_secs_f64();
        let whole = (HORIZON + EPILOGUE).as_secs_f64();
        println!(
            "{:34} {:>6} {:>6} -> {:>3} {:>7.2} -> {:>6.2} {took:>6.1} {:>7}  {kind}",
            mutant.name(),
            found.seed,
            plan.faults.len(),
            shrunk.plan.faults.len(),
            at.as_secs_f64(),
            shrunk.length.as_secs_f64(),
            shrunk.trials,
        );
        let again = run(options, mutant, found.seed, Some(&shrunk.plan), shrunk.length);
        assert!(
            again.is_err_and(|failure| failure.violation.kind() == kind),
            "what was shrunk fails in the same way"
        );
        Size { faults: shrunk.plan.faults.len() as f64, share: shrunk.length.as_secs_f64() / whole, took }
    }

    fn plan_of(options: &Options, seed: u64) -> Plan {
        match options.world {
            Kindred::Bare => standard::Scenario::new(seed).world.faults,
            Kindred::Replica => replicated::Scenario::new(seed).world.faults,
            Kindred::Store => stored::Scenario::new(seed).world.faults,
        }
    }

    /// Runs the world of a seed with a bug in it, under its own plan or another.
    fn run(
        options: &Options,
        mutant: Planted,
        seed: u64,
        plan: Option<&Plan>,
        length: Duration,
    ) -> Result<(), Failure> {
        let faults = |own: &mut Plan| *own = plan.cloned().unwrap_or_else(|| std::mem::take(own));
        match mutant {
            Planted::Raft(mutant) if options.world == Kindred::Bare => {
                let mut scenario = standard::Scenario::new(seed);
                scenario.raft.mutant = Some(mutant);
                faults(&mut scenario.world.faults);
                standard::finish_within(&mut scenario.build(), length)
            }
            Planted::Raft(mutant) => {
                let mut scenario = replicated::Scenario::new(seed);
                scenario.replica.raft.mutant = Some(mutant);
                faults(&mut scenario.world.faults);
                replicated::finish_within(&mut scenario.build(), length)
            }
            Planted::Replica(_) | Planted::Store(_) => {
                let mut scenario = stored::Scenario::new(seed);
                faults(&mut scenario.world.faults);
                let number = match mutant {
                    Planted::Store(number) => number,
                    Planted::Replica(mutant) => {
                        scenario.replica.mutant = Some(mutant);
                        0
                    }
                    Planted::Raft(_) => unreachable!("it has a world of its own, above"),
                };
                stored::run_mutant(scenario, number, length)
            }
        }
    }

    /// The first failure in each range of seeds.
    fn hunt(options: &Options, mutant: Planted) -> Vec<Option<Found>> {
        let found = Mutex::new(Vec::new());
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..options.threads {
                scope.spawn(|| {
                    loop {
                        let range = next.fetch_add(1, Ordering::Relaxed);
                        if range >= options.ranges {
                            return;
                        }
                        let first = options.from + range * options.limit;
                        let seen = (0..options.limit).find_map(|count| {
                            let seed = first + count;
                            let failure = run(options, mutant, seed, None, HORIZON + EPILOGUE).err()?;
                            Some(Found { seed, worlds: count + 1, failure })
                        });
                        found.lock().expect("no panic").push((range, seen));
                    }
                });
            }
        });
        let mut found = found.into_inner().expect("no panic");
        found.sort_by_key(|(range, _)| *range);
        found.into_iter().map(|(_, seen)| seen).collect()
    }
}

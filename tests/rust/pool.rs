//! The pool as it runs, on real rings and threads, whose workers end at any moment: every item is answered exactly once,
//! in its place, and is run no oftener than its worker's deaths explain. Planted bugs must be seen.

#[cfg(feature = "mutants")]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use coterie::pool::channel::{Desk, Memory, Next};
use coterie::pool::driver::{Host, Offer, Pool, Waiting};
use coterie::pool::message::{Kind, append, split};
use coterie::pool::ring::Found;
use coterie::pool::scheduler::{JobId, Settings};
use coterie::pool::store::{Order, Run};
use coterie::pool::system;
use coterie::random::Random;

/// What the workers do and undergo.
struct Fates {
    pool: OnceLock<Weak<Pool>>,
    seed: u64,
    workers_begun: AtomicU64,
    /// One death in so many items; none at zero.
    deaths: u64,
    /// By item: how often it was begun, and how often its worker died under it.
    begun: Vec<AtomicU32>,
    died: Vec<AtomicU32>,
}

impl Fates {
    fn new(seed: u64, items: usize, deaths: u64) -> Arc<Self> {
        let counts = || (0..items).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self {
            pool: OnceLock::new(),
            seed,
            workers_begun: AtomicU64::new(0),
            deaths,
            begun: counts(),
            died: counts(),
        })
    }

    /// A worker's life; it ends when the pool says so, or in the midst of an item.
    #[expect(clippy::disallowed_methods, reason = "an item that takes long is what is tested")]
    fn live(&self, memory: &Arc<Memory>, worker: usize) {
        let mut random = Random::new(self.seed ^ self.workers_begun.fetch_add(1, Ordering::Relaxed) << 20);
        let mut desk = Desk::new(Arc::clone(memory), worker);
        desk.ready();
        loop {
            match desk.claim() {
                Next::Quit => return,
                Next::Nothing => drop(desk.wait(Desk::has_next)),
                Next::Item => {
                    let value = take(&mut desk);
                    let item = value as usize;
                    self.begun[item].fetch_add(1, Ordering::SeqCst);
                    let fate = if self.deaths > 0 { random.below(self.deaths * 2) } else { 2 };
                    if fate == 0 {
                        self.died[item].fetch_add(1, Ordering::SeqCst);
                        return; // before its result
                    }
                    if random.below(2000) == 0 {
                        thread::sleep(Duration::from_micros(random.below(4000))); // others wait behind it
                    }
                    let result = (value * 3).to_le_bytes();
                    while !desk.write(Kind::Int, &result) {
                        let head = desk.result_head();
                        desk.ring();
                        desk.wait(move |desk| desk.has_room_since(head));
                    }
                    if fate == 1 {
                        return; // behind its result, with others before it
                    }
                }
            }
        }
    }
}

/// The number of the claimed item.
fn take(desk: &mut Desk) -> i64 {
    loop {
        let value = match desk.read() {
            Found::Message(header, body) if header.kind == Kind::Int => {
                Some(i64::from_le_bytes(body.try_into().expect("eight bytes")))
            }
            Found::Message(..) => None, // what tasks call
            found => panic!("no item: {found:?}"),
        };
        desk.release();
        if let Some(value) = value {
            return value;
        }
    }
}

struct Workers(Arc<Fates>);

impl Host for Workers {
    fn start(&self, worker: usize) -> Result<i32, String> {
        let fates = Arc::clone(&self.0);
        let pool = fates.pool.get().and_then(Weak::upgrade).ok_or("it is gone")?;
        let life = move || {
            fates.live(pool.memory(), worker);
            pool.left(worker);
        };
        let thread = thread::Builder::new().name("worker".into()).spawn(life);
        thread.map(|_| 0).map_err(|error| error.to_string())
    }

    fn reap(&self, _: usize) -> Option<i32> {
        None
    }

    fn dismiss(&self) {}

    fn deliver(&self, _: Vec<(JobId, u64)>) {}
}

/// What is wrong with the answers of a job, if something is.
fn soak(order: Order, seed: u64, items: usize, deaths: u64, settings: Settings) -> Result<(), String> {
    let fates = Fates::new(seed, items, deaths);
    let memory = Memory::private(settings.workers).expect("memory");
    let pool = Pool::new(memory, settings, Box::new(Workers(Arc::clone(&fates)))).expect("a pool");
    fates.pool.set(Arc::downgrade(&pool)).expect("once");
    pool.populate()?;
    pool.watch().expect("threads");
    let judged = answers(&pool, order, items).and_then(|runs| judge(&fates, &runs, items, settings.retries));
    pool.terminate();
    let everybody =
        |pool: &Pool| pool.wait_stopped(system::now() + Duration::from_secs(60), || Ok::<_, ()>(()));
    everybody(&pool).expect("nobody interrupts");
    pool.join_threads();
    judged
}

fn answers(pool: &Pool, order: Order, items: usize) -> Result<Vec<Run>, String> {
    let function = pool.define(b"nothing that anybody reads", Vec::new()).expect("a place");
    let job = pool.open(order, Some(function), 1, false).expect("it runs");
    pool.release(function);
    let numbers: Vec<i64> = (0..items as i64).collect();
    for part in numbers.chunks(1000) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for number in part {
            starts.push(bytes.len() as u32);
            append(&mut bytes, Kind::Int, function, &number.to_le_bytes());
        }
        let offer = Offer { bytes, starts, kept: Vec::new() };
        pool.offer(job, function, offer, false, true);
    }
    pool.seal(job);
    let mut runs = Vec::new();
    loop {
        let is_over = pool.is_over(job);
        let more = pool.fetch(job);
        if is_over && more.is_empty() {
            return Ok(runs);
        }
        if more.is_empty() {
            let waited = pool.wait_some(job, system::now() + Duration::from_secs(20), || Ok::<_, ()>(()));
            match waited.expect("nobody interrupts") {
                Waiting::Over => {}
                waiting => return Err(format!("no answer: {waiting:?}")),
            }
        }
        runs.extend(more);
    }
}

fn judge(fates: &Fates, runs: &[Run], items: usize, retries: u32) -> Result<(), String> {
    let mut answered = vec![0_u32; items];
    for run in runs {
        let mut bytes = &run.bytes[..];
        for index in run.first..run.first + run.count {
            let index = index as usize;
            let (header, body, rest) = split(bytes).ok_or("no message")?;
            bytes = rest;
            let died = fates.died[index].load(Ordering::SeqCst);
            answered[index] += 1;
            match header.kind {
                Kind::Int if body == (index as i64 * 3).to_le_bytes() && died <= retries => {}
                Kind::Died if died == retries + 1 => {}
                kind => return Err(format!("item {index}: {kind:?} {body:?} after {died} deaths")),
            }
        }
    }
    for (index, &count) in answered.iter().enumerate() {
        let (begun, died) = (&fates.begun[index], &fates.died[index]);
        let (begun, died) = (begun.load(Ordering::SeqCst), died.load(Ordering::SeqCst));
        if count != 1 {
            return Err(format!("item {index} was answered {count} times"));
        }
        let done = u32::from(died <= retries);
        if begun != died + done {
            return Err(format!("item {index} was begun {begun} times in {died} deaths"));
        }
    }
    Ok(())
}

fn settings(workers: usize, retries: u32) -> Settings {
    Settings {
        workers,
        retries,
        task_timeout: None,
        tasks_max: None,
        #[cfg(feature = "mutants")]
        mutant: None,
    }
}

#[test]
fn every_item_is_answered_once_in_its_place_while_workers_die() {
    for (seed, order) in [Order::Gathered, Order::Sorted, Order::Arrival].into_iter().enumerate() {
        for (workers, retries, deaths) in [(1, 0, 50), (2, 1, 20), (4, 0, 500), (3, 2, 0)] {
            let judged = soak(order, seed as u64, 20_000, deaths, settings(workers, retries));
            assert_eq!(judged, Ok(()), "{order:?} {workers} workers, {retries} retries");
        }
    }
}

/// Workers that all leave, and whose ends nobody can ask about.
struct Unaskable(Arc<Fates>);

impl Host for Unaskable {
    fn start(&self, worker: usize) -> Result<i32, String> {
        Workers(Arc::clone(&self.0)).start(worker)
    }

    fn reap(&self, worker: usize) -> Option<i32> {
        panic!("worker {worker} cannot be asked about");
    }

    fn dismiss(&self) {}

    fn deliver(&self, _: Vec<(JobId, u64)>) {}
}

#[test]
fn a_pool_whose_own_thread_panics_says_so_and_nobody_waits_for_ever() {
    const ITEMS: usize = 1000;
    let fates = Fates::new(1, ITEMS, 1);
    let memory = Memory::private(2).expect("memory");
    let host = Box::new(Unaskable(Arc::clone(&fates)));
    let pool = Pool::new(memory, settings(2, 0), host).expect("a pool");
    fates.pool.set(Arc::downgrade(&pool)).expect("once");
    pool.populate().expect("threads start");
    pool.watch().expect("threads");
    let answered = answers(&pool, Order::Gathered, ITEMS);
    assert!(
        answered.as_ref().is_err_and(|why| why.contains("panicked")),
        "{:?}",
        answered.map(|runs| runs.len())
    );
    pool.terminate();
    let deadline = system::now() + Duration::from_secs(20);
    let stopped = pool.wait_stopped(deadline, || Ok::<_, ()>(())).expect("nobody interrupts");
    assert!(matches!(stopped, Waiting::Over), "{stopped:?}");
    pool.join_threads();
}

#[cfg(feature = "mutants")]
#[test]
fn mutants_of_the_pool_are_seen() {
    for &mutant in coterie::pool::scheduler::Mutant::ALL {
        let settings = Settings { mutant: Some(mutant), ..settings(3, 1) };
        // A count of the pool's own that does not come out is a panic, where counts are checked: seen, too.
        let judged = catch_unwind(AssertUnwindSafe(|| soak(Order::Arrival, 1, 20_000, 50, settings)));
        assert!(!matches!(judged, Ok(Ok(()))), "{mutant:?} went by");
    }
}

//! A running pool: the scheduler on real rings, processes and threads.
//!
//! Whoever holds the core's lock may pump: read results, tell the scheduler, hand out. A thread of the user that
//! submits pumps, so that a task reaches an idle worker without another thread; a thread that waits for results
//! pumps too, as the *helper*, so that the answer reaches it by one wake-up. The *dispatcher* pumps when nobody
//! else does, and tells Python of what is finished; the *supervisor* (`supervisor.rs`) sees workers end and starts
//! others. Neither ever holds the interpreter together with the lock.
//!
//! A worker that wants attention rings the bell: nobody is woken if a thread is `awake`, for it looks again before it
//! sleeps; else the helper, if one sleeps; else the dispatcher.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::arena::{Arena, Keep, Party, Slot};
use super::channel::{Lane, Memory, ReadRun};
use super::functions::Functions;
use super::message::{Kind, append, split};
use super::outgoing::{Hands, Outgoing};
use super::parcel::{self, Mode};
use super::ring::Found;
use super::scheduler::{JobId, Scheduler, Settings, Stage, Verdict};
use super::store::{Items, Order, Results, Run, died, timed_out};
use super::system::{self, Bell, Sleeper, Waited};
use crate::time::Instant;

/// What a pool asks of Python. None of it is called with the lock held.
pub trait Host: Send + Sync {
    /// Starts the worker; says its process id (zero for a thread), or what kept it from starting.
    fn start(&self, worker: usize) -> Result<i32, String>;
    /// The worker has ended: how, as `subprocess` counts it (a negative signal); nothing when nobody knows.
    fn reap(&self, worker: usize) -> Option<i32>;
    /// All workers were told to leave, and no other will be started or asked for.
    fn dismiss(&self);
    /// These are finished and somebody asked to be told: a job, or one item of it.
    fn deliver(&self, finished: Vec<(JobId, u64)>);
}

/// Why a pool does not work any more.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Workers die faster than anything gets done; the last one, and by which signal.
    Hopeless(i32, i32),
    /// The initializer raised this (pickled).
    Initializer(Arc<[u8]>),
    /// The same in a thread of this process: a handle.
    Object(u64),
    /// No worker can be started.
    CannotStart(String),
}

/// A pool's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Takes work.
    Running,
    /// Does what it has and then stops.
    Closing,
    /// Ends its workers.
    Terminating,
    /// Has no worker any more.
    Stopped,
}

/// How waiting ended.
#[derive(Clone, Debug)]
pub enum Waiting {
    /// It is there.
    Over,
    /// The time was up.
    TimedOut,
    /// It will never be there: the pool was terminated.
    Stopped,
    /// It will never be there: the pool does not work.
    Failed(Failure),
}

/// Items that are offered together.
#[derive(Debug)]
pub struct Offer {
    /// Messages, one behind another.
    pub bytes: Vec<u8>,
    /// Where each begins.
    pub starts: Vec<u32>,
    /// What items have in the arena, by their place among these.
    pub kept: Vec<(u32, Vec<Keep>)>,
}

/// A worker's process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: i32,
    pub(super) handle: Option<system::Process>,
    /// A thread that has left.
    pub(super) ended: bool,
}

/// A pool. Shared by its handle, its two threads, and worker threads.
pub struct Pool {
    pub(super) memory: Arc<Memory>,
    arena: Option<Arc<Arena>>,
    /// The supervisor knows that somebody uses the arena.
    uses_arena: AtomicBool,
    core: Mutex<Core>,
    /// Something that somebody waits for may have happened.
    changed: Condvar,
    /// For the supervisor.
    pub(super) bell: Bell,
    /// One thread at most waits on the workers' bell as the helper.
    helped: AtomicBool,
    /// When the dispatcher wakes by itself.
    dispatcher_until: AtomicU64,
    pub(super) host: Box<dyn Host>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    /// The process that made it. A forked child has none of its threads.
    owner: i32,
}

/// What the lock protects.
pub(super) struct Core {
    pub(super) scheduler: Scheduler,
    pub(super) lanes: Vec<Lane>,
    arena: Option<Arc<Arena>>,
    /// Results in the arena have arrived since the supervisor was told last.
    has_adopted: bool,
    outgoing: Vec<Outgoing>,
    pub(super) functions: Functions,
    items: BTreeMap<JobId, Items>,
    jobs: BTreeMap<JobId, JobState>,
    next_job: JobId,
    pub(super) processes: Vec<Option<Process>>,
    /// Workers that are on their way, and of whom nothing is known yet.
    pub(super) strangers: BTreeSet<usize>,
    /// Those of them that are to be killed as soon as it is known who they are.
    doomed: BTreeSet<usize>,
    pub(super) state: State,
    pub(super) failure: Option<Failure>,
    finished: Vec<(JobId, u64)>,
    past: Past,
    waiting: u32,
    /// When somebody must pump at the latest.
    deadline: Instant,
    pub(super) terminated_at: Option<Instant>,
}

struct JobState {
    results: Results,
    function: Option<u32>,
    /// No more items will come.
    sealed: bool,
    /// It goes when it is over.
    abandoned: bool,
    /// Whom to tell: of the whole job, or of single items.
    notify: bool,
    notify_items: BTreeSet<u64>,
    observed: Observed,
}

/// Whether to tell whenever results may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Observed {
    No,
    /// Yes, and nothing was told since they were fetched last.
    Waiting,
    /// Yes, and it was told.
    Told,
}

/// What was before the workers that there are, and what nobody else counts.
#[derive(Debug, Default)]
struct Past {
    since: Instant,
    done: u64,
    started: u64,
    deaths: u64,
    traffic: [u64; 2],
    spent: [u64; 3],
    /// Nanoseconds in which the pool moved tasks and results.
    pumping: u64,
}

/// What a pool has done, and is doing.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Seconds since it was made.
    pub seconds: f64,
    /// Items that are finished, failures among them.
    pub done: u64,
    /// Items that are not.
    pub waiting: u64,
    /// Workers started, and how many of them died unbidden.
    pub started: u64,
    /// See `started`.
    pub deaths: u64,
    /// Bytes of tasks and of results that went through the rings.
    pub traffic: [u64; 2],
    /// Nanoseconds that workers spent on reading arguments, in calls, on writing results.
    pub spent: [u64; 3],
    /// Nanoseconds in which the pool moved tasks and results.
    pub pumping: u64,
    /// Bytes of shared memory that large buffers may take together, and that they take now.
    pub memory: [usize; 2],
    /// For each worker that is there: its process, and nanoseconds like `spent`.
    pub workers: Vec<(i32, [u64; 3])>,
}

impl Pool {
    /// A pool without workers yet.
    pub fn new(memory: Memory, settings: Settings, host: Box<dyn Host>) -> std::io::Result<Arc<Self>> {
        let memory = Arc::new(memory);
        let arena = memory.arena(Party::Pool);
        let mut core = Core {
            scheduler: Scheduler::new(settings),
            lanes: (0..settings.workers).map(|worker| Lane::new(&memory, worker)).collect(),
            arena: arena.clone(),
            has_adopted: false,
            outgoing: (0..settings.workers).map(|_| Outgoing::default()).collect(),
            functions: Functions::default(),
            items: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            processes: (0..settings.workers).map(|_| None).collect(),
            strangers: BTreeSet::new(),
            doomed: BTreeSet::new(),
            state: State::Running,
            failure: None,
            finished: Vec::new(),
            past: Past { since: system::now(), ..Past::default() },
            waiting: 0,
            deadline: Instant::NEVER,
            terminated_at: None,
        };
        if !memory.is_shared() {
            core.functions.remember_freed(); // in one process they hold objects
        }
        Ok(Arc::new(Self {
            memory,
            arena,
            uses_arena: AtomicBool::new(false),
            core: Mutex::new(core),
            changed: Condvar::new(),
            bell: Bell::new()?,
            helped: AtomicBool::new(false),
            dispatcher_until: AtomicU64::new(0),
            host,
            threads: Mutex::new(Vec::new()),
            owner: system::process_id(),
        }))
    }

    /// Whether this process made the pool. In any other nothing may be called: the lock may be held for ever.
    pub fn is_ours(&self) -> bool {
        system::process_id() == self.owner
    }

    /// The descriptors that a worker inherits.
    pub fn files(&self, worker: usize) -> Vec<i32> {
        self.memory.files(worker)
    }

    /// The shared memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Where large buffers lie, when workers are processes.
    pub fn arena(&self) -> Option<&Arc<Arena>> {
        self.arena.as_ref()
    }

    /// Somebody uses the arena: the supervisor shall look when nobody does any more.
    fn arena_is_used(&self) {
        if !self.uses_arena.swap(true, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// The supervisor looks now; who uses the arena from now on rings again.
    pub(super) fn arena_is_idle(&self) {
        self.uses_arena.store(false, Ordering::SeqCst);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock is a bug of ours; what it left is still better than a pool that hangs.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The largest body of one item that shares a batch with others.
    pub fn body_max(&self) -> usize {
        self.lock().lanes[0].body_max()
    }

    /// Takes in a definition of a function with what it names in the arena, with one user.
    pub fn define(&self, definition: &[u8], kept: Vec<Keep>) -> Option<u32> {
        self.lock().functions.define(definition, kept)
    }

    /// Definitions that nobody uses any more, when workers are threads.
    pub fn freed(&self) -> Vec<Arc<[u8]>> {
        self.lock().functions.freed()
    }

    /// One more user of a function.
    pub fn share(&self, function: u32) {
        self.lock().functions.share(function);
    }

    /// One user of a function less.
    pub fn release(&self, function: u32) {
        self.lock().functions.release(function);
    }

    /// Opens a job. With a `function`, which has one more user until the job is over, all its items call that.
    /// Nothing when the pool takes no work.
    pub fn open(&self, order: Order, function: Option<u32>, chunk: u64, notify: bool) -> Option<JobId> {
        let mut core = self.lock();
        if core.state != State::Running {
            return None;
        }
        let job = core.next_job;
        core.next_job += 1;
        if let Some(function) = function {
            core.functions.share(function);
        }
        core.scheduler.open(job, chunk);
        core.items.insert(job, Items::default());
        let state = JobState {
            results: Results::new(order),
            function,
            sealed: false,
            abandoned: false,
            notify,
            notify_items: BTreeSet::new(),
            observed: Observed::No,
        };
        core.jobs.insert(job, state);
        Some(job)
    }

    /// Adds items to a job and hands out what it can; says the index of the first. `sealed`: no more will come.
    /// `waits`: the caller will wait for them, so nobody else need look.
    pub fn offer(&self, job: JobId, function: u32, offer: Offer, sealed: bool, waits: bool) -> u64 {
        let Offer { bytes, starts, kept } = offer;
        let mut core = self.lock();
        let Some(items) = core.items.get_mut(&job) else { return 0 };
        let (first, count) = (items.count(), starts.len() as u64);
        if count > 0 {
            items.push(function, bytes, starts);
            if !kept.is_empty() {
                self.arena_is_used();
            }
            for (place, kept) in kept {
                items.keep(first + u64::from(place), kept);
            }
            core.scheduler.offer(job, count);
        }
        if sealed {
            core.seal(job);
        }
        self.pump(&mut core);
        self.share_the_watch(&core, waits);
        first
    }

    /// An item that cannot be handed out has this outcome. It takes the next index.
    pub fn offer_failed(&self, job: JobId, function: u32, kind: Kind, body: &[u8]) -> u64 {
        let mut core = self.lock();
        let Some(items) = core.items.get_mut(&job) else { return 0 };
        let index = items.count();
        items.push(function, vec![0; 8], vec![0]);
        core.scheduler.offer_finished(job);
        let mut bytes = Vec::new();
        append(&mut bytes, kind, 0, body);
        core.deliver(job, Run::new(index, 1, bytes));
        self.tell(&core);
        index
    }

    /// Tell the host when this item is finished; says whether it is finished already.
    pub fn notify_item(&self, job: JobId, index: u64) -> bool {
        let mut core = self.lock();
        let Some(found) = core.jobs.get_mut(&job) else { return true };
        if found.results.has_single(index) {
            return true;
        }
        found.notify_items.insert(index);
        false
    }

    /// No more items will come.
    pub fn seal(&self, job: JobId) {
        let mut core = self.lock();
        core.seal(job);
        self.pump(&mut core);
    }

    /// Nobody wants the job any more.
    pub fn forget(&self, job: JobId) {
        let mut core = self.lock();
        core.forget(job);
        self.pump(&mut core);
    }

    /// Nobody wants the results of the job, which shall be done all the same.
    pub fn abandon(&self, job: JobId) {
        let mut core = self.lock();
        if let Some(found) = core.jobs.get_mut(&job) {
            found.abandoned = true;
        }
        core.conclude(job);
    }

    /// How many items were offered; nothing when the job was dropped.
    pub fn offered(&self, job: JobId) -> Option<u64> {
        self.lock().items.get(&job).map(Items::count)
    }

    /// Nobody wants the result of this single call.
    pub fn forget_single(&self, job: JobId, index: u64) {
        if let Some(found) = self.lock().jobs.get_mut(&job) {
            found.results.forget(index);
        }
    }

    /// Results that may be fetched now.
    pub fn fetch(&self, job: JobId) -> Vec<Run> {
        self.lock().jobs.get_mut(&job).map_or_else(Vec::new, |found| {
            if found.observed == Observed::Told {
                found.observed = Observed::Waiting;
            }
            found.results.fetch()
        })
    }

    /// Results that may be fetched now, how many items are not finished, and how many should be; nothing when the job was
    /// dropped.
    pub fn turn(&self, job: JobId) -> Option<(Vec<Run>, u64, u64)> {
        let mut core = self.lock();
        self.pump(&mut core);
        let runs = core.jobs.get_mut(&job)?.results.fetch();
        Some((runs, core.scheduler.unfinished(job), 2 * core.scheduler.window(job)))
    }

    /// The result of a single call, if it is there.
    pub fn fetch_single(&self, job: JobId, index: u64) -> Option<Run> {
        self.lock().jobs.get_mut(&job)?.results.fetch_single(index)
    }

    /// Whether the job is over: no more items will come, and all are finished.
    pub fn is_over(&self, job: JobId) -> bool {
        let mut core = self.lock();
        self.pump(&mut core);
        core.is_over(job)
    }

    /// Whether the result of a single call is there.
    pub fn has_single(&self, job: JobId, index: u64) -> bool {
        let mut core = self.lock();
        self.pump(&mut core);
        core.jobs.get(&job).is_some_and(|found| found.results.has_single(index))
    }

    /// How many more items of the job should be drawn, so that no worker waits; no more than `most` are in flight.
    pub fn appetite(&self, job: JobId, most: u64) -> u64 {
        let core = self.lock();
        let Some(found) = core.jobs.get(&job) else { return 0 };
        let there = core.items.get(&job).map_or(0, Items::count);
        let fetched = found.results.fetched();
        core.scheduler.window(job).min(most).saturating_sub(there - fetched)
    }

    /// Waits until the job is over.
    pub fn wait_over<E>(
        &self,
        job: JobId,
        deadline: Instant,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<Waiting, E> {
        self.wait(|core| core.outcome(core.is_over(job)), deadline, check)
    }

    /// Waits until the result of a single call is there.
    pub fn wait_single<E>(
        &self,
        job: JobId,
        index: u64,
        deadline: Instant,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<Waiting, E> {
        let is_there = |core: &Core| core.jobs.get(&job).is_none_or(|found| found.results.has_single(index));
        self.wait(|core| core.outcome(is_there(core)), deadline, check)
    }

    /// Waits until results may be fetched, or none will come any more of those that were offered.
    pub fn wait_some<E>(
        &self,
        job: JobId,
        deadline: Instant,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<Waiting, E> {
        let is_there = |core: &Core| {
            core.jobs
                .get(&job)
                .is_none_or(|found| found.results.has_some() || core.scheduler.unfinished(job) == 0)
        };
        self.wait(|core| core.outcome(is_there(core)), deadline, check)
    }

    /// Waits until no worker is left.
    pub fn wait_stopped<E>(
        &self,
        deadline: Instant,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<Waiting, E> {
        self.wait(|core| (core.state == State::Stopped).then_some(Waiting::Over), deadline, check)
    }

    /// Takes no more work; stops when all is done.
    pub fn close(&self) {
        let mut core = self.lock();
        if core.state == State::Running {
            core.state = State::Closing;
        }
        self.pump(&mut core);
        self.bell.ring();
    }

    /// Ends all workers at once. What is not finished never will be.
    pub fn terminate(&self) {
        let mut core = self.lock();
        if core.state != State::Stopped {
            core.state = State::Terminating;
        }
        let jobs: Vec<JobId> = core.jobs.keys().copied().collect();
        for job in jobs {
            if !core.is_over(job) {
                core.forget(job);
            }
        }
        for lane in &core.lanes {
            lane.quit();
        }
        self.tell(&core);
        self.bell.ring();
        self.poke_dispatcher();
    }

    /// In what state the pool is.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Why it does not work, if it does not.
    pub fn failure(&self) -> Option<Failure> {
        self.lock().failure.clone()
    }

    /// Interrupts what runs of this job, or this item of it, by SIGINT; says how many workers run it.
    pub fn interrupt(&self, job: JobId, item: Option<u64>) -> usize {
        let mut core = self.lock();
        if item.is_none() {
            core.cancel(job);
        }
        self.pump(&mut core);
        let mut count = 0;
        for worker in 0..core.lanes.len() {
            let Some(claim) = core.runs(worker, job, item) else { continue };
            core.lanes[worker].interrupt(claim);
            core.signal(worker, libc::SIGINT);
            count += usize::from(core.is_process(worker));
        }
        count
    }

    /// Waits until nobody runs an item of the job.
    pub fn wait_at_rest<E>(
        &self,
        job: JobId,
        item: Option<u64>,
        deadline: Instant,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<Waiting, E> {
        self.wait(|core| core.outcome(core.runners(job, item) == 0), deadline, check)
    }

    /// Ends workers that still run an item of this job, and says how many; the supervisor replaces them.
    pub fn kill_runners(&self, job: JobId, item: Option<u64>) -> usize {
        let mut core = self.lock();
        self.pump(&mut core);
        let mut count = 0;
        for worker in 0..core.lanes.len() {
            if core.is_process(worker) && core.runs(worker, job, item).is_some() {
                // The item is answered, though nobody may want to know: a pool that closes waits for all.
                core.scheduler.condemn(worker);
                core.kill(worker);
                count += 1;
            }
        }
        count
    }

    /// Tell the host (`u64::MAX - 1` in the place of an item) whenever results of the job may be fetched: once until
    /// they are.
    pub fn observe(&self, job: JobId) {
        if let Some(found) = self.lock().jobs.get_mut(&job) {
            found.observed = Observed::Waiting;
        }
    }

    /// Nothing more of the job is begun, and nobody wants what was.
    pub fn cancel(&self, job: JobId) {
        let mut core = self.lock();
        core.cancel(job);
        core.forget(job);
        self.pump(&mut core);
    }

    /// A single call is not to be begun; says whether that came in time.
    pub fn withdraw(&self, job: JobId, index: u64) -> bool {
        let mut core = self.lock();
        let withdrawn = core.withdraw(job, index);
        self.pump(&mut core);
        withdrawn
    }

    /// Whether a worker runs this item.
    pub fn is_running(&self, job: JobId, index: u64) -> bool {
        let mut core = self.lock();
        self.pump(&mut core);
        core.runners(job, Some(index)) > 0
    }

    /// How many items of the job are finished, of how many that there are.
    pub fn progress(&self, job: JobId) -> Option<(u64, u64)> {
        let core = self.lock();
        let count = core.items.get(&job)?.count();
        Some((count - core.scheduler.unfinished(job), count))
    }

    /// What the pool has done, and is doing.
    pub fn statistics(&self) -> Statistics {
        let mut core = self.lock();
        self.pump(&mut core);
        let (now, past) = (system::now(), &core.past);
        let mut found = Statistics {
            seconds: (now - past.since).as_secs_f64(),
            done: past.done,
            waiting: core.jobs.keys().map(|&job| core.scheduler.unfinished(job)).sum(),
            started: past.started,
            deaths: past.deaths,
            traffic: past.traffic,
            spent: past.spent,
            pumping: past.pumping,
            memory: self.arena.as_ref().map_or([0; 2], |arena| [arena.capacity(), arena.used()]),
            workers: Vec::new(),
        };
        for (worker, lane) in core.lanes.iter().enumerate() {
            let mut spent = lane.spent();
            // What runs will be told when it ends; an item that takes long is seen at once.
            spent[1] += core.scheduler.runs_for(worker, now).map_or(0, |span| span.as_nanos() as u64);
            add(&mut found.traffic, lane.traffic());
            add(&mut found.spent, spent);
            if let Some(process) = &core.processes[worker] {
                found.workers.push((process.id, spent));
            }
        }
        found
    }

    /// The dispatcher's life.
    pub fn dispatch(&self) {
        system::block_signals();
        loop {
            let bell = self.memory.pool().bell.load(Ordering::SeqCst);
            let mut core = self.lock();
            self.pump(&mut core);
            let finished = std::mem::take(&mut core.finished);
            if finished.is_empty() && core.state == State::Stopped {
                return;
            }
            // A helper keeps the time itself, and pokes us when it leaves.
            let until = if self.helped.load(Ordering::SeqCst) { Instant::NEVER } else { core.deadline };
            self.dispatcher_until.store(until.as_nanos(), Ordering::SeqCst);
            drop(core);
            if finished.is_empty() {
                self.memory.sleep(Sleeper::Dispatcher, bell, until);
            } else {
                self.host.deliver(finished);
            }
        }
    }

    /// Waits for an outcome, helping. `check` is called when a signal came, and twenty times a second.
    fn wait<E>(
        &self,
        outcome: impl Fn(&Core) -> Option<Waiting>,
        deadline: Instant,
        mut check: impl FnMut() -> Result<(), E>,
    ) -> Result<Waiting, E> {
        let mut watch = Watch { pool: self, helps: false, heard: 0 };
        let mut checked = system::now();
        loop {
            watch.help();
            let bell = self.memory.pool().bell.load(Ordering::SeqCst);
            let mut core = self.lock();
            self.pump(&mut core);
            watch.heard = bell;
            if let Some(end) = outcome(&core) {
                watch.leave(&core);
                return Ok(end);
            }
            let now = system::now();
            if now >= deadline {
                watch.leave(&core);
                return Ok(Waiting::TimedOut);
            }
            let until = deadline.min(checked + PATIENCE);
            let waited = if watch.helps {
                let until = until.min(core.deadline);
                drop(core);
                self.listen(bell, until)
            } else {
                core.waiting += 1;
                let (mut core, _) =
                    self.changed.wait_timeout(core, until - now).unwrap_or_else(PoisonError::into_inner);
                core.waiting -= 1;
                Waited::Woken
            };
            if waited == Waited::Interrupted || system::now() - checked >= PATIENCE {
                checked = system::now();
                if let Err(error) = check() {
                    watch.leave(&self.lock());
                    return Err(error);
                }
            }
        }
    }

    /// The helper's sleep on the bell; before it, a short look for what comes at once.
    fn listen(&self, bell: u32, until: Instant) -> Waited {
        let words = self.memory.pool();
        for _ in 0..SPIN.load(Ordering::Relaxed) {
            if words.bell.load(Ordering::Relaxed) != bell {
                SPIN.store((SPIN.load(Ordering::Relaxed) * 2).min(SPIN_MAX), Ordering::Relaxed);
                return Waited::Woken;
            }
            std::hint::spin_loop();
        }
        SPIN.store((SPIN.load(Ordering::Relaxed) / 2).max(SPIN_MIN), Ordering::Relaxed);
        words.awake.fetch_sub(1, Ordering::SeqCst);
        let waited = self.memory.sleep(Sleeper::Helper, bell, until);
        words.awake.fetch_add(1, Ordering::SeqCst);
        waited
    }

    /// Reads what is there, tells the scheduler, hands out.
    pub(super) fn pump(&self, core: &mut Core) {
        let now = system::now();
        let mut arrived = false;
        for worker in 0..core.lanes.len() {
            arrived |= core.attend(worker, now);
        }
        if std::mem::take(&mut core.has_adopted) {
            self.arena_is_used();
        }
        core.schedule(now);
        if arrived || !core.finished.is_empty() {
            self.tell(core);
        }
        if core.state == State::Closing && core.is_idle() {
            for lane in &core.lanes {
                lane.quit();
            }
            self.bell.ring();
        }
        core.past.pumping += (system::now() - now).as_nanos() as u64;
    }

    /// Somebody may wait for what has just happened.
    pub(super) fn tell(&self, core: &Core) {
        if core.waiting > 0 {
            self.changed.notify_all();
        }
        if !core.finished.is_empty() {
            self.poke_dispatcher();
        }
    }

    /// Wakes the dispatcher when it would sleep too long, unless the caller watches himself.
    fn share_the_watch(&self, core: &Core, waits: bool) {
        let until = self.dispatcher_until.load(Ordering::SeqCst);
        if !waits && core.deadline.as_nanos() < until && !self.helped.load(Ordering::SeqCst) {
            self.poke_dispatcher();
        }
    }

    pub(super) fn poke_dispatcher(&self) {
        self.memory.pool().bell.fetch_add(1, Ordering::SeqCst);
        self.memory.wake(Sleeper::Dispatcher);
    }

    /// Marks a missing worker as being started; says which.
    pub(super) fn claim_absent(&self) -> Option<usize> {
        let mut core = self.lock();
        let wanted = core.failure.is_none()
            && match core.state {
                State::Running => true,
                State::Closing => !core.is_idle(),
                State::Terminating | State::Stopped => false,
            };
        if !wanted {
            return None;
        }
        let core = &mut *core;
        let worker = core.scheduler.absent().find(|&worker| core.processes[worker].is_none())?;
        core.past.started += 1;
        core.processes[worker] = Some(Process { id: 0, handle: None, ended: false });
        Some(worker)
    }

    /// The worker that was being started is there.
    pub(super) fn welcome(&self, worker: usize, id: i32) {
        let handle = if id == 0 { None } else { system::Process::open(id).ok() };
        let mut core = self.lock();
        // It may have ended already: a thread has said so, a process is not found.
        let has_left = core.processes[worker].as_ref().is_some_and(|process| process.ended);
        let ended = has_left || id != 0 && handle.is_none();
        core.processes[worker] = Some(Process { id, handle, ended });
        core.scheduler.start(worker, system::now());
        self.pump(&mut core);
        self.share_the_watch(&core, false);
        self.bell.ring();
    }

    /// All workers are on their way: they may be handed items. The supervisor asks the host who they are.
    pub fn expect(&self) {
        let mut core = self.lock();
        core.past.started += core.processes.len() as u64;
        for worker in 0..core.processes.len() {
            core.processes[worker] = Some(Process { id: 0, handle: None, ended: false });
            core.strangers.insert(worker);
            core.scheduler.start(worker, system::now());
        }
    }

    /// Who a worker is that was on its way.
    pub(super) fn meet(&self, worker: usize, id: i32) {
        let handle = system::Process::open(id).ok();
        let ended = handle.is_none();
        let mut core = self.lock();
        core.strangers.remove(&worker);
        core.processes[worker] = Some(Process { id, handle, ended });
        // It may work already, and what was to be done to it could not be done to a stranger.
        if core.doomed.remove(&worker) {
            core.kill(worker);
        } else if self.memory.is_interrupted(worker) {
            core.signal(worker, libc::SIGINT);
        }
    }

    /// Prepares the channel of a worker that has ended for the next one: it may be there before it is welcome.
    pub(super) fn clear(&self, core: &mut Core, worker: usize) {
        let (traffic, spent) = (core.lanes[worker].traffic(), core.lanes[worker].spent());
        add(&mut core.past.traffic, traffic);
        add(&mut core.past.spent, spent);
        if let Some(arena) = &core.arena {
            arena.sweep(worker);
        }
        core.lanes[worker] = Lane::new(&self.memory, worker);
        core.outgoing[worker] = Outgoing::default();
    }

    /// The worker could not be started.
    pub(super) fn mourn(&self, worker: usize, why: String) {
        let mut core = self.lock();
        core.strangers.remove(&worker);
        core.doomed.remove(&worker);
        core.processes[worker] = None;
        core.fail(Failure::CannotStart(why));
        self.changed.notify_all();
        self.poke_dispatcher();
    }

    /// The pool does not work.
    pub fn fail(&self, failure: Failure) {
        self.lock().fail(failure);
        self.tell_everybody();
    }

    /// A worker thread has left.
    pub fn left(&self, worker: usize) {
        if let Some(process) = &mut self.lock().processes[worker] {
            process.ended = true;
        }
        self.bell.ring();
    }

    /// Everything that waits shall look again.
    pub(super) fn tell_everybody(&self) {
        self.changed.notify_all();
        self.memory.pool().bell.fetch_add(1, Ordering::SeqCst);
        self.memory.wake(Sleeper::Helper);
        self.memory.wake(Sleeper::Dispatcher);
    }
}

impl Core {
    /// Why somebody who waits for a result should stop waiting, if he should.
    fn outcome(&self, is_there: bool) -> Option<Waiting> {
        if is_there {
            // A job that was dropped by `terminate` is "over" too; what was finished before keeps its results.
            return Some(Waiting::Over);
        }
        if let Some(failure) = &self.failure {
            return (self.state != State::Terminating).then(|| Waiting::Failed(failure.clone()));
        }
        (self.state == State::Stopped).then_some(Waiting::Stopped)
    }

    /// The claim of what the worker runs, if that is of the job, and the item asked for.
    fn runs(&self, worker: usize, job: JobId, item: Option<u64>) -> Option<u64> {
        let (whose, index, claim) = self.scheduler.running(worker)?;
        (whose == job && item.is_none_or(|item| item == index)).then_some(claim)
    }

    /// How many workers run an item of the job.
    fn runners(&self, job: JobId, item: Option<u64>) -> usize {
        (0..self.lanes.len()).filter(|&worker| self.runs(worker, job, item).is_some()).count()
    }

    fn seal(&mut self, job: JobId) {
        if let Some(found) = self.jobs.get_mut(&job) {
            found.sealed = true;
        }
        self.conclude(job);
    }

    fn is_over(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_none_or(|found| found.sealed && self.scheduler.unfinished(job) == 0)
    }

    /// A job that is over frees what only its items needed, and somebody may want to know.
    fn conclude(&mut self, job: JobId) {
        if !self.is_over(job) {
            return;
        }
        let Some(found) = self.jobs.get_mut(&job) else { return };
        if let Some(function) = found.function.take() {
            self.functions.release(function);
        }
        if std::mem::take(&mut found.notify) {
            self.finished.push((job, u64::MAX));
        }
        if found.observed == Observed::Waiting {
            found.observed = Observed::Told;
            self.finished.push((job, u64::MAX - 1));
        }
        if found.abandoned {
            self.forget(job);
        }
    }

    fn withdraw(&mut self, job: JobId, index: u64) -> bool {
        let mut overdue = Vec::new();
        let (scheduler, mut hands) = self.parts(&mut overdue);
        if !scheduler.withdraw(job, index, &mut hands) {
            return false;
        }
        if let Some(items) = self.items.get_mut(&job) {
            if let Some((batch, _)) = items.find(index) {
                self.functions.release(batch.function);
            }
            items.finished(index, 1);
        }
        true
    }

    fn forget(&mut self, job: JobId) {
        self.scheduler.close(job);
        let items = self.items.remove(&job);
        let Some(found) = self.jobs.remove(&job) else { return };
        if found.results.is_single() {
            for (function, count) in items.iter().flat_map(Items::functions) {
                (0..count).for_each(|_| self.functions.release(function));
            }
        }
        if found.observed != Observed::No {
            self.finished.push((job, u64::MAX - 1));
        }
        if let Some(function) = found.function {
            self.functions.release(function);
        }
        if found.notify {
            self.finished.push((job, u64::MAX));
        }
        self.finished.extend(found.notify_items.into_iter().map(|index| (job, index)));
    }

    /// Whether nothing is to be done any more.
    pub(super) fn is_idle(&self) -> bool {
        self.failure.is_some()
            || self.jobs.iter().all(|(&job, found)| {
                // The stream of single calls is never sealed: a pool that closes takes no more of them.
                (found.sealed || found.results.is_single()) && self.scheduler.unfinished(job) == 0
            })
    }

    /// Whether workers leave because they should.
    pub(super) fn is_ending(&self) -> bool {
        match self.state {
            State::Running => false,
            State::Closing => self.is_idle(),
            State::Terminating | State::Stopped => true,
        }
    }

    fn deliver(&mut self, job: JobId, run: Run) {
        let Some(found) = self.jobs.get_mut(&job) else { return };
        for index in run.first..run.first + run.count {
            if found.notify_items.is_empty() {
                break;
            }
            if found.notify_items.remove(&index) {
                self.finished.push((job, index));
            }
        }
        if let Some(items) = self.items.get_mut(&job) {
            if found.results.is_single() {
                // Each single call is a user of its function.
                for index in run.first..run.first + run.count {
                    let Some((batch, _)) = items.find(index) else { continue };
                    self.functions.release(batch.function);
                }
            }
            items.finished(run.first, run.count);
        }
        self.past.done += run.count;
        found.results.put(run);
        if found.observed == Observed::Waiting && found.results.has_some() {
            found.observed = Observed::Told;
            self.finished.push((job, u64::MAX - 1));
        }
        self.conclude(job);
    }

    /// Reads a worker's results; says whether some were there.
    pub(super) fn attend(&mut self, worker: usize, now: Instant) -> bool {
        if self.processes[worker].is_none() {
            return false;
        }
        let mut arrived = false;
        while self.lanes[worker].has_results() && self.read(worker) {
            arrived = true;
        }
        if arrived {
            self.lanes[worker].release();
            self.scheduler.measure(worker, now);
        }
        let claimed = self.lanes[worker].claimed();
        self.scheduler.claimed(worker, claimed, now);
        self.outgoing[worker].go_on(&mut self.lanes[worker]);
        arrived
    }

    fn read(&mut self, worker: usize) -> bool {
        let piece = self.scheduler.front(worker);
        let mut bytes = Vec::new();
        let mut found =
            piece.map_or_else(ReadRun::default, |piece| self.lanes[worker].read_run(piece.count, &mut bytes));
        if found.count == 0 {
            match self.lanes[worker].read_one() {
                Found::Message(header, body) if header.kind == Kind::Broken => {
                    let failure = Failure::Initializer(body.into());
                    self.fail(failure);
                    return true;
                }
                Found::Message(header, body) => {
                    append(&mut bytes, header.kind, 0, body);
                    let has_parcels = header.kind == Kind::Parcel;
                    found = ReadRun { count: 1, has_parcels, has_failures: header.kind.is_failure() };
                }
                Found::Nothing => {
                    self.lanes[worker].release(); // fragments were read: there is room for more of them
                    return false;
                }
                Found::Nonsense => {
                    // Whatever wrote this is no worker of ours any more: it has overwritten the shared memory.
                    self.kill(worker);
                    return false;
                }
            }
        }
        let Some(piece) = piece else { return false };
        let slots = if found.has_parcels { self.adopt(worker, &bytes) } else { Some(VecDeque::new()) };
        let Some(slots) = slots else {
            self.kill(worker); // what it sent is not its own
            return false;
        };
        let ReadRun { count, has_failures, has_parcels } = found;
        self.has_adopted |= has_parcels;
        self.scheduler.finished(worker, count);
        self.deliver(piece.job, Run { slots, has_failures, ..Run::new(piece.first, count, bytes) });
        true
    }

    /// Takes over what these results of a worker have in the arena.
    fn adopt(&self, worker: usize, mut bytes: &[u8]) -> Option<VecDeque<Slot>> {
        let mut slots = VecDeque::new();
        while !bytes.is_empty() {
            let (header, body, rest) = split(bytes)?;
            if header.kind == Kind::Parcel {
                for (mode, place) in parcel::places(body)? {
                    if mode == Mode::Owned {
                        let arena = self.arena.as_ref()?;
                        slots.push_back(arena.adopt(&place, Party::Worker(worker))?);
                    }
                }
            }
            bytes = rest;
        }
        Some(slots)
    }

    fn cancel(&mut self, job: JobId) {
        let mut overdue = Vec::new();
        let (scheduler, mut hands) = self.parts(&mut overdue);
        scheduler.cancel(job, &mut hands);
    }

    fn parts<'a>(&'a mut self, overdue: &'a mut Vec<usize>) -> (&'a mut Scheduler, Hands<'a>) {
        let hands = Hands {
            lanes: &mut self.lanes,
            outgoing: &mut self.outgoing,
            functions: &self.functions,
            items: &self.items,
            overdue,
        };
        (&mut self.scheduler, hands)
    }

    fn schedule(&mut self, now: Instant) {
        let mut overdue = Vec::new();
        if self.failure.is_none() {
            let (scheduler, mut hands) = self.parts(&mut overdue);
            scheduler.poll(now, &mut hands);
        }
        for worker in overdue {
            self.kill(worker);
        }
        self.deadline = self.scheduler.deadline(now);
    }

    pub(super) fn kill(&mut self, worker: usize) {
        if self.strangers.contains(&worker) {
            self.doomed.insert(worker);
        }
        self.signal(worker, libc::SIGKILL);
    }

    fn signal(&self, worker: usize, signal: i32) {
        if let Some(handle) = self.processes[worker].as_ref().and_then(|process| process.handle.as_ref()) {
            handle.signal(signal);
        }
    }

    /// It can be ended, now or as soon as it is known.
    fn is_process(&self, worker: usize) -> bool {
        let is_known = self.processes[worker].as_ref().is_some_and(|process| process.handle.is_some());
        is_known || self.strangers.contains(&worker)
    }

    /// A worker has ended: its last results count, and the item that it ran gets its due.
    pub(super) fn bury(&mut self, worker: usize, status: Option<i32>, now: Instant) {
        #[cfg(feature = "mutants")]
        let reads = self.scheduler.mutant() != Some(super::scheduler::Mutant::Unread);
        #[cfg(not(feature = "mutants"))]
        let reads = true;
        if reads {
            self.attend(worker, now);
        }
        let Some(process) = self.processes[worker].take() else { return };
        let is_useless = !self.lanes[worker].is_ready() && status.is_some_and(|status| status > 0);
        if is_useless && process.id != 0 {
            // It would be the same with the next one, and the one after that.
            self.fail(Failure::CannotStart(format!(
                "worker {} ended with exit code {} before it could work",
                process.id,
                status.unwrap_or_default()
            )));
        }
        if self.is_ending() && self.scheduler.stage(worker) == Stage::Working {
            self.scheduler.give_up(worker);
        }
        if !self.is_ending() && self.scheduler.stage(worker) == Stage::Working {
            self.past.deaths += 1;
        }
        let signal = status.filter(|&status| status < 0).map_or(0, |status| -status);
        let (job, run) = match self.scheduler.died(worker, now) {
            Some(Verdict::Died { job, index }) => (job, died(index, process.id, signal)),
            Some(Verdict::TimedOut { job, index }) => (job, timed_out(index, process.id)),
            None => {
                if self.scheduler.is_hopeless() {
                    self.fail(Failure::Hopeless(process.id, signal));
                }
                return;
            }
        };
        self.scheduler.failed(job);
        self.deliver(job, run);
        if self.scheduler.is_hopeless() {
            self.fail(Failure::Hopeless(process.id, signal));
        }
    }

    /// The pool does not work any more: who asked to be told shall hear it.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        for (&job, found) in &mut self.jobs {
            if std::mem::take(&mut found.notify) {
                self.finished.push((job, u64::MAX));
            }
            if found.observed != Observed::No {
                self.finished.push((job, u64::MAX - 1));
            }
            let items = std::mem::take(&mut found.notify_items);
            self.finished.extend(items.into_iter().map(|index| (job, index)));
        }
    }
}

fn add<const N: usize>(to: &mut [u64; N], more: [u64; N]) {
    for (sum, value) in to.iter_mut().zip(more) {
        *sum += value;
    }
}

/// The helper's role: at most one thread has it.
struct Watch<'a> {
    pool: &'a Pool,
    helps: bool,
    heard: u32,
}

impl Watch<'_> {
    fn help(&mut self) {
        if !self.helps && !self.pool.helped.swap(true, Ordering::SeqCst) {
            self.helps = true;
            self.pool.memory.pool().awake.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Gives the role back, and sees to it that nothing is left unheard.
    fn leave(&mut self, core: &Core) {
        if !self.helps {
            return;
        }
        self.helps = false;
        let words = self.pool.memory.pool();
        words.awake.fetch_sub(1, Ordering::SeqCst);
        self.pool.helped.store(false, Ordering::SeqCst);
        let until = self.pool.dispatcher_until.load(Ordering::SeqCst);
        if words.bell.load(Ordering::SeqCst) != self.heard || core.deadline.as_nanos() < until {
            self.pool.poke_dispatcher();
        }
        if core.waiting > 0 {
            self.pool.changed.notify_all(); // another may help now
        }
    }
}

/// How often a waiting thread looks whether a signal came that did not wake it.
const PATIENCE: Duration = Duration::from_millis(50);
/// Turns of the helper's spin: at most some 10 µs.
static SPIN: AtomicU32 = AtomicU32::new(SPIN_MAX);
const SPIN_MAX: u32 = 1000;
const SPIN_MIN: u32 = 32;

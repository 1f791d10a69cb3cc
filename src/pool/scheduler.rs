//! Who does what, and when: a state machine that is handed the time and does nothing itself.
//!
//! Items of a job are handed to a worker in runs of about a millisecond, because a wake-up costs more than a hundred
//! messages; the last runs of a job are shorter, so that all workers end together. No item waits behind one that has
//! run longer than a millisecond: what was handed to a slow worker is taken back and given to another. The driver
//! tells what it sees (claims, results, deaths) and offers [`Lanes`]; what must be told to users comes back as
//! [`Verdict`]s.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::time::Instant;

mod job;
mod worker;

use job::Job;
use worker::Worker;
pub use worker::{Piece, Stage};

/// A map, a lazy map, or the stream of single calls.
pub type JobId = u64;

/// How long a run of items should last, and how long an item may run before nothing may wait behind it.
pub const SLICE: Duration = Duration::from_millis(1);
/// This many deaths,
const DEATHS_MAX: usize = 10;
/// within this time, without one item finished, mean that there is no use in going on.
const DEATHS_SPAN: Duration = Duration::from_secs(10);
/// The most items in one run.
const RUN_MAX: u64 = 1 << 15;

/// What users set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many workers.
    pub workers: usize,
    /// How often an item is tried again when its worker died under it.
    pub retries: u32,
    /// How long an item may run.
    pub task_timeout: Option<Duration>,
    /// How many tasks (chunks, for a map) a worker does before it is replaced.
    pub tasks_max: Option<u64>,
    /// A planted bug, which the soak must see.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

/// Bugs that this pool could have had.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// One item that a dead worker had not begun is forgotten.
    Lost,
    /// The item that a dead worker finished last is done again, and its result comes twice.
    Doubled,
    /// What is taken back from a worker is taken from the wrong end, so that results stand in the wrong places.
    Reordered,
    /// What a dead worker had finished is not looked at, so that it is done again.
    Unread,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Lost, Self::Doubled, Self::Reordered, Self::Unread];
}

/// What the driver does at once when asked.
pub trait Lanes {
    /// Hands items to a worker; says how many of them there was room for.
    fn hand(&mut self, worker: usize, job: JobId, items: Range<u64>) -> u64;
    /// Takes back what the worker has not claimed; says how many items.
    fn recall(&mut self, worker: usize) -> u64;
    /// Ends a worker whose item ran too long.
    fn kill(&mut self, worker: usize);
    /// Lets a worker leave that has nothing to do.
    fn retire(&mut self, worker: usize);
}

/// What became of an item whose worker did not finish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its worker died.
    Died {
        /// Whose item.
        job: JobId,
        /// Which.
        index: u64,
    },
    /// It ran longer than it may.
    TimedOut {
        /// Whose item.
        job: JobId,
        /// Which.
        index: u64,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs with items to hand out, in turn.
    ready: VecDeque<JobId>,
    workers: Vec<Worker>,
    deaths: VecDeque<Instant>,
    hopeless: bool,
}

impl Scheduler {
    /// With all workers absent.
    pub fn new(settings: Settings) -> Self {
        let workers = (0..settings.workers).map(|_| Worker::absent()).collect();
        Self {
            settings,
            jobs: BTreeMap::new(),
            ready: VecDeque::new(),
            workers,
            deaths: VecDeque::new(),
            hopeless: false,
        }
    }

    /// A job whose items are counted in chunks of `chunk`, which matters to `tasks_max` alone.
    pub fn open(&mut self, job: JobId, chunk: u64) {
        self.jobs.insert(job, Job::new(chunk));
    }

    /// `count` more items of the job are there.
    pub fn offer(&mut self, job: JobId, count: u64) {
        let Some(found) = self.jobs.get_mut(&job) else { return };
        found.offer(count);
        self.make_ready(job);
    }

    /// One more item of the job is there, and finished.
    pub fn offer_finished(&mut self, job: JobId) {
        if let Some(found) = self.jobs.get_mut(&job) {
            found.offer_finished();
        }
    }

    /// The worker will end, and that is as it should be.
    pub fn give_up(&mut self, worker: usize) {
        self.workers[worker].stage = Stage::Retiring;
    }

    /// Nothing more of the job is to be begun.
    pub fn cancel(&mut self, job: JobId, lanes: &mut impl Lanes) {
        if let Some(found) = self.jobs.get_mut(&job) {
            found.cancel();
        }
        for worker in 0..self.workers.len() {
            if self.workers[worker].pieces.iter().any(|piece| piece.job == job) {
                self.take_back(worker, lanes);
            }
        }
    }

    /// One item of the job is not to be begun; says whether that came in time.
    pub fn withdraw(&mut self, job: JobId, index: u64, lanes: &mut impl Lanes) -> bool {
        let has_it =
            |piece: &Piece| piece.job == job && (piece.first..piece.first + piece.count).contains(&index);
        for worker in 0..self.workers.len() {
            if self.workers[worker].pieces.iter().any(has_it) {
                self.take_back(worker, lanes);
            }
        }
        self.jobs.get_mut(&job).is_some_and(|found| found.withdraw(index))
    }

    /// The worker is being ended because of the item that it runs, which is not tried again.
    pub fn condemn(&mut self, worker: usize) {
        self.workers[worker].stage = Stage::Overdue;
    }

    /// How long the worker has been running its item.
    pub fn runs_for(&self, worker: usize, now: Instant) -> Option<Duration> {
        let worker = &self.workers[worker];
        worker.is_running().then(|| now - worker.since)
    }

    /// Nobody waits for the job any more. Items that run are let run; their results are nobody's.
    pub fn close(&mut self, job: JobId) {
        self.jobs.remove(&job);
        self.ready.retain(|&ready| ready != job);
    }

    /// The worker starts; it may be handed items, which it will find when it is there.
    pub fn start(&mut self, worker: usize, now: Instant) {
        self.workers[worker] = Worker::started(self.settings.tasks_max, now);
    }

    /// Workers that are missing.
    pub fn absent(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.workers.len()).filter(|&worker| self.workers[worker].stage == Stage::Absent)
    }

    /// In what stage a worker is.
    pub fn stage(&self, worker: usize) -> Stage {
        self.workers[worker].stage
    }

    /// The worker has claimed so many items since it started.
    pub fn claimed(&mut self, worker: usize, claims: u64, now: Instant) {
        self.workers[worker].claim(claims, now);
    }

    /// The piece that the worker's next result belongs to.
    pub fn front(&self, worker: usize) -> Option<Piece> {
        self.workers[worker].pieces.front().copied()
    }

    /// The last piece that was handed to the worker.
    pub fn back(&self, worker: usize) -> Option<Piece> {
        self.workers[worker].pieces.back().copied()
    }

    /// Items handed over and not finished.
    pub fn open_items(&self, worker: usize) -> u64 {
        self.workers[worker].open()
    }

    /// What the worker runs, with the number of its claim.
    pub fn running(&self, worker: usize) -> Option<(JobId, u64, u64)> {
        let worker = &self.workers[worker];
        let piece = worker.pieces.front().filter(|_| worker.is_running())?;
        Some((piece.job, piece.first, worker.finished))
    }

    /// The worker has finished the first `count` items of its front piece.
    pub fn finished(&mut self, worker: usize, count: u64) {
        let worker = &mut self.workers[worker];
        let job = worker.finish(count);
        self.deaths.clear();
        if let Some(found) = job.and_then(|job| self.jobs.get_mut(&job)) {
            found.finished += count;
        }
    }

    /// All results that were there are reported: what they say about the time that an item takes.
    pub fn measure(&mut self, worker: usize, now: Instant) {
        let Some((job, count, span)) = self.workers[worker].measure(now) else { return };
        if let Some(found) = self.jobs.get_mut(&job) {
            found.measure(count, span);
        }
    }

    /// The worker has ended. Its results were reported before.
    pub fn died(&mut self, worker: usize, now: Instant) -> Option<Verdict> {
        let mut gone = std::mem::replace(&mut self.workers[worker], Worker::absent());
        #[cfg(feature = "mutants")]
        self.spoil(&mut gone);
        let running = gone.take_running();
        for piece in gone.pieces.drain(..).rev() {
            self.give_back(piece);
        }
        if gone.stage == Stage::Retiring {
            return None;
        }
        if gone.stage == Stage::Overdue {
            let piece = running?;
            return self
                .jobs
                .contains_key(&piece.job)
                .then_some(Verdict::TimedOut { job: piece.job, index: piece.first });
        }
        self.count_death(now);
        let piece = running?;
        let job = self.jobs.get_mut(&piece.job)?;
        let tries = job.tries.entry(piece.first).or_insert(0);
        *tries += 1;
        if *tries > self.settings.retries {
            job.tries.remove(&piece.first);
            return Some(Verdict::Died { job: piece.job, index: piece.first });
        }
        self.give_back(piece);
        None
    }

    /// The planted bugs at a worker's death.
    #[cfg(feature = "mutants")]
    fn spoil(&mut self, gone: &mut Worker) {
        let ends = (gone.pieces.back_mut(), gone.finished);
        match (self.settings.mutant, ends) {
            (Some(Mutant::Lost), (Some(last), _)) if last.count > 1 => {
                last.count -= 1;
                let job = last.job;
                self.failed(job);
            }
            (Some(Mutant::Doubled), (Some(last), 1..)) if last.first > 0 => {
                let again = Piece { first: last.first - 1, count: 1, ..*last };
                if let Some(found) = self.jobs.get_mut(&again.job) {
                    found.finished = found.finished.saturating_sub(1);
                }
                self.give_back(again);
            }
            _ => {}
        }
    }

    /// The planted bug.
    #[cfg(feature = "mutants")]
    pub fn mutant(&self) -> Option<Mutant> {
        self.settings.mutant
    }

    fn count_death(&mut self, now: Instant) {
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|&first| now - first > DEATHS_SPAN) {
            self.deaths.pop_front();
        }
        self.hopeless |= self.deaths.len() > DEATHS_MAX;
    }

    /// Workers die faster than anything gets done.
    pub fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    /// An item ended by a verdict.
    pub fn failed(&mut self, job: JobId) {
        if let Some(found) = self.jobs.get_mut(&job) {
            found.finished += 1;
        }
    }

    /// Items of the job that are not finished.
    pub fn unfinished(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, |found| found.offered - found.finished)
    }

    /// How many items of the job should be in flight, so that no worker waits: two runs for each.
    pub fn window(&self, job: JobId) -> u64 {
        let run = self.jobs.get(&job).map_or(1, |found| found.run(SLICE));
        (2 * self.settings.workers as u64 * run).clamp(2 * self.settings.workers as u64 + 2, RUN_MAX)
    }

    /// Hands out, takes back, ends what is overdue.
    pub fn poll(&mut self, now: Instant, lanes: &mut impl Lanes) {
        for worker in 0..self.workers.len() {
            self.look_after(worker, now, lanes);
        }
        // Each round gives a run to each worker that has too little; rounds end when nothing more is handed out.
        while !self.ready.is_empty() && self.hand_round(now, lanes) {}
        for worker in 0..self.workers.len() {
            if self.workers[worker].is_spent() {
                self.workers[worker].stage = Stage::Retiring;
                lanes.retire(worker);
            }
        }
    }

    /// When `poll` should be called at the latest, though nothing is heard.
    pub fn deadline(&self, now: Instant) -> Instant {
        let mut deadline = Instant::NEVER;
        let idle = self.has_idle();
        for worker in &self.workers {
            if worker.stage != Stage::Working {
                continue;
            }
            if worker.may_be_relieved() || worker.open() == 1 && worker.is_new() && idle {
                // Something waits that may have to be given to another; ever more patiently, for a worker that
                // takes up nothing may be still starting.
                let waited = now - worker.since;
                let look = if worker.is_running() {
                    (worker.since + SLICE).max(now + SLICE / 4)
                } else {
                    now + SLICE.max(waited / 4)
                };
                deadline = deadline.min(look);
            }
            if let Some(limit) = self.settings.task_timeout.filter(|_| worker.open() > 0) {
                let end =
                    if worker.is_running() { worker.since + limit } else { now + limit.min(SLICE * 10) };
                deadline = deadline.min(end);
            }
        }
        deadline
    }

    fn look_after(&mut self, worker: usize, now: Instant, lanes: &mut impl Lanes) {
        let found = &self.workers[worker];
        if found.stage != Stage::Working || found.open() == 0 {
            return;
        }
        let waited = now - found.since;
        if found.is_running() && self.settings.task_timeout.is_some_and(|limit| waited >= limit) {
            self.workers[worker].stage = Stage::Overdue;
            lanes.kill(worker);
            return;
        }
        let is_slow = waited >= SLICE;
        let waits_behind = found.is_running() && found.may_be_relieved();
        let is_not_taken =
            !found.is_running() && (found.is_new() || found.may_be_relieved()) && self.has_idle();
        if is_slow && (waits_behind || is_not_taken) {
            self.take_back(worker, lanes);
        }
    }

    fn take_back(&mut self, worker: usize, lanes: &mut impl Lanes) {
        let count = lanes.recall(worker);
        #[cfg(feature = "mutants")]
        if self.settings.mutant == Some(Mutant::Reordered) {
            self.workers[worker].pieces.rotate_left(1);
        }
        for piece in self.workers[worker].take_back(count) {
            self.give_back(piece);
        }
    }

    fn has_idle(&self) -> bool {
        self.workers.iter().any(|worker| worker.stage == Stage::Working && worker.open() == 0)
    }

    fn hand_round(&mut self, now: Instant, lanes: &mut impl Lanes) -> bool {
        let mut handed = false;
        let mut order: Vec<usize> =
            (0..self.workers.len()).filter(|&worker| self.workers[worker].may_take(now, SLICE)).collect();
        order.sort_by_key(|&worker| self.workers[worker].open());
        for worker in order {
            let Some(&job) = self.ready.front() else { break };
            handed |= self.hand_run(worker, job, now, lanes);
        }
        handed
    }

    fn hand_run(&mut self, worker: usize, id: JobId, now: Instant, lanes: &mut impl Lanes) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            self.ready.pop_front();
            return false;
        };
        let found = &mut self.workers[worker];
        let wanted = job.run(SLICE);
        let open = found.open();
        // A worker with half a slice of work before it needs nothing yet; one with nothing takes at least one item.
        if open > 0 && open * 2 > wanted {
            return false;
        }
        let workers = self.settings.workers as u64;
        let share =
            (job.pending() + open).div_ceil(2 * workers).saturating_sub(open).max(u64::from(open == 0));
        let mut most = (wanted - open.min(wanted)).clamp(1, RUN_MAX).min(share);
        if found.counts_tasks() {
            most = if open == 0 { job.chunk } else { 0 }; // a chunk is one task, and one worker's
        }
        if most == 0 {
            return false;
        }
        let Some(run) = job.peek(most) else {
            self.ready.pop_front();
            return false;
        };
        let Some(run) = found.within_budget(id, run, job.chunk) else { return false };
        let length = run.end - run.start;
        let count = lanes.hand(worker, id, run.clone()).min(length);
        job.take(count);
        found.hand(Piece { job: id, first: run.start, count }, job.chunk, now);
        if job.pending() == 0 {
            self.ready.pop_front();
        } else if count > 0 {
            self.ready.rotate_left(1); // each ready job in its turn
        }
        count > 0
    }

    fn give_back(&mut self, piece: Piece) {
        let Some(job) = self.jobs.get_mut(&piece.job) else { return };
        job.give_back(piece.first..piece.first + piece.count);
        self.make_ready(piece.job);
    }

    fn make_ready(&mut self, job: JobId) {
        if !self.ready.contains(&job) && self.jobs.get(&job).is_some_and(|found| found.pending() > 0) {
            self.ready.push_back(job);
        }
    }
}

#[cfg(test)]
mod tests;

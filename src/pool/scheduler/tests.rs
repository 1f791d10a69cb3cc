//! The scheduler against a pretended pool: workers that claim and finish when the test says so.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::random::Random;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A worker as its ring shows it.
#[derive(Debug, Default)]
struct Pretended {
    queue: VecDeque<(JobId, u64)>,
    claims: u64,
    finished: u64,
    room: u64,
    running: Option<(JobId, u64)>,
    retired: bool,
    killed: bool,
}

#[derive(Debug, Default)]
struct Rings(Vec<Pretended>);

impl Rings {
    fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Pretended { room: 1000, ..Pretended::default() }).collect())
    }

    fn waiting(&self, worker: usize) -> Vec<u64> {
        self.0[worker].queue.iter().map(|(_, index)| *index).collect()
    }
}

impl Lanes for Rings {
    fn hand(&mut self, worker: usize, job: JobId, items: Range<u64>) -> u64 {
        let worker = &mut self.0[worker];
        let count = (items.end - items.start).min(worker.room - worker.queue.len() as u64);
        worker.queue.extend((items.start..items.start + count).map(|index| (job, index)));
        count
    }

    fn recall(&mut self, worker: usize) -> u64 {
        self.0[worker].queue.drain(..).count() as u64
    }

    fn kill(&mut self, worker: usize) {
        self.0[worker].killed = true;
    }

    fn retire(&mut self, worker: usize) {
        self.0[worker].retired = true;
    }
}

struct Pool {
    scheduler: Scheduler,
    rings: Rings,
    now: Instant,
}

fn settings(workers: usize) -> Settings {
    Settings {
        workers,
        retries: 0,
        task_timeout: None,
        tasks_max: None,
        #[cfg(feature = "mutants")]
        mutant: None,
    }
}

impl Pool {
    fn new(settings: Settings) -> Self {
        let mut pool = Self {
            scheduler: Scheduler::new(settings),
            rings: Rings::new(settings.workers),
            now: Instant::ZERO,
        };
        for worker in 0..settings.workers {
            pool.scheduler.start(worker, pool.now);
        }
        pool
    }

    fn submit(&mut self, job: JobId, count: u64) {
        self.scheduler.open(job, 1);
        self.scheduler.offer(job, count);
        self.poll();
    }

    fn poll(&mut self) {
        self.scheduler.poll(self.now, &mut self.rings);
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.poll();
    }

    fn claim(&mut self, worker: usize) -> Option<u64> {
        let found = &mut self.rings.0[worker];
        let item = found.queue.pop_front()?;
        found.running = Some(item);
        found.claims += 1;
        self.scheduler.claimed(worker, found.claims, self.now);
        Some(item.1)
    }

    fn finish(&mut self, worker: usize) -> (JobId, u64) {
        let item = self.rings.0[worker].running.take().expect("it runs something");
        self.rings.0[worker].finished += 1;
        let front = self.scheduler.front(worker).expect("a piece");
        assert_eq!((front.job, front.first), item, "results belong to what was handed over, in order");
        self.scheduler.finished(worker, 1);
        self.scheduler.measure(worker, self.now);
        item
    }

    /// Claims, runs so long, finishes, hands out.
    fn run(&mut self, worker: usize, span: Duration) -> Option<u64> {
        self.claim(worker)?;
        self.now = self.now + span;
        let (_, index) = self.finish(worker);
        self.poll();
        Some(index)
    }

    fn die(&mut self, worker: usize) -> Option<Verdict> {
        self.rings.0[worker] = Pretended { room: 1000, ..Pretended::default() };
        let verdict = self.scheduler.died(worker, self.now);
        if let Some(Verdict::Died { job, .. } | Verdict::TimedOut { job, .. }) = verdict {
            self.scheduler.failed(job);
        }
        verdict
    }

    fn restart(&mut self, worker: usize) {
        self.scheduler.start(worker, self.now);
        self.poll();
    }
}

#[test]
fn an_item_is_withdrawn_unless_it_has_begun() {
    let mut pool = Pool::new(settings(1));
    pool.submit(1, 6);
    assert_eq!(pool.claim(0), Some(0));
    for (index, in_time) in [(0, false), (1, true), (1, false), (3, true), (5, true), (6, false)] {
        assert_eq!(pool.scheduler.withdraw(1, index, &mut pool.rings), in_time, "item {index}");
        pool.poll();
    }
    assert!(!pool.scheduler.withdraw(2, 0, &mut pool.rings), "there is no such job");
    pool.finish(0);
    let mut begun = Vec::new();
    loop {
        pool.poll();
        let Some(index) = pool.claim(0) else { break };
        begun.push(index);
        pool.finish(0);
    }
    assert_eq!(begun, [2, 4]);
    assert_eq!(pool.scheduler.unfinished(1), 0);
}

#[test]
fn a_condemned_worker_answers_for_its_item_and_counts_as_no_death() {
    let mut pool = Pool::new(Settings { retries: 3, ..settings(1) });
    pool.submit(1, 2);
    assert_eq!(pool.claim(0), Some(0));
    pool.pass(MILLISECOND);
    assert_eq!(pool.scheduler.runs_for(0, pool.now), Some(MILLISECOND));
    pool.scheduler.condemn(0);
    let verdict = pool.scheduler.died(0, pool.now);
    assert_eq!(verdict, Some(Verdict::TimedOut { job: 1, index: 0 }), "however many tries it had");
    assert_eq!(pool.scheduler.runs_for(0, pool.now), None);
}

#[test]
fn one_item_goes_to_each_worker_while_nothing_is_known_of_their_time() {
    let mut pool = Pool::new(settings(3));
    pool.submit(1, 100);
    assert_eq!((0..3).map(|worker| pool.rings.waiting(worker)).collect::<Vec<_>>(), [[0], [1], [2]]);
}

#[test]
fn runs_of_short_items_last_about_a_millisecond() {
    let mut pool = Pool::new(settings(1));
    pool.submit(1, 100_000);
    pool.rings.0[0].room = 100_000;
    pool.run(0, Duration::from_micros(10));
    let length = pool.rings.waiting(0).len();
    assert!((50..=200).contains(&length), "{length} items of 10 µs");
}

#[test]
fn no_item_waits_behind_one_that_runs_longer_than_a_millisecond() {
    let mut pool = Pool::new(settings(2));
    pool.submit(1, 50);
    pool.claim(1);
    pool.run(0, Duration::from_micros(100));
    pool.claim(0);
    assert!(pool.rings.waiting(0).len() > 1, "short items are handed over together");
    assert!(pool.scheduler.deadline(pool.now) <= pool.now + MILLISECOND);
    pool.pass(MILLISECOND);
    assert!(pool.rings.waiting(0).is_empty());
    assert!(pool.rings.waiting(1).is_empty(), "the other one runs as long, and gets nothing either");
    pool.finish(1);
    pool.poll();
    assert_eq!(pool.rings.waiting(1)[0], 3, "what was taken back comes first");
}

#[test]
fn items_longer_than_a_millisecond_are_never_handed_over_ahead() {
    let mut pool = Pool::new(settings(2));
    pool.submit(1, 50);
    for _ in 0..10 {
        for worker in 0..2 {
            pool.run(worker, MILLISECOND * 2);
            assert!(pool.rings.waiting(worker).len() <= 1);
        }
    }
}

#[test]
fn the_last_runs_are_shared_among_the_workers() {
    let mut pool = Pool::new(settings(2));
    pool.submit(1, 41);
    pool.run(0, Duration::from_micros(1));
    // 40 are left of which one is with the other worker: a thousand would fit into a millisecond, a quarter is given.
    assert_eq!(pool.rings.waiting(0).len(), 10);
}

#[test]
fn a_workers_death_costs_the_item_that_it_ran_and_no_other() {
    let mut pool = Pool::new(settings(1));
    pool.submit(1, 20);
    pool.run(0, Duration::from_micros(10));
    let running = pool.claim(0).expect("an item");
    let waiting = pool.rings.waiting(0);
    assert!(!waiting.is_empty());
    assert_eq!(pool.die(0), Some(Verdict::Died { job: 1, index: running }));
    assert_eq!(pool.scheduler.absent().collect::<Vec<_>>(), [0]);
    pool.restart(0);
    assert_eq!(pool.rings.waiting(0)[0], waiting[0]);
}

#[test]
fn items_that_were_not_begun_are_handed_out_again_and_that_counts_as_no_retry() {
    let mut pool = Pool::new(settings(1));
    pool.submit(1, 5);
    for _ in 0..3 {
        assert_eq!(pool.die(0), None);
        pool.restart(0);
    }
    assert_eq!(pool.run(0, MILLISECOND), Some(0));
}

#[test]
fn an_item_is_retried_as_often_as_it_may_be() {
    let mut pool = Pool::new(Settings { retries: 2, ..settings(1) });
    pool.submit(1, 1);
    for verdict in [None, None, Some(Verdict::Died { job: 1, index: 0 })] {
        assert_eq!(pool.claim(0), Some(0));
        assert_eq!(pool.die(0), verdict);
        pool.restart(0);
    }
    assert_eq!(pool.scheduler.unfinished(1), 0);
    assert!(pool.rings.waiting(0).is_empty());
}

#[test]
fn more_than_ten_deaths_in_ten_seconds_without_a_finished_item_are_hopeless() {
    let deaths = |finish_after: Option<usize>, span: Duration| {
        let mut pool = Pool::new(Settings { retries: 100, ..settings(2) });
        pool.submit(1, 10);
        for death in 0..11 {
            if finish_after == Some(death) {
                pool.run(1, MILLISECOND);
            }
            pool.claim(0);
            pool.die(0);
            pool.now = pool.now + span;
            pool.restart(0);
        }
        pool.scheduler.is_hopeless()
    };
    assert!(deaths(None, MILLISECOND));
    assert!(!deaths(Some(5), MILLISECOND));
    assert!(!deaths(None, Duration::from_secs(2)));
}

#[test]
fn an_item_that_runs_too_long_costs_its_worker_and_counts_from_when_it_began() {
    let limit = Duration::from_millis(100);
    let mut pool = Pool::new(Settings { task_timeout: Some(limit), retries: 5, ..settings(1) });
    pool.submit(1, 2);
    pool.pass(limit * 5);
    assert!(!pool.rings.0[0].killed, "a worker that is still starting runs nothing");
    pool.claim(0);
    pool.pass(Duration::from_nanos(99_999_999));
    assert!(!pool.rings.0[0].killed);
    assert_eq!(pool.scheduler.deadline(pool.now), pool.now + Duration::from_nanos(1));
    pool.pass(Duration::from_nanos(1));
    assert!(pool.rings.0[0].killed);
    assert_eq!(pool.die(0), Some(Verdict::TimedOut { job: 1, index: 0 }));
    assert!(!pool.scheduler.is_hopeless());
}

#[test]
fn a_worker_leaves_after_the_tasks_that_it_may_do() {
    let mut pool = Pool::new(Settings { tasks_max: Some(2), ..settings(1) });
    pool.scheduler.open(1, 3);
    pool.scheduler.offer(1, 20);
    pool.poll();
    let mut done = Vec::new();
    while let Some(index) = pool.run(0, Duration::from_micros(1)) {
        done.push(index);
    }
    assert_eq!(done, [0, 1, 2, 3, 4, 5], "two chunks of three");
    assert!(pool.rings.0[0].retired);
    assert_eq!(pool.die(0), None);
    pool.restart(0);
    assert_eq!(pool.run(0, Duration::from_micros(1)), Some(6));
}

#[test]
fn a_chunk_that_was_begun_stays_with_its_worker_where_tasks_are_counted() {
    let mut pool = Pool::new(Settings { tasks_max: Some(1), ..settings(2) });
    pool.scheduler.open(0, 3);
    pool.scheduler.offer(0, 6);
    pool.poll();
    assert_eq!((pool.rings.waiting(0), pool.rings.waiting(1)), (vec![0, 1, 2], vec![3, 4, 5]));
    for index in [0, 1, 2] {
        pool.claim(0);
        pool.pass(20 * MILLISECOND);
        assert_eq!(pool.finish(0), (0, index), "however long its items take");
        pool.pass(20 * MILLISECOND);
    }
    assert!(pool.rings.0[0].retired, "it has done its task");
}

#[test]
fn a_worker_that_begins_nothing_loses_its_chunk_and_no_task_of_its_own() {
    let mut pool = Pool::new(Settings { tasks_max: Some(1), ..settings(2) });
    pool.scheduler.open(0, 3);
    pool.scheduler.offer(0, 3);
    pool.poll();
    assert_eq!(pool.rings.waiting(0), [0, 1, 2]);
    pool.pass(20 * MILLISECOND);
    assert_eq!(pool.rings.waiting(0).len() + pool.rings.waiting(1).len(), 3);
    assert!(!pool.rings.0[0].retired && !pool.rings.0[1].retired);
}

#[test]
fn jobs_take_turns() {
    let mut pool = Pool::new(settings(1));
    pool.submit(1, 1000);
    pool.scheduler.open(2, 1);
    pool.scheduler.offer(2, 1);
    let mut until_the_second_ran = 0;
    while pool.rings.0[0].queue.front().is_none_or(|(job, _)| *job != 2) {
        pool.run(0, MILLISECOND * 2);
        until_the_second_ran += 1;
        assert!(until_the_second_ran < 5, "a single call waits for a whole map");
    }
}

#[test]
fn what_a_closed_job_left_is_nobodys() {
    let mut pool = Pool::new(settings(1));
    pool.submit(1, 5);
    pool.claim(0);
    pool.scheduler.close(1);
    pool.finish(0);
    pool.poll();
    assert!(pool.rings.waiting(0).is_empty());
}

proptest! {
    /// Whatever workers do: each item ends exactly once, by a result or by a verdict.
    #[test]
    fn every_item_ends_exactly_once(seed in any::<u64>(), workers in 1_usize..5, retries in 0_u32..3) {
        let mut random = Random::new(seed);
        let mut pool = Pool::new(Settings { retries, ..settings(workers) });
        for found in &mut pool.rings.0 {
            found.room = 7; // rings are small, too
        }
        let counts = [random.below(200), random.below(50)];
        for (job, &count) in counts.iter().enumerate() {
            pool.submit(job as JobId, count);
        }
        let mut ended: BTreeMap<(JobId, u64), u32> = BTreeMap::new();
        let mut steps = 0;
        while (0..2).any(|job| pool.scheduler.unfinished(job) > 0) {
            steps += 1;
            prop_assert!(steps < 100_000, "it comes to no end");
            let worker = random.below(workers as u64) as usize;
            pool.now = pool.now + Duration::from_micros(random.below(2000));
            match random.below(20) {
                0 => {
                    if let Some(Verdict::Died { job, index } | Verdict::TimedOut { job, index }) = pool.die(worker) {
                        *ended.entry((job, index)).or_default() += 1;
                    }
                    pool.rings.0[worker].room = 7;
                    pool.restart(worker);
                }
                1..5 => pool.poll(),
                _ if pool.rings.0[worker].running.is_some() => {
                    *ended.entry(pool.finish(worker)).or_default() += 1;
                }
                _ => {
                    pool.claim(worker);
                }
            }
            pool.poll();
        }
        let expected: BTreeMap<(JobId, u64), u32> = (0..2_u64)
            .flat_map(|job| (0..counts[job as usize]).map(move |index| ((job, index), 1)))
            .collect();
        prop_assert_eq!(ended, expected);
    }

    /// Items of all lengths, of which nobody knows beforehand how long they take: none waits behind a long one, and the
    /// whole takes no longer than if each worker had drawn one item after another, and a look a worker.
    #[test]
    fn what_was_handed_to_a_slow_worker_is_stolen_back(
        durations in proptest::collection::vec(
            prop_oneof![10 => 1_u64..200, 2 => 1_000_u64..5_000, 1 => 20_000_u64..60_000], 1..150,
        ),
        workers in 1_usize..5,
    ) {
        let length = |index: u64| Duration::from_micros(durations[index as usize]);
        let mut pool = Pool::new(settings(workers));
        pool.submit(1, durations.len() as u64);
        let mut running: Vec<Option<(Instant, Instant)>> = vec![None; workers];
        loop {
            for (worker, runs) in running.iter_mut().enumerate() {
                if runs.is_some_and(|(_, end)| end <= pool.now) {
                    pool.finish(worker);
                    *runs = None;
                }
                if runs.is_none() {
                    *runs = pool.claim(worker).map(|index| (pool.now, pool.now + length(index)));
                }
            }
            pool.poll();
            for (worker, runs) in running.iter_mut().enumerate() {
                if runs.is_none() {
                    *runs = pool.claim(worker).map(|index| (pool.now, pool.now + length(index)));
                }
                let is_slow = runs.is_some_and(|(begun, _)| pool.now - begun >= SLICE);
                prop_assert!(!is_slow || pool.rings.waiting(worker).is_empty(), "one waits behind a long one");
            }
            if pool.scheduler.unfinished(1) == 0 {
                break;
            }
            let ends = running.iter().flatten().map(|&(_, end)| end).min().unwrap_or(Instant::NEVER);
            pool.now = ends.min(pool.scheduler.deadline(pool.now));
        }
        let longest = durations.iter().max().copied().unwrap_or_default();
        let bound = durations.iter().sum::<u64>() / workers as u64 + longest + 2_000 * workers as u64;
        prop_assert!(pool.now - Instant::ZERO <= Duration::from_micros(bound));
    }
}

//! Sees workers end, buries them, starts others; ends them all when the pool shall stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::driver::{Failure, Pool, State};
use super::system;
use crate::time::Instant;

/// How often to look whether the arena is in use.
const TICK: Duration = Duration::from_secs(5);

/// An arena that nobody has used for a while gives its free memory back.
#[derive(Default)]
struct Idle {
    /// How many extents had been taken when that changed last, and when.
    seen: u64,
    since: Instant,
    /// And when memory was given back.
    trimmed: u64,
}

impl Idle {
    /// Says when to look again; never, until the pool says that the arena is in use.
    fn look(&mut self, pool: &Pool, now: Instant) -> Instant {
        let Some(arena) = pool.arena() else { return Instant::NEVER };
        let claims = arena.claims();
        if claims != self.seen {
            (self.seen, self.since) = (claims, now);
        } else if claims != self.trimmed && now >= self.since + TICK {
            arena.trim();
            self.trimmed = claims;
        }
        if claims != self.trimmed {
            return self.since + TICK;
        }
        pool.arena_is_idle();
        // Somebody may have used it before that, and not have rung.
        if arena.claims() == claims { Instant::NEVER } else { now + TICK }
    }
}

/// How long a worker may take to leave after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

impl Pool {
    /// Starts the workers that are missing.
    pub fn populate(&self) -> Result<(), String> {
        while let Some(worker) = self.claim_absent() {
            match self.host.start(worker) {
                Ok(id) => self.welcome(worker, id),
                Err(why) => {
                    self.mourn(worker, why.clone());
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// Starts the pool's two threads.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        let (supervisor, dispatcher) = (Arc::clone(self), Arc::clone(self));
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = || std::thread::Builder::new().name("coterie-pool".into());
        threads.push(thread().spawn(move || {
            if !supervisor.guarded(Self::supervise) {
                supervisor.give_up();
            }
        })?);
        threads.push(thread().spawn(move || {
            dispatcher.guarded(Self::dispatch);
        })?);
        Ok(())
    }

    /// Waits until the pool's two threads have ended, after it has stopped; none of them waits for itself.
    pub fn join_threads(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let own = std::thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != own) {
            // A panic was told by `guarded`.
            let _ = thread.join();
        }
    }

    /// A thread of the pool that panics leaves a pool that does not work, and says so. Whether it did not.
    fn guarded(&self, life: fn(&Self)) -> bool {
        let lived = catch_unwind(AssertUnwindSafe(|| life(self))).is_ok();
        if !lived {
            self.fail(Failure::CannotStart("one of its threads panicked; please report it".to_owned()));
        }
        lived
    }

    /// Without a supervisor nobody sees how workers end: they are ended, and whoever waits for that need not.
    fn give_up(&self) {
        let mut core = self.lock();
        for worker in 0..core.processes.len() {
            core.lanes[worker].quit();
            core.kill(worker);
        }
        core.state = State::Stopped;
        drop(core);
        self.tell_everybody();
    }

    fn supervise(&self) {
        system::block_signals();
        self.meet_strangers();
        let mut idle = Idle::default();
        let mut is_dismissed = false;
        loop {
            if !is_dismissed && self.lock().is_ending() {
                is_dismissed = true;
                self.host.dismiss();
            }
            let (workers, deadline) = self.look_around();
            let deadline = deadline.min(idle.look(self, system::now()));
            let watched: Vec<i32> = workers.iter().map(|&(_, watched)| watched).collect();
            let ended = system::ended(Some(self.bell.descriptor()), &watched, deadline);
            self.bell.hush();
            let ended = workers.iter().zip(ended).filter(|(_, ended)| *ended);
            let mut gone: Vec<usize> = ended.map(|(&(worker, _), _)| worker).collect();
            gone.extend(self.threads_that_left());
            gone.sort_unstable();
            gone.dedup();
            for worker in gone {
                self.bury(worker);
            }
            // What keeps a worker from starting is remembered as the pool's failure.
            let _ = self.populate();
            if self.finish() {
                return;
            }
        }
    }

    fn meet_strangers(&self) {
        let strangers = self.lock().strangers.clone();
        for worker in strangers {
            match self.host.start(worker) {
                Ok(id) => self.meet(worker, id),
                Err(why) => self.mourn(worker, why),
            }
        }
    }

    /// Living workers with what is watched of them, and when to look again though nothing happens.
    fn look_around(&self) -> (Vec<(usize, i32)>, Instant) {
        let core = self.lock();
        let living = core.processes.iter().enumerate().filter_map(|(worker, process)| {
            let handle = process.as_ref()?.handle.as_ref()?;
            Some((worker, handle.watched()))
        });
        (living.collect(), core.terminated_at.map_or(Instant::NEVER, |at| at + GRACE))
    }

    fn threads_that_left(&self) -> Vec<usize> {
        let core = self.lock();
        let left = |worker: &usize| core.processes[*worker].as_ref().is_some_and(|process| process.ended);
        (0..core.processes.len()).filter(left).collect()
    }

    fn bury(&self, worker: usize) {
        // Nobody asks how a worker left that was told to: the host sees to them all when it stops.
        let is_ending = self.part_with(worker);
        let status = if is_ending { None } else { self.host.reap(worker) };
        let mut core = self.lock();
        core.bury(worker, status, system::now());
        self.clear(&mut core, worker);
        self.pump(&mut core);
        drop(core);
        self.tell_everybody();
    }

    /// No signal is meant for a worker that has ended. Says whether all workers are ending.
    fn part_with(&self, worker: usize) -> bool {
        let mut core = self.lock();
        if let Some(handle) = core.processes[worker].as_mut().and_then(|process| process.handle.as_mut()) {
            handle.part_with();
        }
        core.is_ending()
    }

    /// Does what the pool's state asks for; says whether all is over.
    fn finish(&self) -> bool {
        let mut core = self.lock();
        let now = system::now();
        match core.state {
            State::Running => return false,
            State::Closing if !core.is_idle() => return false,
            State::Closing | State::Stopped => {}
            State::Terminating => {
                let signal = match core.terminated_at {
                    None => Some(libc::SIGTERM),
                    Some(at) if now >= at + GRACE => Some(libc::SIGKILL),
                    Some(_) => None,
                };
                if let Some(signal) = signal {
                    core.terminated_at = Some(now);
                    for process in core.processes.iter().flatten() {
                        if let Some(handle) = &process.handle {
                            handle.signal(signal);
                        }
                    }
                }
            }
        }
        // Threads cannot be ended: those that still run something leave when they have done it.
        let abandons = core.state == State::Terminating;
        let is_over = core
            .processes
            .iter()
            .flatten()
            .all(|process| abandons && process.handle.is_none() && process.id == 0);
        if is_over {
            core.state = State::Stopped;
            drop(core);
            if let Some(arena) = self.arena() {
                arena.retire();
            }
            self.tell_everybody();
        }
        is_over
    }
}

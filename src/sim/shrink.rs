//! Makes a failing run smaller: fewer faults, a shorter time, rounder numbers, and still the *same* failure.
//!
//! A plan is a list of choices, and a run is a function of it. So nothing here knows a protocol: whoever shrinks says
//! whether a plan still fails in the same way, and when. The order of the passes is Hypothesis's (`MacIver` and
//! Donaldson, "Test-case reduction via test-case generation", ECOOP 2020): delete first, by halves (Zeller and
//! Hildebrandt, "Simplifying and isolating failure-inducing input", 2002), then lower what is left.
//!
//! Each change that is kept fails no later than what it replaces, so the time only falls. To fall further, it is
//! bisected: faults move together, and what has become too late is cut off.

use std::collections::BTreeSet;
use std::time::Duration;

use super::faults::{Fault, Kind, Links, Plan};
use super::latency::nanos;
use super::trace::of_debug;
use crate::random::Random;
use crate::time::Instant;

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The same failure, so long after the beginning.
    Same(Duration),
    /// Another failure, or none.
    Different,
    /// Nobody wants to try any more.
    Stop,
}

/// A failing run that has become small.
#[derive(Clone, Debug, PartialEq)]
pub struct Shrunk {
    /// What breaks.
    pub plan: Plan,
    /// When it fails.
    pub length: Duration,
    /// How many runs were tried.
    pub trials: u64,
    /// Whether nothing smaller was found, and not the time was up.
    pub exhausted: bool,
}

/// Shrinks a run that fails `length` after its beginning under `plan`. `trial` runs a plan for at most a time.
/// `None`: the run does not fail when it is run again, so whatever fails it is not in it.
pub fn shrink(plan: &Plan, length: Duration, trial: impl FnMut(&Plan, Duration) -> Trial) -> Option<Shrunk> {
    let original = keyed(plan);
    let mut shrinker = Shrinker {
        plan: original.clone(),
        original,
        length,
        trial,
        trials: 0,
        stopped: false,
        tried: BTreeSet::new(),
        random: Random::new(of_debug(plan)),
    };
    if !shrinker.keeps(shrinker.plan.clone(), length) {
        return None;
    }
    shrinker.run();
    let Shrinker { plan, length, trials, stopped, .. } = shrinker;
    Some(Shrunk { plan, length, trials, exhausted: !stopped })
}

struct Shrinker<T> {
    original: Plan,
    plan: Plan,
    length: Duration,
    trial: T,
    trials: u64,
    stopped: bool,
    /// Digests of what was tried in vain.
    tried: BTreeSet<u64>,
    random: Random,
}

/// Below so many faults each of them is looked at closely.
const FEW: usize = 24;
/// No run needs to be shorter.
const AT_ONCE: Duration = Duration::from_millis(2);
/// How often dice are thrown in a pass that throws them.
const THROWS: u32 = 96;
/// How many faults are drawn where more may do what few do not.
const DRAWN: u64 = 8;

impl<T: FnMut(&Plan, Duration) -> Trial> Shrinker<T> {
    fn run(&mut self) {
        loop {
            let before = (self.plan.clone(), self.length);
            self.cut_off();
            self.delete();
            self.bisect();
            self.close_gaps();
            self.thin();
            self.delete();
            if self.plan.faults.len() <= FEW {
                self.shuffle();
                self.shorten();
                self.simplify();
                self.delete();
            }
            if self.stopped || before == (self.plan.clone(), self.length) {
                break;
            }
        }
        self.rename();
        self.round();
    }

    /// Whether this plan fails in the same way within this time; then it is what is shrunk from now on.
    fn keeps(&mut self, plan: Plan, within: Duration) -> bool {
        let digest = of_debug(&(&plan, within));
        if self.stopped || self.tried.contains(&digest) {
            return false;
        }
        self.trials += 1;
        match (self.trial)(&plan, within) {
            Trial::Same(length) => {
                (self.plan, self.length) = (plan, length.min(within));
                true
            }
            Trial::Different => {
                self.tried.insert(digest);
                false
            }
            Trial::Stop => {
                self.stopped = true;
                false
            }
        }
    }

    fn tries(&mut self, plan: Plan) -> bool {
        plan != self.plan && self.keeps(plan, self.length)
    }

    /// Tries a change of the fault at `place`.
    fn changes(&mut self, place: usize, change: impl FnOnce(&mut Fault)) -> bool {
        let mut plan = self.plan.clone();
        change(&mut plan.faults[place]);
        self.tries(plan)
    }

    /// What begins after the failure has no part in it.
    fn cut_off(&mut self) {
        let end = Instant::ZERO + self.length;
        let mut plan = self.plan.clone();
        plan.faults.retain(|fault| fault.start <= end);
        self.tries(plan);
    }

    /// Takes faults away, many at a time at first: the last first, since what is late is less often needed.
    fn delete(&mut self) {
        let mut size = self.plan.faults.len().div_ceil(2);
        while size > 0 && !self.stopped {
            let mut end = self.plan.faults.len();
            while end > 0 && !self.stopped {
                let start = end.saturating_sub(size);
                let mut plan = self.plan.clone();
                plan.faults.drain(start..end);
                self.tries(plan);
                end = start.min(self.plan.faults.len());
            }
            size /= 2;
        }
    }

    /// Brings everything forward at once: the run takes a part of its time.
    fn bisect(&mut self) {
        for eighths in [1, 2, 3, 4, 5, 6, 7] {
            if self.stopped || self.length < AT_ONCE {
                return;
            }
            let mut plan = self.plan.clone();
            for fault in &mut plan.faults {
                fault.start = Instant::from_nanos(part(fault.start.as_nanos(), eighths));
            }
            // Half of what it has now must do, or nothing is won.
            let within = Duration::from_nanos(part(nanos(self.length), (eighths + 1).min(7)));
            self.keeps(plan, within);
        }
    }

    /// Takes out time in which nothing breaks.
    fn close_gaps(&mut self) {
        self.plan.faults.sort_by_key(|fault| fault.start);
        let mut place = 0;
        while place < self.plan.faults.len() && !self.stopped {
            let before = place.checked_sub(1).map_or(0, |last| self.plan.faults[last].start.as_nanos());
            let gap = self.plan.faults[place].start.as_nanos() - before;
            for eighths in [8, 7, 6, 4, 2] {
                if gap < 1_000_000 || self.moves(place, part(gap, eighths)) {
                    break;
                }
            }
            place += 1;
        }
    }

    /// Brings the faults from `place` on forward.
    fn moves(&mut self, place: usize, by: u64) -> bool {
        let mut plan = self.plan.clone();
        for fault in &mut plan.faults[place..] {
            fault.start = Instant::from_nanos(fault.start.as_nanos() - by);
        }
        self.tries(plan)
    }

    /// Leaves out many faults at random: where each of them moves the unlucky moment a little, none can be taken away
    /// alone, but half of them may do for another such moment.
    fn thin(&mut self) {
        for throw in 0..THROWS {
            if self.stopped || self.plan.faults.len() <= FEW {
                return;
            }
            let kept = if throw % 2 == 0 { 2 } else { 3 };
            let mut plan = self.plan.clone();
            plan.faults.retain(|_| self.random.below(4) < kept);
            self.tries(plan);
        }
    }

    /// Throws the dice again: most failures need what breaks, and a moment that is unlucky; another such moment may
    /// come sooner. Each throw must fail in three quarters of the time.
    fn shuffle(&mut self) {
        for throw in 0..THROWS {
            if self.stopped || self.length < AT_ONCE {
                return;
            }
            let mut plan = self.plan.clone();
            // More of the same makes the moment more likely, and so may something else that broke; what is not needed
            // of it is taken away afterwards.
            match throw % 4 {
                1 => plan.faults = self.draw(&plan.faults),
                3 => plan.faults = self.draw(&self.original.faults.clone()),
                _ => {}
            }
            let within = self.length / 4 * 3;
            for fault in &mut plan.faults {
                fault.start = Instant::from_nanos(self.random.below(nanos(within).max(1)));
            }
            self.keeps(plan, within);
        }
    }

    /// Some of these, again and again.
    fn draw(&mut self, from: &[Fault]) -> Vec<Fault> {
        if from.is_empty() {
            return Vec::new();
        }
        let one = |key| Fault { key, ..from[self.random.below(from.len() as u64) as usize].clone() };
        (1..=DRAWN).map(one).collect()
    }

    /// Lets faults end sooner.
    fn shorten(&mut self) {
        for place in 0..self.plan.faults.len() {
            loop {
                let fault = &self.plan.faults[place];
                let left = (Instant::ZERO + self.length).since(fault.start);
                let shorter = fault.length.min(left) / 2;
                if self.stopped
                    || shorter < Duration::from_millis(1)
                    || !self.changes(place, |fault| fault.length = shorter)
                {
                    break;
                }
            }
        }
    }

    /// Lets each fault be of its plainest kind.
    fn simplify(&mut self) {
        for place in 0..self.plan.faults.len() {
            for kind in plainer(&self.plan.faults[place].kind) {
                self.changes(place, |fault| fault.kind = kind);
            }
        }
    }

    /// Numbers that can be read.
    fn round(&mut self) {
        const STEPS: [u64; 4] = [1_000_000_000, 100_000_000, 10_000_000, 1_000_000];
        for place in 0..self.plan.faults.len() {
            for step in STEPS {
                let start = self.plan.faults[place].start.as_nanos();
                let (below, above) = (start / step * step, start.div_ceil(step) * step);
                let mut at = |start| self.changes(place, |fault| fault.start = Instant::from_nanos(start));
                if at(below) || at(above) {
                    break;
                }
            }
            for step in STEPS {
                let length = self.plan.faults[place].length;
                if length == Fault::FOR_EVER {
                    break;
                }
                let length = Duration::from_nanos(nanos(length).div_ceil(step) * step);
                if self.changes(place, |fault| fault.length = length) {
                    break;
                }
            }
        }
    }

    /// Keys that need not be written down: a fault's place in the plan.
    fn rename(&mut self) {
        let mut plan = self.plan.clone();
        for (fault, key) in plan.faults.iter_mut().zip(1..) {
            fault.key = key;
        }
        if self.tries(plan) {
            return;
        }
        for place in 0..self.plan.faults.len() {
            self.changes(place, |fault| fault.key = place as u64 + 1);
        }
    }
}

/// Every fault by its own key, so that no other draws anew when one is taken away.
fn keyed(plan: &Plan) -> Plan {
    let mut plan = Plan::new(plan.faults.iter().cloned());
    plan.faults.sort_by_key(|fault| fault.start);
    plan
}

/// So many eighths of it.
const fn part(of: u64, eighths: u64) -> u64 {
    (of as u128 * eighths as u128 / 8) as u64
}

/// The same kind with less in it: one process for several, all messages for some, all links for one.
fn plainer(kind: &Kind) -> Vec<Kind> {
    let one_of = |nodes: &[crate::id::NodeId]| -> Vec<Vec<crate::id::NodeId>> {
        if nodes.len() > 1 { nodes.iter().map(|&node| vec![node]).collect() } else { Vec::new() }
    };
    match kind {
        Kind::Partition { side } => one_of(side).into_iter().map(|side| Kind::Partition { side }).collect(),
        Kind::OneWay { from, to } => {
            let senders = one_of(from).into_iter().map(|from| Kind::OneWay { from, to: to.clone() });
            let receivers = one_of(to).into_iter().map(|to| Kind::OneWay { from: from.clone(), to });
            senders.chain(receivers).collect()
        }
        Kind::Bridge { left, right } => {
            let one = one_of(left).into_iter().map(|left| Kind::Bridge { left, right: right.clone() });
            let other = one_of(right).into_iter().map(|right| Kind::Bridge { left: left.clone(), right });
            one.chain(other).collect()
        }
        Kind::Drop { on, rate } if *rate < 1.0 || *on != Links::ALL => {
            vec![Kind::Drop { on: *on, rate: 1.0 }]
        }
        Kind::Corrupt { on, rate } if *rate < 1.0 => vec![Kind::Drop { on: *on, rate: 1.0 }],
        Kind::Duplicate { on, rate } if *rate < 1.0 => vec![Kind::Duplicate { on: *on, rate: 1.0 }],
        _ => Vec::new(),
    }
}

//! Histories of fenced locks: judged by their tokens, and by the search.

use std::collections::BTreeMap;

use coterie::check::linearizability::{
    Conflict, Judge, Limits, Lock, LockAction, Model, NEVER, Operation, Progress, Reason, Role, State,
    Verdict,
};
use coterie::random::Random;
use proptest::prelude::*;

use LockAction::{Acquire, AcquireRefused, Release, ReleaseRefused};

/// A lock and its clients, who ask, lose patience and go on, drawn from a seed.
struct Simulated {
    random: Random,
    expires: bool,
    /// How many of a thousand answers nobody hears.
    unheard: u64,
    holder: Option<u32>,
    token: u32,
    clients: Vec<Believes>,
    /// How many acquires are still to come.
    acquires: usize,
    /// What happens when, in order.
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    operations: Vec<Operation<LockAction>>,
    /// By operation.
    processes: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq)]
enum Believes {
    Nothing,
    ItIsMine,
    ItMayBeMine,
}

#[derive(Clone, Copy)]
enum Event {
    Call(u32),
    /// An operation takes effect, or waits for that, some times more.
    Effect(usize, Waits),
    End(usize),
    GiveUp(usize),
}

#[derive(Clone, Copy)]
struct Waits {
    times: u64,
    /// Somebody listens to the answer.
    heard: bool,
}

impl Simulated {
    fn history(
        seed: u64,
        clients: u32,
        acquires: usize,
        unheard: u64,
        expires: bool,
    ) -> Vec<Operation<LockAction>> {
        let mut simulated = Self {
            random: Random::new(seed),
            expires,
            unheard,
            holder: None,
            token: 0,
            clients: vec![Believes::Nothing; clients as usize],
            acquires,
            queue: BTreeMap::new(),
            events: 0,
            operations: Vec::new(),
            processes: Vec::new(),
        };
        for client in 0..clients {
            simulated.after(0, 10, Event::Call(client));
        }
        let mut place = 0;
        while let Some(((now, _), event)) = simulated.queue.pop_first() {
            place += 1;
            simulated.happens(now, place, event);
        }
        simulated.operations
    }

    fn after(&mut self, now: u64, within: u64, event: Event) {
        self.events += 1;
        let at = now + 1 + self.random.below(within);
        self.queue.insert((at, self.events), event);
    }

    fn happens(&mut self, now: u64, place: u32, event: Event) {
        let (process, believes) = match event {
            Event::Call(process) => return self.call(now, place, process),
            Event::Effect(number, waits) => return self.effect(now, number, waits),
            Event::GiveUp(number) => (self.processes[number], Believes::ItMayBeMine),
            Event::End(number) => {
                self.operations[number].end = place;
                let believes = match self.operations[number].action {
                    Acquire { .. } => Believes::ItIsMine,
                    // It may be his own that he does not know of.
                    AcquireRefused if self.random.below(2) == 0 => Believes::ItMayBeMine,
                    _ => Believes::Nothing,
                };
                (self.processes[number], believes)
            }
        };
        self.clients[process as usize] = believes;
        self.after(now, 10, Event::Call(process));
    }

    fn call(&mut self, now: u64, place: u32, process: u32) {
        let action = match self.clients[process as usize] {
            Believes::Nothing if self.acquires == 0 => return,
            Believes::Nothing => Acquire { process, token: None },
            _ => Release { process },
        };
        self.acquires -= usize::from(matches!(action, Acquire { .. }));
        let number = self.operations.len();
        self.operations.push(Operation { object: 0, action, call: place, end: NEVER });
        self.processes.push(process);
        let heard = self.random.below(1_000) >= self.unheard;
        if !heard {
            self.after(now, 20, Event::GiveUp(number));
        }
        if heard || self.random.below(2) == 0 {
            let times = self.random.below(60);
            self.after(now, 15, Event::Effect(number, Waits { times, heard }));
        }
    }

    fn effect(&mut self, now: u64, number: usize, Waits { times, heard }: Waits) {
        let process = self.processes[number];
        let answer = match self.operations[number].action {
            Acquire { .. } if self.expires || self.holder.is_none() => {
                self.token += 1 + self.random.below(3) as u32;
                self.holder = Some(process);
                Acquire { process, token: Some(self.token) }
            }
            Acquire { .. } if times > 0 => {
                return self.after(now, 3, Event::Effect(number, Waits { times: times - 1, heard }));
            }
            Acquire { .. } => AcquireRefused,
            _ if self.holder == Some(process) => {
                self.holder = None;
                Release { process }
            }
            _ => ReleaseRefused { process },
        };
        if heard {
            self.operations[number].action = answer;
            self.after(now, 10, Event::End(number));
        }
    }
}

/// A lock that is judged by the search alone.
#[derive(Clone)]
struct Searched(Lock);

impl Model for Searched {
    type Action = LockAction;

    fn initial(&mut self) -> State {
        self.0.initial()
    }

    fn step(&mut self, state: State, action: LockAction) -> Option<State> {
        self.0.step(state, action)
    }

    fn is_pure(&self, action: LockAction) -> bool {
        self.0.is_pure(action)
    }

    fn forget(&self, action: LockAction) -> Option<LockAction> {
        // Whatever it is that nobody heard, the search has to find out that it is not needed.
        Lock::new(true, false).forget(action)
    }
}

fn judge<M: Model>(model: M, operations: &[Operation<M::Action>]) -> (Verdict, Judge<M>) {
    let mut judge = Judge::new(model, operations.to_vec(), Limits::default());
    // Nothing here should need so long.
    for _ in 0..200 {
        if let Progress::Done(verdict) = judge.advance(100_000) {
            return (verdict, judge);
        }
    }
    (Verdict::Unknown(Reason::Patience), judge)
}

/// Changes something: an answer, a token, a process.
fn twist(operations: &mut [Operation<LockAction>], random: &mut Random) {
    let count = operations.len() as u64;
    let mut some = || random.below(count) as usize;
    let (one, other, kind) = (some(), some(), some() % 6);
    let token = |operation: Operation<_>| match operation.action {
        Acquire { token, .. } => token,
        _ => None,
    };
    let told = operations[other];
    let Operation { action, end, .. } = &mut operations[one];
    match action {
        _ if *end == NEVER => {}
        Acquire { token: own, .. } if kind == 0 => *own = token(told).or(*own),
        Acquire { .. } if kind == 1 => *action = AcquireRefused,
        Acquire { process, .. } | Release { process } | ReleaseRefused { process } if kind == 2 => {
            *process = 0;
        }
        Release { process } => *action = ReleaseRefused { process: *process },
        ReleaseRefused { process } => *action = Release { process: *process },
        _ if told.end != NEVER => *action = told.action,
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokens_say_what_the_search_says(
        (seed, clients, acquires) in (any::<u64>(), 2..4_u32, 2..8_usize),
        (unheard, twists, expires) in (0..500_u64, 0..3_u32, any::<bool>()),
    ) {
        let mut operations = Simulated::history(seed, clients, acquires, unheard, expires);
        let mut random = Random::new(seed);
        (0..twists).for_each(|_| twist(&mut operations, &mut random));
        let lock = Lock::new(true, expires);
        let (searched, _) = judge(Searched(lock.clone()), &operations);
        prop_assert!(!matches!(searched, Verdict::Unknown(_)));
        prop_assert!(twists > 0 || searched == Verdict::Linearizable, "it was a lock");
        if let Some(is_explained) = lock.by_values(&operations) {
            prop_assert_eq!(is_explained, searched == Verdict::Linearizable, "{:#?}", operations);
        }
    }
}

/// How many histories are decided without a search, of those that are right and of those that are not.
#[test]
fn few_locks_need_a_search() {
    let mut counts = BTreeMap::<_, usize>::new();
    for seed in 0..2_000 {
        let mut operations = Simulated::history(seed, 4, 10, 100, false);
        if seed % 2 == 1 {
            twist(&mut operations, &mut Random::new(seed));
        }
        let lock = Lock::new(true, false);
        let decided = lock.by_values(&operations);
        let is_right = judge(lock, &operations).0 == Verdict::Linearizable;
        *counts.entry((is_right, decided.is_some())).or_default() += 1;
    }
    println!("(right, decided): {counts:?}");
    let share = |right| {
        counts[&(right, true)] * 100
            / counts.iter().filter(|it| it.0.0 == right).map(|it| it.1).sum::<usize>()
    };
    assert!(share(true) >= 95 && share(false) >= 30, "{counts:?}");
}

/// What clients of a lock saw all day long.
fn long(seed: u64, expires: bool) -> Vec<Operation<LockAction>> {
    Simulated::history(seed, 8, 15_000, 10, expires)
}

/// The smallest conflict in a wrong history.
fn conflict(lock: &Lock, operations: &[Operation<LockAction>]) -> Vec<(Operation<LockAction>, Role)> {
    let (verdict, judge) = judge(lock.clone(), operations);
    let Verdict::Violation { place } = verdict else { panic!("{verdict:?}") };
    let (lock, part) = judge.into_part();
    let mut conflict = Conflict::new(lock, part, place, Limits::default());
    while !conflict.advance(100_000) {}
    conflict.operations().collect()
}

/// Two known grants, of which one ended before the other was asked for.
fn one_after_the_other(operations: &[Operation<LockAction>]) -> (usize, usize) {
    let is_granted =
        |it: &usize| operations[*it].is_known() && matches!(operations[*it].action, Acquire { .. });
    let middle = operations.len() / 2;
    let first = (middle..operations.len()).find(is_granted).expect("one is granted");
    let second =
        (first..operations.len()).find(|it| is_granted(it) && operations[*it].call > operations[first].end);
    (first, second.expect("another one is granted"))
}

#[test]
fn a_long_history_is_judged_whatever_nobody_heard() {
    for (seed, expires) in [(7, false), (8, false), (9, false), (7, true)] {
        let operations = long(seed, expires);
        let unheard = operations.iter().filter(|operation| !operation.is_known()).count();
        assert!(unheard > 150 && operations.len() > 25_000, "{unheard} of {}", operations.len());
        assert_eq!(judge(Lock::new(true, expires), &operations).0, Verdict::Linearizable);
    }
}

#[test]
fn tokens_that_contradict_time_are_told_in_a_long_history() {
    for expires in [false, true] {
        let lock = Lock::new(true, expires);
        let operations = long(7, expires);
        let (one, other) = one_after_the_other(&operations);
        let mut swapped = operations.clone();
        (swapped[one].action, swapped[other].action) = (operations[other].action, operations[one].action);
        let told = conflict(&lock, &swapped);
        assert!(told.len() <= 4, "{told:#?}");
        let mut twice = operations.clone();
        twice[other].action = twice[one].action;
        let told = conflict(&lock, &twice);
        assert!(told.len() <= 4, "{told:#?}");
    }
}

#[test]
fn sections_that_overlap_are_told_in_a_long_history() {
    let lock = Lock::new(true, false);
    let operations = long(7, false);
    // He may have released it by what nobody heard of.
    let is_unheard = |process| {
        operations.iter().any(|it| !it.is_known() && it.action == Release { process } && it.call < 1_000)
    };
    let first =
        operations.iter().enumerate().skip(20).find_map(|(index, operation)| match operation.action {
            Release { process } if operation.is_known() && !is_unheard(process) => Some((index, process)),
            _ => None,
        });
    let (index, process) = first.expect("somebody released it");
    let mut overlapping = operations;
    overlapping[index].action = ReleaseRefused { process };
    let told = conflict(&lock, &overlapping);
    assert!(told.len() <= 4, "{told:#?}");
}

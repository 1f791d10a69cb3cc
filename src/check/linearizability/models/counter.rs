//! A counter.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::{Model, Operation, State};
use super::{Earliest, Interned};

/// What is done to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterAction {
    /// It is more by so much from now on; and how much it is then, if that was told.
    Add(i64, Option<i64>),
    /// It was so much.
    Read(i64),
}

use CounterAction::{Add, Read};

/// A counter, which begins somewhere.
#[derive(Clone, Debug)]
pub struct Counter {
    initial: i64,
    values: Interned,
}

impl Counter {
    /// It begins with `initial`.
    pub fn new(initial: i64) -> Self {
        Self { initial, values: Interned::new() }
    }

    fn value(&self, state: State) -> i64 {
        match *self.values.content(state) {
            [low, high] => (u64::from(high) << 32 | u64::from(low)) as i64,
            _ => self.initial,
        }
    }

    fn number(&mut self, value: i64) -> State {
        if value == self.initial {
            0
        } else {
            self.values.number(&[value as u32, (value as u64 >> 32) as u32])
        }
    }
}

impl Model for Counter {
    type Action = CounterAction;

    fn initial(&mut self) -> State {
        0
    }

    fn step(&mut self, state: State, action: CounterAction) -> Option<State> {
        let value = self.value(state);
        match action {
            Add(amount, told) => {
                let sum = value.checked_add(amount)?;
                told.is_none_or(|told| told == sum).then(|| self.number(sum))
            }
            Read(seen) => (seen == value).then_some(state),
        }
    }

    fn is_pure(&self, action: CounterAction) -> bool {
        matches!(action, Read(_) | Add(0, _))
    }

    fn forget(&self, action: CounterAction) -> Option<CounterAction> {
        match action {
            Add(0, _) | Read(_) => None,
            Add(amount, _) => Some(Add(amount, None)),
        }
    }

    fn by_values(&self, operations: &[Operation<CounterAction>]) -> Option<bool> {
        let untold = |operation: &Operation<_>| matches!(operation.action, Add(1, None) | Read(_));
        let told = |operation: &Operation<_>| match operation.action {
            Add(amount, told) => amount > 0 && told.is_some() && operation.is_known(),
            Read(_) => true,
        };
        if operations.iter().all(untold) {
            return Some(counts(self.initial, operations));
        }
        operations.iter().all(told).then(|| ascends(self.initial, operations))
    }

    fn memory(&self) -> usize {
        self.values.memory()
    }
}

fn reads(operations: &[Operation<CounterAction>]) -> Vec<(i64, &Operation<CounterAction>)> {
    let known = operations.iter().filter(|operation| operation.is_known());
    let mut reads: Vec<_> = known
        .filter_map(
            |operation| if let Read(value) = operation.action { Some((value, operation)) } else { None },
        )
        .collect();
    reads.sort_by_key(|(value, read)| (*value, read.call));
    reads
}

/// Steps of one, which are all alike. Step `k` of the counter's own comes after all reads that saw less have begun, and
/// before any read that saw `k` or more has ended; these windows move forward with `k`. So each addition can be one of
/// the steps from `low` to `high`, and whoever must be done first goes first (Glover 1967, "Maximum matching in a convex
/// bipartite graph"). Where windows and operations are matched, their order follows: two that crossed can be swapped.
fn counts(initial: i64, operations: &[Operation<CounterAction>]) -> bool {
    let mut adds: Vec<_> =
        operations.iter().filter(|operation| matches!(operation.action, Add(..))).collect();
    let reads = reads(operations);
    let Some(highest) = reads.last().map_or(Some(0), |(value, _)| value.checked_sub(initial)) else {
        return false;
    };
    if highest < 0
        || highest as usize > adds.len()
        || reads.first().is_some_and(|(value, _)| *value < initial)
    {
        return false;
    }
    let steps = highest as usize;
    // By step, from 1 on: from when on, and until when.
    let (mut from, mut until) = (vec![0; steps + 2], vec![u32::MAX; steps + 2]);
    for (value, read) in reads {
        let saw = (value - initial) as usize;
        from[saw + 1] = from[saw + 1].max(read.call);
        until[saw] = until[saw].min(read.end);
    }
    for step in 1..=steps + 1 {
        from[step] = from[step].max(from[step - 1]);
    }
    for step in (0..=steps).rev() {
        until[step] = until[step].min(until[step + 1]);
    }
    if (1..=steps).any(|step| from[step] >= until[step]) {
        return false;
    }
    adds.sort_unstable_by_key(|add| add.call);
    let mut adds = adds.into_iter().peekable();
    let mut open: BinaryHeap<Reverse<usize>> = BinaryHeap::new();
    for step in 1..=steps {
        while let Some(add) = adds.next_if(|add| add.call < until[step]) {
            let high = from[1..].partition_point(|&from| from < add.end);
            open.push(Reverse(high));
        }
        if open.pop().is_none_or(|Reverse(high)| high < step) {
            return false;
        }
    }
    // The others come after all reads, if they may.
    open.into_iter().all(|Reverse(high)| high > steps) && adds.all(|add| from[steps + 1] < add.end)
}

/// Steps upwards that told where they led: that is their order.
fn ascends(initial: i64, operations: &[Operation<CounterAction>]) -> bool {
    let step = |operation: &Operation<_>| match operation.action {
        Add(amount, told) => Some((told?, amount)),
        Read(_) => None,
    };
    let mut steps: Vec<_> = operations
        .iter()
        .filter_map(|operation| step(operation).map(|(told, amount)| (told, amount, operation)))
        .collect();
    steps.sort_by_key(|(told, _, add)| (*told, add.call));
    let mut reads = reads(operations).into_iter().peekable();
    let mut earliest = Earliest::default();
    let mut value = initial;
    let mut level = |earliest: &mut Earliest, value: i64| {
        earliest.place_beside(std::iter::from_fn(|| Some(reads.next_if(|(of, _)| *of == value)?.1)))
    };
    if !level(&mut earliest, value) {
        return false;
    }
    for (told, amount, add) in steps {
        if value.checked_add(amount) != Some(told) || !earliest.place(add) {
            return false;
        }
        value = told;
        if !level(&mut earliest, value) {
            return false;
        }
    }
    reads.peek().is_none()
}

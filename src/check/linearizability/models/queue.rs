//! A queue: first in, first out.

use std::collections::BTreeMap;

use super::super::{Model, Operation, State, Value};
use super::Interned;

/// What is done to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueAction {
    /// This is its last from now on.
    Enqueue(Value),
    /// This was its first, and is not there any more.
    Dequeue(Value),
    /// There was nothing in it.
    DequeueEmpty,
    /// Whatever was its first is not there any more.
    DequeueUnheard,
}

use QueueAction::{Dequeue, DequeueEmpty, DequeueUnheard, Enqueue};

/// A queue, which begins empty.
#[derive(Clone, Debug)]
pub struct Queue {
    contents: Interned,
    scratch: Vec<u32>,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        Self { contents: Interned::new(), scratch: Vec::new() }
    }

    fn without_first(&mut self, state: State) -> State {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.contents.content(state)[1..]);
        self.contents.number(&self.scratch)
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Model for Queue {
    type Action = QueueAction;

    fn initial(&mut self) -> State {
        0
    }

    fn step(&mut self, state: State, action: QueueAction) -> Option<State> {
        let first = self.contents.content(state).first().copied();
        match action {
            Enqueue(value) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(self.contents.content(state));
                self.scratch.push(value);
                Some(self.contents.number(&self.scratch))
            }
            Dequeue(value) => (first == Some(value)).then(|| self.without_first(state)),
            DequeueEmpty => first.is_none().then_some(state),
            DequeueUnheard => first.is_some().then(|| self.without_first(state)),
        }
    }

    fn is_pure(&self, action: QueueAction) -> bool {
        action == DequeueEmpty
    }

    fn forget(&self, action: QueueAction) -> Option<QueueAction> {
        Some(if matches!(action, Enqueue(_)) { action } else { DequeueUnheard })
    }

    /// A value that nobody is known to have taken out need never have been put in: it would only be in the way.
    fn prune(&self, operations: &mut Vec<Operation<QueueAction>>) {
        let taken = |operation: &Operation<_>| match operation.action {
            Dequeue(value) if operation.is_known() => Some(value),
            _ => None,
        };
        let mut taken: Vec<Value> = operations.iter().filter_map(taken).collect();
        taken.sort_unstable();
        operations.retain(|operation| match operation.action {
            Enqueue(value) => operation.is_known() || taken.binary_search(&value).is_ok(),
            _ => true,
        });
    }

    /// Where each value is put in once, a history is wrong exactly when it has one of four patterns (Henzinger, Sezgin
    /// and Vafeiadis, "Aspect-oriented linearizability proofs", 2013): a value comes out that was not put in, or not yet;
    /// one comes out twice; two come out in the wrong order; the queue is found empty although it was not, all that time.
    ///
    /// What dequeues of unknown outcome took away is found by deadlines; where that does not explain all, only the search
    /// can tell.
    fn by_values(&self, operations: &[Operation<QueueAction>]) -> Option<bool> {
        let mut lives: BTreeMap<Value, Life> = BTreeMap::new();
        let mut perhaps = Vec::new();
        for operation in operations {
            match operation.action {
                Enqueue(value) => {
                    let life = lives.entry(value).or_default();
                    if life.enqueued.replace((operation.call, operation.end)).is_some() {
                        return None;
                    }
                }
                _ if !operation.is_known() => perhaps.push(operation.call),
                Dequeue(_) | DequeueEmpty => {}
                DequeueUnheard => return None,
            }
        }
        for operation in operations.iter().filter(|operation| operation.is_known()) {
            if let Dequeue(value) = operation.action {
                let Some(life) = lives.get_mut(&value) else { return Some(false) };
                let early = life.enqueued.is_none_or(|(call, _)| operation.end < call);
                if early || life.dequeued.replace((operation.call, operation.end)).is_some() {
                    return Some(false);
                }
            }
        }
        // What was perhaps put in, and never came out, was not put in.
        lives.retain(|_, life| {
            life.dequeued.is_some() || life.enqueued.is_some_and(|(_, end)| end != u32::MAX)
        });
        let mut lives: Vec<Life> = lives.into_values().collect();
        let is_explained = |lives: &[Life]| is_in_order(lives) && empty_was_possible(lives, operations);
        if perhaps.is_empty() {
            return Some(is_explained(&lives));
        }
        let taken: Vec<Life> = lives.iter().filter(|life| life.dequeued.is_some()).copied().collect();
        if !is_explained(&taken) || !take_away(&mut lives, operations, &perhaps) {
            return Some(false);
        }
        is_explained(&lives).then_some(true)
    }

    fn memory(&self) -> usize {
        self.contents.memory()
    }
}

/// When a value was put in and taken out: call and end of each.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    enqueued: Option<(u32, u32)>,
    dequeued: Option<(u32, u32)>,
}

impl Life {
    fn put_in_before(&self) -> u32 {
        self.enqueued.map_or(u32::MAX, |(_, end)| end)
    }

    fn taken_out_after(&self) -> u32 {
        self.dequeued.map_or(u32::MAX, |(call, _)| call)
    }
}

/// Lets those who dequeued, whose calls are `perhaps` and of whom nobody heard, take what nobody is known to have taken and
/// what was in the way: of whatever came out though it was put in after it, or of who found the queue empty. Whether there are
/// enough of them in time: whoever must be gone first is taken by who asked first.
fn take_away(lives: &mut [Life], operations: &[Operation<QueueAction>], perhaps: &[u32]) -> bool {
    let empty =
        operations.iter().filter(|operation| operation.action == DequeueEmpty && operation.is_known());
    let mut after: Vec<(u32, u32)> = empty.map(|operation| (operation.call, operation.end)).collect();
    after.extend(lives.iter().filter_map(|life| Some((life.enqueued?.0, life.dequeued?.1))));
    after.sort_unstable();
    let mut earliest = u32::MAX;
    for (_, end) in after.iter_mut().rev() {
        earliest = earliest.min(*end);
        *end = earliest;
    }
    let mut left: Vec<(u32, &mut Life)> = Vec::new();
    for life in lives.iter_mut().filter(|life| life.dequeued.is_none()) {
        let next = after.partition_point(|&(call, _)| call < life.put_in_before());
        if let Some(&(_, deadline)) = after.get(next) {
            left.push((deadline, life));
        }
    }
    left.sort_unstable_by_key(|(deadline, _)| *deadline);
    let enough = left.len() <= perhaps.len();
    enough
        && left.into_iter().zip(perhaps).all(|((deadline, life), &call)| {
            life.dequeued = Some((call, u32::MAX));
            call < deadline
        })
}

/// Whether no value that was put in after another came out before it.
fn is_in_order(lives: &[Life]) -> bool {
    let mut by_end: Vec<&Life> = lives.iter().collect();
    by_end.sort_unstable_by_key(|life| life.put_in_before());
    let mut by_call: Vec<(u32, u32)> =
        lives.iter().filter_map(|life| Some((life.enqueued?.0, life.dequeued?.1))).collect();
    by_call.sort_unstable();
    let mut earlier = by_end.into_iter().peekable();
    let mut latest = 0;
    by_call.into_iter().all(|(call, out)| {
        while let Some(life) = earlier.next_if(|life| life.put_in_before() < call) {
            latest = latest.max(life.taken_out_after());
        }
        latest <= out
    })
}

/// Whether each that found the queue empty had a moment at which nothing was surely in it.
fn empty_was_possible(lives: &[Life], operations: &[Operation<QueueAction>]) -> bool {
    let mut inside: Vec<(u32, u32)> = lives
        .iter()
        .map(|life| (life.put_in_before(), life.taken_out_after()))
        .filter(|(from, to)| from < to)
        .collect();
    inside.sort_unstable();
    // The times at which something was surely in it, put together: moments `from..to`, each right after a place.
    let mut full: Vec<(u32, u32)> = Vec::new();
    for (from, to) in inside {
        match full.last_mut() {
            Some((_, end)) if from <= *end => *end = (*end).max(to),
            _ => full.push((from, to)),
        }
    }
    let mut empty =
        operations.iter().filter(|operation| operation.action == DequeueEmpty && operation.is_known());
    empty.all(|operation| {
        let next = full.partition_point(|&(from, _)| from <= operation.call);
        next == 0 || full[next - 1].1 < operation.end
    })
}

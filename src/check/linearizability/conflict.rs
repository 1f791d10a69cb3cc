//! The smallest conflict: which few operations no order explains, whatever all others did.
//!
//! A history is only ever made *weaker*: an answer is forgotten, so that the operation may have taken effect at any time
//! after its call or never; an operation that changes nothing is dropped. If what is left is still explained by no order,
//! nor is the history. (To drop an operation that changes something would be no weaker: it may be what explains a read.)
//! First the history is cut after the first answer that nothing explains, then answers are forgotten in ever smaller
//! chunks (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).
//!
//! At last, operations that may or may not have happened are left out as far as all but the last answer can still be
//! explained without them: what remains is a story whose last sentence cannot be true.

use super::judge::{Limits, Progress, Trial, Verdict};
use super::{Model, NEVER, Operation};

/// What an operation does in a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was answered, and stands in the way.
    Answered,
    /// It may have taken effect at any time after its call, or never.
    Perhaps,
    /// Its answer is the one that cannot be explained.
    Last,
}

/// Looks for a small conflict in the history of one object that no order explains; in slices.
#[derive(Clone, Debug)]
pub struct Conflict<M: Model> {
    model: M,
    operations: Vec<Operation<M::Action>>,
    /// By operation: whether its answer is forgotten.
    forgotten: Vec<bool>,
    /// By operation: whether it is left out.
    dropped: Vec<bool>,
    /// The one whose answer comes last.
    last: usize,
    limits: Limits,
    stage: Stage,
    /// What is being tried.
    trial: Option<Trial<M::Action>>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The first answer that nothing explains is among the `ends`, from `low` to `high`.
    Cut {
        ends: Vec<u32>,
        low: usize,
        high: usize,
        stride: usize,
    },
    /// Forgets answers, a chunk of `items` at a time, ...
    Forget(Chunks),
    /// ... and leaves out what may never have happened.
    Drop(Chunks),
    Done,
}

/// A walk over items in chunks, which are halved after each round until they are single ones.
#[derive(Clone, Debug)]
struct Chunks {
    items: Vec<usize>,
    size: usize,
    at: usize,
    /// Something was accepted in this round.
    changed: bool,
}

impl Chunks {
    fn new(items: Vec<usize>) -> Self {
        let size = items.len().max(1);
        Self { items, size, at: 0, changed: false }
    }

    fn chunk(&self) -> &[usize] {
        &self.items[self.at..self.items.len().min(self.at + self.size)]
    }

    /// The chunk was accepted, and is gone; or not. Whether there is another one.
    fn next(&mut self, accepted: bool) -> bool {
        if accepted {
            let end = self.items.len().min(self.at + self.size);
            self.items.drain(self.at..end);
            self.changed = true;
        } else {
            self.at += self.size;
        }
        while self.at >= self.items.len() {
            if self.items.is_empty() || self.size == 1 && !self.changed {
                return false;
            }
            self.at = 0;
            self.size = if self.size == 1 { 1 } else { self.size.min(self.items.len()).div_ceil(2) };
            self.changed = false;
        }
        true
    }
}

impl<M: Model> Conflict<M> {
    /// In `operations`, which are one object's, in the order of their calls, and which no order explains; `place` is that
    /// of the first answer that nothing explains, where it is known.
    pub fn new(model: M, operations: Vec<Operation<M::Action>>, place: Option<u32>, limits: Limits) -> Self {
        let mut ends: Vec<u32> = operations.iter().map(|operation| operation.end).collect();
        ends.retain(|&end| end != NEVER);
        ends.sort_unstable();
        let count = operations.len();
        // The search knew answers that came later, so all up to its place may have been right at that time; but before it,
        // everything was.
        let low = ends.partition_point(|&end| place.is_some_and(|place| end < place));
        let stride = if place.is_some() { 1 } else { count.max(1) };
        let stage = Stage::Cut { low, high: ends.len().saturating_sub(1), ends, stride };
        let (forgotten, dropped) = (vec![false; count], vec![false; count]);
        Self { model, operations, forgotten, dropped, last: 0, limits, stage, trial: None }
    }

    /// Works for about so many steps. Whether it is done.
    pub fn advance(&mut self, mut steps: u64) -> bool {
        loop {
            if self.trial.is_none() {
                let Some(history) = self.proposal() else { return true };
                steps = steps.saturating_sub(history.len() as u64);
                self.trial = Some(Trial::new(&self.model, history, self.limits));
            }
            let Some(trial) = &mut self.trial else { return false };
            match trial.advance(&mut self.model, &mut steps, self.limits) {
                Progress::Done(verdict) => {
                    self.trial = None;
                    self.learn(verdict);
                }
                Progress::Working => return false,
            }
            if steps == 0 {
                return false;
            }
        }
    }

    /// What is left so far, in the order of the calls. Also before it is done, it is a conflict.
    pub fn operations(&self) -> impl Iterator<Item = (Operation<M::Action>, Role)> + '_ {
        let bounds = match &self.stage {
            Stage::Cut { ends, high, .. } => ends.get(*high).copied(),
            _ => Some(self.operations[self.last].end),
        };
        let last = bounds.unwrap_or(NEVER);
        self.operations.iter().enumerate().filter_map(move |(index, operation)| {
            if self.dropped[index] || operation.call > last {
                return None;
            }
            let role = match operation.end {
                end if end == last => Role::Last,
                end if end > last || self.forgotten[index] => Role::Perhaps,
                _ => Role::Answered,
            };
            let explains = role != Role::Perhaps || self.forget(index, last).is_some();
            explains.then_some((*operation, role))
        })
    }

    /// What an operation may have done whose answer is forgotten; `None`: nothing.
    fn forget(&self, index: usize, last: u32) -> Option<M::Action> {
        let operation = &self.operations[index];
        let answered = operation.end <= last;
        (!answered || !self.model.is_pure(operation.action))
            .then(|| self.model.forget(operation.action))
            .flatten()
    }

    /// The history up to place `last`, without answers that are forgotten, now or already; without `left_out`; and with no
    /// answer to `pending`.
    fn until(
        &self,
        last: u32,
        forgotten: &[usize],
        left_out: &[usize],
        pending: Option<usize>,
    ) -> Vec<Operation<M::Action>> {
        let has = |chunk: &[usize], index| chunk.binary_search(&index).is_ok();
        let begun = self.operations.iter().enumerate().take_while(|(_, operation)| operation.call <= last);
        begun
            .filter(|&(index, _)| !self.dropped[index] && !has(left_out, index))
            .filter_map(|(index, operation)| {
                let is_pending = pending == Some(index);
                if operation.end <= last && !is_pending && !self.forgotten[index] && !has(forgotten, index) {
                    return Some(*operation);
                }
                // Before its answer, anything may become of an operation.
                let action = self.forget(index, if is_pending { operation.end - 1 } else { last })?;
                Some(Operation { action, end: NEVER, ..*operation })
            })
            .collect()
    }

    /// What to try next; `None` when nothing is left to try.
    fn proposal(&mut self) -> Option<Vec<Operation<M::Action>>> {
        loop {
            match &self.stage {
                Stage::Cut { ends, low, high, stride } if low < high => {
                    return Some(self.until(ends[probe(*low, *high, *stride)], &[], &[], None));
                }
                Stage::Cut { ends, high, .. } => {
                    let last = ends.get(*high).copied()?;
                    self.last = self.operations.iter().position(|operation| operation.end == last)?;
                    let before = |&index: &usize| index != self.last && self.operations[index].end < last;
                    self.stage =
                        Stage::Forget(Chunks::new((0..self.operations.len()).filter(before).collect()));
                }
                Stage::Forget(chunks) if !chunks.items.is_empty() => {
                    let (last, chunk) = (self.operations[self.last].end, chunks.chunk());
                    return Some(self.until(last, chunk, &[], None));
                }
                Stage::Forget(_) => self.stage = self.perhaps(),
                Stage::Drop(chunks) if !chunks.items.is_empty() => {
                    let (last, chunk) = (self.operations[self.last].end, chunks.chunk());
                    return Some(self.until(last, &[], chunk, Some(self.last)));
                }
                Stage::Drop(_) => self.stage = Stage::Done,
                Stage::Done => return None,
            }
        }
    }

    /// The stage that leaves out what may never have happened.
    fn perhaps(&self) -> Stage {
        let last = self.operations[self.last].end;
        let perhaps = |&index: &usize| {
            let operation = &self.operations[index];
            operation.call < last
                && (operation.end > last || self.forgotten[index])
                && self.forget(index, last).is_some()
        };
        Stage::Drop(Chunks::new((0..self.operations.len()).filter(perhaps).collect()))
    }

    /// What came of it.
    fn learn(&mut self, verdict: Verdict) {
        let is_wrong = matches!(verdict, Verdict::Violation { .. });
        match &mut self.stage {
            Stage::Cut { low, high, stride, .. } => {
                let probe = probe(*low, *high, *stride);
                if is_wrong {
                    *high = probe;
                } else {
                    *low = probe + 1;
                    *stride = stride.saturating_mul(2);
                }
            }
            Stage::Forget(chunks) => {
                if is_wrong {
                    chunks.chunk().iter().for_each(|&index| self.forgotten[index] = true);
                }
                if !chunks.next(is_wrong) {
                    self.stage = self.perhaps();
                }
            }
            Stage::Drop(chunks) => {
                let is_explained = verdict == Verdict::Linearizable;
                if is_explained {
                    chunks.chunk().iter().for_each(|&index| self.dropped[index] = true);
                }
                if !chunks.next(is_explained) {
                    self.stage = Stage::Done;
                }
            }
            Stage::Done => {}
        }
    }

    /// The model.
    pub const fn model(&self) -> &M {
        &self.model
    }
}

/// The place between to look at next: near the beginning first.
fn probe(low: usize, high: usize, stride: usize) -> usize {
    low.midpoint(high).min(low.saturating_add(stride - 1))
}

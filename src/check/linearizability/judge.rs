//! The judge: one object after the other, each by its values or by the search.

use super::plan::Plan;
use super::search::{Found, Search};
use super::{Model, Operation};

/// What a judge may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes, about.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 1 << 30 }
    }
}

/// Whether some order explains a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One does.
    Linearizable,
    /// None does; [`Judge::part`] has the operations of the object.
    Violation {
        /// The place of the first answer that no order explains together with all before it, if the search found it.
        place: Option<u32>,
    },
    /// Nobody knows.
    Unknown(Reason),
}

/// Why a judge gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It would have held more than its limit.
    Memory,
    /// More operations that may change the state are pending at once, or have unknown outcomes, than the search can
    /// keep apart.
    Width {
        /// How many.
        operations: usize,
    },
    /// The model raised an error.
    Model,
}

/// What came of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    Working,
    /// This.
    Done(Verdict),
}

/// How many operations the widest search keeps apart.
const WIDTH_MAX: usize = 64 * 16;

/// Sets of operations are copied at each step, so they are as narrow as the history allows.
#[derive(Clone, Debug)]
pub(super) enum Widths {
    Narrow(Search<1>),
    Middle(Search<4>),
    Wide(Search<16>),
}

/// One object's history under judgement.
#[derive(Clone, Debug)]
pub(super) enum Trial<A> {
    Decided(Verdict),
    Searching(Box<(Plan<A>, Widths)>),
}

impl<A: Copy + Ord + std::fmt::Debug> Trial<A> {
    /// Of `operations`, which are in the order of their calls.
    pub(super) fn new<M: Model<Action = A>>(
        model: &M,
        mut operations: Vec<Operation<A>>,
        limits: Limits,
    ) -> Self {
        match model.by_values(&operations) {
            Some(true) => return Self::Decided(Verdict::Linearizable),
            Some(false) => return Self::Decided(Verdict::Violation { place: None }),
            None => {}
        }
        model.prune(&mut operations);
        let Some(plan) = Plan::new(model, &operations, limits.memory / 8) else {
            return Self::Decided(Verdict::Unknown(Reason::Memory));
        };
        let widths = match plan.width {
            0..=64 => Widths::Narrow(Search::new()),
            65..=256 => Widths::Middle(Search::new()),
            257..=WIDTH_MAX => Widths::Wide(Search::new()),
            operations => return Self::Decided(Verdict::Unknown(Reason::Width { operations })),
        };
        Self::Searching(Box::new((plan, widths)))
    }

    /// Works for about so many `steps`, and takes them off.
    pub(super) fn advance<M: Model<Action = A>>(
        &mut self,
        model: &mut M,
        steps: &mut u64,
        limits: Limits,
    ) -> Progress {
        let searching = match self {
            Self::Decided(verdict) => return Progress::Done(*verdict),
            Self::Searching(searching) => searching,
        };
        let (plan, widths) = &mut **searching;
        loop {
            // In between, a look at the memory.
            let mut slice = (*steps).min(1 << 14);
            let before = slice;
            let (found, memory) = match widths {
                Widths::Narrow(search) => (search.advance(model, plan, &mut slice), search.memory()),
                Widths::Middle(search) => (search.advance(model, plan, &mut slice), search.memory()),
                Widths::Wide(search) => (search.advance(model, plan, &mut slice), search.memory()),
            };
            *steps -= before - slice;
            let verdict = match found {
                Found::Order => Verdict::Linearizable,
                Found::Contradiction { event } => Verdict::Violation { place: Some(plan.place(event)) },
                Found::Nothing if model.has_failed() => Verdict::Unknown(Reason::Model),
                Found::Nothing if memory + plan.memory() + model.memory() > limits.memory => {
                    Verdict::Unknown(Reason::Memory)
                }
                Found::Nothing if *steps == 0 => return Progress::Working,
                Found::Nothing => continue,
            };
            *self = Self::Decided(verdict);
            return Progress::Done(verdict);
        }
    }
}

/// Judges a history, in slices.
#[derive(Clone, Debug)]
pub struct Judge<M: Model> {
    model: M,
    /// Object by object, part by part, each in the order of the calls.
    operations: Vec<Operation<M::Action>>,
    /// Where the parts begin that are not judged yet.
    next: usize,
    /// Where the part that is being judged begins.
    current: usize,
    trial: Option<Trial<M::Action>>,
    limits: Limits,
    /// Why a part could not be judged.
    gave_up: Option<Reason>,
}

impl<M: Model> Judge<M> {
    /// A judge of `operations`. Those whose outcome was a failure, which have not happened, must not be among them.
    pub fn new(model: M, mut operations: Vec<Operation<M::Action>>, limits: Limits) -> Self {
        if operations.iter().all(|operation| model.part(operation.action).is_some()) {
            operations.sort_unstable_by_key(|it| (it.object, model.part(it.action), it.call));
            // Each part is an object of its own.
            let (mut object, mut before) = (0, None);
            for operation in &mut operations {
                let part = Some((operation.object, model.part(operation.action)));
                object += u32::from(before.is_some() && before != part);
                (operation.object, before) = (object, part);
            }
        } else {
            let key = |operation: &Operation<_>| (operation.object, operation.call);
            if !operations.is_sorted_by_key(key) {
                operations.sort_unstable_by_key(key);
            }
        }
        Self { model, operations, next: 0, current: 0, trial: None, limits, gave_up: None }
    }

    /// Works for about so many steps, some 50 ns each; sorting a history of a million operations is one of them.
    pub fn advance(&mut self, mut steps: u64) -> Progress {
        loop {
            if self.trial.is_none() {
                let rest = &self.operations[self.next..];
                let Some(first) = rest.first() else {
                    return Progress::Done(self.gave_up.map_or(Verdict::Linearizable, Verdict::Unknown));
                };
                let length = rest.partition_point(|operation| operation.object == first.object);
                self.trial = Some(Trial::new(&self.model, rest[..length].to_vec(), self.limits));
                (self.current, self.next) = (self.next, self.next + length);
                steps = steps.saturating_sub(length as u64);
            }
            let Some(trial) = &mut self.trial else { return Progress::Working };
            match trial.advance(&mut self.model, &mut steps, self.limits) {
                Progress::Done(Verdict::Linearizable) => self.trial = None,
                Progress::Done(Verdict::Unknown(reason)) if reason != Reason::Model => {
                    // Another part may still be wrong for sure.
                    self.gave_up = Some(reason);
                    self.trial = None;
                }
                other => return other,
            }
            if steps == 0 {
                return Progress::Working;
            }
        }
    }

    /// The operations of the object that was judged last, in the order of their calls.
    pub fn part(&self) -> &[Operation<M::Action>] {
        &self.operations[self.current..self.next]
    }

    /// The model.
    pub const fn model(&self) -> &M {
        &self.model
    }

    /// What is left when it has judged: the model, and the operations of the object that it judged last.
    pub fn into_part(mut self) -> (M, Vec<Operation<M::Action>>) {
        self.operations.truncate(self.next);
        self.operations.drain(..self.current);
        (self.model, self.operations)
    }
}

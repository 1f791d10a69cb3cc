//! A set.

use std::collections::BTreeMap;

use super::super::{Model, Operation, State, Value};
use super::{Earliest, Interned};

/// What is done to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetAction {
    /// This is in it from now on; and whether it is new, if that was told.
    Insert(Value, Option<bool>),
    /// This is not in it any more; and whether it was, if that was told.
    Remove(Value, Option<bool>),
    /// Whether this was in it.
    Contains(Value, bool),
    /// These were all that was in it: a number of [`Set::new`].
    Members(u32),
}

use SetAction::{Contains, Insert, Members, Remove};

/// A set, which begins empty.
#[derive(Clone, Debug)]
pub struct Set {
    states: Interned,
    scratch: Vec<u32>,
    /// Each in ascending order.
    seen: Vec<Box<[Value]>>,
    /// The state that has what was seen.
    seen_as: Vec<State>,
}

impl Set {
    /// An empty set. `seen` is what reads of all members saw, by number.
    pub fn new(seen: Vec<Box<[Value]>>) -> Self {
        let mut states = Interned::new();
        let seen: Vec<Box<[Value]>> = seen
            .into_iter()
            .map(|mut members| {
                members.sort_unstable();
                members
            })
            .collect();
        let seen_as = seen.iter().map(|members| states.number(members)).collect();
        Self { states, scratch: Vec::new(), seen, seen_as }
    }

    fn place(&self, state: State, element: Value) -> Result<usize, usize> {
        self.states.content(state).binary_search(&element)
    }
}

impl Model for Set {
    type Action = SetAction;

    fn initial(&mut self) -> State {
        0
    }

    fn step(&mut self, state: State, action: SetAction) -> Option<State> {
        match action {
            Insert(element, told) => {
                let place = self.place(state, element);
                if told.is_some_and(|new| new != place.is_err()) {
                    return None;
                }
                let Err(place) = place else { return Some(state) };
                self.scratch.clear();
                self.scratch.extend_from_slice(self.states.content(state));
                self.scratch.insert(place, element);
                Some(self.states.number(&self.scratch))
            }
            Remove(element, told) => {
                let place = self.place(state, element);
                if told.is_some_and(|was| was != place.is_ok()) {
                    return None;
                }
                let Ok(place) = place else { return Some(state) };
                self.scratch.clear();
                self.scratch.extend_from_slice(self.states.content(state));
                self.scratch.remove(place);
                Some(self.states.number(&self.scratch))
            }
            Contains(element, told) => (self.place(state, element).is_ok() == told).then_some(state),
            Members(seen) => (self.seen_as[seen as usize] == state).then_some(state),
        }
    }

    fn is_pure(&self, action: SetAction) -> bool {
        matches!(action, Contains(..) | Members(_) | Insert(_, Some(false)) | Remove(_, Some(false)))
    }

    fn forget(&self, action: SetAction) -> Option<SetAction> {
        match action {
            Insert(element, _) => Some(Insert(element, None)),
            Remove(element, _) => Some(Remove(element, None)),
            Contains(..) | Members(_) => None,
        }
    }

    fn part(&self, action: SetAction) -> Option<u32> {
        match action {
            Insert(element, _) | Remove(element, _) | Contains(element, _) => Some(element),
            Members(_) => None,
        }
    }

    /// Where each element is put in once and none is taken out, what reads saw grows: they stand in the order of how much
    /// they saw, each as early as it can, with the insertions that it saw before it and all others after it.
    fn by_values(&self, operations: &[Operation<SetAction>]) -> Option<bool> {
        let mut inserts = BTreeMap::new();
        let mut reads = Vec::new();
        for operation in operations {
            match operation.action {
                Insert(element, None | Some(true)) => {
                    if inserts.insert(element, operation).is_some() {
                        return None;
                    }
                }
                Members(seen) if operation.is_known() => reads.push((&self.seen[seen as usize], operation)),
                Members(_) => {}
                _ => return None,
            }
        }
        Some(grows(inserts, reads))
    }

    fn memory(&self) -> usize {
        self.states.memory()
    }
}

type Inserts<'a> = BTreeMap<Value, &'a Operation<SetAction>>;

fn grows(mut inserts: Inserts<'_>, mut reads: Vec<(&Box<[Value]>, &Operation<SetAction>)>) -> bool {
    reads.sort_by_key(|(seen, read)| (seen.len(), read.call));
    let mut by_end: Vec<(u32, Value)> =
        inserts.iter().map(|(element, insert)| (insert.end, *element)).collect();
    by_end.sort_unstable();
    let mut ended = by_end.into_iter().peekable();
    let mut earliest = Earliest::default();
    let mut before: &[Value] = &[];
    for (seen, read) in reads {
        if !before.iter().all(|element| seen.binary_search(element).is_ok()) {
            return false;
        }
        let fresh = seen.iter().filter(|element| before.binary_search(element).is_err());
        // Nobody put it in, or it is there twice.
        let Some(fresh) = fresh.map(|element| inserts.remove(element)).collect::<Option<Vec<_>>>() else {
            return false;
        };
        if !earliest.place_beside(fresh.into_iter()) {
            return false;
        }
        if !earliest.place(read) {
            return false;
        }
        // Whatever has ended by then must have been seen.
        while let Some((_, element)) = ended.next_if(|(end, _)| *end <= earliest.now) {
            if seen.binary_search(&element).is_err() {
                return false;
            }
        }
        before = seen;
    }
    true
}

//! A history of one object, laid out for the search: what is pending when each answer comes.

use super::{Model, NEVER, Operation};

/// Nobody.
pub(super) const NONE: u32 = u32::MAX;

/// An operation that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<A> {
    pub(super) action: A,
    /// Its bit, among those of its kind that overlap with it.
    pub(super) slot: u32,
    pub(super) is_pure: bool,
    call: u32,
    end: u32,
}

/// An operation whose outcome is unknown: it may take effect at any time after its call, or never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unknown<A> {
    pub(super) action: A,
    /// One like it that began earlier, which is used first.
    pub(super) before: u32,
    call: u32,
}

/// What waits for its answer at an event.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    /// Where its impure operations begin in `others`, ...
    impure: u32,
    /// ... its pure ones, ...
    pure: u32,
    /// ... and where both end.
    end: u32,
    /// How many unknown operations have begun.
    unknown: u32,
}

/// A history of one object. An event is an answer; events count from 0 in the order of the answers.
#[derive(Clone, Debug)]
pub(super) struct Plan<A> {
    /// By event.
    pub(super) known: Vec<Known<A>>,
    /// In the order of their calls.
    pub(super) unknown: Vec<Unknown<A>>,
    pending: Vec<Pending>,
    others: Vec<u32>,
    /// How many bits the search needs.
    pub(super) width: usize,
}

impl<A: Copy + Ord> Plan<A> {
    /// Lays out `operations`, which are in the order of their calls. `None` when more than `pending_max` entries would be
    /// needed to say what is pending when.
    pub(super) fn new<M: Model<Action = A>>(
        model: &M,
        operations: &[Operation<A>],
        pending_max: usize,
    ) -> Option<Self> {
        let mut known = Vec::with_capacity(operations.len());
        let mut unknown = Vec::new();
        for operation in operations {
            if operation.end == NEVER {
                if let Some(action) = model.forget(operation.action) {
                    unknown.push(Unknown { action, before: NONE, call: operation.call });
                }
            } else {
                let Operation { action, call, end, .. } = *operation;
                known.push(Known { action, slot: 0, is_pure: model.is_pure(action), call, end });
            }
        }
        known.sort_unstable_by_key(|operation| operation.end);
        chain(&mut unknown);
        let mut plan = Self {
            pending: Vec::with_capacity(known.len()),
            others: Vec::new(),
            width: unknown.len(),
            known,
            unknown,
        };
        plan.overlap(pending_max).then_some(plan)
    }

    /// Finds what is pending when, and hands out slots.
    fn overlap(&mut self, pending_max: usize) -> bool {
        let mut order: Vec<u32> = (0..self.known.len() as u32).collect();
        order.sort_unstable_by_key(|&index| self.known[index as usize].call);
        let mut calls = order.into_iter().peekable();
        // The pending, in the order of their answers: [0] impure, [1] pure.
        let mut waiting: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
        let mut free: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
        let mut slots = [0_u32; 2];
        let mut begun = 0;
        for event in 0..self.known.len() {
            let end = self.known[event].end;
            while let Some(index) = calls.next_if(|&index| self.known[index as usize].call < end) {
                let kind = usize::from(self.known[index as usize].is_pure);
                self.known[index as usize].slot = free[kind].pop().unwrap_or_else(|| {
                    slots[kind] += 1;
                    slots[kind] - 1
                });
                let place = waiting[kind].partition_point(|&other| other < index);
                waiting[kind].insert(place, index);
            }
            let kind = usize::from(self.known[event].is_pure);
            // All others are answered later, so it is the first of its kind.
            waiting[kind].remove(0);
            free[kind].push(self.known[event].slot);
            while self.unknown.get(begun).is_some_and(|operation| operation.call < end) {
                begun += 1;
            }
            let impure = self.others.len();
            let pure = impure + waiting[0].len();
            let last = pure + waiting[1].len();
            if last > pending_max {
                return false;
            }
            self.others.extend_from_slice(&waiting[0]);
            self.others.extend_from_slice(&waiting[1]);
            self.pending.push(Pending {
                impure: impure as u32,
                pure: pure as u32,
                end: last as u32,
                unknown: begun as u32,
            });
        }
        self.width = self.width.max(slots[0].max(slots[1]) as usize);
        true
    }

    /// How many answers there are.
    #[inline]
    pub(super) const fn events(&self) -> u32 {
        self.known.len() as u32
    }

    /// What else is pending at the event and may change the state, in the order of the answers.
    #[inline]
    pub(super) fn impure(&self, event: u32) -> &[u32] {
        let pending = &self.pending[event as usize];
        &self.others[pending.impure as usize..pending.pure as usize]
    }

    /// What else is pending at the event and changes no state.
    #[inline]
    pub(super) fn pure(&self, event: u32) -> &[u32] {
        let pending = &self.pending[event as usize];
        &self.others[pending.pure as usize..pending.end as usize]
    }

    /// How many unknown operations have begun when the event comes.
    #[inline]
    pub(super) fn unknown_begun(&self, event: u32) -> u32 {
        self.pending[event as usize].unknown
    }

    /// The place of the event in the history.
    pub(super) fn place(&self, event: u32) -> u32 {
        self.known[event as usize].end
    }

    /// Bytes that it holds.
    pub(super) const fn memory(&self) -> usize {
        self.known.len() * (size_of::<Known<A>>() + size_of::<Pending>())
            + self.unknown.len() * size_of::<Unknown<A>>()
            + self.others.len() * size_of::<u32>()
    }
}

/// Operations of unknown outcome that do the same are interchangeable from the later one's call on, since neither has
/// an end: the earlier one is always used first.
fn chain<A: Copy + Ord>(unknown: &mut [Unknown<A>]) {
    if unknown.len() < 32 {
        for later in 1..unknown.len() {
            let action = unknown[later].action;
            let before = unknown[..later].iter().rposition(|earlier| earlier.action == action);
            unknown[later].before = before.map_or(NONE, |before| before as u32);
        }
        return;
    }
    let mut order: Vec<u32> = (0..unknown.len() as u32).collect();
    order.sort_by_key(|&index| unknown[index as usize].action);
    for pair in order.windows(2) {
        if unknown[pair[0] as usize].action == unknown[pair[1] as usize].action {
            unknown[pair[1] as usize].before = pair[0];
        }
    }
}

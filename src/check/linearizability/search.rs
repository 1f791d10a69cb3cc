//! The search for an order: Wing and Gong's, with Lowe's memory and just-in-time linearization.
//!
//! Operations are placed one after the other. A *configuration* says how far that has come: the next answer to explain
//! (all earlier ones are explained), which of the pending operations are placed already, and the state. An operation is
//! placed no earlier than some answer needs it (Lowe, "Testing for linearizability", 2017, "just-in-time"), and no
//! configuration is looked at twice (Wing and Gong, 1993, with Lowe's memory). On top of that, six reductions, each of
//! which throws away only orders for which a better one remains:
//!
//! 1. **Pure operations first.** A pending operation that changes no state and can be answered now is placed now. Any
//!    order that places it later explains the same without it, so nothing is lost. Pure operations never branch.
//! 2. **A pure answer ends the looking around.** When the next answer is explained at once by (1), what else is pending
//!    can wait: just in time.
//! 3. **Domination.** Of two configurations with the same next answer, state and placed impure operations, the one that
//!    has used fewer of the unknown operations, and placed more of the pure ones, can do whatever the other can.
//! 4. **The earlier of two alike.** Of two pending operations that do the same, the one with the earlier end goes first,
//!    where an unknown outcome is the latest end: in any order that has them the other way round they can be swapped,
//!    since both have begun. Of two unknown ones, the one that began earlier goes first, for the same reason.
//! 5. **An unknown operation must matter to the next one.** When the operation that is placed after it could have been
//!    placed before it, with the same outcome, and no pure one was placed in between, leaving it out dominates.
//! 6. **Unknown operations that nobody can have seen** are not there at all: [`Model::prune`].
//!
//! `tests/rust/linearizability.rs` holds all of it against a naive twin.

use super::bits::Bits;
use super::plan::{NONE, Plan};
use super::table::Table;
use super::{Model, State};

/// How far the placing has come.
#[derive(Clone, Copy, Debug)]
struct Node<const N: usize> {
    /// Impure pending operations that are placed, by slot.
    placed: Bits<N>,
    /// Pure ones.
    seen: Bits<N>,
    /// Unknown operations that are used, by index.
    used: Bits<N>,
    /// The next answer to explain.
    event: u32,
    state: State,
    /// The state before the unknown operation that was placed last and that nothing has observed; or `NONE`.
    before: State,
    /// The next in the chain of those with the same event, state and placed operations.
    next: u32,
}

/// What came of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is more to look at.
    Nothing,
    /// An order explains everything.
    Order,
    /// No order does. This is the first answer that none explains together with all before it.
    Contradiction { event: u32 },
}

/// A search, which can be interrupted at each step.
#[derive(Clone, Debug)]
pub(super) struct Search<const N: usize> {
    nodes: Vec<Node<N>>,
    table: Table,
    stack: Vec<u32>,
    deepest: u32,
    started: bool,
}

/// Marks the event of a node that a later one dominates: nobody need look at it.
const DEAD: u32 = 1 << 31;

impl<const N: usize> Search<N> {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::with_capacity(64),
            table: Table::new(),
            stack: Vec::with_capacity(64),
            deepest: 0,
            started: false,
        }
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node<N>>()
            + self.table.memory()
            + self.stack.capacity() * size_of::<u32>()
    }

    /// Looks on, at about `steps` configurations.
    pub(super) fn advance<M: Model>(
        &mut self,
        model: &mut M,
        plan: &Plan<M::Action>,
        steps: &mut u64,
    ) -> Found {
        if !self.started {
            self.started = true;
            let (empty, state) = (Bits::EMPTY, model.initial());
            let root =
                Node { placed: empty, seen: empty, used: empty, event: 0, state, before: NONE, next: NONE };
            if plan.events() == 0 || self.reach(model, plan, root, steps) {
                return Found::Order;
            }
        }
        while let Some(index) = self.stack.pop() {
            let node = self.nodes[index as usize];
            if node.event & DEAD != 0 {
                continue;
            }
            if *steps == 0 || model.has_failed() {
                self.stack.push(index);
                return Found::Nothing;
            }
            *steps -= 1;
            if self.expand(model, plan, &node, steps) {
                return Found::Order;
            }
        }
        // A model that has failed refuses, which proves nothing.
        if model.has_failed() { Found::Nothing } else { Found::Contradiction { event: self.deepest } }
    }

    /// Places one more operation after `node`, in each way that there is. Whether everything is explained.
    #[inline]
    fn expand<M: Model>(
        &mut self,
        model: &mut M,
        plan: &Plan<M::Action>,
        node: &Node<N>,
        steps: &mut u64,
    ) -> bool {
        let due = plan.known[node.event as usize];
        let impure = plan.impure(node.event);
        // What is pushed last is looked at first: the answer that is due, then the answers that come next, and unknown
        // operations when nothing else helps.
        for index in (0..plan.unknown_begun(node.event)).rev() {
            let unknown = &plan.unknown[index as usize];
            if node.used.has(index) || unknown.before != NONE && !node.used.has(unknown.before) {
                continue;
            }
            let is_alike = |&other: &u32| {
                let other = &plan.known[other as usize];
                other.action == unknown.action && !node.placed.has(other.slot)
            };
            if due.action == unknown.action || impure.iter().any(is_alike) {
                continue;
            }
            let Some(state) = self.step(model, node, unknown.action) else { continue };
            if state != node.state {
                let child = Node { used: node.used.with(index), state, before: node.state, ..*node };
                if self.reach(model, plan, child, steps) {
                    return true;
                }
            }
        }
        for (place, &other) in impure.iter().enumerate().rev() {
            let known = plan.known[other as usize];
            if node.placed.has(known.slot) || known.action == due.action {
                continue;
            }
            let is_alike = |&earlier: &u32| {
                let earlier = &plan.known[earlier as usize];
                earlier.action == known.action && !node.placed.has(earlier.slot)
            };
            if impure[..place].iter().any(is_alike) {
                continue;
            }
            if let Some(state) = self.step(model, node, known.action) {
                let child = Node { placed: node.placed.with(known.slot), state, before: NONE, ..*node };
                if self.reach(model, plan, child, steps) {
                    return true;
                }
            }
        }
        // A pure answer that is due would have been placed already if it could be.
        if !due.is_pure
            && let Some(state) = self.step(model, node, due.action)
        {
            let child = Node { placed: node.placed.with(due.slot), state, before: NONE, ..*node };
            return self.reach(model, plan, child, steps);
        }
        false
    }

    /// The state after `action`, unless that could have been had without the unknown operation before it.
    #[inline]
    #[expect(clippy::unused_self, reason = "a method reads as what it is")]
    fn step<M: Model>(&self, model: &mut M, node: &Node<N>, action: M::Action) -> Option<State> {
        let state = model.step(node.state, action)?;
        if node.before != NONE && model.step(node.before, action) == Some(state) {
            return None;
        }
        Some(state)
    }

    /// Goes on from `node` as far as it goes without a choice, and remembers where that is. Whether it is the end.
    #[inline]
    fn reach<M: Model>(
        &mut self,
        model: &mut M,
        plan: &Plan<M::Action>,
        mut node: Node<N>,
        steps: &mut u64,
    ) -> bool {
        loop {
            for &other in plan.pure(node.event) {
                let known = &plan.known[other as usize];
                if !node.seen.has(known.slot) && model.step(node.state, known.action).is_some() {
                    node.seen = node.seen.with(known.slot);
                    node.before = NONE;
                }
            }
            let due = &plan.known[node.event as usize];
            if due.is_pure {
                if !node.seen.has(due.slot) && model.step(node.state, due.action).is_none() {
                    break;
                }
                node.seen = node.seen.without(due.slot);
            } else {
                if !node.placed.has(due.slot) {
                    break;
                }
                node.placed = node.placed.without(due.slot);
            }
            node.before = NONE;
            node.event += 1;
            if node.event == plan.events() {
                return true;
            }
        }
        self.deepest = self.deepest.max(node.event);
        self.remember(node, steps);
        false
    }

    /// Puts `node` on the stack, unless one that was there can do all that it can.
    #[inline]
    fn remember(&mut self, mut node: Node<N>, steps: &mut u64) {
        let hash = hash(&node);
        let nodes = &mut self.nodes;
        let head = self.table.find(hash, |index| {
            let other = &nodes[index as usize];
            other.event & !DEAD == node.event && other.placed == node.placed && other.state == node.state
        });
        let index = nodes.len() as u32;
        let Some(head) = head else {
            nodes.push(node);
            self.table.insert(hash, index, |index| self::hash(&nodes[index as usize]));
            self.stack.push(index);
            return;
        };
        let mut place = head;
        loop {
            let other = &mut nodes[place as usize];
            if other.event & DEAD == 0 {
                if other.dominates(&node) {
                    return;
                }
                if node.dominates(other) {
                    other.event |= DEAD;
                }
            }
            *steps = steps.saturating_sub(1);
            if other.next == NONE {
                break;
            }
            place = other.next;
        }
        node.next = nodes[head as usize].next;
        nodes[head as usize].next = index;
        nodes.push(node);
        self.stack.push(index);
    }
}

impl<const N: usize> Node<N> {
    /// Whether it can do whatever `other` can, which has the same event, state and placed operations.
    #[inline]
    fn dominates(&self, other: &Self) -> bool {
        self.used.is_within(&other.used)
            && other.seen.is_within(&self.seen)
            && (self.before == NONE || self.before == other.before)
    }
}

#[inline]
fn hash<const N: usize>(node: &Node<N>) -> u64 {
    node.placed.hash(u64::from(node.event & !DEAD) << 32 | u64::from(node.state))
}

//! What is to come, in a total order: by time, and at one time in the order in which it was put there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Bits of a key's second word that name the slot; the rest counts what was pushed.
const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// A queue of `T`. The heap moves two words an item; the items lie still in slots, which are used again.
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    pushed: u64,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), pushed: 0 }
    }

    /// Puts `item` behind all that is due at `at`.
    #[inline]
    pub(super) fn push(&mut self, at: u64, item: T) {
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(item);
            slot
        } else {
            assert!((self.slots.len() as u64) < SLOT_MASK, "more than 16 million events are pending");
            self.slots.push(Some(item));
            (self.slots.len() - 1) as u32
        };
        self.pushed += 1;
        self.heap.push(Reverse((at, (self.pushed << SLOT_BITS) | u64::from(slot))));
    }

    /// The time and the item that come next.
    #[inline]
    pub(super) fn peek(&self) -> Option<(u64, &T)> {
        let Reverse((at, key)) = self.heap.peek()?;
        Some((*at, self.slots[(key & SLOT_MASK) as usize].as_ref()?))
    }

    /// When the next item is due.
    #[inline]
    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the next item.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((at, key)) = self.heap.pop()?;
        let slot = (key & SLOT_MASK) as u32;
        let item = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some((at, item))
    }

    /// How many are pending.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn items_come_by_time_and_then_in_the_order_of_pushing() {
        let mut random = Random::new(1);
        let mut queue = Queue::new();
        let mut twin: Vec<(u64, u32)> = Vec::new();
        for number in 0..5_000 {
            let at = random.below(40) + queue.next_at().unwrap_or(0);
            queue.push(at, number);
            twin.push((at, number));
            if random.below(3) == 0 {
                twin.sort_by_key(|&(at, _)| at);
                assert_eq!(queue.pop(), Some(twin.remove(0)));
            }
        }
        twin.sort_by_key(|&(at, _)| at);
        for expected in twin {
            assert_eq!(queue.peek().map(|(at, &item)| (at, item)), Some(expected));
            assert_eq!(queue.pop(), Some(expected));
        }
        assert_eq!((queue.pop(), queue.len()), (None, 0));
        assert!(queue.slots.len() < 5_000, "slots are used again");
    }
}

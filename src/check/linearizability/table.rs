//! Finding things by content: open addressing over indices, in no order that anybody could see.

const FREE: u32 = u32::MAX;

/// Maps hashes to indices into something else, which knows what is equal.
#[derive(Clone, Debug)]
pub(super) struct Table {
    slots: Vec<u32>,
    used: usize,
}

impl Table {
    /// Room for a few.
    pub(super) fn new() -> Self {
        Self { slots: vec![FREE; 64], used: 0 }
    }

    /// The index stored under `hash` for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut place = spread(hash) & mask;
        loop {
            match self.slots[place] {
                FREE => return None,
                index if is_it(index) => return Some(index),
                _ => place = (place + 1) & mask,
            }
        }
    }

    /// Stores `index`, which is not there, under `hash`. `hash_of` tells the hash of what is there already.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            self.grow(hash_of);
        }
        Self::put(&mut self.slots, hash, index);
    }

    #[cold]
    fn grow(&mut self, hash_of: impl Fn(u32) -> u64) {
        let mut slots = vec![FREE; self.slots.len() * 4];
        for &index in self.slots.iter().filter(|&&index| index != FREE) {
            Self::put(&mut slots, hash_of(index), index);
        }
        self.slots = slots;
    }

    #[inline]
    fn put(slots: &mut [u32], hash: u64, index: u32) {
        let mask = slots.len() - 1;
        let mut place = spread(hash) & mask;
        while slots[place] != FREE {
            place = (place + 1) & mask;
        }
        slots[place] = index;
    }

    /// Bytes that it holds.
    pub(super) const fn memory(&self) -> usize {
        self.slots.len() * size_of::<u32>()
    }
}

#[inline]
const fn spread(hash: u64) -> usize {
    (hash.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32) as usize
}

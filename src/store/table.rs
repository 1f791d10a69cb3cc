//! Finds the place of a key without walking a tree: most commands name one key.

/// Places by the hash of what lies there: open addressing with linear probing (Knuth, volume 3, §6.4). Nothing ever
/// walks over it, so its order is nobody's business.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// 0: empty; else 32 bits of the hash, and the place plus one. A power of two of them, or none.
    pub(super) cells: Vec<u64>,
    pub(super) len: usize,
}

impl Table {
    /// The place with this hash for which `is_it`.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.cells.len().checked_sub(1)?;
        let mut at = home(hash) as usize & mask;
        loop {
            let cell = self.cells[at];
            if cell == 0 {
                return None;
            }
            let (tag, place) = parts(cell);
            if tag == home(hash) && is_it(place) {
                return Some(place);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a place that is not there.
    pub(super) fn insert(&mut self, hash: u64, place: u32) {
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            self.grow();
        }
        self.put(u64::from(home(hash)) << 32 | (u64::from(place) + 1));
        self.len += 1;
    }

    /// Takes a place away.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        let Some(mask) = self.cells.len().checked_sub(1) else { return };
        let wanted = u64::from(home(hash)) << 32 | (u64::from(place) + 1);
        let mut hole = home(hash) as usize & mask;
        while self.cells[hole] != wanted {
            if self.cells[hole] == 0 {
                return;
            }
            hole = (hole + 1) & mask;
        }
        self.len -= 1;
        // Who was pushed beyond the hole moves into it, or nobody would find him any more (Knuth's algorithm R).
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell == 0 {
                break;
            }
            let wants = parts(cell).0 as usize & mask;
            if at.wrapping_sub(wants) & mask >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = 0;
    }

    fn grow(&mut self) {
        let larger = vec![0; (self.cells.len() * 2).max(16)];
        for cell in std::mem::replace(&mut self.cells, larger) {
            if cell != 0 {
                self.put(cell);
            }
        }
    }

    fn put(&mut self, cell: u64) {
        let mask = self.cells.len() - 1;
        let mut at = parts(cell).0 as usize & mask;
        while self.cells[at] != 0 {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }
}

const fn home(hash: u64) -> u32 {
    hash as u32
}

const fn parts(cell: u64) -> (u32, u32) {
    ((cell >> 32) as u32, (cell as u32).wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn it_finds_what_a_tree_finds_though_hashes_collide() {
        let mut table = Table::default();
        let mut twin: BTreeMap<u64, u32> = BTreeMap::new();
        let mut keys: Vec<u64> = Vec::new();
        for step in 0..60_000u64 {
            let drawn = xxh3_64(&step.to_le_bytes());
            let key = drawn % 700;
            // Few hashes, so that most share their place with others.
            let hash = |key: u64| key % 90 * 0x1_0001;
            let place = (key + 1) as u32;
            if keys.len() <= place as usize {
                keys.resize(place as usize + 1, 0);
            }
            keys[place as usize] = key;
            let found = table.find(hash(key), |place| keys[place as usize] == key);
            assert_eq!(found, twin.get(&key).copied());
            if found.is_none() {
                table.insert(hash(key), place);
                twin.insert(key, place);
            } else if drawn & 1 << 40 == 0 {
                table.remove(hash(key), place);
                twin.remove(&key);
            }
            assert_eq!(table.len, twin.len());
        }
        assert!(table.cells.len() <= 2048);
    }
}

//! Maglev hashing: one read of a table, nearly perfect balance, and a little more movement than needed.
//!
//! Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016, section 3.4;
//! weights as in Envoy: a node of half the largest weight takes every second turn.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Distinct, Key, Node, Ring, RingError, SIZE_MAX, admit, admit_all, by_name, position};
use crate::random::scale;

/// A table of owners.
#[derive(Clone, Debug)]
pub struct Maglev {
    nodes: Vec<Node>,
    size: usize,
    /// Empty without nodes.
    table: Vec<u32>,
}

impl Maglev {
    /// A ring of these nodes with a table of `size` slots, a prime.
    pub fn new(nodes: Vec<Node>, size: usize) -> Result<Self, RingError> {
        if size > SIZE_MAX || !is_prime(size) {
            return Err(RingError::TableSize { size });
        }
        admit_all(&nodes)?;
        Self::admitted(nodes, size)
    }

    /// Share of the slots whose owner has another name in `other`; `None` when the tables differ in size.
    pub fn moved(&self, other: &Self) -> Option<f64> {
        if self.size != other.size {
            return None;
        }
        if self.table.len() != other.table.len() {
            return Some(1.0);
        }
        let name = |ring: &Self, owner: u32| ring.nodes[owner as usize].name.clone();
        let moved = self
            .table
            .iter()
            .zip(&other.table)
            .filter(|&(&mine, &theirs)| name(self, mine) != name(other, theirs))
            .count();
        Some(moved as f64 / self.size as f64)
    }

    fn admitted(nodes: Vec<Node>, size: usize) -> Result<Self, RingError> {
        if nodes.len() >= size {
            return Err(RingError::TableTooSmall { nodes: nodes.len(), size });
        }
        let table = populate(&nodes, size);
        Ok(Self { nodes, size, table })
    }

    #[inline]
    fn slot(&self, key: Key<'_>) -> usize {
        scale(key.xxh3(), self.size as u64) as usize
    }
}

/// A node's turn: the next slot of its own permutation, and how much weight it must have gathered by then.
struct Turn {
    owner: u32,
    slot: usize,
    skip: usize,
    weight: f64,
    due: f64,
}

/// The paper's figure 4, in the order of names, so that the table depends on who is there and not on who came
/// when.
fn populate(nodes: &[Node], size: usize) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    if nodes.is_empty() {
        return Vec::new();
    }
    let heaviest = nodes.iter().map(|node| node.weight).fold(0.0, f64::max);
    let turn = |owner: u32| {
        let node = &nodes[owner as usize];
        let hash = |seed| xxh3_64_with_seed(node.name.as_bytes(), seed) as usize;
        Turn {
            owner,
            slot: (hash(1) as u64 % size as u64) as usize,
            skip: (hash(2) as u64 % (size as u64 - 1)) as usize + 1,
            weight: node.weight / heaviest,
            due: 0.0,
        }
    };
    let mut turns: Vec<Turn> = by_name(nodes).into_iter().map(turn).collect();
    let mut table = vec![FREE; size];
    let (mut filled, mut gathered) = (0, 0.0);
    loop {
        gathered += 1.0;
        for turn in &mut turns {
            if gathered * turn.weight < turn.due {
                continue;
            }
            turn.due += 1.0;
            while table[turn.slot] != FREE {
                turn.slot = step(turn.slot, turn.skip, size);
            }
            table[turn.slot] = turn.owner;
            filled += 1;
            if filled == size {
                return table;
            }
        }
    }
}

const fn step(slot: usize, skip: usize, size: usize) -> usize {
    let next = slot + skip;
    if next >= size { next - size } else { next }
}

fn is_prime(number: usize) -> bool {
    number >= 2 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}

impl Ring for Maglev {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn owner(&self, key: Key<'_>) -> Option<u32> {
        self.table.get(self.slot(key)).copied()
    }

    fn owners(&self, keys: &[Key<'_>], out: &mut [u32]) {
        if self.table.is_empty() {
            return;
        }
        for (&key, out) in keys.iter().zip(out) {
            *out = self.table[self.slot(key)];
        }
    }

    fn several(&self, key: Key<'_>, count: usize) -> Vec<u32> {
        if self.table.is_empty() {
            return Vec::new();
        }
        let mut distinct = Distinct::new(self.nodes.len(), count);
        let slot = self.slot(key);
        for &owner in self.table[slot..].iter().chain(&self.table[..slot]) {
            if distinct.is_full() {
                break;
            }
            distinct.take(owner);
        }
        distinct.fill()
    }

    fn shares(&self) -> Vec<f64> {
        let mut slots = vec![0u32; self.nodes.len()];
        for &owner in &self.table {
            slots[owner as usize] += 1;
        }
        slots.into_iter().map(|count| f64::from(count) / self.size as f64).collect()
    }

    fn insert(&mut self, node: Node) -> Result<(), RingError> {
        admit(&self.nodes, &node)?;
        *self = Self::admitted(self.nodes.iter().cloned().chain([node]).collect(), self.size)?;
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<u32, RingError> {
        let at = position(&self.nodes, name)?;
        self.nodes.remove(at);
        self.table = populate(&self.nodes, self.size);
        Ok(at as u32)
    }
}

//! Consistent hashing with bounded loads: a node that is full passes the key on to the next one.
//!
//! Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018. No
//! `acquire` lifts a node above `⌈(1 + ε) · m · share⌉` of the `m` keys that are then held.

use super::points::Walk;
use super::{ConsistentHash, Distinct, Key, Node, Ring, RingError, position};

/// A ring that counts what it placed.
#[derive(Clone, Debug)]
pub struct BoundedLoad {
    ring: ConsistentHash,
    epsilon: f64,
    loads: Vec<u64>,
    /// The sum of the loads, and that of the weights.
    total: u64,
    weight: f64,
}

impl BoundedLoad {
    /// A ring without load. `epsilon` is the slack above a node's fair share.
    pub fn new(ring: ConsistentHash, epsilon: f64) -> Result<Self, RingError> {
        let loads = vec![0; ring.nodes().len()];
        Self::restore(ring, epsilon, loads)
    }

    /// A ring with the loads that it had.
    pub fn restore(ring: ConsistentHash, epsilon: f64, loads: Vec<u64>) -> Result<Self, RingError> {
        if !epsilon.is_finite() || epsilon <= 0.0 {
            return Err(RingError::Epsilon { epsilon });
        }
        if loads.len() != ring.nodes().len() {
            return Err(RingError::State { reason: "each node has one load" });
        }
        let (total, weight) = (loads.iter().sum(), weight_of(&ring));
        Ok(Self { ring, epsilon, loads, total, weight })
    }

    /// Places a key: its owner's load grows by one.
    pub fn acquire(&mut self, key: Key<'_>) -> Option<u32> {
        let owner = self.owner(key)?;
        self.charge(owner);
        Some(owner)
    }

    /// Takes one key away from a node.
    pub fn release(&mut self, name: &str) -> Result<(), RingError> {
        let load = &mut self.loads[position(self.ring.nodes(), name)?];
        *load = load.checked_sub(1).ok_or_else(|| RingError::NotHeld { name: name.into() })?;
        self.total -= 1;
        Ok(())
    }

    /// One more key on the node at `position`, whoever chose it.
    pub fn charge(&mut self, position: u32) {
        self.loads[position as usize] += 1;
        self.total += 1;
    }

    /// One key less on the node at `position`; none stays none.
    pub fn discharge(&mut self, position: u32) {
        let load = &mut self.loads[position as usize];
        if *load > 0 {
            *load -= 1;
            self.total -= 1;
        }
    }

    /// Takes over the loads of `before`, the ring from which this one was made: by letting go the node at `left`,
    /// or, without one, by adding a node at the end.
    pub fn succeed(&mut self, before: &Self, left: Option<u32>) {
        let mut loads = before.loads.clone();
        if let Some(left) = left {
            loads.remove(left as usize);
        }
        loads.resize(self.loads.len(), 0);
        self.total = loads.iter().sum();
        self.loads = loads;
    }

    /// The same ring with other loads, one for each node.
    pub fn with_loads(&self, loads: Vec<u64>) -> Result<Self, RingError> {
        Self::restore(self.ring.clone(), self.epsilon, loads)
    }

    /// The load of each node.
    pub fn loads(&self) -> &[u64] {
        &self.loads
    }

    /// What each node may hold once one more key is placed.
    pub fn capacities(&self) -> Vec<u64> {
        let allowed = self.allowance();
        self.ring.nodes().iter().map(|node| (allowed * node.weight).ceil() as u64).collect()
    }

    /// Load allowed per unit of weight, the next key included.
    fn allowance(&self) -> f64 {
        (1.0 + self.epsilon) * (self.total + 1) as f64 / self.weight
    }

    /// The capacities add up to more than all keys, so on a ring with nodes somebody has room.
    #[inline]
    fn first_with_room(&self, mut walk: Walk<'_>, allowed: f64) -> Option<u32> {
        walk.find(|&owner| self.has_room(owner, allowed))
    }

    #[inline]
    fn has_room(&self, owner: u32, allowed: f64) -> bool {
        let owner = owner as usize;
        (self.loads[owner] as f64) < (allowed * self.ring.nodes()[owner].weight).ceil()
    }
}

fn weight_of(ring: &ConsistentHash) -> f64 {
    ring.nodes().iter().map(|node| node.weight).sum()
}

impl Ring for BoundedLoad {
    fn nodes(&self) -> &[Node] {
        self.ring.nodes()
    }

    /// Where `acquire` would place the key now.
    fn owner(&self, key: Key<'_>) -> Option<u32> {
        self.first_with_room(self.ring.walk(key), self.allowance())
    }

    fn owners(&self, keys: &[Key<'_>], out: &mut [u32]) {
        let allowed = self.allowance();
        self.ring.walk_each(keys, |i, walk| {
            if let Some(owner) = self.first_with_room(walk, allowed) {
                out[i] = owner;
            }
        });
    }

    /// Nodes with room first, each group in the order of the circle.
    fn several(&self, key: Key<'_>, count: usize) -> Vec<u32> {
        let allowed = self.allowance();
        let mut distinct = Distinct::new(self.nodes().len(), count);
        for room in [true, false] {
            for owner in self.ring.walk(key).filter(|&owner| self.has_room(owner, allowed) == room) {
                if distinct.is_full() {
                    break;
                }
                distinct.take(owner);
            }
        }
        distinct.fill()
    }

    /// Of the circle below: what the shares are while nobody is full.
    fn shares(&self) -> Vec<f64> {
        self.ring.shares()
    }

    fn insert(&mut self, node: Node) -> Result<(), RingError> {
        self.ring.insert(node)?;
        self.loads.push(0);
        self.weight = weight_of(&self.ring);
        Ok(())
    }

    /// The node's load leaves with it; acquire again what it held.
    fn remove(&mut self, name: &str) -> Result<u32, RingError> {
        let at = self.ring.remove(name)?;
        self.total -= self.loads.remove(at as usize);
        self.weight = weight_of(&self.ring);
        Ok(at)
    }
}

//! `AnchorHash`: buckets numbered ahead, and a history of which of them are out of use.
//!
//! Mendelson, Vargaftik, Barabash, Lorenz, Keslassy and Orda, "`AnchorHash`: a scalable consistent hash",
//! IEEE/ACM Transactions on Networking 2020, algorithm 3; the names `A K W L R N` are the paper's.

use super::{
    Key, Node, Ring, RingError, SIZE_MAX, admit, admit_all, position, refuse_weight, several_by_salt,
};
use crate::random::{GOLDEN, mix, scale};

/// Buckets and the nodes in them.
#[derive(Clone, Debug)]
pub struct Anchor {
    nodes: Vec<Node>,
    /// The bucket of each node, and the node of each bucket in use.
    buckets: Vec<u32>,
    positions: Vec<u32>,
    history: Buckets,
}

/// The paper's state.
#[derive(Clone, Debug)]
struct Buckets {
    /// `A[b]`: how many buckets were left when `b` was removed; 0 while it is in use.
    removed_at: Vec<u32>,
    /// `K[b]`: who stands at `b`'s place since it was removed.
    successor: Vec<u32>,
    /// `W`: the buckets in use are the first `N`.
    working: Vec<u32>,
    /// `L[b]`: where `b` stands, or stood last, in `W`.
    location: Vec<u32>,
    /// `R`: the removed buckets; the one removed last is used first.
    removed: Vec<u32>,
}

impl Anchor {
    /// A ring of these nodes, in this order, with room for `capacity`.
    pub fn new(nodes: Vec<Node>, capacity: usize) -> Result<Self, RingError> {
        check_capacity(capacity)?;
        let removed: Vec<u32> = (nodes.len() as u32..capacity as u32).rev().collect();
        let buckets = (0..nodes.len() as u32).collect();
        Self::restore(nodes, capacity, &removed, buckets)
    }

    /// A ring as it stood: the stack of removed buckets and each node's bucket say all about its history.
    pub fn restore(
        nodes: Vec<Node>,
        capacity: usize,
        removed: &[u32],
        buckets: Vec<u32>,
    ) -> Result<Self, RingError> {
        check_capacity(capacity)?;
        if nodes.len() > capacity {
            return Err(RingError::Full { capacity });
        }
        admit_all(&nodes)?;
        nodes.iter().try_for_each(|node| refuse_weight("Anchor", node))?;
        let mut all: Vec<u32> = removed.iter().chain(&buckets).copied().collect();
        all.sort_unstable();
        if buckets.len() != nodes.len() || !all.into_iter().eq(0..capacity as u32) {
            return Err(RingError::State { reason: "each bucket is removed once or holds one node" });
        }
        let mut positions = vec![0; capacity];
        for (&bucket, position) in buckets.iter().zip(0..) {
            positions[bucket as usize] = position;
        }
        let mut history = Buckets::new(capacity);
        for &bucket in removed {
            history.remove(bucket);
        }
        Ok(Self { nodes, buckets, positions, history })
    }

    /// Nodes that fit.
    pub fn capacity(&self) -> usize {
        self.positions.len()
    }

    /// The removed buckets, the first removed first: what [`Anchor::restore`] wants.
    pub fn removed(&self) -> &[u32] {
        &self.history.removed
    }

    /// The bucket of each node: what [`Anchor::restore`] wants.
    pub fn buckets(&self) -> &[u32] {
        &self.buckets
    }

    #[inline]
    fn find(&self, hash: u64) -> u32 {
        self.positions[self.history.bucket(hash) as usize]
    }
}

impl Buckets {
    /// All in use.
    fn new(capacity: usize) -> Self {
        let own: Vec<u32> = (0..capacity as u32).collect();
        Self {
            removed_at: vec![0; capacity],
            successor: own.clone(),
            working: own.clone(),
            location: own,
            removed: Vec::new(),
        }
    }

    fn in_use(&self) -> usize {
        self.working.len() - self.removed.len()
    }

    /// GETBUCKET. At least one bucket is in use.
    #[inline]
    fn bucket(&self, hash: u64) -> u32 {
        let mut bucket = scale(hash, self.removed_at.len() as u64) as u32;
        loop {
            let left = self.removed_at[bucket as usize];
            if left == 0 {
                return bucket;
            }
            // The bucket seeds a hash function of its own.
            let word = mix(hash.wrapping_add((u64::from(bucket) + 1).wrapping_mul(GOLDEN)));
            let mut next = scale(word, u64::from(left)) as u32;
            // `next` stood there when `bucket` left; follow who has taken its place by then.
            while self.removed_at[next as usize] >= left {
                next = self.successor[next as usize];
            }
            bucket = next;
        }
    }

    /// REMOVEBUCKET.
    fn remove(&mut self, bucket: u32) {
        self.removed.push(bucket);
        let left = self.in_use();
        let (place, last) = (self.location[bucket as usize], self.working[left]);
        self.removed_at[bucket as usize] = left as u32;
        self.working[place as usize] = last;
        self.successor[bucket as usize] = last;
        self.location[last as usize] = place;
    }

    /// ADDBUCKET, which undoes the latest removal.
    fn add(&mut self) -> Option<u32> {
        let left = self.in_use();
        let bucket = self.removed.pop()?;
        self.removed_at[bucket as usize] = 0;
        self.location[self.working[left] as usize] = left as u32;
        self.working[self.location[bucket as usize] as usize] = bucket;
        self.successor[bucket as usize] = bucket;
        Some(bucket)
    }
}

const fn check_capacity(capacity: usize) -> Result<(), RingError> {
    if capacity == 0 || capacity > SIZE_MAX {
        return Err(RingError::Capacity { capacity });
    }
    Ok(())
}

impl Ring for Anchor {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn owner(&self, key: Key<'_>) -> Option<u32> {
        (!self.nodes.is_empty()).then(|| self.find(key.xxh3()))
    }

    fn owners(&self, keys: &[Key<'_>], out: &mut [u32]) {
        if self.nodes.is_empty() {
            return;
        }
        for (&key, out) in keys.iter().zip(out) {
            *out = self.find(key.xxh3());
        }
    }

    fn several(&self, key: Key<'_>, count: usize) -> Vec<u32> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        several_by_salt(key.xxh3(), self.nodes.len(), count, |hash| self.find(hash))
    }

    fn shares(&self) -> Vec<f64> {
        vec![1.0 / self.nodes.len() as f64; self.nodes.len()]
    }

    fn insert(&mut self, node: Node) -> Result<(), RingError> {
        admit(&self.nodes, &node)?;
        refuse_weight("Anchor", &node)?;
        let bucket = self.history.add().ok_or(RingError::Full { capacity: self.capacity() })?;
        self.positions[bucket as usize] = self.nodes.len() as u32;
        self.buckets.push(bucket);
        self.nodes.push(node);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<u32, RingError> {
        let at = position(&self.nodes, name)?;
        self.nodes.remove(at);
        self.history.remove(self.buckets.remove(at));
        for &bucket in &self.buckets[at..] {
            self.positions[bucket as usize] -= 1;
        }
        Ok(at as u32)
    }
}

//! Jump consistent hash: no memory at all, perfect balance, and nodes that leave from the end only.
//!
//! Lamping and Veach, "A fast, minimal memory, consistent hash algorithm", 2014.

use super::{Key, Node, Ring, RingError, admit, admit_all, position, refuse_weight, several_by_salt};

/// The bucket of `key` among `buckets`, of which there is at least one.
#[inline]
pub fn jump(mut key: u64, buckets: u32) -> u32 {
    // The key seeds a generator; each draw says how many buckets there must be until the key jumps again.
    let (mut bucket, mut next) = (0u32, 0f64);
    while next < f64::from(buckets) {
        bucket = next as u32;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = (f64::from(bucket) + 1.0) * ((1u64 << 31) as f64 / ((key >> 33) + 1) as f64);
    }
    bucket
}

/// Nodes numbered from 0 on.
#[derive(Clone, Debug)]
pub struct Jump {
    nodes: Vec<Node>,
}

impl Jump {
    /// A ring of these nodes, in this order.
    pub fn new(nodes: Vec<Node>) -> Result<Self, RingError> {
        admit_all(&nodes)?;
        nodes.iter().try_for_each(|node| refuse_weight("Jump", node))?;
        Ok(Self { nodes })
    }
}

/// An integer is its own hash: the paper's keys are 64-bit words.
#[inline]
fn hash(key: Key<'_>) -> u64 {
    match key {
        Key::Integer(integer) => integer as u64,
        Key::Text(_) => key.xxh3(),
    }
}

impl Ring for Jump {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn owner(&self, key: Key<'_>) -> Option<u32> {
        (!self.nodes.is_empty()).then(|| jump(hash(key), self.nodes.len() as u32))
    }

    fn owners(&self, keys: &[Key<'_>], out: &mut [u32]) {
        if self.nodes.is_empty() {
            return;
        }
        for (&key, out) in keys.iter().zip(out) {
            *out = jump(hash(key), self.nodes.len() as u32);
        }
    }

    fn several(&self, key: Key<'_>, count: usize) -> Vec<u32> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        several_by_salt(hash(key), self.nodes.len(), count, |hash| jump(hash, self.nodes.len() as u32))
    }

    fn shares(&self) -> Vec<f64> {
        vec![1.0 / self.nodes.len() as f64; self.nodes.len()]
    }

    fn insert(&mut self, node: Node) -> Result<(), RingError> {
        admit(&self.nodes, &node)?;
        refuse_weight("Jump", &node)?;
        self.nodes.push(node);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<u32, RingError> {
        let at = position(&self.nodes, name)?;
        if at + 1 < self.nodes.len() {
            let last = self.nodes[self.nodes.len() - 1].name.clone();
            return Err(RingError::NotLast { name: name.into(), last });
        }
        self.nodes.pop();
        Ok(at as u32)
    }
}

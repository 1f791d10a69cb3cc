//! Consistent hashing with virtual nodes.
//!
//! Karger et al., "Consistent hashing and random trees", STOC 1997. A point is the hash of the node's name
//! followed by 0, 1, 2 and so on in decimal, as one text.

use xxhash_rust::xxh3::xxh3_64;

use super::points::{Placed, Points, Walk};
use super::{Key, Node, Ring, RingError, SIZE_MAX, admit, admit_all, md5, position};

/// What is hashed with, points and keys alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFunction {
    /// 128 bits of MD5, as everybody else's rings use it.
    Md5,
    /// 64 bits of XXH3: several times faster.
    Xxh3,
}

/// Points on a circle.
#[derive(Clone, Debug)]
pub struct ConsistentHash {
    nodes: Vec<Node>,
    points: Points,
    replicas: u32,
    hash: HashFunction,
}

impl ConsistentHash {
    /// A ring of these nodes; each has about `replicas` points for each unit of weight, and at least one.
    pub fn new(nodes: Vec<Node>, replicas: u32, hash: HashFunction) -> Result<Self, RingError> {
        if replicas == 0 {
            return Err(RingError::Replicas { replicas });
        }
        admit_all(&nodes)?;
        let mut ring = Self { nodes: Vec::new(), points: Points::default(), replicas, hash };
        ring.check_size(&nodes)?;
        let placed = nodes.iter().zip(0..).flat_map(|(node, owner)| ring.place(node, owner)).collect();
        ring.points = Points::new(placed, &nodes);
        ring.nodes = nodes;
        Ok(ring)
    }

    /// Share of the key space whose owner has another name in `other`, to within 2^-64; `None` when the two
    /// hash differently.
    pub fn moved(&self, other: &Self) -> Option<f64> {
        let same =
            |mine: u32, theirs: u32| self.nodes[mine as usize].name == other.nodes[theirs as usize].name;
        (self.hash == other.hash).then(|| self.points.moved(&other.points, same))
    }

    /// Hands each key's number and its walk to `take`, in order.
    #[inline]
    pub(super) fn walk_each<'a>(&'a self, keys: &[Key<'_>], mut take: impl FnMut(usize, Walk<'a>)) {
        self.hash.of_each(keys, |i, high, low| take(i, self.points.walk(high, low)));
    }

    /// The owners of the points from the key on, once around; a node comes as often as it has points.
    pub(super) fn walk(&self, key: Key<'_>) -> Walk<'_> {
        let (high, low) = self.hash.of(key);
        self.points.walk(high, low)
    }

    fn check_size<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> Result<(), RingError> {
        let points: f64 = nodes.into_iter().map(|node| self.points_of(node)).sum();
        if points <= SIZE_MAX as f64 { Ok(()) } else { Err(RingError::TooManyPoints { points }) }
    }

    fn points_of(&self, node: &Node) -> f64 {
        (f64::from(self.replicas) * node.weight).round_ties_even().max(1.0)
    }

    fn place(&self, node: &Node, owner: u32) -> Vec<Placed> {
        let count = self.points_of(node) as usize;
        let mut digits = itoa::Buffer::new();
        let mut text = Vec::with_capacity(count * (node.name.len() + 4));
        let ends: Vec<usize> = (0..count)
            .map(|i| {
                text.extend_from_slice(node.name.as_bytes());
                text.extend_from_slice(digits.format(i).as_bytes());
                text.len()
            })
            .collect();
        let starts = [0].into_iter().chain(ends.iter().copied());
        let keys: Vec<Key<'_>> =
            starts.zip(&ends).map(|(start, &end)| Key::Text(&text[start..end])).collect();
        let mut placed = Vec::with_capacity(count);
        self.hash.of_each(&keys, |_, high, low| placed.push(Placed { high, low, owner }));
        placed
    }
}

impl HashFunction {
    #[inline]
    fn of(self, key: Key<'_>) -> (u64, u64) {
        match self {
            Self::Md5 => md5::halves(key.with_text(md5::digest)),
            Self::Xxh3 => (key.with_text(xxh3_64), 0),
        }
    }

    /// Hands each key's number and hash to `take`, in order.
    #[inline]
    fn of_each(self, keys: &[Key<'_>], mut take: impl FnMut(usize, u64, u64)) {
        match self {
            Self::Md5 => {
                let mut digests = [md5::Digest::default(); BATCH];
                for (batch, keys) in keys.chunks(BATCH).enumerate() {
                    md5::digests(keys, &mut digests[..keys.len()]);
                    for (i, &digest) in digests[..keys.len()].iter().enumerate() {
                        let (high, low) = md5::halves(digest);
                        take(batch * BATCH + i, high, low);
                    }
                }
            }
            Self::Xxh3 => {
                for (i, key) in keys.iter().enumerate() {
                    take(i, key.xxh3(), 0);
                }
            }
        }
    }
}

/// Keys that are hashed before they are looked up: few enough for the first-level cache.
const BATCH: usize = 64;

impl Ring for ConsistentHash {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn owner(&self, key: Key<'_>) -> Option<u32> {
        let (high, low) = self.hash.of(key);
        (!self.nodes.is_empty()).then(|| self.points.owner(high, low))
    }

    fn owners(&self, keys: &[Key<'_>], out: &mut [u32]) {
        if !self.nodes.is_empty() {
            self.hash.of_each(keys, |i, high, low| out[i] = self.points.owner(high, low));
        }
    }

    fn several(&self, key: Key<'_>, count: usize) -> Vec<u32> {
        let (high, low) = self.hash.of(key);
        self.points.several(high, low, self.nodes.len(), count)
    }

    fn shares(&self) -> Vec<f64> {
        self.points.shares(self.nodes.len())
    }

    fn insert(&mut self, node: Node) -> Result<(), RingError> {
        admit(&self.nodes, &node)?;
        self.check_size(self.nodes.iter().chain([&node]))?;
        let placed = self.place(&node, self.nodes.len() as u32);
        self.nodes.push(node);
        self.points = self.points.with(placed, &self.nodes);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<u32, RingError> {
        let owner = position(&self.nodes, name)?;
        self.nodes.remove(owner);
        self.points = self.points.without(owner as u32);
        Ok(owner as u32)
    }
}

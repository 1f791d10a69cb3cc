//! Rendezvous hashing (highest random weight): every node bids for the key, and the highest bid wins.
//!
//! Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on
//! Networking 1998; weights by the logarithmic method (Schindelhauer and Schomaker 2005).

use xxhash_rust::xxh3::xxh3_64;

use super::{Key, Node, Ring, RingError, admit, admit_all, by_name, position};
use crate::random::mix;

/// Nodes that bid.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    nodes: Vec<Node>,
    /// In the order of names: of equal bids the first wins, which is the smaller name's.
    bidders: Vec<Bidder>,
    weighted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bidder {
    seed: u64,
    weight: f64,
    position: u32,
}

impl Rendezvous {
    /// A ring of these nodes.
    pub fn new(nodes: Vec<Node>) -> Result<Self, RingError> {
        admit_all(&nodes)?;
        Ok(Self::admitted(nodes))
    }

    fn admitted(nodes: Vec<Node>) -> Self {
        let bidder = |position: u32| {
            let node = &nodes[position as usize];
            Bidder { seed: xxh3_64(node.name.as_bytes()), weight: node.weight, position }
        };
        let bidders = by_name(&nodes).into_iter().map(bidder).collect();
        // Weights count against each other only, so equal ones are none.
        let weighted = nodes.windows(2).any(|pair| pair[0].weight.to_bits() != pair[1].weight.to_bits());
        Self { nodes, bidders, weighted }
    }

    #[inline]
    fn highest(&self, hash: u64) -> u32 {
        if self.weighted { self.highest_weighted(hash) } else { self.highest_word(hash) }
    }

    #[inline]
    fn highest_word(&self, hash: u64) -> u32 {
        let (mut best, mut winner) = (0, self.bidders[0].position);
        for bidder in &self.bidders {
            let word = bidder.word(hash);
            if word > best {
                (best, winner) = (word, bidder.position);
            }
        }
        winner
    }

    fn highest_weighted(&self, hash: u64) -> u32 {
        let (mut best, mut winner) = ((f64::NEG_INFINITY, 0), self.bidders[0].position);
        for bidder in &self.bidders {
            if bidder.is_beaten(hash, best.0) {
                continue;
            }
            let bid = bidder.bid(hash);
            if bid > best {
                (best, winner) = (bid, bidder.position);
            }
        }
        winner
    }
}

impl Bidder {
    #[inline]
    const fn word(&self, hash: u64) -> u64 {
        mix(hash ^ self.seed)
    }

    /// `-w / ln(u)` is the largest of all with probability `w / Σw`. The word decides between bids that rounding
    /// made equal, so that equal weights rank nodes as no weights do.
    fn bid(&self, hash: u64) -> (f64, u64) {
        let word = self.word(hash);
        // libm's logarithm is the same on every platform; the system's is not.
        (-self.weight / libm::log(open_unit(word)), word)
    }

    /// Tells nearly all who lose without a logarithm: since `-ln(u) ≥ 1 - u`, no bid exceeds `w / (1 - u)`. The
    /// margin is wider than all rounding.
    #[inline]
    fn is_beaten(&self, hash: u64, best: f64) -> bool {
        self.weight * (1.0 + 1e-9) < best * (1.0 - open_unit(self.word(hash)))
    }
}

/// A word as a float above 0 and below 1.
#[inline]
fn open_unit(word: u64) -> f64 {
    ((word >> 11) as f64 + 0.5) * (1.0 / (1u64 << 53) as f64)
}

impl Ring for Rendezvous {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn owner(&self, key: Key<'_>) -> Option<u32> {
        (!self.nodes.is_empty()).then(|| self.highest(key.xxh3()))
    }

    fn owners(&self, keys: &[Key<'_>], out: &mut [u32]) {
        if self.nodes.is_empty() {
            return;
        }
        for (&key, out) in keys.iter().zip(out) {
            *out = self.highest(key.xxh3());
        }
    }

    fn several(&self, key: Key<'_>, count: usize) -> Vec<u32> {
        let hash = key.xxh3();
        let weight =
            |bidder: &Bidder| if self.weighted { bidder.bid(hash) } else { (0.0, bidder.word(hash)) };
        let mut bids: Vec<((f64, u64), u32)> =
            self.bidders.iter().map(|bidder| (weight(bidder), bidder.position)).collect();
        // Stable: equal bids stay in the order of names.
        bids.sort_by(|(one, _), (other, _)| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
        bids.into_iter().map(|(_, position)| position).take(count).collect()
    }

    fn shares(&self) -> Vec<f64> {
        let total: f64 = self.nodes.iter().map(|node| node.weight).sum();
        self.nodes.iter().map(|node| node.weight / total).collect()
    }

    fn insert(&mut self, node: Node) -> Result<(), RingError> {
        admit(&self.nodes, &node)?;
        let mut nodes = std::mem::take(&mut self.nodes);
        nodes.push(node);
        *self = Self::admitted(nodes);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<u32, RingError> {
        let at = position(&self.nodes, name)?;
        let mut nodes = std::mem::take(&mut self.nodes);
        nodes.remove(at);
        *self = Self::admitted(nodes);
        Ok(at as u32)
    }
}

//! Keys to nodes: consistent hashing and its kin.
//!
//! ```text
//!             0 ≡ 2^128                a node stands on the circle as many points (its virtual nodes);
//!          c₂ ·──•──· a₁               a key belongs to the first point at or after its own hash:
//!        ·    key ↷     ·              here to a₁, and to the next point, b₀, once `a` has left.
//!     b₁ ·              · b₀           Only the keys of a node that leaves, or that a new node takes
//!        ·              ·              over, ever move.
//!          a₀ ·──·──· c₁
//! ```
//!
//! | ring | lookup | memory | leaves | weights | idea |
//! |---|---|---|---|---|---|
//! | [`ConsistentHash`] | O(1) expected | points | any | yes | points on a circle (Karger et al. 1997) |
//! | [`Ketama`] | O(1) expected | points | any | yes | the same, bit for bit as libmemcached places them |
//! | [`Jump`] | O(log n) | none | the last | no | a random walk over bucket counts (Lamping, Veach 2014) |
//! | [`Rendezvous`] | O(n) | none | any | yes | every node bids for the key (Thaler, Ravishankar 1998) |
//! | [`Maglev`] | O(1) | table | any | yes | a table filled by turns (Eisenbud et al. 2016) |
//! | [`Anchor`] | O(1) expected | capacity | any | no | a history of removals (Mendelson et al. 2020) |
//! | [`BoundedLoad`] | O(1/ε²) | points | any | yes | full nodes pass keys on (Mirrokni et al. 2018) |
//!
//! A ring knows its nodes by position, in the order in which they came; a node that leaves moves the later ones
//! down by one. Everything here is a function of names, weights and keys: no clock, no randomness, no hash order.

pub mod anchor;
pub mod bounded;
pub mod consistent;
pub mod jump;
pub mod ketama;
pub mod maglev;
pub mod md5;
mod points;
pub mod rendezvous;

use std::sync::Arc;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::random::{GOLDEN, Random, mix};

pub use anchor::Anchor;
pub use bounded::BoundedLoad;
pub use consistent::{ConsistentHash, HashFunction};
pub use jump::Jump;
pub use ketama::{Ketama, Variant};
pub use maglev::Maglev;
pub use rendezvous::Rendezvous;

/// More points, table slots or buckets than this are refused: 2^26 points take 2 GiB.
pub const SIZE_MAX: usize = 1 << 26;

/// What every ring answers.
///
/// A lookup on a ring without nodes has no answer: `owner` says `None`, `several` is empty, and `owners` leaves
/// `out` as it was. A refused change changes nothing.
pub trait Ring: Send + Sync {
    /// The nodes, in the order in which they came. Answers below are positions in this slice.
    fn nodes(&self) -> &[Node];

    /// The node that owns `key`.
    fn owner(&self, key: Key<'_>) -> Option<u32>;

    /// The owner of each key, in one loop without dispatch. `out` is as long as `keys`.
    fn owners(&self, keys: &[Key<'_>], out: &mut [u32]);

    /// `count` distinct nodes for `key`, its owner first; all nodes when there are fewer.
    fn several(&self, key: Key<'_>, count: usize) -> Vec<u32>;

    /// The share of the key space that each node owns; they add up to 1.
    fn shares(&self) -> Vec<f64>;

    /// Takes in a node, as the last one.
    fn insert(&mut self, node: Node) -> Result<(), RingError>;

    /// Lets a node go; answers the position that it had.
    fn remove(&mut self, name: &str) -> Result<u32, RingError>;
}

/// A node as a ring sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Tells nodes apart, and is what is hashed.
    pub name: Arc<str>,
    /// Share of the keys relative to the other nodes; finite and above zero.
    pub weight: f64,
}

impl Node {
    /// A node of weight 1.
    pub fn new(name: &str) -> Self {
        Self::weighted(name, 1.0)
    }

    /// A node of any weight; a ring refuses what is not finite and above zero.
    pub fn weighted(name: &str, weight: f64) -> Self {
        Self { name: name.into(), weight }
    }
}

/// What is placed. Text and bytes are the same thing: the text's UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// Hashed as it is.
    Text(&'a [u8]),
    /// Hashed as its decimal text, so that `7` and `"7"` agree; [`Jump`] takes the 64 bits as they are.
    Integer(i64),
}

impl Key<'_> {
    /// The key's 64-bit XXH3, what all rings but those on MD5 hash with.
    #[inline]
    pub fn xxh3(self) -> u64 {
        self.with_text(xxh3_64)
    }

    /// Hands the key's text to `body`.
    #[inline]
    pub fn with_text<R>(self, body: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Key::Text(text) => body(text),
            Key::Integer(integer) => body(itoa::Buffer::new().format(integer).as_bytes()),
        }
    }
}

/// Why a ring refused. Nothing changed.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RingError {
    /// Names tell nodes apart.
    #[error("two nodes are named '{name}'; names must differ")]
    DuplicateName {
        /// The name that came twice.
        name: Arc<str>,
    },
    /// No node of that name is here.
    #[error("no node is named '{name}'")]
    UnknownName {
        /// What was asked for.
        name: Arc<str>,
    },
    /// A weight must be finite and above zero.
    #[error("node '{name}' has weight {weight}; a weight is finite and above 0")]
    Weight {
        /// Whose weight.
        name: Arc<str>,
        /// What it was.
        weight: f64,
    },
    /// This algorithm treats all nodes alike.
    #[error(
        "{ring} takes no weights, but node '{name}' has weight {weight}; use ConsistentHash, Rendezvous or Maglev"
    )]
    Unweighted {
        /// Which algorithm.
        ring: &'static str,
        /// Whose weight.
        name: Arc<str>,
        /// What it was.
        weight: f64,
    },
    /// Jump numbers its buckets from 0 on, without gaps.
    #[error(
        "Jump removes only the node added last, '{last}', not '{name}'; use Anchor or ConsistentHash to remove any"
    )]
    NotLast {
        /// Who was to leave.
        name: Arc<str>,
        /// Who could.
        last: Arc<str>,
    },
    /// Each node needs a point of its own.
    #[error("replicas is {replicas}; it must be at least 1")]
    Replicas {
        /// What was asked for.
        replicas: u32,
    },
    /// Replicas times weights went through the roof.
    #[error("{points:.0} points on the ring; at most {SIZE_MAX} are allowed: lower replicas or weights")]
    TooManyPoints {
        /// How many there would be.
        points: f64,
    },
    /// A permutation of the table's slots needs a prime.
    #[error("table_size is {size}; it must be a prime, at most {SIZE_MAX}, such as 65537")]
    TableSize {
        /// What was asked for.
        size: usize,
    },
    /// Each node needs a slot of its own.
    #[error("{nodes} nodes need a table_size above {size}; take a prime 100 times the number of nodes")]
    TableTooSmall {
        /// Nodes that there would be.
        nodes: usize,
        /// Slots that there are.
        size: usize,
    },
    /// Anchor's buckets are numbered ahead.
    #[error("capacity is {capacity}; it must be 1 to {SIZE_MAX}")]
    Capacity {
        /// What was asked for.
        capacity: usize,
    },
    /// All of Anchor's buckets are taken.
    #[error("the ring is full: its capacity is {capacity} nodes; build one with a larger capacity")]
    Full {
        /// Nodes that fit.
        capacity: usize,
    },
    /// A saved state that no history leads to.
    #[error("this is not the state of a ring: {reason}")]
    State {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Without slack a single key may have to visit every node.
    #[error("epsilon is {epsilon}; it must be finite and above 0")]
    Epsilon {
        /// What was asked for.
        epsilon: f64,
    },
    /// More was released than acquired.
    #[error("node '{name}' holds nothing to release")]
    NotHeld {
        /// Whose load is zero.
        name: Arc<str>,
    },
}

/// Share of a fixed sample of [`SAMPLE`] keys whose owner has another name in `other`: within ±0.003 of the
/// true share in 19 of 20 cases.
pub fn moved(ring: &dyn Ring, other: &dyn Ring) -> f64 {
    if ring.nodes().is_empty() || other.nodes().is_empty() {
        return if ring.nodes().len() == other.nodes().len() { 0.0 } else { 1.0 };
    }
    let mut random = Random::new(0);
    let keys: Vec<Key<'_>> = (0..SAMPLE).map(|_| Key::Integer(random.word() as i64)).collect();
    let names = |ring: &dyn Ring| {
        let mut owners = vec![0; SAMPLE];
        ring.owners(&keys, &mut owners);
        owners.into_iter().map(|owner| ring.nodes()[owner as usize].name.clone()).collect::<Vec<_>>()
    };
    let moved = names(ring).into_iter().zip(names(other)).filter(|(one, other)| one != other).count();
    moved as f64 / SAMPLE as f64
}

/// Keys that [`moved`] looks at.
pub const SAMPLE: usize = 100_000;

/// Where the node of that name stands.
fn position(nodes: &[Node], name: &str) -> Result<usize, RingError> {
    nodes
        .iter()
        .position(|node| &*node.name == name)
        .ok_or_else(|| RingError::UnknownName { name: name.into() })
}

/// Checks a node against those that are there.
fn admit(nodes: &[Node], node: &Node) -> Result<(), RingError> {
    check_weight(node)?;
    if nodes.iter().any(|other| other.name == node.name) {
        return Err(RingError::DuplicateName { name: node.name.clone() });
    }
    Ok(())
}

/// Checks all nodes of a new ring.
fn admit_all(nodes: &[Node]) -> Result<(), RingError> {
    nodes.iter().try_for_each(check_weight)?;
    let sorted = by_name(nodes);
    sorted.windows(2).try_for_each(|pair| {
        let (one, other) = (&nodes[pair[0] as usize].name, &nodes[pair[1] as usize].name);
        if one == other { Err(RingError::DuplicateName { name: one.clone() }) } else { Ok(()) }
    })
}

fn check_weight(node: &Node) -> Result<(), RingError> {
    if node.weight.is_finite() && node.weight > 0.0 {
        return Ok(());
    }
    Err(RingError::Weight { name: node.name.clone(), weight: node.weight })
}

fn refuse_weight(ring: &'static str, node: &Node) -> Result<(), RingError> {
    // Exactly 1 is what a caller that never heard of weights hands in.
    if node.weight.to_bits() == 1.0f64.to_bits() {
        return Ok(());
    }
    Err(RingError::Unweighted { ring, name: node.name.clone(), weight: node.weight })
}

/// Positions in the order of the nodes' names.
fn by_name(nodes: &[Node]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..nodes.len() as u32).collect();
    order.sort_by(|&one, &other| nodes[one as usize].name.cmp(&nodes[other as usize].name));
    order
}

/// Collects distinct positions until there are `count`, or until every node is in.
struct Distinct {
    seen: Vec<bool>,
    found: Vec<u32>,
    count: usize,
}

impl Distinct {
    fn new(nodes: usize, count: usize) -> Self {
        let count = count.min(nodes);
        Self { seen: vec![false; nodes], found: Vec::with_capacity(count), count }
    }

    fn take(&mut self, position: u32) {
        if !self.is_full() && !std::mem::replace(&mut self.seen[position as usize], true) {
            self.found.push(position);
        }
    }

    fn is_full(&self) -> bool {
        self.found.len() >= self.count
    }

    /// What is still missing comes in the order of the nodes.
    fn fill(mut self) -> Vec<u32> {
        for position in 0..self.seen.len() as u32 {
            self.take(position);
        }
        self.found
    }
}

/// Distinct nodes for a key of `hash`, on a ring that names one owner for a hash and no second: the owners of
/// the hash salted with 1, 2, 3 and so on.
fn several_by_salt(hash: u64, nodes: usize, count: usize, owner: impl Fn(u64) -> u32) -> Vec<u32> {
    let mut distinct = Distinct::new(nodes, count);
    let mut salted = hash;
    // Half of the nodes are found within 1.4 draws each; who wants nearly all gets the last ones by order.
    for salt in 1..=(4 * distinct.count as u64 + 32) {
        distinct.take(owner(salted));
        if distinct.is_full() {
            break;
        }
        salted = mix(hash.wrapping_add(salt.wrapping_mul(GOLDEN)));
    }
    distinct.fill()
}

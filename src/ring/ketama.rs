//! Ketama, bit for bit as libmemcached places keys, so that two clients of one cache agree.
//!
//! Points and keys are 32-bit words of an MD5, the lowest byte first; a key is the first word of its own. How
//! many points a server has, and what it is called, differs between the three variants in use.

use std::sync::Arc;

use super::points::{Placed, Points};
use super::{Key, Node, Ring, RingError, SIZE_MAX, admit, admit_all, md5, position};

/// Which client's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// 100 points a server, one from each digest; with weights, as `KetamaWeighted`.
    Ketama,
    /// 40 digests of four points for each server of average weight.
    KetamaWeighted,
    /// As `KetamaWeighted`, with the names of the Java client `SpyMemcached`.
    Spy,
}

/// libmemcached's ring.
#[derive(Clone, Debug)]
pub struct Ketama {
    nodes: Vec<Node>,
    points: Points,
    variant: Variant,
}

/// memcached's port, which libmemcached leaves out of a server's name.
const DEFAULT_PORT: &str = "11211";
const UNWEIGHTED_POINTS: usize = 100;
const POINTS_OF_AVERAGE: f32 = 160.0;
const POINTS_OF_DIGEST: usize = 4;

impl Ketama {
    /// A ring of these servers, named `host:port`; a name without a port is a host at memcached's own.
    pub fn new(nodes: Vec<Node>, variant: Variant) -> Result<Self, RingError> {
        admit_all(&nodes)?;
        let mut servers: Vec<(String, &Arc<str>)> =
            nodes.iter().map(|node| (variant.server(&node.name), &node.name)).collect();
        servers.sort();
        // `cache` and `cache:11211` are one server by two names.
        if let Some(pair) = servers.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(RingError::DuplicateName { name: pair[1].1.clone() });
        }
        let points = place(&nodes, variant)?;
        Ok(Self { nodes, points, variant })
    }
}

impl Variant {
    fn server(self, name: &str) -> String {
        // An IPv6 address has colons of its own, and its port only behind a bracket.
        let split = name.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let (host, port) = split.unwrap_or((name, DEFAULT_PORT));
        match self {
            Self::Spy => format!("/{host}:{port}"),
            _ if port == DEFAULT_PORT => host.to_owned(),
            _ => format!("{host}:{port}"),
        }
    }
}

/// Weights count against their sum, so that a change of one node may shift the number of another's points:
/// everything is placed anew.
fn place(nodes: &[Node], variant: Variant) -> Result<Points, RingError> {
    let unweighted =
        variant == Variant::Ketama && nodes.iter().all(|node| node.weight.to_bits() == 1.0f64.to_bits());
    // Shares are single precision in libmemcached; in double, 50 equal servers would have 40 digests, not 39.
    let total = nodes.iter().map(|node| node.weight).sum::<f64>() as f32;
    let points = nodes.len() as f64 * f64::from(POINTS_OF_AVERAGE);
    if points > SIZE_MAX as f64 {
        return Err(RingError::TooManyPoints { points });
    }
    let mut placed = Vec::with_capacity(points as usize);
    for (node, owner) in nodes.iter().zip(0..) {
        let server = variant.server(&node.name);
        let (digests, words) = if unweighted {
            (UNWEIGHTED_POINTS, 1)
        } else {
            (digests_of(node.weight as f32 / total, nodes.len()), POINTS_OF_DIGEST)
        };
        let texts: Vec<String> = (0..digests).map(|i| format!("{server}-{i}")).collect();
        let keys: Vec<Key<'_>> = texts.iter().map(|text| Key::Text(text.as_bytes())).collect();
        let mut digests = vec![md5::Digest::default(); keys.len()];
        md5::digests(&keys, &mut digests);
        let values = digests.iter().flat_map(|digest| &digest[..words]);
        placed.extend(values.map(|&value| Placed { high: spread(value), low: 0, owner }));
    }
    Ok(Points::new(placed, nodes))
}

fn digests_of(share: f32, servers: usize) -> usize {
    let digests = share * POINTS_OF_AVERAGE / POINTS_OF_DIGEST as f32 * servers as f32;
    (f64::from(digests) + 1e-10).floor() as usize
}

/// A 32-bit point on the 64-bit circle. All keys are such points too, so nothing lies between them.
const fn spread(value: u32) -> u64 {
    ((value as u64) << 32) | 0xffff_ffff
}

fn hash(key: Key<'_>) -> u64 {
    spread(key.with_text(md5::digest)[0])
}

impl Ring for Ketama {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn owner(&self, key: Key<'_>) -> Option<u32> {
        (self.points.len() > 0).then(|| self.points.owner(hash(key), 0))
    }

    fn owners(&self, keys: &[Key<'_>], out: &mut [u32]) {
        if self.points.len() == 0 {
            return;
        }
        let mut digests = [md5::Digest::default(); 64];
        for (keys, out) in keys.chunks(digests.len()).zip(out.chunks_mut(digests.len())) {
            md5::digests(keys, &mut digests[..keys.len()]);
            for (digest, out) in digests.iter().zip(out) {
                *out = self.points.owner(spread(digest[0]), 0);
            }
        }
    }

    fn several(&self, key: Key<'_>, count: usize) -> Vec<u32> {
        self.points.several(hash(key), 0, self.nodes.len(), count)
    }

    fn shares(&self) -> Vec<f64> {
        self.points.shares(self.nodes.len())
    }

    fn insert(&mut self, node: Node) -> Result<(), RingError> {
        admit(&self.nodes, &node)?;
        *self = Self::new(self.nodes.iter().cloned().chain([node]).collect(), self.variant)?;
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<u32, RingError> {
        let owner = position(&self.nodes, name)?;
        let mut nodes = self.nodes.clone();
        nodes.remove(owner);
        *self = Self::new(nodes, self.variant)?;
        Ok(owner as u32)
    }
}

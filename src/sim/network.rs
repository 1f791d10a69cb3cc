//! The links: when a message arrives, how often, whether damaged, or not at all.

use smallvec::SmallVec;
use std::time::Duration;

use super::faults::{Kind, Links};
use super::latency::{Draw, Latency, Quantiles, nanos};
use crate::id::NodeId;
use crate::random::{Random, mix};

/// What a network is like while nothing is broken.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// How long a message is on its way.
    pub latency: Latency,
    /// Messages of one link arrive in the order in which they were sent, as on one TCP connection.
    pub fifo: bool,
    /// The share of messages that are lost.
    pub drop: f64,
    /// The share of messages that arrive twice.
    pub duplicate: f64,
    /// Whether processes are told when a peer's connection ends or is there again.
    pub hints: bool,
}

impl Default for Network {
    /// 50 µs and a tail of 50 µs, in order, nothing lost.
    fn default() -> Self {
        Self {
            latency: Latency::new(Duration::from_micros(50), Duration::from_micros(50)),
            fifo: true,
            drop: 0.0,
            duplicate: 0.0,
            hints: true,
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// After how many nanoseconds it arrives.
    pub(super) after: u64,
    /// After how many it arrives again.
    pub(super) again: Option<u64>,
    /// The word that says how it is damaged.
    pub(super) damage: Option<u64>,
}

/// One direction between two processes.
struct Link {
    random: Random,
    /// When the last message arrives.
    last: u64,
    latency: Draw,
    /// How many partitions cut it.
    cuts: u32,
    /// Mended for good.
    healed: bool,
    /// Faults in force, by their place in the plan.
    faults: SmallVec<[u32; 4]>,
}

/// A fault that befalls messages.
struct Trouble {
    random: Random,
    what: What,
}

enum What {
    Drop(u64),
    Duplicate(u64),
    Reorder(u64, u64),
    Corrupt(u64),
    Slow(u64),
}

/// All links between `members` processes, by dense numbers from 0.
pub(super) struct Fabric {
    members: usize,
    links: Vec<Link>,
    /// By place in the plan.
    troubles: Vec<Option<Trouble>>,
    quantiles: Quantiles,
    drop: u64,
    duplicate: u64,
    fifo: bool,
}

impl Fabric {
    pub(super) fn new(network: &Network, members: usize, mut random: Random) -> Self {
        let link = |_| Link {
            random: random.split(),
            last: 0,
            latency: network.latency.into(),
            cuts: 0,
            healed: false,
            faults: SmallVec::new(),
        };
        Self {
            members,
            links: (0..members * members).map(link).collect(),
            troubles: Vec::new(),
            quantiles: Quantiles::new(),
            drop: threshold(network.drop),
            duplicate: threshold(network.duplicate),
            fifo: network.fifo,
        }
    }

    /// Sends a message at `now`. `None`: it is lost.
    #[inline]
    pub(super) fn route(&mut self, now: u64, from: usize, to: usize) -> Option<Route> {
        let link = &mut self.links[from * self.members + to];
        // One draw a message, whatever happens to it: a fault taken away shifts nothing.
        let word = link.random.word();
        let mut route = Route { after: self.quantiles.draw(link.latency, word), again: None, damage: None };
        if self.duplicate > 0 && mix(word ^ 1) < self.duplicate {
            route.again = Some(self.quantiles.draw(link.latency, mix(word ^ 2)));
        }
        if self.drop > 0 && mix(word ^ 3) < self.drop && !link.healed {
            return None;
        }
        let mut overtakes = false;
        if (link.cuts > 0 || !link.faults.is_empty()) && !link.healed {
            for &fault in &link.faults {
                let Some(trouble) = &mut self.troubles[fault as usize] else { continue };
                overtakes |= trouble.befall(&mut route, &self.quantiles, link.latency)?;
            }
            if link.cuts > 0 {
                return None;
            }
        }
        if self.fifo && !overtakes {
            route.after = route.after.max(link.last.saturating_sub(now));
            link.last = now + route.after;
        }
        Some(route)
    }

    /// Whether nothing cuts this link.
    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        let link = &self.links[from * self.members + to];
        link.cuts == 0 || link.healed
    }

    /// A duration of the undisturbed network.
    pub(super) fn latency(&self, word: u64) -> u64 {
        self.quantiles
            .draw(self.links.first().map_or(Latency::fixed(Duration::ZERO).into(), |link| link.latency), word)
    }

    pub(super) const fn quantiles(&self) -> &Quantiles {
        &self.quantiles
    }

    /// The fault at `place` of the plan begins.
    pub(super) fn begin(&mut self, place: usize, kind: &Kind, random: Random) {
        self.cut(kind, |cuts| *cuts += 1);
        let Some((on, what)) = What::of(kind) else { return };
        if self.troubles.len() <= place {
            self.troubles.resize_with(place + 1, || None);
        }
        self.troubles[place] = Some(Trouble { random, what });
        self.each(on, |link| link.faults.push(place as u32));
    }

    /// The fault at `place` of the plan ends.
    pub(super) fn end(&mut self, place: usize, kind: &Kind) {
        self.cut(kind, |cuts| *cuts = cuts.saturating_sub(1));
        if let Some((on, _)) = What::of(kind) {
            self.troubles[place] = None;
            self.each(on, |link| link.faults.retain(|fault| *fault as usize != place));
        }
    }

    /// Mends all links among these for good.
    pub(super) fn heal(&mut self, core: &[bool]) {
        for from in (0..self.members).filter(|&from| core[from]) {
            for to in (0..self.members).filter(|&to| core[to]) {
                self.links[from * self.members + to].healed = true;
            }
        }
    }

    fn cut(&mut self, kind: &Kind, change: impl Fn(&mut u32)) {
        for from in 0..self.members {
            for to in (0..self.members).filter(|&to| to != from) {
                if cuts(kind, NodeId(from as u64 + 1), NodeId(to as u64 + 1)) {
                    change(&mut self.links[from * self.members + to].cuts);
                }
            }
        }
    }

    fn each(&mut self, on: Links, mut change: impl FnMut(&mut Link)) {
        let chosen = |node: Option<NodeId>, index: usize| node.is_none_or(|node| node.0 == index as u64 + 1);
        for from in (0..self.members).filter(|&from| chosen(on.from, from)) {
            for to in (0..self.members).filter(|&to| chosen(on.to, to)) {
                change(&mut self.links[from * self.members + to]);
            }
        }
    }
}

/// Whether this partition cuts this link.
fn cuts(kind: &Kind, from: NodeId, to: NodeId) -> bool {
    let within = |set: &[NodeId], node| set.is_empty() || set.contains(&node);
    match kind {
        Kind::Partition { side } => side.contains(&from) != side.contains(&to),
        Kind::OneWay { from: unheard, to: deaf } => within(unheard, from) && within(deaf, to),
        Kind::Bridge { left, right } => {
            (left.contains(&from) && right.contains(&to)) || (right.contains(&from) && left.contains(&to))
        }
        _ => false,
    }
}

impl What {
    fn of(kind: &Kind) -> Option<(Links, Self)> {
        match *kind {
            Kind::Drop { on, rate } => Some((on, Self::Drop(threshold(rate)))),
            Kind::Duplicate { on, rate } => Some((on, Self::Duplicate(threshold(rate)))),
            Kind::Reorder { on, rate, by } => Some((on, Self::Reorder(threshold(rate), nanos(by)))),
            Kind::Corrupt { on, rate } => Some((on, Self::Corrupt(threshold(rate)))),
            Kind::SlowLink { on, by } => Some((on, Self::Slow(nanos(by)))),
            _ => None,
        }
    }
}

/// Longer than any world lasts, and far from overflow.
const FOR_EVER: u64 = 1 << 62;

impl Trouble {
    /// Changes where the message goes; `None`: it is lost. Tells whether it may be overtaken.
    fn befall(&mut self, route: &mut Route, quantiles: &Quantiles, latency: Draw) -> Option<bool> {
        let word = self.random.word();
        match self.what {
            What::Drop(rate) if word < rate => return None,
            What::Duplicate(rate) if word < rate => {
                route.again = Some(route.after + quantiles.draw(latency, mix(word)));
            }
            What::Reorder(rate, by) if word < rate => {
                route.after += crate::random::scale(mix(word), by);
                return Some(true);
            }
            What::Corrupt(rate) if word < rate => route.damage = Some(mix(word)),
            What::Slow(by) => route.after = route.after.saturating_add(by).min(FOR_EVER),
            _ => {}
        }
        Some(false)
    }
}

/// A share, as a bound on a random word.
pub(super) fn threshold(rate: f64) -> u64 {
    // The cast saturates: a share of 1 is always, but for one word in 2^64.
    (rate.clamp(0.0, 1.0) * 18_446_744_073_709_551_616.0) as u64
}

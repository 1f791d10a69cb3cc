//! What goes wrong: a plan is a list of faults, written by hand or drawn.
//!
//! A plan is plain data. Each fault draws from a generator of its own, named by its `key`, so taking one away shifts
//! nothing of the others: that is what makes plans shrink.

use std::time::Duration;

use super::latency::nanos;
use crate::id::NodeId;
use crate::random::{Random, mix};
use crate::time::Instant;

/// What breaks.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// These and all others do not reach each other.
    Partition {
        /// One side.
        side: Vec<NodeId>,
    },
    /// What these send does not reach those. An empty list means everybody.
    OneWay {
        /// Who is not heard.
        from: Vec<NodeId>,
        /// Who does not hear.
        to: Vec<NodeId>,
    },
    /// Left and right do not reach each other; who is in neither reaches both.
    Bridge {
        /// One bank.
        left: Vec<NodeId>,
        /// The other.
        right: Vec<NodeId>,
    },
    /// Messages on these links are lost.
    Drop {
        /// Which links.
        on: Links,
        /// The share of the messages.
        rate: f64,
    },
    /// Messages on these links arrive twice.
    Duplicate {
        /// Which links.
        on: Links,
        /// The share of the messages.
        rate: f64,
    },
    /// Messages on these links are held back for up to `by`, so that later ones overtake them.
    Reorder {
        /// Which links.
        on: Links,
        /// The share of the messages.
        rate: f64,
        /// How long at most.
        by: Duration,
    },
    /// Frames on these links arrive damaged.
    Corrupt {
        /// Which links.
        on: Links,
        /// The share of the messages.
        rate: f64,
    },
    /// Messages on these links take longer.
    SlowLink {
        /// Which links.
        on: Links,
        /// By how much.
        by: Duration,
    },
    /// All others are told that the connection to this process has ended, though it has not; when the fault ends,
    /// that it is up.
    FalseEvidence {
        /// About whom.
        about: NodeId,
        /// What they are told: that nobody listens there, instead of that the connection ended.
        refused: bool,
    },
    /// The process crashes, at any point of what it does next, and comes back when the fault ends.
    Crash {
        /// Who.
        node: NodeId,
    },
    /// The process stands still; what arrives waits.
    Pause {
        /// Who.
        node: NodeId,
    },
    /// Its clock leaps ahead, once.
    Jump {
        /// Who.
        node: NodeId,
        /// How far.
        by: Duration,
    },
    /// Its clock runs too fast, or too slow.
    Drift {
        /// Who.
        node: NodeId,
        /// By how many parts in a million.
        ppm: i64,
    },
    /// Its syncs take longer.
    SlowDisk {
        /// Who.
        node: NodeId,
        /// By how much.
        by: Duration,
    },
    /// Its next sync fails. The driver drops the machine, which comes back when the fault ends.
    FailSync {
        /// Who.
        node: NodeId,
    },
    /// There is no room: no sync begins until the fault ends.
    FullDisk {
        /// Who.
        node: NodeId,
    },
    /// The disk does not answer: no sync ends until the fault ends.
    StalledDisk {
        /// Who.
        node: NodeId,
    },
    /// Everything that is broken at these processes and among them is mended for good, and nothing there breaks
    /// again. The rest stays as it is. An empty list means everybody.
    Heal {
        /// Whom.
        core: Vec<NodeId>,
    },
    /// A bit flips in what its journal had on the disk before the last sync. It shows when the process starts again;
    /// then it stays down for good. Only in worlds that run [through bytes](super::Bytes).
    Rot {
        /// Who.
        node: NodeId,
    },
}

/// Directed links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Those from this process; `None`: from all.
    pub from: Option<NodeId>,
    /// Those to this process; `None`: to all.
    pub to: Option<NodeId>,
}

impl Links {
    /// All of them.
    pub const ALL: Self = Self { from: None, to: None };

    /// This one alone.
    pub const fn between(from: NodeId, to: NodeId) -> Self {
        Self { from: Some(from), to: Some(to) }
    }
}

/// Stands for a process that only the moment tells: whoever leads when the fault begins, as the watcher knows
/// ([`Watch::target`](super::Watch::target)). When nobody does, the fault draws one.
pub const LEADER: NodeId = NodeId(u64::MAX);
/// Stands for whoever has voted last when the fault begins.
pub const VOTER: NodeId = NodeId(u64::MAX - 1);

impl Kind {
    /// The names of all kinds, by [`Kind::number`].
    pub const NAMES: [&'static str; 19] = [
        "partition",
        "one-way partition",
        "bridge",
        "drop",
        "duplicate",
        "reorder",
        "corrupt",
        "slow link",
        "false evidence",
        "crash",
        "pause",
        "jump",
        "drift",
        "slow disk",
        "failed sync",
        "full disk",
        "stalled disk",
        "heal",
        "rot",
    ];

    /// Its number among the kinds.
    pub const fn number(&self) -> usize {
        match self {
            Self::Partition { .. } => 0,
            Self::OneWay { .. } => 1,
            Self::Bridge { .. } => 2,
            Self::Drop { .. } => 3,
            Self::Duplicate { .. } => 4,
            Self::Reorder { .. } => 5,
            Self::Corrupt { .. } => 6,
            Self::SlowLink { .. } => 7,
            Self::FalseEvidence { .. } => 8,
            Self::Crash { .. } => 9,
            Self::Pause { .. } => 10,
            Self::Jump { .. } => 11,
            Self::Drift { .. } => 12,
            Self::SlowDisk { .. } => 13,
            Self::FailSync { .. } => 14,
            Self::FullDisk { .. } => 15,
            Self::StalledDisk { .. } => 16,
            Self::Heal { .. } => 17,
            Self::Rot { .. } => 18,
        }
    }

    /// What it is called.
    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.number()]
    }

    /// The process that it befalls, if it is one alone.
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::FalseEvidence { about: node, .. }
            | Self::Crash { node }
            | Self::Pause { node }
            | Self::Jump { node, .. }
            | Self::Drift { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::FailSync { node }
            | Self::FullDisk { node }
            | Self::StalledDisk { node }
            | Self::Rot { node } => Some(*node),
            _ => None,
        }
    }

    /// The process of which the others would hear that its connections have ended, when this befalls it.
    fn cut_off(&self) -> Option<NodeId> {
        match self {
            Self::Partition { side } => side.first().copied(),
            Self::OneWay { from, .. } if !from.is_empty() => from.first().copied(),
            Self::Pause { node } => Some(*node),
            _ => None,
        }
    }

    /// The same, with other processes in the place of those that it names.
    pub(super) fn aimed(&self, mut at: impl FnMut(NodeId) -> NodeId) -> Self {
        let mut kind = self.clone();
        match &mut kind {
            Self::FalseEvidence { about: node, .. }
            | Self::Crash { node }
            | Self::Pause { node }
            | Self::Jump { node, .. }
            | Self::Drift { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::FailSync { node }
            | Self::FullDisk { node }
            | Self::StalledDisk { node }
            | Self::Rot { node } => *node = at(*node),
            Self::Partition { side: one } | Self::Heal { core: one } => {
                for node in one {
                    *node = at(*node);
                }
            }
            Self::OneWay { from: one, to: two } | Self::Bridge { left: one, right: two } => {
                for node in one.iter_mut().chain(two) {
                    *node = at(*node);
                }
            }
            Self::Drop { on, .. }
            | Self::Duplicate { on, .. }
            | Self::Reorder { on, .. }
            | Self::Corrupt { on, .. }
            | Self::SlowLink { on, .. } => {
                for node in [&mut on.from, &mut on.to].into_iter().flatten() {
                    *node = at(*node);
                }
            }
        }
        kind
    }
}

/// Something that breaks at a time, for a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// When, from the beginning of the world.
    pub start: Instant,
    /// For how long; [`Fault::FOR_EVER`] is for good.
    pub length: Duration,
    /// What.
    pub kind: Kind,
    /// Names the generator from which it draws. Equal keys draw alike.
    pub key: u64,
}

impl Fault {
    /// Longer than any world.
    pub const FOR_EVER: Duration = Duration::MAX;

    /// `kind`, from `start` for `length`. A plan gives it its key.
    pub fn new(start: Duration, length: Duration, kind: Kind) -> Self {
        Self { start: Instant::ZERO + start, length, kind, key: 0 }
    }

    /// When it ends.
    pub fn end(&self) -> Instant {
        self.start + self.length
    }
}

/// Faults, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Each may be taken away without shifting the others.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Nothing goes wrong.
    pub const fn none() -> Self {
        Self { faults: Vec::new() }
    }

    /// These faults, in this order; those without a key get their place as key.
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let mut plan = Self::none();
        for fault in faults {
            plan.push(fault);
        }
        plan
    }

    /// Adds a fault.
    pub fn push(&mut self, mut fault: Fault) {
        if fault.key == 0 {
            fault.key = self.faults.len() as u64 + 1;
        }
        self.faults.push(fault);
    }

    /// The same plan without one of its faults.
    #[must_use]
    pub fn without(&self, place: usize) -> Self {
        let mut plan = self.clone();
        plan.faults.remove(place);
        plan
    }
}

/// Draws plans in which each kind of fault is on or off (swarm testing: Groce et al., "Swarm testing", ISSTA 2012):
/// rare combinations come up that a mixture of everything would drown.
#[derive(Clone, Debug, PartialEq)]
pub struct Swarm {
    /// How many processes there are, counted from 1.
    pub members: u64,
    /// How long faults keep coming. At its end a drawn quorum heals for good, and the rest stays broken.
    pub horizon: Duration,
    /// Whether it heals then.
    pub heals: bool,
    /// The probability that a kind is on.
    pub share: f64,
    /// How often a kind that is on strikes, on average.
    pub interval: Duration,
    /// How long a fault lasts, on average.
    pub length: Duration,
    /// Clocks drift by at most this; 0: not at all.
    pub drift_ppm_max: i64,
    /// Clocks leap by at most this; zero: not at all.
    pub jump_max: Duration,
    /// The share of the faults that befall whoever leads at the moment, or has voted last, in thousandths.
    pub aimed: u64,
    /// The share of the cuts and pauses that end connections, in thousandths: the others soon hear of it.
    pub evident: u64,
    /// Processes that die together do so within this.
    pub stagger: Duration,
}

/// The number of [`Kind::Crash`].
const CRASH: u64 = Kind::Crash { node: NodeId(0) }.number() as u64;
/// The number of the last kind that [`Swarm::draw`] draws.
const LAST_DRAWN: u64 = Kind::StalledDisk { node: NodeId(0) }.number() as u64;

impl Swarm {
    /// For `members` processes, over `horizon`.
    pub const fn new(members: u64, horizon: Duration) -> Self {
        Self {
            members,
            horizon,
            heals: true,
            share: 0.4,
            interval: Duration::from_secs(6),
            length: Duration::from_millis(1500),
            drift_ppm_max: 10_000,
            jump_max: Duration::ZERO,
            aimed: 0,
            evident: 0,
            stagger: Duration::ZERO,
        }
    }

    /// The plan of `seed`.
    pub fn draw(&self, seed: u64) -> Plan {
        let mut root = Random::new(seed);
        let mut plan = Plan::none();
        for kind in 0..=LAST_DRAWN {
            // One stream a kind: turning one off does not shift the next.
            let mut random = root.split();
            if random.unit() < self.share {
                self.strike(kind, &mut random, &mut plan);
            }
        }
        if self.heals {
            self.heal(&mut root, &mut plan);
        }
        plan
    }

    fn strike(&self, kind: u64, random: &mut Random, plan: &mut Plan) {
        // How often and how long also differs from world to world, by a factor of four.
        let interval = share(self.interval, 500, 2_000, random);
        let length = share(self.length, 500, 2_000, random);
        let mut at = Duration::ZERO;
        loop {
            at += share(interval, 100, 1_900, random);
            if at >= self.horizon {
                return;
            }
            if kind == CRASH && random.below(3) == 0 {
                self.die_together(at, length, random, plan);
                continue;
            }
            let lasting = share(length, 20, 1_980, random);
            let Some(drawn) = self.kind(kind, random) else { continue };
            let key = random.word() | 1;
            let aim = Aim::draw(self.aimed, random);
            let drawn = aim.at(drawn, random);
            let evident = random.below(1_000) < self.evident;
            let (after, refused) = (share(Duration::from_millis(20), 0, 1_000, random), random.below(2) == 0);
            if let (true, Some(about)) = (evident, drawn.cut_off()) {
                let mut fault = Fault::new(at + after, lasting, Kind::FalseEvidence { about, refused });
                fault.key = mix(key) | 1;
                plan.push(fault);
            }
            let mut fault = Fault::new(at, lasting, drawn);
            fault.key = key;
            plan.push(fault);
        }
    }

    /// Processes often die together, or one soon after the other: of one power, of one bug.
    fn die_together(&self, at: Duration, length: Duration, random: &mut Random, plan: &mut Plan) {
        let mut nodes = self.shuffled(random);
        nodes.truncate(1 + random.below(self.members) as usize);
        if random.below(1_000) < self.aimed {
            nodes.insert(0, LEADER);
        }
        for node in nodes {
            let after = share(self.stagger, 0, 1_000, random);
            let lasting = share(length, 20, 1_980, random);
            let mut fault = Fault::new(at + after, lasting, Kind::Crash { node });
            fault.key = random.word() | 1;
            plan.push(fault);
        }
    }

    fn kind(&self, number: u64, random: &mut Random) -> Option<Kind> {
        let rate = 0.02 + 0.5 * random.unit() * random.unit();
        let by = Duration::from_nanos(1_000_000 + random.below(300_000_000));
        let node = self.node(random);
        let on = self.links(random);
        Some(match number {
            0 => Kind::Partition { side: self.some(random) },
            1 => Kind::OneWay { from: self.some(random), to: self.some(random) },
            2 => {
                let mut ids = self.shuffled(random);
                let right = ids.split_off(ids.len() / 2 + 1);
                ids.pop();
                Kind::Bridge { left: ids, right }
            }
            3 => Kind::Drop { on, rate },
            4 => Kind::Duplicate { on, rate },
            5 => Kind::Reorder { on, rate, by },
            6 => Kind::Corrupt { on, rate },
            7 => Kind::SlowLink { on, by },
            8 => Kind::FalseEvidence { about: node, refused: random.below(2) == 0 },
            9 => Kind::Crash { node },
            10 => Kind::Pause { node },
            11 if self.jump_max > Duration::ZERO => {
                Kind::Jump { node, by: share(self.jump_max, 0, 1_000, random) }
            }
            12 if self.drift_ppm_max > 0 => {
                let bound = self.drift_ppm_max;
                Kind::Drift { node, ppm: random.below(2 * bound as u64 + 1) as i64 - bound }
            }
            13 => Kind::SlowDisk { node, by },
            14 => Kind::FailSync { node },
            15 => Kind::FullDisk { node },
            16 => Kind::StalledDisk { node },
            _ => return None,
        })
    }

    /// A quorum heals; each of the others breaks for good in a way of its own, if at all.
    fn heal(&self, root: &mut Random, plan: &mut Plan) {
        let mut random = root.split();
        let mut core = self.shuffled(&mut random);
        let rest = core.split_off(core.len() / 2 + 1);
        core.sort_unstable();
        for &node in &rest {
            let kind = match random.below(7) {
                0 => Kind::Crash { node },
                1 => Kind::Pause { node },
                2 => Kind::Partition { side: vec![node] },
                3 => Kind::OneWay { from: vec![node], to: Vec::new() },
                4 => Kind::OneWay { from: Vec::new(), to: vec![node] },
                5 => Kind::Drop { on: Links { from: None, to: Some(node) }, rate: 0.5 },
                _ => continue,
            };
            let mut fault = Fault::new(self.horizon, Fault::FOR_EVER, kind);
            fault.key = random.word() | 1;
            plan.push(fault);
        }
        let mut heal = Fault::new(self.horizon, Fault::FOR_EVER, Kind::Heal { core });
        heal.key = random.word() | 1;
        plan.push(heal);
    }

    fn node(&self, random: &mut Random) -> NodeId {
        NodeId(1 + random.below(self.members))
    }

    fn links(&self, random: &mut Random) -> Links {
        let from = (random.below(3) > 0).then(|| self.node(random));
        let to = (random.below(3) > 0).then(|| self.node(random));
        Links { from, to }
    }

    /// Some processes, but not all, and not none.
    fn some(&self, random: &mut Random) -> Vec<NodeId> {
        let mut ids = self.shuffled(random);
        ids.truncate(1 + random.below(self.members.saturating_sub(1)) as usize);
        ids.sort_unstable();
        ids
    }

    fn shuffled(&self, random: &mut Random) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = (1..=self.members).map(NodeId).collect();
        for place in (1..ids.len()).rev() {
            ids.swap(place, random.below(place as u64 + 1) as usize);
        }
        ids
    }
}

/// At whom a fault is aimed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    Anybody,
    Leader,
    Voter,
}

impl Aim {
    fn draw(aimed: u64, random: &mut Random) -> Self {
        match (random.below(1_000) < aimed, random.below(4)) {
            (false, _) => Self::Anybody,
            (true, 0) => Self::Voter,
            (true, _) => Self::Leader,
        }
    }

    /// The fault, aimed.
    fn at(self, kind: Kind, random: &mut Random) -> Kind {
        let whom = match self {
            Self::Anybody => return kind,
            Self::Leader => LEADER,
            Self::Voter => VOTER,
        };
        let first = |mut nodes: Vec<NodeId>| {
            nodes.truncate(nodes.len().min(2));
            nodes[0] = whom;
            nodes
        };
        let alone = random.below(2) == 0;
        match kind {
            Kind::Partition { .. } if alone => Kind::Partition { side: vec![whom] },
            Kind::Partition { side } => Kind::Partition { side: first(side) },
            Kind::OneWay { .. } if alone => Kind::OneWay { from: Vec::new(), to: vec![whom] },
            Kind::OneWay { to, .. } => Kind::OneWay { from: vec![whom], to },
            Kind::Bridge { mut left, right } => {
                left[0] = whom;
                Kind::Bridge { left, right }
            }
            Kind::Drop { rate, .. } => Kind::Drop { on: links_of(whom, alone), rate },
            Kind::SlowLink { by, .. } => Kind::SlowLink { on: links_of(whom, alone), by },
            Kind::Reorder { rate, by, .. } => Kind::Reorder { on: links_of(whom, alone), rate, by },
            one if one.node().is_some() => one.aimed(|_| whom),
            other => other,
        }
    }
}

/// The links to a process, or from it.
const fn links_of(node: NodeId, to: bool) -> Links {
    if to { Links { from: None, to: Some(node) } } else { Links { from: Some(node), to: None } }
}

/// A drawn part of a duration, in thousandths; by integers, so that it is the same everywhere.
fn share(of: Duration, from: u64, to: u64, random: &mut Random) -> Duration {
    let part = from + random.below(to - from + 1);
    Duration::from_nanos((u128::from(nanos(of)) * u128::from(part) / 1_000) as u64)
}

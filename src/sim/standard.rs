//! The standard world: a Raft that keeps a few keys, clients that ask it, faults by swarm, and all invariants.
//!
//! Five members, three clients, ten keys, a hundred operations a second in all; each kind of fault and of operation
//! is on or off by the seed. At the horizon a drawn quorum heals for good, the rest stays broken, and the quorum must
//! make progress.

mod bytes;
mod clients;
mod fingerprint;
mod judge;
mod keys;
mod operator;
mod raft;
pub mod replicated;
pub mod stored;

use std::time::Duration;

use super::faults::{Kind, Swarm};
use super::latency::Latency;
use super::medium::{Medium, Values};
use super::settings::Settings;
use super::world::{Failure, World};
use crate::raft::{Lease, Raft};
use crate::random::{Random, mix};
use crate::time::Instant;

pub use self::bytes::run_through_bytes;
pub use clients::Clients;
pub use judge::Judge;
pub use keys::{Keys, Shelf};
pub use operator::Orders;
pub use raft::{RaftInside, RaftJudge, Told, plain, recall};

/// How long faults keep coming.
pub const HORIZON: Duration = Duration::from_secs(50);
/// How long the healed quorum is watched after that.
pub const EPILOGUE: Duration = Duration::from_secs(10);
/// How long the healed quorum may go without an acknowledged write.
pub const PROGRESS_BOUND: Duration = Duration::from_secs(6);

/// The world of the standard.
pub type Standard<M = Values> = World<Raft, Keys, Judge, Clients, M>;

/// What differs from seed to seed, and may be changed before the world is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The world: its seed, network, disks, clocks and faults.
    pub world: Settings,
    /// The members.
    pub raft: crate::raft::Settings,
    /// Who asks.
    pub clients: Workload,
}

/// What clients ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// How many clients; each has one operation under way.
    pub count: u64,
    /// The mean wait between a client's operations.
    pub interval: Duration,
    /// How many keys.
    pub keys: u64,
    /// After how long a client gives up on an answer, and asks somebody else something else.
    pub timeout: Duration,
    /// The share of reads, in thousandths.
    pub reads: u64,
    /// How many of the clients stay with the member that they know, though it does not answer.
    pub stubborn: u64,
    /// Up to how many more commands, without a meaning, come with a put.
    pub ballast: u64,
    /// Whether leadership is handed about.
    pub transfers: bool,
    /// Whether members are demoted, removed, and promoted again.
    pub changes: bool,
    /// Whether members are told to campaign.
    pub campaigns: bool,
    /// The mean wait between what the operator does.
    pub operations: Duration,
    /// When transfers, changes and campaigns end, and haste and ballast.
    pub until: Duration,
}

impl Workload {
    /// What the operator may order.
    pub(super) const fn orders(&self) -> Orders {
        let Self { transfers, changes, campaigns, operations, .. } = *self;
        Orders { transfers, changes, campaigns, interval: operations }
    }
}

impl Scenario {
    /// The scenario of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(mix(seed ^ 0x7374_616e_6461_7264));
        let members = 5;
        let mut world = Settings::new(seed, members);
        let mut raft = members_of(&mut random);
        world.network.fifo = random.below(2) == 0;
        // Worlds differ in their tempo, too: what one never meets is common in another.
        let ms = Duration::from_millis;
        let sync = Duration::from_micros(pick(&mut random, [100, 1_000, 10_000, 40_000]));
        world.disk.sync = Latency::new(sync / 4, sync);
        let latency = Duration::from_micros(pick(&mut random, [50, 200, 2_000, 10_000]));
        world.network.latency = Latency::new(latency, latency);
        if sync + latency >= ms(10) {
            // One entry at a time would be twenty in a second: no progress within the bound for who is behind.
            raft.message_bytes_max = raft.message_bytes_max.max(64);
            raft.in_flight_messages_max = raft.in_flight_messages_max.max(4);
        }
        let mut swarm = Swarm::new(members, HORIZON);
        swarm.interval = ms(pick(&mut random, [500, 1_000, 2_000, 6_000]));
        swarm.length = ms(pick(&mut random, [30, 200, 800, 2_000]));
        swarm.aimed = pick(&mut random, [0, 300, 700, 1_000]);
        swarm.evident = pick(&mut random, [0, 300, 700, 1_000]);
        swarm.stagger = ms(pick(&mut random, [0, 10, 50, 200]));
        world.faults = swarm.draw(random.word());
        let clients = Workload {
            count: 3,
            interval: ms(30),
            keys: 10,
            timeout: ms(pick(&mut random, [50, 200, 500, 500])),
            reads: pick(&mut random, [100, 500, 500, 900]),
            stubborn: random.below(3),
            ballast: pick(&mut random, [0, 0, 3, 15]),
            transfers: random.below(2) == 0,
            changes: random.below(2) == 0,
            campaigns: random.below(2) == 0,
            operations: ms(pick(&mut random, [200, 500, 2_000, 2_000])),
            until: HORIZON,
        };
        if clients.changes {
            // Which quorum would be one is not known beforehand, so everybody heals.
            for fault in &mut world.faults.faults {
                if let Kind::Heal { core } = &mut fault.kind {
                    core.clear();
                }
            }
        }
        Self { world, raft, clients }
    }

    /// Whether progress is promised in the end: what is broken for good cannot disturb, by pre-vote and check-quorum.
    const fn is_live(&self) -> bool {
        self.raft.pre_vote && self.raft.check_quorum
    }

    /// The world itself, by value.
    ///
    /// # Panics
    ///
    /// When the Raft settings cannot work.
    pub fn build(self) -> Standard {
        self.build_over()
    }

    /// The world itself, over a medium.
    ///
    /// # Panics
    ///
    /// When the Raft settings cannot work.
    pub fn build_over<M: Medium<Raft>>(self) -> Standard<M> {
        let raft = self.raft.clone();
        let factory = move |id| Raft::new(id, raft.clone()).expect("settings that work");
        let clients = Clients::new(&self);
        // What is broken for good could disturb, without pre-vote and check-quorum: then progress is not promised.
        let whole = self.is_live().then_some(Instant::ZERO + HORIZON);
        World::with(self.world, factory, Judge::new(whole), clients)
    }
}

/// After how many entries a snapshot is made: each order of magnitude is drawn as often as any other, so that snapshots are
/// made in the midst of everything.
const fn log_entries(random: &mut Random) -> u64 {
    let least = 5 << random.below(7);
    least + random.below(least)
}

/// What the members are like.
fn members_of(random: &mut Random) -> crate::raft::Settings {
    let ms = Duration::from_millis;
    let length = pick(random, [30, 100, 250, 250]);
    let lease = (random.below(2) == 0).then(|| Lease { length: ms(length), drift: ms(length / 10) });
    let message_bytes_max = pick(random, [1, 64, 4 << 10, 1 << 20]) as usize;
    let in_flight_messages_max = pick(random, [1, 4, 256, 256]) as usize;
    // Who sends one entry at a time must not have a long queue.
    let quick = message_bytes_max > 64 && in_flight_messages_max > 1;
    crate::raft::Settings {
        cluster: 1,
        pre_vote: random.below(4) > 0,
        check_quorum: random.below(4) > 0,
        // Beats come three times in a lease.
        heartbeat_interval: ms(if lease.is_some() { 50.min(length / 3) } else { 50 }),
        lease,
        message_bytes_max,
        in_flight_messages_max,
        uncommitted_bytes_max: if quick { 64 << 20 } else { 512 },
        snapshot_log_entries: log_entries(random),
        retained_entries: pick(random, [0, 0, 5, 100]),
        chunk_bytes: 64 + random.below(512) as usize,
        ..crate::raft::Settings::default()
    }
}

fn pick(random: &mut Random, of: [u64; 4]) -> u64 {
    of[random.below(4) as usize]
}

/// Runs the standard world of `seed` to its end.
pub fn run(seed: u64) -> Result<Standard, Failure> {
    run_scenario(Scenario::new(seed))
}

/// Runs a world like it to its end.
pub fn run_scenario(scenario: Scenario) -> Result<Standard, Failure> {
    let mut world = scenario.build();
    finish(&mut world)?;
    Ok(world)
}

/// Runs a standard world from its beginning to its end, and judges its liveness.
pub fn finish<M: Medium<Raft>>(world: &mut Standard<M>) -> Result<(), Failure> {
    finish_within(world, HORIZON + EPILOGUE)
}

/// The same of a world that is given less time.
pub fn finish_within<M: Medium<Raft>>(world: &mut Standard<M>, length: Duration) -> Result<(), Failure> {
    world.run(length)?;
    world.finish(|judge, now| judge.progress.check(now))
}

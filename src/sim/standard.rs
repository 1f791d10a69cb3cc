//! The standard world: a Raft that keeps a few keys, clients that ask it, faults by swarm, and all invariants.
//!
//! Five members, three clients, ten keys, a hundred operations a second in all; each kind of fault and of operation
//! is on or off by the seed. At the horizon a drawn quorum heals for good, the rest stays broken, and the quorum must
//! make progress.

mod clients;
mod fingerprint;
mod judge;
mod keys;
mod operator;
mod raft;
pub mod replicated;

use std::time::Duration;

use super::faults::{Kind, Swarm};
use super::latency::Latency;
use super::settings::Settings;
use super::world::{Failure, World};
use crate::raft::{Lease, Raft};
use crate::random::{Random, mix};

pub use clients::Clients;
pub use judge::Judge;
pub use keys::{Keys, Shelf};
pub use raft::{RaftInside, RaftJudge, Told};

/// How long faults keep coming.
pub const HORIZON: Duration = Duration::from_secs(50);
/// How long the healed quorum is watched after that.
pub const EPILOGUE: Duration = Duration::from_secs(10);
/// How long the healed quorum may go without an acknowledged write.
pub const PROGRESS_BOUND: Duration = Duration::from_secs(6);

/// The world of the standard.
pub type Standard = World<Raft, Keys, Judge, Clients>;

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
    /// Whether leadership is handed about.
    pub transfers: bool,
    /// Whether members are demoted and promoted again.
    pub changes: bool,
    /// When transfers and changes end.
    pub until: Duration,
}

impl Scenario {
    /// The scenario of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(mix(seed ^ 0x7374_616e_6461_7264));
        let members = 5;
        let mut world = Settings::new(seed, members);
        let lease = (random.below(3) == 0).then(Lease::default);
        let raft = crate::raft::Settings {
            cluster: 1,
            snapshot_log_entries: 200 + random.below(300),
            retained_entries: random.below(100),
            chunk_bytes: 64 + random.below(512) as usize,
            // A lease of 30 ms wants beats three times as often.
            heartbeat_interval: Duration::from_millis(if lease.is_some() { 10 } else { 50 }),
            lease,
            ..crate::raft::Settings::default()
        };
        world.network.fifo = random.below(2) == 0;
        // Worlds differ in their tempo, too: what one never meets is common in another.
        let ms = Duration::from_millis;
        let pick = |random: &mut Random, of: [u64; 4]| of[random.below(4) as usize];
        let sync = Duration::from_micros(pick(&mut random, [100, 1_000, 5_000, 20_000]));
        world.disk.sync = Latency::new(sync / 4, sync);
        let latency = Duration::from_micros(pick(&mut random, [50, 200, 2_000, 10_000]));
        world.network.latency = Latency::new(latency, latency);
        let mut swarm = Swarm::new(members, HORIZON);
        swarm.interval = ms(pick(&mut random, [500, 1_500, 4_000, 8_000]));
        swarm.length = ms(pick(&mut random, [30, 200, 800, 2_000]));
        world.faults = swarm.draw(random.word());
        let clients = Workload {
            count: 3,
            interval: Duration::from_millis(30),
            keys: 10,
            timeout: Duration::from_millis(500),
            reads: 500,
            transfers: random.below(2) == 0,
            changes: random.below(2) == 0,
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

    /// The world itself.
    ///
    /// # Panics
    ///
    /// When the Raft settings cannot work.
    pub fn build(self) -> Standard {
        let raft = self.raft.clone();
        let factory = move |id| Raft::new(id, raft.clone()).expect("settings that work");
        let clients = Clients::new(&self);
        World::with(self.world, factory, Judge::new(), clients)
    }
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
pub fn finish(world: &mut Standard) -> Result<(), Failure> {
    world.run(HORIZON + EPILOGUE)?;
    world.finish(|judge, now| judge.progress.check(now))
}

//! The standard world of a store: clients that put, read, compare, queue for locks, watch, and let leases run out.

mod judge;
mod patrons;
mod plain;

use std::time::Duration;

use super::super::host::Host;
use super::super::medium::{Medium, Values};
use super::super::settings::Settings;
use super::super::trace::Fingerprint;
use super::super::world::{Failure, World};
use super::operator::{Operator, Orders};
use super::replicated::{LIMITS, Replicates};
use super::{EPILOGUE, HORIZON, PROGRESS_BOUND};
use crate::id::NodeId;
use crate::protocol::{Application, Protocol};
use crate::random::{Random, mix};
use crate::replica::{self, Event, Machine, Replica, Request, Shelf};
use crate::store::{Limits, Store};

pub use judge::{Counts, Judge};
pub use patrons::{Deed, Patrons};
pub use plain::Plain;

/// The world of a replicated store; with the number of a planted bug, of stores that have it.
pub type Stored<M = Values, const MUTANT: usize = 0> = World<Replica, Keeper<MUTANT>, Judge, Patrons, M>;

/// What differs from seed to seed, and may be changed before the world is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The world: its seed, network, disks, clocks and faults.
    pub world: Settings,
    /// The members.
    pub replica: replica::Settings,
    /// Who asks.
    pub clients: Clients,
    /// What the operator orders, until the horizon.
    pub orders: Option<Orders>,
}

/// Clients of a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Clients {
    /// How many. Each has one command or query under way, beside a watch and a renewal.
    pub count: u64,
    /// How many commands and queries they begin a second, in all.
    pub rate: f64,
    /// What they do, all alike often.
    pub deeds: Vec<Deed>,
    /// How many keys there are, beside those of locks.
    pub keys: u64,
    /// How many locks there are.
    pub locks: u64,
    /// How long a lease lives without being renewed.
    pub ttl: Duration,
    /// The deadline of each request; a client's patience is from a quarter of it to twice as long.
    pub timeout: Duration,
}

/// What a store of these worlds may hold: so little history that it is compacted all the time.
pub fn limits() -> Limits {
    Limits { revisions_max: 300, answer_bytes_max: 4 << 10, ..Limits::default() }
}

impl Scenario {
    /// The scenario of `seed`: the faults, the members and the operator of the bare one, and clients of its own.
    pub fn new(seed: u64) -> Self {
        let bare = super::Scenario::new(seed);
        let mut random = Random::new(mix(seed ^ 0x7374_6f72_6564_2121));
        let deeds = Deed::ALL.into_iter().filter(|deed| *deed == Deed::Put || random.below(8) < 6).collect();
        let ms = Duration::from_millis;
        let mut pick = |of: [u64; 4]| of[random.below(4) as usize];
        let clients = Clients {
            count: 4,
            rate: 80.0,
            deeds,
            keys: 8,
            locks: pick([1, 1, 2, 3]),
            ttl: ms(pick([400, 800, 1_500, 4_000])),
            timeout: ms(pick([200, 500, 500, 1_000])),
        };
        let grace = pick([0, 0, 30, 200]);
        let mut raft = bare.raft;
        if bare.world.network.latency.tail + bare.world.disk.sync.tail >= ms(10) {
            // A store's snapshots are larger than a few keys are, and each chunk waits for the one before: one that took
            // longer than the bound would leave a quorum without progress that needs it.
            raft.chunk_bytes *= 8;
        }
        let replica = replica::Settings {
            raft,
            grace: (grace > 0).then(|| ms(grace)),
            history: Some(ms(pick([1_000, 4_000, 20_000, 3_600_000]))),
            ..replica::Settings::default()
        };
        Self { world: bare.world, replica, clients, orders: Some(bare.clients.orders()) }
    }

    /// Whether progress is promised in the end.
    const fn is_live(&self) -> bool {
        self.replica.raft.pre_vote && self.replica.raft.check_quorum
    }

    /// The world itself.
    ///
    /// # Panics
    ///
    /// When the settings cannot work.
    pub fn build(self) -> Stored {
        self.build_over()
    }

    /// The world itself, over a medium, and with the bug of that number planted in its stores.
    ///
    /// # Panics
    ///
    /// When the settings cannot work.
    pub fn build_over<M: Medium<Replica>, const MUTANT: usize>(self) -> Stored<M, MUTANT> {
        self.build_of()
    }

    /// The same world, of other applications: for tests that plant a bug in one.
    ///
    /// # Panics
    ///
    /// When the settings cannot work.
    pub fn build_of<H, M>(self) -> World<Replica, H, Judge, Patrons, M>
    where
        H: Host<Replica> + AsRef<Machine<Store>>,
        M: Medium<Replica>,
    {
        let (seed, members) = (self.world.seed, self.world.members);
        let operator = self.orders.map(|orders| Operator::new(seed, members, orders));
        let patrons = Patrons::new(seed, members, self.clients.clone(), operator);
        // Elections, and clients who wait in vain, take their time.
        let patience = (self.replica.raft.election_timeout * 20).max(self.clients.timeout * 12);
        let judge = Judge::new(&self, PROGRESS_BOUND.max(patience));
        let settings = self.replica;
        let make = move |id| Replica::new(id, settings.clone()).expect("settings that work");
        World::with(self.world, make, judge, patrons)
    }
}

/// Runs the standard world of `seed` to its end.
pub fn run(seed: u64) -> Result<Stored, Failure> {
    let mut world = Scenario::new(seed).build();
    finish(&mut world)?;
    Ok(world)
}

/// Runs a standard world from its beginning to its end, and judges what can be judged only there.
pub fn finish<P, H, M>(world: &mut World<P, H, Judge, Patrons, M>) -> Result<(), Failure>
where
    P: Replicates + Fingerprint,
    H: Host<P> + AsRef<Machine<Store>>,
    M: Medium<P>,
{
    finish_within(world, HORIZON + EPILOGUE)
}

/// The same of a world that is given less time.
pub fn finish_within<P, H, M>(
    world: &mut World<P, H, Judge, Patrons, M>,
    length: Duration,
) -> Result<(), Failure>
where
    P: Replicates + Fingerprint,
    H: Host<P> + AsRef<Machine<Store>>,
    M: Medium<P>,
{
    world.run(length)?;
    world.finish(Judge::finish)
}

/// Runs a scenario for so long with the bug of that number planted in its stores; 0: none.
///
/// # Panics
///
/// When there is no bug of that number.
#[cfg(feature = "mutants")]
pub fn run_mutant(scenario: Scenario, mutant: usize, length: Duration) -> Result<(), Failure> {
    macro_rules! one_of {
        ($($number:literal)*) => {
            match mutant {
                $($number => finish_within(&mut scenario.build_over::<Values, $number>(), length),)*
                other => panic!("there is no bug of the number {other}"),
            }
        };
    }
    one_of!(0 1 2 3 4 5 6 7 8 9 10)
}

/// A store as an application in these worlds.
#[derive(Clone, Debug)]
pub struct Keeper<const MUTANT: usize = 0>(Machine<Store>);

impl<const MUTANT: usize> AsRef<Machine<Store>> for Keeper<MUTANT> {
    fn as_ref(&self) -> &Machine<Store> {
        &self.0
    }
}

impl<const MUTANT: usize, P: Protocol<Event = Event, Request = Request>> Application<P> for Keeper<MUTANT> {
    fn hear(&mut self, event: Event) -> Vec<Request> {
        self.0.hear(event)
    }
}

impl<const MUTANT: usize, P: Protocol<Event = Event, Request = Request>> Host<P> for Keeper<MUTANT> {
    type Disk = Shelf;

    fn open(id: NodeId, shelf: Shelf) -> Self {
        #[cfg_attr(not(feature = "mutants"), expect(unused_mut, reason = "bugs are planted"))]
        let mut limits = limits();
        #[cfg(feature = "mutants")]
        {
            limits.mutant = MUTANT.checked_sub(1).map(|place| crate::store::Mutant::ALL[place]);
        }
        Self(Machine::open(id, Store::new(limits), LIMITS, shelf))
    }

    fn crash(self, _random: &mut Random) -> Shelf {
        self.0.crash()
    }
}

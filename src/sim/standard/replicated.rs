//! The standard world of a replica: clients with sessions and time-outs at a key-value machine.

mod callers;
mod fingerprint;
mod judge;
mod model;

use std::time::Duration;

use super::super::clients::{ClientOperation, Clients};
use super::super::faults::Kind;
use super::super::host::Host;
use super::super::medium::{Medium, Values};
use super::super::settings::Settings;
use super::super::trace::Fingerprint;
use super::super::world::{Failure, World};
use super::operator::{Operator, Orders};
use super::{EPILOGUE, HORIZON, PROGRESS_BOUND, RaftInside, Told};
use crate::id::NodeId;
use crate::protocol::Protocol;
use crate::raft::{self, InvalidSetting, Position, Raft};
use crate::random::{Random, mix};
use crate::replica::{
    self, Answer, Error, Event, KeyValue, Limits, Machine, Message, Replica, Request, Sessions, Shelf,
    StateMachine,
};

pub use callers::Callers;
pub use judge::Judge;

/// The world of a replicated key-value machine.
pub type Replicated<M = Values> = World<Replica, Machine<KeyValue>, Judge, Callers, M>;

/// What sessions may hold in these worlds: so few that those of clients who come back late have expired.
pub const LIMITS: Limits = Limits { sessions_max: 8, results_max: 8192, result_bytes_max: 64 << 20 };

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

impl Scenario {
    /// The scenario of `seed`: the faults, the members and the operator of the bare one, and clients of its own.
    pub fn new(seed: u64) -> Self {
        let bare = super::Scenario::new(seed);
        let mut random = Random::new(mix(seed ^ 0x7265_706c_6963_6173));
        let mut operations = vec![ClientOperation::Put];
        for kind in ClientOperation::ALL.into_iter().skip(1) {
            // Most of what is promised needs sessions to be seen.
            let odds = if kind == ClientOperation::Session { 7 } else { 5 };
            if random.below(8) < odds {
                operations.push(kind);
            }
        }
        let replica = replica::Settings { raft: bare.raft, ..replica::Settings::default() };
        let insistence = [0, 24][random.below(2) as usize];
        let clients = Clients { operations, insistence, ..Clients::default() };
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
    pub fn build(self) -> Replicated {
        self.build_over()
    }

    /// The world itself, over a medium.
    ///
    /// # Panics
    ///
    /// When the settings cannot work.
    pub fn build_over<M: Medium<Replica>>(self) -> Replicated<M> {
        self.build_with(|id, settings| Replica::new(id, settings).expect("settings that work"))
    }

    /// The same world, of other members: for tests that plant a bug in one.
    pub fn build_with<P, H, M>(
        self,
        make: impl Fn(NodeId, replica::Settings) -> P + Send + 'static,
    ) -> World<P, H, Judge, Callers, M>
    where
        P: Replicates + Fingerprint,
        H: Host<P> + Applies,
        M: Medium<P>,
    {
        let (seed, members) = (self.world.seed, self.world.members);
        let operator = self.orders.map(|orders| Operator::new(seed, members, orders));
        let callers = Callers::new(seed, members, self.clients.clone(), operator);
        // Elections, and clients who wait in vain, take their time.
        let patience = (self.replica.raft.election_timeout * 20).max(self.clients.timeout * 12);
        let bound = PROGRESS_BOUND.max(patience);
        let judge = Judge::new(&self.clients, &self.world.faults, self.is_live(), bound);
        let settings = self.replica;
        World::with(self.world, move |id| make(id, settings.clone()), judge, callers)
    }
}

/// A world of a replicated key-value machine whose clients are `clients`. What breaks is in `settings`; when a heal is
/// planned, or nothing breaks at all, there must be progress from then on.
pub fn world(
    settings: Settings,
    replica: replica::Settings,
    clients: Clients,
) -> Result<Replicated, InvalidSetting> {
    replica.check()?;
    Ok(Scenario { world: settings, replica, clients, orders: None }.build())
}

/// Runs the standard world of `seed` to its end.
pub fn run(seed: u64) -> Result<Replicated, Failure> {
    let mut world = Scenario::new(seed).build();
    finish(&mut world)?;
    Ok(world)
}

/// Runs a standard world from its beginning to its end, and judges what can be judged only there: that there was
/// progress, and that nobody was left without an answer.
pub fn finish<P, H, M>(world: &mut World<P, H, Judge, Callers, M>) -> Result<(), Failure>
where
    P: Replicates + Fingerprint,
    H: Host<P> + Applies,
    M: Medium<P>,
{
    finish_within(world, HORIZON + EPILOGUE)
}

/// The same of a world that is given less time.
pub fn finish_within<P, H, M>(
    world: &mut World<P, H, Judge, Callers, M>,
    length: Duration,
) -> Result<(), Failure>
where
    P: Replicates + Fingerprint,
    H: Host<P> + Applies,
    M: Medium<P>,
{
    world.run(length)?;
    world.finish(Judge::finish)
}

/// A replica, or one that a test has put into a disguise.
pub trait Replicates: RaftInside<Event = Event, Request = Request, Answer = Answer, Error = Error> {}

impl<P: RaftInside<Event = Event, Request = Request, Answer = Answer, Error = Error>> Replicates for P {}

impl RaftInside for Replica {
    fn raft(&self) -> &Raft {
        self.raft()
    }

    fn inner_message(message: &Message) -> Option<&raft::Message> {
        match message {
            Message::Raft(message) => Some(message),
            _ => None,
        }
    }

    fn told(event: &Event) -> Told<'_> {
        match event {
            Event::Apply { entries, .. } => Told::Applies(entries),
            Event::Restore(snapshot) => Told::Restores(snapshot),
            Event::Install(snapshot) => Told::Installs(snapshot),
            Event::Membership(index, membership) => Told::Changes(*index, membership),
            Event::Halted(why) => Told::Halts(why),
            _ => Told::Nothing,
        }
    }
}

/// A member's application, as far as it is judged.
pub trait Applies {
    /// The last entry that was applied.
    fn applied(&self) -> Position;

    /// The state.
    fn values(&self) -> &KeyValue;

    /// The sessions.
    fn sessions(&self) -> &Sessions;
}

impl<S: StateMachine + AsRef<KeyValue>> Applies for Machine<S> {
    fn applied(&self) -> Position {
        self.applied()
    }

    fn values(&self) -> &KeyValue {
        self.state().as_ref()
    }

    fn sessions(&self) -> &Sessions {
        self.sessions()
    }
}

impl<P, S> Host<P> for Machine<S>
where
    P: Protocol,
    Self: crate::protocol::Application<P>,
    S: StateMachine + Default,
{
    type Disk = Shelf;

    fn open(id: NodeId, shelf: Shelf) -> Self {
        Self::open(id, S::default(), LIMITS, shelf)
    }

    fn crash(self, _random: &mut Random) -> Shelf {
        self.crash()
    }
}

/// From when on there must be progress by this plan, and whose.
pub(super) fn heals(plan: &super::super::faults::Plan) -> (Option<Duration>, Vec<NodeId>) {
    let heal = plan.faults.iter().find_map(|fault| match &fault.kind {
        Kind::Heal { core } => Some((fault.start.since(crate::time::Instant::ZERO), core.clone())),
        _ => None,
    });
    match heal {
        Some((start, core)) => (Some(start), core),
        None if plan.faults.is_empty() => (Some(Duration::ZERO), Vec::new()),
        None => (None, Vec::new()),
    }
}

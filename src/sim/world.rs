//! The world: one thread, one queue, virtual time.

mod breakage;
mod effects;
mod lives;
mod run;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::clock::Clock;
use super::faults::{Fault, Kind, Plan};
use super::host::{Deaf, Host, Load, Watch, Wish};
use super::latency::{Draw, nanos};
use super::medium::{Medium, Values};
use super::network::Fabric;
use super::process::{Alarms, DiskState, Process};
use super::queue::Queue;
use super::settings::Settings;
use super::statistics::Statistics;
use super::trace::{Digest, Fingerprint, Trace, Verb};
use crate::check::Violation;
use crate::id::{NodeId, RequestId};
use crate::protocol::{Link, Outbox, Protocol};
use crate::random::{GOLDEN, Random, mix};
use crate::time::Instant;

/// Simulated processes that run `P` with the application `H`, watched by `W`, asked by `L`, over the medium `M`.
///
/// The same settings give the same world, event by event, on every platform.
pub struct World<P: Fingerprint, H: Host<P> = Deaf, W = (), L = (), M: Medium<P> = Values> {
    seed: u64,
    now: u64,
    step: u64,
    queue: Queue<Cell<P, M>>,
    processes: Vec<Process<P, H, M, Cell<P, M>>>,
    clocks: Vec<Clock>,
    fabric: Fabric,
    plan: Plan,
    /// Faults in force whose targets only the moment told, by their place in the plan.
    aimed: BTreeMap<usize, Kind>,
    sync: Draw,
    apply: Draw,
    /// Processes look for inputs at times that leave `phases[node]` under this mask.
    poll_mask: u64,
    phases: Vec<u64>,
    batch_max: u64,
    hints: bool,
    factory: Box<dyn FnMut(NodeId) -> P + Send>,
    watch: W,
    load: L,
    wishes: Vec<Wish<P>>,
    /// One byte a request: who asked, and whether it was answered.
    requests: Vec<u8>,
    host_requests: u64,
    answers: BTreeMap<RequestId, Result<P::Answer, P::Error>>,
    outbox: Outbox<P>,
    digest: Digest,
    trace: Trace,
    statistics: Statistics,
    failure: Option<Failure>,
    begun: bool,
}

/// What was violated, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, step {step}, {:?} after the start, {node:?}: {violation}", at.since(Instant::ZERO))]
pub struct Failure {
    /// The world.
    pub seed: u64,
    /// How many inputs had been handled.
    pub step: u64,
    /// When.
    pub at: Instant,
    /// At whose doing it was noticed.
    pub node: NodeId,
    /// What.
    pub violation: Violation,
}

/// Something to come, and whom it befalls.
struct Cell<P: Protocol, M: Medium<P>> {
    node: u32,
    pending: Pending<P, M>,
}

/// No process in particular.
const WORLD: u32 = u32::MAX;

enum Pending<P: Protocol, M: Medium<P>> {
    Message { from: u32, sent: u64, parcel: M::Parcel },
    Own { life: u32, message: P::Message },
    Expire { life: u32, timer: P::Timer, generation: u32 },
    Request { id: RequestId, request: P::Request },
    Applied { life: u32, id: RequestId, request: P::Request },
    Hint { peer: u32, link: Link },
    Synced { life: u32, count: u64 },
    Start,
    Crash { life: u32 },
    Begin(u32),
    End(u32),
    Wake(u64),
}

/// Ids from here on are the applications' requests.
const HOST: u64 = 1 << 63;
/// What a byte of `requests` says: that it came by [`World::request`], and that it was answered.
const DIRECT: u8 = 1;
const ANSWERED: u8 = 4;

/// What each stream of random words is for. Each is keyed by the world's seed, one of these, and whom it befalls.
#[derive(Clone, Copy)]
enum Stream {
    Links = 1,
    Disk,
    Batches,
    Hints,
    Machine,
    Crash,
    Clock,
    Phase,
    Fault,
    Inbox,
    Aim,
    Journal,
    Recovery,
}

fn stream(seed: u64, stream: Stream, key: u64) -> Random {
    let word = mix(seed ^ (stream as u64).wrapping_mul(GOLDEN));
    Random::new(mix(word ^ key.wrapping_mul(0xd6e8_feb8_6659_fd93))).split()
}

fn process<P: Protocol, H: Host<P>, M: Medium<P>, I>(seed: u64, index: u64) -> Process<P, H, M, I> {
    Process {
        id: NodeId(index + 1),
        life: 0,
        alive: None,
        host_disk: H::Disk::default(),
        alarms: Alarms::new(),
        journal: M::journal(stream(seed, Stream::Journal, index).word()),
        disk: DiskState::new(stream(seed, Stream::Disk, index)),
        promises: VecDeque::new(),
        applied: 0,
        batches: stream(seed, Stream::Batches, index),
        hints: stream(seed, Stream::Hints, index),
        pauses: 0,
        inbox: Vec::new(),
        downs: 0,
        doomed: None,
        healed: false,
        damaged: false,
        part: None,
    }
}

fn clock(settings: &Settings, index: u64) -> Clock {
    let mut random = stream(settings.seed, Stream::Clock, index);
    let mut clock = Clock::new(random.below(nanos(settings.clock.skew_max).saturating_add(1)));
    let bound = settings.clock.drift_ppm_max.clamp(0, 900_000);
    clock.set_drift(0, random.below(2 * bound as u64 + 1) as i64 - bound);
    clock
}

impl<P: Fingerprint> World<P> {
    /// A world of bare machines.
    pub fn new(settings: Settings, factory: impl FnMut(NodeId) -> P + Send + 'static) -> Self {
        Self::with(settings, factory, (), ())
    }
}

impl<P, H, W, L, M> World<P, H, W, L, M>
where
    P: Fingerprint,
    H: Host<P>,
    W: Watch<P, H>,
    L: Load<P>,
    M: Medium<P>,
{
    /// A world with applications, a watcher, somebody who asks, and a medium.
    pub fn with(
        settings: Settings,
        factory: impl FnMut(NodeId) -> P + Send + 'static,
        watch: W,
        load: L,
    ) -> Self {
        let seed = settings.seed;
        let members = settings.members as usize;
        let poll = nanos(settings.poll).checked_next_power_of_two().unwrap_or(1);
        let poll_mask = if settings.poll.is_zero() { 0 } else { poll - 1 };
        let mut world = Self {
            seed,
            now: 0,
            step: 0,
            queue: Queue::new(),
            processes: (0..members as u64).map(|index| process(seed, index)).collect(),
            clocks: (0..members as u64).map(|index| clock(&settings, index)).collect(),
            fabric: Fabric::new(&settings.network, members, stream(seed, Stream::Links, 0)),
            plan: Plan::none(),
            aimed: BTreeMap::new(),
            sync: settings.disk.sync.into(),
            apply: settings.apply.into(),
            poll_mask,
            phases: (0..members as u64).map(|index| stream(seed, Stream::Phase, index).word()).collect(),
            batch_max: settings.batch_max.max(1),
            hints: settings.network.hints,
            factory: Box::new(factory),
            watch,
            load,
            wishes: Vec::new(),
            requests: Vec::new(),
            host_requests: 0,
            answers: BTreeMap::new(),
            outbox: Outbox::new(),
            digest: Digest::default(),
            trace: Trace::new(settings.trace_rows, settings.record),
            statistics: Statistics::default(),
            failure: None,
            begun: false,
        };
        for node in 0..members {
            world.push(0, node, Pending::Start);
        }
        for fault in settings.faults.faults {
            world.inject(fault);
        }
        world
    }

    /// Runs for this long, or until something is violated.
    pub fn run(&mut self, length: Duration) -> Result<(), Failure> {
        let end = self.now.saturating_add(nanos(length));
        while self.failure.is_none() && self.advance(end) {}
        if self.failure.is_none() {
            self.now = end;
        }
        self.check()
    }

    /// Runs until `done`, for at most this long; tells whether it was done. Stops when something is violated.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, Failure> {
        let end = self.now.saturating_add(nanos(limit));
        while self.failure.is_none() {
            if done(self) {
                return Ok(true);
            }
            if !self.advance(end) {
                self.now = end;
                return Ok(done(self));
            }
        }
        self.check().map(|()| false)
    }

    /// Lets the next thing happen. False when nothing is to come, or something was violated.
    pub fn step(&mut self) -> bool {
        self.failure.is_none() && self.advance(u64::MAX)
    }

    /// Lets the next thing happen, when it happens within `length` of the beginning of the world.
    pub fn step_within(&mut self, length: Duration) -> bool {
        self.failure.is_none() && self.advance(nanos(length))
    }

    /// Whether everything that was watched has held so far.
    pub fn check(&self) -> Result<(), Failure> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Asks the watcher for a last word.
    pub fn finish(&mut self, last: impl FnOnce(&W, Instant) -> Result<(), Violation>) -> Result<(), Failure> {
        let verdict = last(&self.watch, Instant::from_nanos(self.now));
        if verdict.is_err() {
            self.judge(0, verdict);
        }
        self.check()
    }

    /// Asks `node` now. [`World::answer`] has the answer when it has come.
    pub fn request(&mut self, node: NodeId, request: P::Request) -> RequestId {
        self.requests.push(DIRECT);
        let id = RequestId(self.requests.len() as u64 - 1);
        if let Some(index) = self.index(node) {
            self.asked(index, id, request);
        }
        id
    }

    /// The answer to a request of [`World::request`].
    pub fn answer(&self, id: RequestId) -> Option<&Result<P::Answer, P::Error>> {
        self.answers.get(&id)
    }

    /// Adds a fault; one that should have begun begins now.
    pub fn inject(&mut self, fault: Fault) {
        let place = self.plan.faults.len() as u32;
        self.queue
            .push(fault.start.as_nanos().max(self.now), Cell { node: WORLD, pending: Pending::Begin(place) });
        if fault.end() < Instant::NEVER {
            self.queue.push(
                fault.end().as_nanos().max(self.now),
                Cell { node: WORLD, pending: Pending::End(place) },
            );
        }
        self.plan.push(fault);
    }

    /// Breaks something from now on, for `length`.
    pub fn strike(&mut self, length: Duration, kind: Kind) {
        self.inject(Fault::new(Instant::from_nanos(self.now) - Instant::ZERO, length, kind));
    }

    /// Crashes `node` now, between two inputs.
    pub fn crash(&mut self, node: NodeId) {
        if let Some(index) = self.index(node) {
            self.end_life(index);
        }
    }

    /// Starts `node` again, when it is down.
    pub fn restart(&mut self, node: NodeId) {
        if let Some(index) = self.index(node) {
            self.processes[index].downs = 0;
            self.begin_life(index);
        }
    }

    /// Lets `node` stand still until [`World::go_on`]; what arrives waits.
    pub fn pause(&mut self, node: NodeId) {
        if let Some(index) = self.index(node) {
            let kind = Kind::Pause { node };
            self.jot(Verb::Begin, None, Some(node), kind.number() as u64, None, || format!("{kind:?}"));
            self.afflict(index, &kind);
        }
    }

    /// Ends a pause.
    pub fn go_on(&mut self, node: NodeId) {
        if let Some(index) = self.index(node) {
            let kind = Kind::Pause { node };
            if self.processes[index].pauses > 0 {
                self.jot(Verb::End, None, Some(node), kind.number() as u64, None, || format!("{kind:?}"));
            }
            self.relieve(index, &kind, self.step);
        }
    }

    /// Separates these from all others until [`World::heal`].
    pub fn partition(&mut self, side: &[NodeId]) {
        self.cut(Kind::Partition { side: side.to_vec() });
    }

    /// Breaks this now, until [`World::heal`], which ends partitions of any kind.
    pub fn cut(&mut self, kind: Kind) {
        let place = self.plan.faults.len();
        self.plan.push(Fault::new(Instant::from_nanos(self.now) - Instant::ZERO, Fault::FOR_EVER, kind));
        self.begin_fault(place);
    }

    /// Ends all partitions that never end by themselves.
    pub fn heal(&mut self) {
        for place in 0..self.plan.faults.len() {
            let fault = &mut self.plan.faults[place];
            let parts =
                matches!(fault.kind, Kind::Partition { .. } | Kind::OneWay { .. } | Kind::Bridge { .. });
            if parts && fault.start.as_nanos() <= self.now && fault.end() == Instant::NEVER {
                fault.length = Instant::from_nanos(self.now) - fault.start;
                self.end_fault(place);
            }
        }
    }

    /// How many inputs were handled: calls of a verb, `flush` not counted.
    pub const fn steps(&self) -> u64 {
        self.step
    }

    /// The seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The world's time.
    pub const fn now(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    /// What the clock of `node` shows.
    pub fn clock(&mut self, node: NodeId) -> Instant {
        let now = self.now;
        self.index(node).map_or(Instant::from_nanos(now), |index| self.clocks[index].read(now))
    }

    /// All processes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + Clone + use<P, H, W, L, M> {
        (1..=self.processes.len() as u64).map(NodeId)
    }

    /// The machine of `node`, unless it is down.
    pub fn machine(&self, node: NodeId) -> Option<&P> {
        self.processes.get(self.index(node)?)?.alive.as_ref().map(|(machine, _)| machine)
    }

    /// The application of `node`, unless it is down.
    pub fn host(&self, node: NodeId) -> Option<&H> {
        self.processes.get(self.index(node)?)?.alive.as_ref().map(|(_, host)| host)
    }

    /// Who watches.
    pub const fn watch(&self) -> &W {
        &self.watch
    }

    /// Who watches, to be told what to expect.
    pub const fn watch_mut(&mut self) -> &mut W {
        &mut self.watch
    }

    /// Who asks.
    pub const fn load(&self) -> &L {
        &self.load
    }

    /// A digest of all that has happened: equal for equal worlds.
    pub const fn digest(&self) -> u64 {
        self.digest.word()
    }

    /// The last things that happened; all, when the settings say so.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(super) const fn keep_effects(&mut self) {
        self.trace.keep_effects();
    }

    /// What was counted.
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// What breaks, with what was added by hand.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How much is to come.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    fn index(&self, node: NodeId) -> Option<usize> {
        let index = usize::try_from(node.0.wrapping_sub(1)).ok()?;
        (index < self.processes.len()).then_some(index)
    }
}

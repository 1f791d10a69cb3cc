//! `coterie.sim` over `crate::sim`: worlds that Python makes, runs and looks at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::process::{
    Asked, Beside, Member, Process, Said, Shared, is_error, read_request, show_answer, told,
};
use super::raft::RaftNode;
use super::watcher::Watcher;
use super::words::{Word, class, instant, seconds_of, span};
use super::{errors, guard};
use crate::check::Violation;
use crate::id::{NodeId, RequestId};
use crate::raft::{self, Membership, Raft, Role};
use crate::random::mix;
use crate::replica::{self, Replica};
use crate::sim::standard::replicated::{Replicated, Scenario};
use crate::sim::standard::{Keys, Orders};
use crate::sim::{
    Bytes, ClientOperation, Clients, Failure, Fault, Kind, Part, Plan, Row, Settings, Statistics, Swarm,
    Trace, Verb, World,
};
use crate::time::Instant;

/// Why a request is refused in a world with clients.
const NOT_OF_CLIENTS: &str =
    "in a world with clients, they propose and read: ask for a Transfer, a Change or a Campaign";

/// How many steps a world takes before it looks whether somebody pressed Ctrl-C: some 20 ms, natively.
const SLICE: u32 = 20_000;
/// The same where steps may be Python's.
const SLICE_OF_PYTHON: u32 = 1_000;

/// A world of one of three kinds: the first two never call Python.
enum Kinds {
    /// Raft alone.
    Bare(Box<World<Raft, Keys, Watcher>>),
    /// A replicated key-value machine with clients, under all judges.
    Standard(Box<Replicated>),
    /// The same two through frames and journals.
    BareBytes(Box<World<Raft, Keys, Watcher, (), Bytes>>),
    StandardBytes(Box<Replicated<Bytes>>),
    /// With processes in Python.
    Mixed(Box<World<Member, Beside, Watcher>>),
}

macro_rules! each {
    ($kinds:expr, $world:ident => $body:expr) => {
        match $kinds {
            Kinds::Bare($world) => $body,
            Kinds::Standard($world) => $body,
            Kinds::BareBytes($world) => $body,
            Kinds::StandardBytes($world) => $body,
            Kinds::Mixed($world) => $body,
        }
    };
}

impl Kinds {
    /// Lets things happen until `end`, a slice of them. Whether there may be more.
    fn slice(&mut self, end: Instant, shared: &Shared) -> bool {
        let length = end - Instant::ZERO;
        let steps = if matches!(self, Self::Mixed(_)) { SLICE_OF_PYTHON } else { SLICE };
        each!(self, world => {
            for _ in 0..steps {
                if shared.has_failed() || !world.step_within(length) {
                    return false;
                }
            }
            true
        })
    }

    /// Moves the clock to `end`, where nothing more is due before it.
    fn arrive(&mut self, end: Instant) {
        each!(self, world => {
            let left = end - world.now();
            // What was violated is asked for elsewhere.
            let _ = world.run(left);
        });
    }

    fn failure(&self) -> Option<Failure> {
        each!(self, world => world.check().err())
    }

    fn trace(&self) -> &Trace {
        each!(self, world => world.trace())
    }

    fn statistics(&self) -> &Statistics {
        each!(self, world => world.statistics())
    }

    fn now(&self) -> Instant {
        each!(self, world => world.now())
    }

    fn plan(&self) -> &Plan {
        each!(self, world => world.plan())
    }

    fn native(&self, node: NodeId) -> Option<&Raft> {
        match self {
            Self::Bare(world) => world.machine(node),
            Self::Standard(world) => world.machine(node).map(Replica::raft),
            Self::BareBytes(world) => world.machine(node),
            Self::StandardBytes(world) => world.machine(node).map(Replica::raft),
            Self::Mixed(world) => match world.machine(node)? {
                Member::Native(machine) => Some(machine),
                Member::Python(_) | Member::Absent => None,
            },
        }
    }

    fn leader(&self, members: u64) -> Option<NodeId> {
        match self {
            Self::Bare(world) => world.watch().leader(),
            Self::BareBytes(world) => world.watch().leader(),
            Self::Mixed(world) => world.watch().leader(),
            Self::Standard(_) | Self::StandardBytes(_) => (1..=members)
                .map(NodeId)
                .filter_map(|node| self.native(node))
                .filter(|machine| machine.role() == Role::Leader)
                .max_by_key(|machine| machine.term())
                .map(Raft::id),
        }
    }

    /// A quorum is whole from `at` on: clients expect progress.
    fn expect_progress(&mut self, at: Instant) {
        match self {
            Self::Standard(world) => world.watch_mut().progress.expect_from(at),
            Self::StandardBytes(world) => world.watch_mut().progress.expect_from(at),
            _ => {}
        }
    }
}

/// The compiled half of `coterie.sim.World`.
#[pyclass(frozen, subclass, module = "coterie._coterie")]
pub(super) struct SimWorld {
    /// `None` while a thread runs it.
    world: Mutex<Option<Kinds>>,
    shared: Arc<Shared>,
    /// One reference for this and for the world, so that the garbage collector sees all that there are.
    factory: Arc<Py<PyAny>>,
    members: u64,
    seed: u64,
    native: bool,
}

/// What clients do: how many, seconds between the operations of one, keys, seconds until they give up, the share of
/// reads, whether they transfer leadership and change the membership, and until when.
type ClientArguments = (u64, f64, Vec<String>, u64, f64, (bool, bool));

#[pymethods]
impl SimWorld {
    #[new]
    #[pyo3(signature = (factory, *, members, seed, faults, clients, record, through_bytes, trace_rows, membership, settings))]
    #[expect(clippy::too_many_arguments, reason = "one for each setting, by name")]
    fn new(
        py: Python<'_>,
        factory: Py<PyAny>,
        members: u64,
        seed: u64,
        faults: &Bound<'_, PyAny>,
        clients: Option<ClientArguments>,
        record: bool,
        through_bytes: bool,
        trace_rows: usize,
        membership: &Bound<'_, PyAny>,
        settings: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        guard::shielded(|| {
            let mut world = world_settings(seed, members, settings)?;
            world.faults = Plan::new(Vec::<Fault>::read(faults)?);
            (world.record, world.trace_rows) = (record, trace_rows);
            let membership = Option::<Membership>::read(membership)?
                .unwrap_or_else(|| Membership::of((1..=members).map(NodeId)));
            let (shared, factory) = (Shared::new(), Arc::new(factory));
            let first = first_members(py, &factory, members, &shared)?;
            let native = first.values().any(|member| matches!(member, Made::Native(_)));
            let kinds = match clients {
                Some(arguments) => standard(world, &first, arguments, through_bytes)?,
                None if first.values().all(|member| matches!(member, Made::Native(_))) => {
                    bare(world, &first, through_bytes)
                }
                None if through_bytes => {
                    return Err(errors::ConfigError::new_err(
                        "fidelity: processes in Python run by \"values\"; what they say is encoded as they say it",
                    ));
                }
                None => mixed(world, first, &factory, &shared),
            };
            let mut kinds = kinds;
            if native {
                bootstrap(&mut kinds, members, &membership);
            }
            Ok(Self { world: Mutex::new(Some(kinds)), shared, factory, members, seed, native })
        })
    }

    /// Runs until `end`, in seconds since the beginning; looks up for Ctrl-C now and then.
    fn _run(&self, py: Python<'_>, end: f64) -> PyResult<()> {
        guard::shielded(|| {
            let end = instant(end)?;
            let mut kinds = self.take(py)?;
            // A panic drops the world, and whoever comes next is told that it is not there.
            let ran = self.drive(py, &mut kinds, end);
            let failed = ran.and_then(|()| self.verdict(py, &kinds));
            self.give_back(py, kinds)?;
            failed
        })
    }

    /// Raises what was violated, or what a process has raised.
    fn _check(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| {
            let now = self.with(py, |kinds| {
                // Whether it has been long enough is asked only where somebody waits.
                let _ = match kinds {
                    Kinds::Standard(world) => world.finish(|judge, now| judge.progress.check(now)),
                    Kinds::StandardBytes(world) => world.finish(|judge, now| judge.progress.check(now)),
                    _ => Ok(()),
                };
                kinds.failure().map(|failure| (failure, Told::of(kinds.trace())))
            })?;
            self.raise(py, now)
        })
    }

    fn _inject(&self, py: Python<'_>, faults: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| {
            let faults = Vec::<Fault>::read(faults)?;
            self.with(
                py,
                |kinds| each!(kinds, world => faults.into_iter().for_each(|fault| world.inject(fault))),
            )
        })
    }

    /// From then on a quorum is whole.
    fn _expect_progress(&self, py: Python<'_>, at: f64) -> PyResult<()> {
        guard::shielded(|| {
            let at = instant(at)?;
            self.with(py, |kinds| kinds.expect_progress(at))
        })
    }

    /// Does something to the member: "crash", "restart", "pause" or "resume".
    fn _act(&self, py: Python<'_>, verb: &str, node: u64) -> PyResult<()> {
        guard::shielded(|| {
            let node = NodeId(node);
            let mut kinds = self.take(py)?;
            // A new life may be one of Python's, so this is done without the lock, too.
            py.detach(|| {
                each!(&mut kinds, world => match verb {
                    "crash" => world.crash(node),
                    "restart" => world.restart(node),
                    "pause" => world.pause(node),
                    _ => world.go_on(node),
                });
            });
            let verdict = self.verdict(py, &kinds);
            self.give_back(py, kinds)?;
            verdict
        })
    }

    fn _partition(&self, py: Python<'_>, side: Vec<u64>, other: Option<Vec<u64>>) -> PyResult<()> {
        guard::shielded(|| {
            let ids = |ids: Vec<u64>| ids.into_iter().map(NodeId).collect::<Vec<_>>();
            let kind = match other {
                None => Kind::Partition { side: ids(side) },
                Some(other) => Kind::Bridge { left: ids(side), right: ids(other) },
            };
            self.with(py, |kinds| each!(kinds, world => world.cut(kind)))
        })
    }

    fn _heal(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| self.with(py, |kinds| each!(kinds, world => world.heal())))
    }

    fn _request(&self, py: Python<'_>, node: u64, request: &Bound<'_, PyAny>) -> PyResult<u64> {
        guard::shielded(|| {
            let node = NodeId(node);
            let said = read_request(&self.shared.classes, request)?;
            let asked = self.with(py, |kinds| match (kinds, said) {
                (Kinds::Mixed(world), said) => Ok(world.request(node, said)),
                (Kinds::Bare(world), Said::Native(Asked(request))) => Ok(world.request(node, request)),
                (Kinds::BareBytes(world), Said::Native(Asked(request))) => Ok(world.request(node, request)),
                (Kinds::Standard(world), Said::Native(Asked(request))) => {
                    of_replica(request).map(|request| world.request(node, request)).ok_or(NOT_OF_CLIENTS)
                }
                (Kinds::StandardBytes(world), Said::Native(Asked(request))) => {
                    of_replica(request).map(|request| world.request(node, request)).ok_or(NOT_OF_CLIENTS)
                }
                (_, Said::Value(_)) => Err("this is no request to Raft: see coterie.raft.requests"),
            })?;
            asked.map(|id| id.0).map_err(PyTypeError::new_err)
        })
    }

    /// The answer to a request: a value and an error, one of them None; None while there is no answer.
    fn _answer<'py>(
        &self,
        py: Python<'py>,
        id: u64,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        guard::shielded(|| {
            let id = RequestId(id);
            let native = |answer: &Result<raft::Answer, raft::Error>| {
                answer.clone().map(Said::Native).map_err(Said::Native)
            };
            let answer = self.with(py, |kinds| match kinds {
                Kinds::Bare(world) => world.answer(id).map(native),
                Kinds::BareBytes(world) => world.answer(id).map(native),
                Kinds::Standard(world) => world.answer(id).map(|answer| native(&of_raft(answer))),
                Kinds::StandardBytes(world) => world.answer(id).map(|answer| native(&of_raft(answer))),
                Kinds::Mixed(world) => world.answer(id).cloned(),
            })?;
            answer.map(|answer| show_answer(py, &self.shared.classes, &answer)).transpose()
        })
    }

    /// A member: the status of a native one, the object of one in Python, None when it is down.
    fn _node<'py>(&self, py: Python<'py>, node: u64) -> PyResult<Bound<'py, PyAny>> {
        guard::shielded(|| {
            let node = NodeId(node);
            let (status, object) = self.with(py, |kinds| {
                let object = match kinds {
                    Kinds::Mixed(world) => match world.machine(node) {
                        Some(Member::Python(process)) => Some(process.object().clone_ref(py)),
                        _ => None,
                    },
                    _ => None,
                };
                (kinds.native(node).map(Raft::status), object)
            })?;
            object.map_or_else(|| status.show(py), |object| Ok(object.into_bound(py)))
        })
    }

    /// The log of a native member, a tuple of runs; None when it is down.
    fn _log<'py>(&self, py: Python<'py>, node: u64) -> PyResult<Bound<'py, PyAny>> {
        guard::shielded(|| {
            let runs = self.with(py, |kinds| {
                kinds.native(NodeId(node)).map(|machine| machine.runs().cloned().collect::<Vec<_>>())
            })?;
            runs.show(py)
        })
    }

    #[getter]
    fn _leader(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        guard::shielded(|| Ok(self.with(py, |kinds| kinds.leader(self.members))?.map(|node| node.0)))
    }

    /// What the clock of a member shows.
    fn _clock(&self, py: Python<'_>, node: u64) -> PyResult<f64> {
        guard::shielded(|| {
            Ok(seconds_of(self.with(py, |kinds| each!(kinds, world => world.clock(NodeId(node))))?))
        })
    }

    #[getter]
    fn _now(&self, py: Python<'_>) -> PyResult<f64> {
        guard::shielded(|| Ok(seconds_of(self.with(py, |kinds| kinds.now())?)))
    }

    #[getter]
    fn _digest(&self, py: Python<'_>) -> PyResult<String> {
        guard::shielded(|| {
            Ok(format!("{:016x}", self.with(py, |kinds| each!(&*kinds, world => world.digest()))?))
        })
    }

    #[getter]
    fn _steps(&self, py: Python<'_>) -> PyResult<u64> {
        guard::shielded(|| self.with(py, |kinds| each!(&*kinds, world => world.steps())))
    }

    #[getter]
    fn _faults<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guard::shielded(|| self.with(py, |kinds| kinds.plan().faults.clone())?.show(py))
    }

    #[getter]
    fn _statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guard::shielded(|| {
            let (counts, steps) =
                self.with(py, |kinds| (kinds.statistics().clone(), each!(&*kinds, world => world.steps())))?;
            let table = PyDict::new(py);
            for (name, count) in [
                ("steps", steps),
                ("batches", counts.batches),
                ("sent", counts.sent),
                ("delivered", counts.delivered),
                ("lost", counts.lost),
                ("duplicated", counts.duplicated),
                ("corrupted", counts.corrupted),
                ("astray", counts.astray),
                ("records", counts.records),
                ("syncs", counts.syncs),
                ("requests", counts.requests),
                ("answers", counts.answers),
                ("events", counts.events),
                ("starts", counts.starts),
                ("crashes", counts.crashes),
                ("damaged", counts.damaged),
            ] {
                table.set_item(name, count)?;
            }
            let faults = PyDict::new(py);
            for (name, count) in counts.faults_by_name().filter(|(_, count)| *count > 0) {
                faults.set_item(name, count)?;
            }
            table.set_item("faults", faults)?;
            Ok(table)
        })
    }

    /// The trace, a `coterie.sim.Trace`.
    #[getter]
    fn _trace<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        guard::shielded(|| {
            let (told, failure) = self.with(py, |kinds| (Told::of(kinds.trace()), kinds.failure()))?;
            told.show(py, failure.as_ref())
        })
    }

    #[getter]
    fn _members(&self) -> u64 {
        self.members
    }

    #[getter]
    fn _seed(&self) -> u64 {
        self.seed
    }

    #[getter]
    fn _is_raft(&self) -> bool {
        self.native
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.factory)?;
        guard::collecting(&self.world, |world| {
            let Some(Kinds::Mixed(world)) = world else { return Ok(()) };
            for node in world.nodes() {
                if let Some(Member::Python(process)) = world.machine(node) {
                    visit.call(process.object())?;
                }
            }
            Ok(())
        })
    }
}

impl SimWorld {
    /// Takes the world out, to run it without the lock: processes in Python may look at it meanwhile, and are told.
    fn take(&self, py: Python<'_>) -> PyResult<Kinds> {
        guard::attached(py, &self.world, Option::take)?.ok_or_else(running)
    }

    fn give_back(&self, py: Python<'_>, kinds: Kinds) -> PyResult<()> {
        guard::attached(py, &self.world, |world| *world = Some(kinds))
    }

    /// A short look; no Python code runs in it.
    fn with<R>(&self, py: Python<'_>, look: impl FnOnce(&mut Kinds) -> R) -> PyResult<R> {
        guard::attached(py, &self.world, |world| world.as_mut().map(look))?.ok_or_else(running)
    }

    fn drive(&self, py: Python<'_>, kinds: &mut Kinds, end: Instant) -> PyResult<()> {
        loop {
            let more = py.detach(|| kinds.slice(end, &self.shared));
            if !more {
                if !self.shared.has_failed() && kinds.failure().is_none() {
                    py.detach(|| kinds.arrive(end));
                }
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    fn verdict(&self, py: Python<'_>, kinds: &Kinds) -> PyResult<()> {
        let failure = kinds.failure();
        let failed = failure.is_some() || self.shared.has_failed();
        if !failed {
            return Ok(());
        }
        let (step, at, seed) = (each!(kinds, world => world.steps()), kinds.now(), self.seed);
        let trace = Told::of(kinds.trace());
        if let Some(raised) = self.shared.failure(py)? {
            let violation = Violation::new(
                "no process raises",
                format!("process {} raised {} in {}()", raised.node, raised.error, raised.verb),
            );
            let failure = Failure { seed, step, at, node: raised.node, violation };
            if !is_error(py, &raised.error) {
                return Err(self.shared.stop(raised));
            }
            return Err(violated(py, &failure, trace, Some(raised.error)));
        }
        failure.map_or(Ok(()), |failure| Err(violated(py, &failure, trace, None)))
    }

    fn raise(&self, py: Python<'_>, failure: Option<(Failure, Told)>) -> PyResult<()> {
        if self.shared.has_failed() {
            let kinds = self.take(py)?;
            let verdict = self.verdict(py, &kinds);
            self.give_back(py, kinds)?;
            return verdict;
        }
        failure.map_or(Ok(()), |(failure, trace)| Err(violated(py, &failure, trace, None)))
    }
}

fn running() -> PyErr {
    errors::StoppedError::new_err(
        "this world is being run by another call, or was dropped when a call failed",
    )
}

/// `InvariantViolated`, with its fields.
fn violated(py: Python<'_>, failure: &Failure, trace: Told, cause: Option<PyErr>) -> PyErr {
    let error = || -> PyResult<PyErr> {
        let fields = PyDict::new(py);
        fields.set_item("seed", failure.seed)?;
        fields.set_item("step", failure.step)?;
        fields.set_item("invariant", failure.violation.invariant)?;
        fields.set_item("trace", trace.show(py, Some(failure))?)?;
        let Failure { seed, step, at, violation, .. } = failure;
        let message = format!("seed {seed}, step {step}, {}: {violation}", told(*at));
        let kind = py.get_type::<errors::InvariantViolated>();
        let error = PyErr::from_value(kind.call((message,), Some(&fields))?);
        error.set_cause(py, cause);
        Ok(error)
    };
    error().unwrap_or_else(|error| error)
}

/// A member as the factory made it first.
enum Made {
    Native(raft::Settings),
    Python(Member),
}

fn first_members(
    py: Python<'_>,
    factory: &Py<PyAny>,
    members: u64,
    shared: &Arc<Shared>,
) -> PyResult<BTreeMap<NodeId, Made>> {
    (1..=members).map(NodeId).map(|id| Ok((id, make(py, factory, id, shared)?))).collect()
}

/// Asks the factory for a member.
fn make(py: Python<'_>, factory: &Py<PyAny>, id: NodeId, shared: &Arc<Shared>) -> PyResult<Made> {
    let made = factory.bind(py).call1((id.0,))?;
    if let Ok(node) = made.cast::<RaftNode>() {
        let node = node.get();
        if node.node() != id {
            return Err(errors::ConfigError::new_err(format!(
                "the factory was asked for member {id} and made one with id {}",
                node.node()
            )));
        }
        return Ok(Made::Native(node.settings().clone()));
    }
    if made.is_instance(class!(py, "coterie.sim", "Process")?)? {
        return Ok(Made::Python(Member::Python(Process::new(id, &made, Arc::clone(shared))?)));
    }
    let kind = made.get_type().name()?;
    Err(errors::ConfigError::new_err(format!(
        "the factory made a {kind}; it must make a coterie.raft.Node or a coterie.sim.Process"
    )))
}

fn machine(id: NodeId, settings: &raft::Settings) -> Raft {
    Raft::new(id, settings.clone()).expect("settings that were checked when the node was made")
}

fn settings_of(first: &BTreeMap<NodeId, Made>) -> BTreeMap<NodeId, raft::Settings> {
    let native = |(id, made): (&NodeId, &Made)| match made {
        Made::Native(settings) => Some((*id, settings.clone())),
        Made::Python(_) => None,
    };
    first.iter().filter_map(native).collect()
}

fn bare(world: Settings, first: &BTreeMap<NodeId, Made>, through_bytes: bool) -> Kinds {
    let settings = settings_of(first);
    let factory = move |id: NodeId| machine(id, &settings[&id]);
    if through_bytes {
        return Kinds::BareBytes(Box::new(World::with(world, factory, Watcher::default(), ())));
    }
    Kinds::Bare(Box::new(World::with(world, factory, Watcher::default(), ())))
}

fn standard(
    world: Settings,
    first: &BTreeMap<NodeId, Made>,
    arguments: ClientArguments,
    through_bytes: bool,
) -> PyResult<Kinds> {
    let settings = settings_of(first);
    let one = settings.values().next().cloned();
    let alike = settings.len() == first.len() && settings.values().all(|other| Some(other) == one.as_ref());
    let Some(raft) = one.filter(|_| alike) else {
        return Err(errors::ConfigError::new_err(
            "clients need members that are all raft.Node, with equal settings",
        ));
    };
    let (count, rate, names, keys, timeout, orders) = arguments;
    let operation = |name: &String| {
        ClientOperation::from_name(name)
            .ok_or_else(|| errors::ConfigError::new_err(format!("operations: there is no {name:?}")))
    };
    let operations = names.iter().map(operation).collect::<PyResult<Vec<_>>>()?;
    let timeout = span(timeout)?;
    let clients = Clients { count, rate, operations, keys, timeout, ..Clients::default() };
    let (transfers, changes) = orders;
    let orders = (transfers || changes).then_some(Orders {
        transfers,
        changes,
        campaigns: false,
        interval: Duration::from_secs(2),
    });
    let replica = replica::Settings { raft, ..replica::Settings::default() };
    let scenario = Scenario { world, replica, clients, orders };
    Ok(if through_bytes {
        Kinds::StandardBytes(Box::new(scenario.build_over()))
    } else {
        Kinds::Standard(Box::new(scenario.build()))
    })
}

/// What an operator may ask of a replica.
fn of_replica(request: raft::Request) -> Option<replica::Request> {
    Some(match request {
        raft::Request::Transfer { to } => replica::Request::Transfer { to },
        raft::Request::Change { changes, deadline } => replica::Request::Change { changes, deadline },
        raft::Request::Campaign => replica::Request::Campaign,
        _ => return None,
    })
}

/// What it answers to that, in Raft's words.
fn of_raft(answer: &Result<replica::Answer, replica::Error>) -> Result<raft::Answer, raft::Error> {
    match answer.clone() {
        Ok(replica::Answer::Changed(index)) => Ok(raft::Answer::Changed(index)),
        Ok(replica::Answer::Transferred { leader, term }) => Ok(raft::Answer::Transferred { leader, term }),
        Ok(_) => Ok(raft::Answer::Done),
        Err(replica::Error::NotLeader { term, leader }) => Err(raft::Error::NotLeader { term, leader }),
        Err(replica::Error::Overloaded { limit }) => Err(raft::Error::Overloaded { limit }),
        Err(replica::Error::TimedOut) => Err(raft::Error::TimedOut),
        Err(replica::Error::InvalidChange(why)) => Err(raft::Error::InvalidChange(why)),
        Err(replica::Error::Refused(error)) => Err(error),
        Err(replica::Error::Halted(why)) => Err(raft::Error::Halted(why)),
        Err(_) => Err(raft::Error::Unknown),
    }
}

fn mixed(
    world: Settings,
    mut first: BTreeMap<NodeId, Made>,
    factory: &Arc<Py<PyAny>>,
    shared: &Arc<Shared>,
) -> Kinds {
    let (again, shared) = (Arc::clone(factory), Arc::clone(shared));
    let member = move |made, id| match made {
        Made::Native(settings) => Member::Native(Box::new(machine(id, &settings))),
        Made::Python(member) => member,
    };
    let make = move |id: NodeId| {
        if let Some(made) = first.remove(&id) {
            return member(made, id);
        }
        Python::attach(|py| {
            make(py, &again, id, &shared).map_or_else(
                |error| {
                    shared.fail(py, id, "factory", error);
                    Member::Absent
                },
                |made| member(made, id),
            )
        })
    };
    Kinds::Mixed(Box::new(World::with(world, make, Watcher::default(), ())))
}

/// All members are told who belongs. In a world with clients, these do it.
fn bootstrap(kinds: &mut Kinds, members: u64, membership: &Membership) {
    for node in (1..=members).map(NodeId) {
        let request = raft::Request::Bootstrap(membership.clone());
        match kinds {
            Kinds::Bare(world) => drop(world.request(node, request)),
            Kinds::Mixed(world) => drop(world.request(node, Said::Native(Asked(request)))),
            Kinds::BareBytes(world) => drop(world.request(node, request)),
            Kinds::Standard(_) | Kinds::StandardBytes(_) => {}
        }
    }
}

/// The world's settings, with those that Python names.
fn world_settings(seed: u64, members: u64, given: &Bound<'_, PyDict>) -> PyResult<Settings> {
    let mut settings = Settings::new(seed, members);
    for (name, value) in given.iter() {
        let latency = || -> PyResult<crate::sim::Latency> {
            let (least, tail): (f64, f64) = value.extract()?;
            Ok(crate::sim::Latency::new(span(least)?, span(tail)?))
        };
        match name.extract::<String>()?.as_str() {
            "latency" => settings.network.latency = latency()?,
            "fifo" => settings.network.fifo = value.extract()?,
            "hints" => settings.network.hints = value.extract()?,
            "sync" => settings.disk.sync = latency()?,
            "skew" => settings.clock.skew_max = span(value.extract()?)?,
            "drift_ppm" => settings.clock.drift_ppm_max = value.extract()?,
            "batch" => settings.batch_max = value.extract()?,
            other => {
                return Err(errors::ConfigError::new_err(format!("no setting of a world is called {other}")));
            }
        }
    }
    Ok(settings)
}

/// The faults that a swarm draws, shifted by `start` seconds; and whether everybody heals, where nobody can know
/// beforehand which quorum would be one.
#[pyfunction]
#[pyo3(signature = (seed, *, members, start, horizon, heals, share, interval, length, drift_ppm_max, jump_max, everybody))]
#[expect(clippy::too_many_arguments, reason = "one for each setting, by name")]
pub(super) fn sim_swarm(
    py: Python<'_>,
    seed: u64,
    members: u64,
    start: f64,
    horizon: f64,
    heals: bool,
    share: f64,
    interval: f64,
    length: f64,
    drift_ppm_max: i64,
    jump_max: f64,
    everybody: bool,
) -> PyResult<Bound<'_, PyAny>> {
    guard::shielded(|| {
        let mut swarm = Swarm::new(members, span(horizon)?);
        (swarm.heals, swarm.share, swarm.drift_ppm_max) = (heals, share, drift_ppm_max);
        (swarm.interval, swarm.length, swarm.jump_max) = (span(interval)?, span(length)?, span(jump_max)?);
        let start: Duration = span(start)?;
        let mut plan = py.detach(|| swarm.draw(mix(seed)));
        for fault in &mut plan.faults {
            fault.start = fault.start + start;
            if let (true, Kind::Heal { core }) = (everybody, &mut fault.kind) {
                core.clear();
            }
        }
        plan.faults.show(py)
    })
}

/// A trace, column by column: ready for a table.
#[derive(Default)]
struct Columns {
    at: Vec<Instant>,
    step: Vec<u64>,
    node: Vec<Option<NodeId>>,
    verb: Vec<Verb>,
    peer: Vec<Option<NodeId>>,
    fingerprint: Vec<u64>,
    text: Vec<String>,
    sent: Vec<Option<Instant>>,
    part: Vec<Option<Part>>,
}

/// A trace, and what was so before it.
struct Told {
    rows: Columns,
    before: Columns,
}

impl Told {
    fn of(trace: &Trace) -> Self {
        Self { rows: columns(trace.rows()), before: columns(trace.before()) }
    }

    /// As a `Trace`, which knows what was violated at its end.
    fn show<'py>(self, py: Python<'py>, failure: Option<&Failure>) -> PyResult<Bound<'py, PyAny>> {
        let violation = failure.map(|Failure { step, at, node, violation, .. }| {
            (*step, seconds_of(*at), node.0, violation.to_string())
        });
        let fields = PyDict::new(py);
        fields.set_item("before", self.before.show(py)?)?;
        fields.set_item("violation", violation)?;
        class!(py, "coterie.sim", "Trace")?.call((self.rows.show(py)?,), Some(&fields))
    }
}

fn columns<'a>(rows: impl Iterator<Item = &'a Row>) -> Columns {
    let mut columns = Columns::default();
    for row in rows {
        columns.at.push(row.at);
        columns.step.push(row.step);
        columns.node.push(row.node);
        columns.verb.push(row.verb);
        columns.peer.push(row.peer);
        columns.fingerprint.push(row.fingerprint);
        columns.text.push(row.text.clone());
        columns.sent.push(row.sent);
        columns.part.push(row.part);
    }
    columns
}

impl Columns {
    fn show(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let table = PyDict::new(py);
        table.set_item("at", self.at.into_iter().map(seconds_of).collect::<Vec<_>>())?;
        table.set_item("step", self.step)?;
        table.set_item(
            "node",
            self.node.into_iter().map(|node| node.map(|node| node.0)).collect::<Vec<_>>(),
        )?;
        table.set_item("verb", self.verb.into_iter().map(Verb::name).collect::<Vec<_>>())?;
        table.set_item(
            "peer",
            self.peer.into_iter().map(|node| node.map(|node| node.0)).collect::<Vec<_>>(),
        )?;
        let words = self.fingerprint.into_iter().map(|word| format!("{word:016x}"));
        table.set_item("fingerprint", words.collect::<Vec<_>>())?;
        table.set_item("text", self.text)?;
        let seconds = |at: Option<Instant>| at.map(seconds_of);
        table.set_item("sent", self.sent.into_iter().map(seconds).collect::<Vec<_>>())?;
        let role = |part: &Option<Part>| part.map(|part| part.role);
        table.set_item("role", self.part.iter().map(role).collect::<Vec<_>>())?;
        let term = |part: &Option<Part>| part.map(|part| part.term);
        table.set_item("term", self.part.iter().map(term).collect::<Vec<_>>())?;
        Ok(table)
    }
}

//! Members of a world that holds processes in Python: these, or native ones beside them.

use std::fmt::{self, Debug, Display};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PySequence, PyString, PyTuple};
use xxhash_rust::xxh3::xxh3_64;

use super::effects::{show_effects_with, show_link};
use super::values::Classes;
use super::words::{Word, class, instant, seconds_of};
use super::{errors, guard};
use crate::id::{NodeId, RequestId};
use crate::protocol::{Application, Effect, Link, Outbox, Protocol};
use crate::raft::{self, Raft};
use crate::random::Random;
use crate::sim::standard::{Keys, Shelf};
use crate::sim::{Fingerprint, Host, Part, of_debug};
use crate::time::Instant;
use crate::wire::Encode;
use crate::wire::value::Value;

/// What is said in such a world: a word of a native protocol, or any value.
#[derive(Clone, PartialEq)]
pub(super) enum Said<N> {
    Native(N),
    Value(Value),
}

impl<N: Display> Debug for Said<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(word) => Display::fmt(word, f),
            Self::Value(value) => Display::fmt(value, f),
        }
    }
}

/// Requests have no one-line form of their own.
#[derive(Clone, PartialEq)]
pub(super) struct Asked(pub(super) raft::Request);

impl Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, f)
    }
}

/// An alarm's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    Native(raft::Timer),
    Named(Name),
}

/// A short string by value, because a protocol's alarms are copied about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    bytes: [u8; Name::LENGTH_MAX],
    length: u8,
}

impl Name {
    const LENGTH_MAX: usize = 31;

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(timer) => Debug::fmt(timer, f),
            Self::Named(name) => f.write_str(name.as_str()),
        }
    }
}

fn read_alarm(timer: &Bound<'_, PyAny>) -> PyResult<Alarm> {
    let text = timer.cast::<PyString>().map_err(|_| PyTypeError::new_err("a timer is named by a str"))?;
    let text = text.to_cow()?;
    let mut bytes = [0; Name::LENGTH_MAX];
    let Some(room) = bytes.get_mut(..text.len()) else {
        let most = Name::LENGTH_MAX;
        return Err(PyValueError::new_err(format!(
            "{text:?} is too long for a timer: {most} bytes of UTF-8 at most"
        )));
    };
    room.copy_from_slice(text.as_bytes());
    Ok(Alarm::Named(Name { bytes, length: text.len() as u8 }))
}

/// What the processes of one world share.
pub(super) struct Shared {
    pub(super) classes: Arc<Classes>,
    failed: AtomicBool,
    /// Somebody's wish to stop everything was passed on.
    passed_on: AtomicBool,
    failure: Mutex<Option<Raised>>,
}

/// What a process raised.
pub(super) struct Raised {
    pub(super) node: NodeId,
    pub(super) verb: &'static str,
    pub(super) error: PyErr,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            classes: Arc::default(),
            failed: AtomicBool::new(false),
            passed_on: AtomicBool::new(false),
            failure: Mutex::new(None),
        })
    }

    /// Whether a process has raised something. The world ends there.
    pub(super) fn has_failed(&self) -> bool {
        // Set and read by the thread that runs the world.
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self, py: Python<'_>, node: NodeId, verb: &'static str, error: PyErr) {
        // Made whole now: under the lock no Python code may run.
        error.value(py);
        let raised = Raised { node, verb, error };
        if !self.failed.swap(true, Ordering::Relaxed) {
            // Nobody else looks while the world runs; a lock that an earlier panic poisoned has nothing to keep.
            let _ = guard::attached(py, &self.failure, |failure| *failure = Some(raised));
        }
    }

    /// What to raise for a wish to stop everything (Ctrl-C, `sys.exit()`): itself, once. What the verb had begun nobody
    /// knows, so the world is over.
    pub(super) fn stop(&self, raised: Raised) -> PyErr {
        if self.passed_on.swap(true, Ordering::Relaxed) {
            let Raised { node, verb, .. } = raised;
            let told = format!("this world was interrupted in {verb}() of process {node}; make it again");
            return errors::StoppedError::new_err(told);
        }
        raised.error
    }

    /// What was raised first: who, in which verb, and the exception.
    pub(super) fn failure(&self, py: Python<'_>) -> PyResult<Option<Raised>> {
        guard::attached(py, &self.failure, |failure| {
            failure.as_ref().map(|raised| Raised {
                node: raised.node,
                verb: raised.verb,
                error: raised.error.clone_ref(py),
            })
        })
    }
}

/// A member of such a world.
pub(super) enum Member {
    Native(Box<Raft>),
    Python(Process),
    /// It could not be made; the world has failed.
    Absent,
}

/// A process in Python.
pub(super) struct Process {
    id: NodeId,
    object: Py<PyAny>,
    shared: Arc<Shared>,
    /// Whether it does anything at a flush, and with a hint.
    flushes: bool,
    links: bool,
}

impl Process {
    pub(super) fn new(id: NodeId, object: &Bound<'_, PyAny>, shared: Arc<Shared>) -> PyResult<Self> {
        let base = class!(object.py(), "coterie.sim", "Process")?;
        let overrides = |verb| PyResult::Ok(!object.get_type().getattr(verb)?.is(base.getattr(verb)?));
        let (flushes, links) = (overrides("flush")?, overrides("link")?);
        Ok(Self { id, object: object.clone().unbind(), shared, flushes, links })
    }

    pub(super) const fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    /// Calls a verb of the object, and takes over what it emitted.
    fn call(
        &self,
        verb: &'static str,
        out: &mut Outbox<Member>,
        arguments: impl FnOnce(Python<'_>, &Classes) -> PyResult<Vec<Py<PyAny>>>,
    ) {
        if self.shared.has_failed() {
            return;
        }
        Python::attach(|py| {
            let emitted = || -> PyResult<Vec<Effect<Member>>> {
                let box_ = Bound::new(py, SimOutbox::of(Arc::clone(&self.shared.classes)))?;
                let mut arguments = arguments(py, &self.shared.classes)?;
                arguments.push(box_.clone().into_any().unbind());
                let returned = self.object.bind(py).call_method1(verb, PyTuple::new(py, arguments)?)?;
                if !returned.is_none() {
                    let kind = returned.get_type().name()?;
                    return Err(PyTypeError::new_err(format!(
                        "{verb} returned a {kind}: what is wanted done goes through `out`, and verbs return None"
                    )));
                }
                box_.get().close(py)
            };
            match emitted() {
                Ok(effects) => effects.into_iter().for_each(|effect| out.push(effect)),
                Err(error) => self.shared.fail(py, self.id, verb, error),
            }
        });
    }
}

/// As a process in Python sees it.
fn show<'py, N: Word>(py: Python<'py>, classes: &Classes, said: &Said<N>) -> PyResult<Bound<'py, PyAny>> {
    match said {
        Said::Native(word) => word.show(py),
        Said::Value(value) => classes.decode(py, value),
    }
}

/// What a process in Python said: a word of Raft when it is one, else any value.
fn read<N: Word>(classes: &Classes, base: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Said<N>> {
    if value.is_instance(base)? {
        N::read(value).map(Said::Native)
    } else {
        classes.encode(value).map(Said::Value)
    }
}

impl Word for Asked {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.show(py)
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        raft::Request::read(value).map(Self)
    }
}

/// Hands a native machine one input, and its effects to the world.
fn native(out: &mut Outbox<Member>, input: impl FnOnce(&mut Outbox<Raft>)) {
    let mut effects = Outbox::<Raft>::new();
    input(&mut effects);
    for effect in effects.drain() {
        out.push(match effect {
            Effect::Send(to, message) => Effect::Send(to, Said::Native(message)),
            Effect::Persist(record) => Effect::Persist(Said::Native(record)),
            Effect::Checkpoint(record) => Effect::Checkpoint(Said::Native(record)),
            Effect::Promise(to, message) => Effect::Promise(to, Said::Native(message)),
            Effect::Set(timer, at) => Effect::Set(Alarm::Native(timer), at),
            Effect::Cancel(timer) => Effect::Cancel(Alarm::Native(timer)),
            Effect::Answer(id, answer) => Effect::Answer(id, answer.map(Said::Native).map_err(Said::Native)),
            Effect::Notify(event) => Effect::Notify(Said::Native(event)),
        });
    }
}

impl Protocol for Member {
    type Message = Said<raft::Message>;
    type Record = Said<raft::Record>;
    type Timer = Alarm;
    type Event = Said<raft::Event>;
    type Request = Said<Asked>;
    type Answer = Said<raft::Answer>;
    type Error = Said<raft::Error>;

    fn start(&mut self, now: Instant, random: Random, records: Vec<Self::Record>, out: &mut Outbox<Self>) {
        match self {
            Self::Native(machine) => {
                let own = |record| match record {
                    Said::Native(record) => Some(record),
                    Said::Value(_) => None,
                };
                let records = records.into_iter().filter_map(own).collect();
                native(out, |out| machine.start(now, random, records, out));
            }
            Self::Python(process) => process.call("start", out, |py, classes| {
                let records =
                    records.iter().map(|record| show(py, classes, record)).collect::<PyResult<Vec<_>>>()?;
                let random = Bound::new(py, SimRandom::of(random))?;
                Ok(vec![
                    seconds(py, now)?,
                    random.into_any().unbind(),
                    PyList::new(py, records)?.into_any().unbind(),
                ])
            }),
            Self::Absent => {}
        }
    }

    fn receive(&mut self, now: Instant, from: NodeId, message: Self::Message, out: &mut Outbox<Self>) {
        match self {
            Self::Native(machine) => {
                // What is no word of Raft is a peer's nonsense.
                if let Said::Native(message) = message {
                    native(out, |out| machine.receive(now, from, message, out));
                }
            }
            Self::Python(process) => process.call("receive", out, |py, classes| {
                Ok(vec![seconds(py, now)?, from.show(py)?.unbind(), show(py, classes, &message)?.unbind()])
            }),
            Self::Absent => {}
        }
    }

    fn expire(&mut self, now: Instant, timer: Alarm, out: &mut Outbox<Self>) {
        match (self, timer) {
            (Self::Native(machine), Alarm::Native(timer)) => {
                native(out, |out| machine.expire(now, timer, out));
            }
            (Self::Python(process), Alarm::Named(name)) => process.call("expire", out, |py, _| {
                Ok(vec![seconds(py, now)?, PyString::new(py, name.as_str()).into_any().unbind()])
            }),
            _ => {}
        }
    }

    fn request(&mut self, now: Instant, id: RequestId, request: Self::Request, out: &mut Outbox<Self>) {
        match self {
            Self::Native(machine) => match request {
                Said::Native(Asked(request)) => native(out, |out| machine.request(now, id, request, out)),
                Said::Value(_) => {
                    out.answer(id, Err(Said::Value(Value::Str("this is no request to Raft".to_owned()))));
                }
            },
            Self::Python(process) => process.call("request", out, |py, classes| {
                Ok(vec![seconds(py, now)?, id.0.show(py)?.unbind(), show(py, classes, &request)?.unbind()])
            }),
            Self::Absent => {}
        }
    }

    fn link(&mut self, now: Instant, peer: NodeId, link: Link, out: &mut Outbox<Self>) {
        match self {
            Self::Native(machine) => native(out, |out| machine.link(now, peer, link, out)),
            Self::Python(process) if process.links => process.call("link", out, |py, _| {
                Ok(vec![seconds(py, now)?, peer.show(py)?.unbind(), show_link(py, link).into_any().unbind()])
            }),
            _ => {}
        }
    }

    fn flush(&mut self, now: Instant, out: &mut Outbox<Self>) {
        match self {
            Self::Native(machine) => native(out, |out| machine.flush(now, out)),
            Self::Python(process) if process.flushes => {
                process.call("flush", out, |py, _| Ok(vec![seconds(py, now)?]));
            }
            _ => {}
        }
    }
}

fn seconds(py: Python<'_>, now: Instant) -> PyResult<Py<PyAny>> {
    Ok(now.show(py)?.unbind())
}

impl Fingerprint for Member {
    fn of_message(message: &Self::Message) -> u64 {
        match message {
            Said::Native(message) => Raft::of_message(message),
            Said::Value(value) => of_value(value),
        }
    }

    fn of_record(record: &Self::Record) -> u64 {
        match record {
            Said::Native(record) => Raft::of_record(record),
            Said::Value(value) => of_value(value),
        }
    }

    fn of_event(event: &Self::Event) -> u64 {
        match event {
            Said::Native(event) => Raft::of_event(event),
            Said::Value(value) => of_value(value),
        }
    }

    fn of_request(request: &Self::Request) -> u64 {
        match request {
            Said::Native(Asked(request)) => Raft::of_request(request),
            Said::Value(value) => of_value(value),
        }
    }

    fn of_answer(answer: &Result<Self::Answer, Self::Error>) -> u64 {
        match answer {
            Ok(Said::Value(value)) => of_value(value),
            Err(Said::Value(value)) => !of_value(value),
            native => of_debug(native),
        }
    }

    fn part(event: &Self::Event) -> Option<Part> {
        match event {
            Said::Native(event) => Raft::part(event),
            Said::Value(_) => None,
        }
    }
}

fn of_value(value: &Value) -> u64 {
    xxh3_64(&value.to_bytes())
}

/// The keys of a native member; a process in Python keeps its own state.
pub(super) struct Beside(Keys);

impl Application<Member> for Beside {
    fn hear(&mut self, event: Said<raft::Event>) -> Vec<Said<Asked>> {
        match event {
            Said::Native(event) => {
                self.0.hear(event).into_iter().map(|request| Said::Native(Asked(request))).collect()
            }
            Said::Value(_) => Vec::new(),
        }
    }
}

impl Host<Member> for Beside {
    type Disk = Shelf;

    fn open(id: NodeId, disk: Shelf) -> Self {
        Self(Keys::open(id, disk))
    }

    fn crash(self, random: &mut Random) -> Shelf {
        self.0.crash(random)
    }
}

/// What a process wants done, in the order in which it must happen. What it emits is encoded as it is pushed, so
/// whatever becomes of the object afterwards changes nothing: None, bool, int, float, str, bytes, list, tuple, dict, and
/// frozen dataclasses of these. A world hands one to each verb.
///
/// Examples
/// --------
/// >>> from coterie import sim
/// >>> out = sim.Outbox()
/// >>> out.persist({"vote": 2})
/// >>> out.promise(2, "you have my vote")
/// >>> out.effects
/// [Persist(record={'vote': 2}), Promise(to=2, message='you have my vote')]
#[pyclass(frozen, name = "SimOutbox", module = "coterie._coterie")]
pub(super) struct SimOutbox {
    classes: Arc<Classes>,
    /// `None` when the input that it was for has been handled.
    effects: Mutex<Option<Vec<Effect<Member>>>>,
}

impl SimOutbox {
    const fn of(classes: Arc<Classes>) -> Self {
        Self { classes, effects: Mutex::new(Some(Vec::new())) }
    }

    fn push(&self, py: Python<'_>, effect: Effect<Member>) -> PyResult<()> {
        let pushed = guard::attached(py, &self.effects, |effects| {
            effects.as_mut().map(|effects| effects.push(effect))
        })?;
        pushed.ok_or_else(|| {
            errors::StoppedError::new_err(
                "this outbox was for an earlier input; use the one that came with this input",
            )
        })
    }

    fn close(&self, py: Python<'_>) -> PyResult<Vec<Effect<Member>>> {
        Ok(guard::attached(py, &self.effects, Option::take)?.unwrap_or_default())
    }

    fn message(&self, value: &Bound<'_, PyAny>) -> PyResult<Said<raft::Message>> {
        read(&self.classes, class!(value.py(), "coterie.raft.messages", "Message")?, value)
    }

    fn record(&self, value: &Bound<'_, PyAny>) -> PyResult<Said<raft::Record>> {
        read(&self.classes, class!(value.py(), "coterie.raft.records", "Record")?, value)
    }
}

#[pymethods]
impl SimOutbox {
    #[new]
    fn new() -> Self {
        Self::of(Arc::default())
    }

    /// Leaves at once; promises nothing that a crash could undo.
    ///
    /// Parameters
    /// ----------
    /// to : int
    ///     For whom.
    /// message : object
    ///     What is said.
    fn send(&self, py: Python<'_>, to: u64, message: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| self.push(py, Effect::Send(NodeId(to), self.message(message)?)))
    }

    /// Leaves when every record persisted before it is durable. To oneself it comes back by ``receive``.
    ///
    /// Parameters
    /// ----------
    /// to : int
    ///     For whom.
    /// message : object
    ///     What is said.
    fn promise(&self, py: Python<'_>, to: u64, message: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| self.push(py, Effect::Promise(NodeId(to), self.message(message)?)))
    }

    /// Appends a record to the journal. Nobody waits for it.
    ///
    /// Parameters
    /// ----------
    /// record : object
    ///     What the next life shall begin with.
    fn persist(&self, py: Python<'_>, record: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| self.push(py, Effect::Persist(self.record(record)?)))
    }

    /// Appends a record that replaces all before it.
    ///
    /// Parameters
    /// ----------
    /// record : object
    ///     All that the next life needs.
    fn checkpoint(&self, py: Python<'_>, record: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| self.push(py, Effect::Checkpoint(self.record(record)?)))
    }

    /// Sets an alarm, in place of one of the same name.
    ///
    /// Parameters
    /// ----------
    /// timer : str
    ///     Its name, of 31 bytes at most.
    /// at : float
    ///     When it rings, in seconds on the process's clock.
    fn set(&self, py: Python<'_>, timer: &Bound<'_, PyAny>, at: f64) -> PyResult<()> {
        guard::shielded(|| self.push(py, Effect::Set(read_alarm(timer)?, instant(at)?)))
    }

    /// Forgets an alarm.
    ///
    /// Parameters
    /// ----------
    /// timer : str
    ///     Its name.
    fn cancel(&self, py: Python<'_>, timer: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| self.push(py, Effect::Cancel(read_alarm(timer)?)))
    }

    /// Answers a request, which must be done exactly once.
    ///
    /// Parameters
    /// ----------
    /// id : int
    ///     Which.
    /// value : object, default None
    ///     The answer.
    /// error : object, default None
    ///     Why it could not be done, instead.
    #[pyo3(signature = (id, value = None, error = None))]
    fn answer(
        &self,
        py: Python<'_>,
        id: u64,
        value: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        guard::shielded(|| {
            let answer = match (value, error) {
                (_, Some(error)) => Err(Said::Value(self.classes.encode(error)?)),
                (Some(value), None) => {
                    Ok(read(&self.classes, class!(py, "coterie.raft.answers", "Answer")?, value)?)
                }
                (None, None) => Ok(Said::Value(Value::None)),
            };
            self.push(py, Effect::Answer(RequestId(id), answer))
        })
    }

    /// Tells the application. Events of `coterie.raft.events` are what Raft's invariants look at.
    ///
    /// Parameters
    /// ----------
    /// event : object
    ///     What it hears.
    fn notify(&self, py: Python<'_>, event: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| {
            let event = read(&self.classes, class!(py, "coterie.raft.events", "Event")?, event)?;
            self.push(py, Effect::Notify(event))
        })
    }

    /// What was pushed so far, as dataclasses of `coterie.protocol`: for a test that drives a process by hand.
    #[getter]
    fn effects<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        guard::shielded(|| {
            let effects = guard::attached(py, &self.effects, |effects| effects.clone())?.unwrap_or_default();
            let classes = &self.classes;
            show_effects_with(
                py,
                effects,
                |message| show(py, classes, message),
                |record| show(py, classes, record),
                |timer| Ok(PyString::new(py, &format!("{timer:?}")).into_any()),
                |event| show(py, classes, event),
                |answer| show(py, classes, answer),
                |error| show(py, classes, error),
            )
        })
    }
}

/// The answer to a request, as Python sees it: a value and an error, one of them None.
pub(super) fn show_answer<'py>(
    py: Python<'py>,
    classes: &Classes,
    answer: &Result<Said<raft::Answer>, Said<raft::Error>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let none = || py.None().into_bound(py);
    match answer {
        Ok(answer) => Ok((show(py, classes, answer)?, none())),
        Err(error) => Ok((none(), show(py, classes, error)?)),
    }
}

/// A request from outside.
pub(super) fn read_request(classes: &Classes, value: &Bound<'_, PyAny>) -> PyResult<Said<Asked>> {
    read(classes, class!(value.py(), "coterie.raft.requests", "Request")?, value)
}

/// Whether an exception is an error of the process, and not somebody's wish to stop everything.
pub(super) fn is_error(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py)
}

/// A seeded generator: the same draws on every platform and every version of Python.
///
/// Parameters
/// ----------
/// seed : int
///     From 0 to 2**64 - 1. A world hands each life of a process a generator of its own.
///
/// Examples
/// --------
/// >>> from coterie import sim
/// >>> random = sim.Random(7)
/// >>> [random.below(6) for _ in range(8)]
/// [2, 0, 5, 3, 2, 1, 2, 1]
#[pyclass(frozen, name = "SimRandom", module = "coterie._coterie")]
pub(super) struct SimRandom {
    random: Mutex<Random>,
}

impl SimRandom {
    const fn of(random: Random) -> Self {
        Self { random: Mutex::new(random) }
    }
}

#[pymethods]
impl SimRandom {
    #[new]
    fn new(seed: u64) -> Self {
        Self::of(Random::new(seed))
    }

    /// The next 64 bits, an int from 0 to 2**64 - 1.
    fn word(&self, py: Python<'_>) -> PyResult<u64> {
        guard::shielded(|| guard::attached(py, &self.random, Random::word))
    }

    /// An int from 0 up to, but not including, ``bound``.
    ///
    /// Parameters
    /// ----------
    /// bound : int
    ///     1 or more.
    fn below(&self, py: Python<'_>, bound: u64) -> PyResult<u64> {
        guard::shielded(|| {
            if bound == 0 {
                return Err(PyValueError::new_err("nothing is below 0"));
            }
            guard::attached(py, &self.random, |random| random.below(bound))
        })
    }

    /// A float from 0 up to, but not including, 1.
    fn unit(&self, py: Python<'_>) -> PyResult<f64> {
        guard::shielded(|| guard::attached(py, &self.random, Random::unit))
    }

    /// A float between two others.
    ///
    /// Parameters
    /// ----------
    /// low, high : float
    ///     From where, and up to where.
    fn uniform(&self, py: Python<'_>, low: f64, high: f64) -> PyResult<f64> {
        guard::shielded(|| Ok(low + (high - low) * guard::attached(py, &self.random, Random::unit)?))
    }

    /// One of several.
    ///
    /// Parameters
    /// ----------
    /// items : sequence
    ///     Not empty.
    fn choice<'py>(&self, py: Python<'py>, items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        guard::shielded(|| {
            let items = items.cast::<PySequence>()?;
            let length = items.len()? as u64;
            if length == 0 {
                return Err(PyValueError::new_err("nothing to choose from"));
            }
            items.get_item(guard::attached(py, &self.random, |random| random.below(length))? as usize)
        })
    }

    /// A generator whose draws are independent of all that this one draws from here on.
    fn split(&self, py: Python<'_>) -> PyResult<Self> {
        guard::shielded(|| guard::attached(py, &self.random, Random::split).map(Self::of))
    }
}

/// An instant of the world, for a message.
pub(super) fn told(at: Instant) -> String {
    format!("{:.6} s", seconds_of(at))
}

//! A client for Python: each call either waits, detached and looking up for Ctrl-C, or resolves a future of an event loop.
//!
//! The threads of a client never wait for the interpreter: what is for an event loop lies in a queue until that loop takes
//! it, what is for a waiting thread is handed to it. So a long hold of the GIL delays no renewal.
//!
//! A forked child has none of the threads: everything here says so before it looks at any lock, and forgets what it was
//! made of instead of ending it.

mod convert;
mod handles;
mod queue;

use std::mem::ManuallyDrop;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use super::errors::{ConfigError, StoppedError};
use super::member::{self, Certificates, Secret};
use super::{errors, guard};
use crate::client::{
    self, Acquire, Batch, Client, Failure, Held, Memory, Network, Settings, Transport, Watcher,
};
use crate::id::NodeId;
use crate::replica::asks::{self, Ask, MemberChange};
use crate::store::{
    Answer, Command, Expected, Keys, LeaseId, Order, Past, Put, PutLease, Query, Range, Revision, Sort,
    Target,
};
use crate::time::Instant;
use convert::{bytes, keys, text};
pub(super) use handles::{ClientAcquisition, ClientHold, ClientWatch};
pub(super) use queue::ClientQueue;

/// What runs a client. Use `coterie.connect`.
#[pyclass(frozen, module = "coterie._coterie")]
pub(super) struct ClientCore {
    client: Ours<Client>,
}

/// Where an answer goes that nobody waits for: a queue, and the future that it shall resolve.
type To<'py> = Option<(Bound<'py, ClientQueue>, Bound<'py, PyAny>)>;

/// What came of a call, before it is an object.
enum Outcome {
    Answer(Answer),
    Held(Option<Held>),
    Batch(Arc<Watcher>, Option<Batch>),
    Member(asks::Answer),
    Flag(bool),
    Many(Vec<Revision>),
    Nothing,
}

type Finished = Result<Outcome, Failure>;
type Finish = Box<dyn FnOnce(Finished) + Send>;

/// How an answer of the store is shown.
type Shape = fn(Python<'_>, Answer) -> PyResult<Py<PyAny>>;

/// Something that only the process may use that made it.
struct Ours<T> {
    thing: ManuallyDrop<T>,
    owner: u32,
}

impl<T> Ours<T> {
    fn new(thing: T) -> Self {
        Self { thing: ManuallyDrop::new(thing), owner: std::process::id() }
    }

    fn get(&self) -> PyResult<&T> {
        if std::process::id() == self.owner {
            Ok(&self.thing)
        } else {
            Err(StoppedError::new_err(
                "this client belongs to the process that this one was forked from; connect again",
            ))
        }
    }
}

impl<T> Drop for Ours<T> {
    fn drop(&mut self) {
        if std::process::id() == self.owner {
            // SAFETY: nobody uses it after this, and it is dropped here alone.
            unsafe { ManuallyDrop::drop(&mut self.thing) }
        }
    }
}

/// Where a thread waits for the end of its call.
#[derive(Default)]
struct Slot {
    finished: Mutex<Option<Finished>>,
    news: Condvar,
}

/// How often who waits looks up for signals.
const LOOK_UP: Duration = Duration::from_millis(100);

impl Slot {
    fn finish(&self, finished: Finished) {
        *self.finished.lock().unwrap_or_else(PoisonError::into_inner) = Some(finished);
        self.news.notify_one();
    }

    /// Waits; `None` when the time is over.
    fn wait(&self, py: Python<'_>, until: Instant) -> PyResult<Option<Finished>> {
        loop {
            let finished = py.detach(|| {
                let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
                if finished.is_none() {
                    let left = (until - client::now()).min(LOOK_UP);
                    let waited = self.news.wait_timeout(finished, left);
                    finished = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                finished.take()
            });
            if finished.is_some() {
                return Ok(finished);
            }
            py.check_signals()?;
            if until <= client::now() {
                return Ok(None);
            }
        }
    }
}

/// Makes a call: waits for it, or has its answer sent.
fn call<'py>(
    py: Python<'py>,
    to: To<'py>,
    show: impl FnOnce(Python<'_>, Outcome) -> PyResult<Py<PyAny>> + Send + 'static,
    start: impl FnOnce(Finish),
) -> PyResult<Py<PyAny>> {
    if let Some((queue, future)) = to {
        let finish = queue.get().expect(py, future, Box::new(show))?;
        start(finish);
        return Ok(py.None());
    }
    let slot = Arc::new(Slot::default());
    let filled = Arc::clone(&slot);
    start(Box::new(move |finished| filled.finish(finished)));
    match slot.wait(py, Instant::NEVER)? {
        Some(Ok(outcome)) => show(py, outcome),
        Some(Err(failure)) => Err(errors::failure(py, &failure)),
        None => Err(errors::internal("a call has no end")),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn no_thread(error: std::io::Error) -> PyErr {
    ConfigError::new_err(format!("no thread can be started: {error}"))
}

fn patience(timeout: f64) -> Duration {
    Instant::from_seconds(timeout) - Instant::ZERO
}

impl ClientCore {
    fn command<'py>(
        &self,
        py: Python<'py>,
        command: &Command,
        timeout: f64,
        to: To<'py>,
        shape: Shape,
    ) -> PyResult<Py<PyAny>> {
        let client = self.client.get()?;
        call(py, to, convert::shaped(shape), |finish| {
            client.command(command, patience(timeout), |answer| finish(answer.map(Outcome::Answer)));
        })
    }

    fn query<'py>(
        &self,
        py: Python<'py>,
        query: &Query,
        timeout: f64,
        to: To<'py>,
        shape: Shape,
    ) -> PyResult<Py<PyAny>> {
        let client = self.client.get()?;
        call(py, to, convert::shaped(shape), |finish| {
            client.query(query, patience(timeout), |answer| finish(answer.map(Outcome::Answer)));
        })
    }

    fn ask<'py>(&self, py: Python<'py>, ask: Ask, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        let client = self.client.get()?;
        call(py, to, convert::member, |finish| {
            client.ask(ask, patience(timeout), |answer| finish(answer.map(Outcome::Member)));
        })
    }
}

impl ClientCore {
    /// A client that speaks through `transport`.
    pub(super) fn over(transport: Arc<dyn Transport>, grace: Option<f64>) -> Self {
        let settings = Settings { grace: grace.map(patience) };
        Self { client: Ours::new(Client::new(transport, settings)) }
    }
}

#[pymethods]
impl ClientCore {
    /// A client of the cluster whose members listen at these addresses.
    #[staticmethod]
    fn network(
        py: Python<'_>,
        addresses: Vec<String>,
        cluster: String,
        secret: Option<Secret<'_>>,
        tls: Option<Certificates<'_>>,
        grace: Option<f64>,
    ) -> PyResult<Self> {
        guard::shielded(|| {
            let endpoints = member::endpoints(addresses, cluster, secret, tls)?;
            let network = py.detach(|| Network::start(endpoints)).map_err(no_thread)?;
            Ok(Self::over(network, grace))
        })
    }

    /// A client of a member in memory: of its own, or of the one of that name.
    #[staticmethod]
    #[pyo3(signature = (name, grace))]
    fn memory(name: Option<&str>, grace: Option<f64>) -> PyResult<Self> {
        guard::shielded(|| {
            let memory = name.map_or_else(Memory::start, Memory::named);
            Ok(Self::over(memory.map_err(no_thread)?.connect(), grace))
        })
    }

    /// Sets a key; its revision.
    #[pyo3(signature = (key, value, lease, timeout, to = None))]
    fn put<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        lease: LeaseId,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let lease = if lease == 0 { PutLease::None } else { PutLease::With(lease) };
            let put = Put { key: text(key)?, value: Some(bytes(value)?), lease, previous: false };
            self.command(py, &Command::Put(put), timeout, to, convert::revision)
        })
    }

    /// Sets many keys, each by itself, all under way at once; their revisions.
    #[pyo3(signature = (items, timeout, to = None))]
    fn put_many<'py>(
        &self,
        py: Python<'py>,
        items: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let client = self.client.get()?;
            let puts =
                items.into_iter().map(|(key, value)| Ok(Command::Put(Put::new(text(&key)?, bytes(&value)?))));
            let puts: Vec<Command> = puts.collect::<PyResult<_>>()?;
            call(py, to, convert::many, |finish| queue::gather(client, &puts, patience(timeout), finish))
        })
    }

    /// The value of a key, or None.
    #[pyo3(signature = (key, timeout, to = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let query = Query::Range(Range::one(text(key)?));
            self.query(py, &query, timeout, to, convert::value)
        })
    }

    /// A key with all that is known of it, or None.
    #[pyo3(signature = (key, revision, timeout, to = None))]
    fn entry<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        revision: Option<Revision>,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let past = revision.map_or(Past::Now, Past::At);
            let query = Query::Range(Range { past, ..Range::one(text(key)?) });
            self.query(py, &query, timeout, to, convert::first)
        })
    }

    /// Entries, whether there are more, how many, and as of which revision.
    #[pyo3(signature = (start, end, prefix, limit, descending, keys_only, count_only, revision, timeout, to = None))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "a range has as many parts"
    )]
    fn range<'py>(
        &self,
        py: Python<'py>,
        start: &Bound<'py, PyAny>,
        end: Option<&Bound<'py, PyAny>>,
        prefix: bool,
        limit: u64,
        descending: bool,
        keys_only: bool,
        count_only: bool,
        revision: Option<Revision>,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let keys = match end {
                Some(end) => Keys::Between(text(start)?, text(end)?),
                None if prefix => Keys::prefix(text(start)?),
                None => Keys::From(text(start)?),
            };
            let order = if descending { Order::Descending } else { Order::Ascending };
            let sort = Sort { by: Target::Key, order };
            let past = revision.map_or(Past::Now, Past::At);
            let range = Range { past, limit, sort, keys_only, count_only, ..Range::of(keys) };
            self.query(py, &Query::Range(range), timeout, to, convert::range)
        })
    }

    /// Takes keys away; how many.
    #[pyo3(signature = (key, prefix, timeout, to = None))]
    fn delete<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        prefix: bool,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let command = Command::Delete { keys: keys(key, prefix)?, previous: false };
            self.command(py, &command, timeout, to, convert::count)
        })
    }

    /// Sets a key, or takes it away, if its value or revision is as expected; whether it was.
    #[pyo3(signature = (key, expected, revision, value, timeout, to = None))]
    #[expect(clippy::too_many_arguments, reason = "a swap has as many parts")]
    fn compare_and_swap<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        expected: Option<&Bound<'py, PyAny>>,
        revision: Option<Revision>,
        value: Option<&Bound<'py, PyAny>>,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let expected = match (expected, revision) {
                (_, Some(0)) | (None, None) => None,
                (_, Some(revision)) => Some(Expected::Modified(revision)),
                (Some(expected), None) => Some(Expected::Value(bytes(expected)?)),
            };
            let value = value.map(bytes).transpose()?;
            let command = Command::CompareAndSwap { key: text(key)?, expected, value, lease: PutLease::None };
            self.command(py, &command, timeout, to, convert::swapped)
        })
    }

    /// If all conditions hold, does the steps of one list, else those of the other; whether they held, and what came of
    /// each step.
    #[pyo3(signature = (compares, success, failure, timeout, to = None))]
    fn transaction<'py>(
        &self,
        py: Python<'py>,
        compares: Vec<Bound<'py, PyAny>>,
        success: Vec<Bound<'py, PyAny>>,
        failure: Vec<Bound<'py, PyAny>>,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let command = Command::Transaction {
                compares: compares
                    .into_iter()
                    .map(|part| convert::compare(&part))
                    .collect::<PyResult<_>>()?,
                success: success
                    .into_iter()
                    .map(|part| convert::operation(&part))
                    .collect::<PyResult<_>>()?,
                failure: failure
                    .into_iter()
                    .map(|part| convert::operation(&part))
                    .collect::<PyResult<_>>()?,
            };
            self.command(py, &command, timeout, to, convert::transaction)
        })
    }

    /// The entry by which a lock is held, or None.
    #[pyo3(signature = (name, timeout, to = None))]
    fn holder<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.query(py, &Query::Holder(text(name)?), timeout, to, convert::first))
    }

    /// The store as a whole: compacted, keys, leases, bytes, alarm, and the revision.
    #[pyo3(signature = (timeout, to = None))]
    fn store_status<'py>(&self, py: Python<'py>, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.query(py, &Query::Status, timeout, to, convert::status))
    }

    /// How the member is that this client speaks to.
    #[pyo3(signature = (timeout, to = None))]
    fn member_status<'py>(&self, py: Python<'py>, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.ask(py, Ask::Status, timeout, to))
    }

    /// The term, who leads it, and all members.
    #[pyo3(signature = (timeout, to = None))]
    fn members<'py>(&self, py: Python<'py>, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.ask(py, Ask::Members, timeout, to))
    }

    /// Adds a member as an observer. Leader only, as all changes.
    #[pyo3(signature = (name, address, timeout, to = None))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        name: String,
        address: String,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.ask(py, Ask::Change(vec![MemberChange::Add { name, address }]), timeout, to))
    }

    /// Makes an observer a voter.
    #[pyo3(signature = (id, timeout, to = None))]
    fn promote<'py>(&self, py: Python<'py>, id: u64, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        let promote = MemberChange::Promote { id: NodeId(id), weight: 1 };
        guard::shielded(|| self.ask(py, Ask::Change(vec![promote]), timeout, to))
    }

    /// Makes a voter an observer.
    #[pyo3(signature = (id, timeout, to = None))]
    fn demote<'py>(&self, py: Python<'py>, id: u64, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.ask(py, Ask::Change(vec![MemberChange::Demote(NodeId(id))]), timeout, to))
    }

    /// Takes a member out of the cluster.
    #[pyo3(signature = (id, timeout, to = None))]
    fn remove<'py>(&self, py: Python<'py>, id: u64, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.ask(py, Ask::Change(vec![MemberChange::Remove(NodeId(id))]), timeout, to))
    }

    /// Hands leadership to another voter.
    #[pyo3(signature = (id, timeout, to = None))]
    fn transfer<'py>(&self, py: Python<'py>, id: u64, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.ask(py, Ask::Transfer(NodeId(id)), timeout, to))
    }

    /// Forgets history before a revision.
    #[pyo3(signature = (revision, timeout, to = None))]
    fn compact<'py>(
        &self,
        py: Python<'py>,
        revision: Revision,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.command(py, &Command::Compact { revision }, timeout, to, convert::nothing))
    }

    /// Takes what adds again, once there is room.
    #[pyo3(signature = (timeout, to = None))]
    fn disarm<'py>(&self, py: Python<'py>, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.command(py, &Command::Disarm, timeout, to, convert::nothing))
    }

    /// Ends a lease, and with it whatever it holds.
    #[pyo3(signature = (lease, timeout, to = None))]
    fn revoke<'py>(&self, py: Python<'py>, lease: LeaseId, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.command(py, &Command::Revoke { lease }, timeout, to, convert::nothing))
    }

    /// Acquires a lock. Without `to`, waits at most `wait` seconds (None: for ever; 0: takes no place in the queue), and
    /// returns what is held, or None. With it, returns what cancels.
    #[pyo3(signature = (name, value, ttl, wait, timeout, to = None))]
    #[expect(clippy::too_many_arguments, reason = "a lock has as many parts")]
    fn acquire<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        ttl: f64,
        wait: Option<f64>,
        timeout: f64,
        to: To<'py>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let client = self.client.get()?;
            let acquire = Acquire {
                name: text(name)?,
                value: bytes(value)?,
                ttl: patience(ttl),
                wait: wait.is_none_or(|wait| wait > 0.0),
                patience: patience(timeout),
            };
            if let Some((queue, future)) = to {
                let finish = queue.get().expect(py, future, Box::new(convert::held))?;
                let under_way = client.acquire(acquire, |held| finish(held.map(Outcome::Held)));
                let handle = ClientAcquisition::new(under_way);
                return Ok(Py::new(py, handle)?.into_any());
            }
            let slot = Arc::new(Slot::default());
            let filled = Arc::clone(&slot);
            let until = match wait {
                Some(wait) if wait > 0.0 => client::now() + patience(wait),
                _ => Instant::NEVER,
            };
            let under_way = client.acquire(acquire, move |held| filled.finish(held.map(Outcome::Held)));
            let finished = match slot.wait(py, until) {
                Ok(Some(finished)) => finished,
                // What came in the last moment is in the slot, or on its way there.
                Ok(None) if under_way.cancel() => Ok(Outcome::Held(None)),
                Ok(None) => slot.wait(py, Instant::NEVER)?.unwrap_or(Ok(Outcome::Held(None))),
                Err(interrupted) => {
                    // What came in the last moment is given back when it is dropped with the slot.
                    under_way.cancel();
                    return Err(interrupted);
                }
            };
            finished.map_err(|failure| errors::failure(py, &failure)).and_then(|held| convert::held(py, held))
        })
    }

    /// Watches keys, from a revision on, or from now on.
    #[pyo3(signature = (key, prefix, start, previous))]
    fn watch(
        &self,
        key: &Bound<'_, PyAny>,
        prefix: bool,
        start: Option<Revision>,
        previous: bool,
    ) -> PyResult<ClientWatch> {
        guard::shielded(|| {
            let client = self.client.get()?;
            Ok(ClientWatch::new(client.watch(keys(key, prefix)?, start, previous)))
        })
    }

    /// Says goodbye.
    #[pyo3(signature = (to = None))]
    fn close<'py>(&self, py: Python<'py>, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let client = self.client.get()?;
            call(py, to, |py, _| Ok(py.None()), |finish| client.close(|| finish(Ok(Outcome::Nothing))))
        })
    }

    /// Whether it was closed, or belongs to another process.
    fn is_closed(&self) -> bool {
        self.client.get().map_or(true, Client::is_closed)
    }
}

//! Python's values as the store's, and back.

#![expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "shapes of answers have one signature"
)]

use bytes::Bytes;
use pyo3::BoundObject as _;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyList, PyString, PyTuple};

use super::super::errors::{self, ConfigError};
use super::{ClientHold, Outcome, Shape};
use crate::raft::Role;
use crate::replica::asks;
use crate::store::{
    Answer, Compare, Comparison, Done, Entry, EventKind, Expected, Keys, Operation, Put, Range, Reply,
};

/// A key or a name: text stands for its UTF-8.
pub(super) fn text(key: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(text) = key.cast::<PyString>() {
        return Ok(Bytes::copy_from_slice(text.to_cow()?.as_bytes()));
    }
    if let Ok(bytes) = key.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    Err(PyTypeError::new_err(format!("a key must be str or bytes, not {}", key.get_type().name()?)))
}

/// A value: bytes of any kind, or text for its UTF-8.
pub(super) fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Bytes::copy_from_slice(text.to_cow()?.as_bytes()));
    }
    if let Ok(array) = value.cast::<PyByteArray>() {
        return Ok(array.to_vec().into());
    }
    // Other buffers, which the limited API of CPython 3.11 can read this way.
    if value.hasattr("tobytes")? {
        let copy = value.call_method0("tobytes")?;
        return Ok(Bytes::copy_from_slice(copy.cast::<PyBytes>()?.as_bytes()));
    }
    Err(PyTypeError::new_err(format!("a value must be bytes or str, not {}", value.get_type().name()?)))
}

/// One key, or all with that prefix.
pub(super) fn keys(key: &Bound<'_, PyAny>, prefix: bool) -> PyResult<Keys> {
    let key = text(key)?;
    Ok(if prefix { Keys::prefix(key) } else { Keys::One(key) })
}

/// `(what, comparison, key, prefix, expected)`.
pub(super) fn compare(compare: &Bound<'_, PyAny>) -> PyResult<Compare> {
    let (what, is, key, prefix, expected): (String, String, Bound<'_, PyAny>, bool, Bound<'_, PyAny>) =
        compare.extract()?;
    let is = match is.as_str() {
        "==" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        ">" => Comparison::Greater,
        "<" => Comparison::Less,
        other => return Err(ConfigError::new_err(format!("there is no comparison {other:?}"))),
    };
    let expected = match what.as_str() {
        "value" => Expected::Value(bytes(&expected)?),
        "version" => Expected::Version(expected.extract()?),
        "create_revision" => Expected::Created(expected.extract()?),
        "mod_revision" => Expected::Modified(expected.extract()?),
        "lease" => Expected::Lease(expected.extract()?),
        other => return Err(ConfigError::new_err(format!("an entry has no {other:?} to compare"))),
    };
    Ok(Compare { keys: keys(&key, prefix)?, is, expected })
}

/// `("put", key, value)`, `("delete", key, prefix)` or `("get", key, prefix)`.
pub(super) fn operation(operation: &Bound<'_, PyAny>) -> PyResult<Operation> {
    let (kind, key, rest): (String, Bound<'_, PyAny>, Bound<'_, PyAny>) = operation.extract()?;
    Ok(match kind.as_str() {
        "put" => Operation::Put(Put::new(text(&key)?, bytes(&rest)?)),
        "delete" => Operation::Delete { keys: keys(&key, rest.extract()?)?, previous: false },
        _ => Operation::Range(Range::of(keys(&key, rest.extract()?)?)),
    })
}

/// Shows an answer of the store.
pub(super) fn shaped(shape: Shape) -> impl FnOnce(Python<'_>, Outcome) -> PyResult<Py<PyAny>> + Send {
    move |py, outcome| match outcome {
        Outcome::Answer(answer) => shape(py, answer),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> PyErr {
    errors::internal("an answer is of another kind than the question")
}

fn object<'py, T: IntoPyObject<'py>>(py: Python<'py>, value: T) -> PyResult<Py<PyAny>>
where
    PyErr: From<T::Error>,
{
    Ok(value.into_pyobject(py)?.into_any().into_bound().unbind())
}

pub(super) fn nothing(py: Python<'_>, _answer: Answer) -> PyResult<Py<PyAny>> {
    Ok(py.None())
}

pub(super) fn revision(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    object(py, answer.revision)
}

pub(super) fn value(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    let Reply::Done(Done::Range { entries, .. }) = answer.reply else { return Err(unexpected()) };
    Ok(entries.first().map_or_else(|| py.None(), |entry| PyBytes::new(py, &entry.value).into_any().unbind()))
}

pub(super) fn first(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    let Reply::Done(Done::Range { entries, .. }) = answer.reply else { return Err(unexpected()) };
    entries.first().map_or_else(|| Ok(py.None()), |found| Ok(entry(py, found)?.into_any().unbind()))
}

pub(super) fn range(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    let Reply::Done(Done::Range { entries, more, count }) = answer.reply else { return Err(unexpected()) };
    object(py, (entries_of(py, &entries)?, more, count, answer.revision))
}

pub(super) fn count(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    let Reply::Done(Done::Deleted { count, .. }) = answer.reply else { return Err(unexpected()) };
    object(py, count)
}

pub(super) fn swapped(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    let Reply::Swapped { swapped, .. } = answer.reply else { return Err(unexpected()) };
    Ok(PyBool::new(py, swapped).to_owned().into_any().unbind())
}

pub(super) fn transaction(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    let Reply::Transaction { succeeded, results } = answer.reply else { return Err(unexpected()) };
    let shown = PyList::empty(py);
    for result in results {
        match result {
            Done::Put { .. } => shown.append(py.None())?,
            Done::Deleted { count, .. } => shown.append(count)?,
            Done::Range { entries, .. } => shown.append(entries_of(py, &entries)?)?,
        }
    }
    object(py, (succeeded, shown, answer.revision))
}

pub(super) fn status(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    let Reply::Status(status) = answer.reply else { return Err(unexpected()) };
    object(
        py,
        (
            answer.revision,
            status.compacted,
            status.keys,
            status.leases,
            status.bytes,
            status.alarm,
            status.digest,
        ),
    )
}

pub(super) fn many(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    let Outcome::Many(revisions) = outcome else { return Err(unexpected()) };
    Ok(PyList::new(py, revisions)?.into_any().unbind())
}

pub(super) fn flag(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    let Outcome::Flag(flag) = outcome else { return Err(unexpected()) };
    Ok(PyBool::new(py, flag).to_owned().into_any().unbind())
}

pub(super) fn held(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    match outcome {
        Outcome::Held(Some(held)) => Ok(Py::new(py, ClientHold::new(held))?.into_any()),
        Outcome::Held(None) => Ok(py.None()),
        _ => Err(unexpected()),
    }
}

/// Events as `(is_put, entry, previous)`; None: there will be none any more.
pub(super) fn batch(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    let Outcome::Batch(_, batch) = outcome else { return Err(unexpected()) };
    let Some(batch) = batch else { return Ok(py.None()) };
    let shown = PyList::empty(py);
    for event in &batch.events {
        let previous = event.previous.as_ref().map(|previous| entry(py, previous)).transpose()?;
        shown.append((event.kind == EventKind::Put, entry(py, &event.entry)?, previous))?;
    }
    Ok(shown.into_any().unbind())
}

pub(super) fn no_events(py: Python<'_>) -> PyResult<Py<PyAny>> {
    Ok(PyList::empty(py).into_any().unbind())
}

/// Status, members and the like, as tuples.
pub(super) fn member(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    match outcome {
        Outcome::Member(asks::Answer::Status(status)) => {
            let role = match status.role {
                Role::Follower => "follower",
                Role::PreCandidate => "pre-candidate",
                Role::Candidate => "candidate",
                Role::Leader => "leader",
            };
            let log = (status.last, status.commit, status.applied, status.pending);
            let leader = status.leader.map(|leader| leader.0);
            object(py, (status.cluster, status.id.0, status.name, role, status.term, leader, log))
        }
        Outcome::Member(asks::Answer::Members { term, leader, members }) => {
            let members =
                members.into_iter().map(|member| (member.id.0, member.name, member.address, member.vote));
            object(py, (term, leader.map(|leader| leader.0), members.collect::<Vec<_>>()))
        }
        Outcome::Member(asks::Answer::Changed(index)) => object(py, index),
        Outcome::Member(asks::Answer::Transferred { leader, term }) => object(py, (leader.0, term)),
        Outcome::Member(asks::Answer::Done) => Ok(py.None()),
        _ => Err(unexpected()),
    }
}

fn entries_of<'py>(py: Python<'py>, entries: &[Entry]) -> PyResult<Bound<'py, PyList>> {
    let shown = PyList::empty(py);
    for found in entries {
        shown.append(entry(py, found)?)?;
    }
    Ok(shown)
}

fn entry<'py>(py: Python<'py>, entry: &Entry) -> PyResult<Bound<'py, PyTuple>> {
    let (key, value) = (PyBytes::new(py, &entry.key), PyBytes::new(py, &entry.value));
    (key, value, entry.create_revision, entry.mod_revision, entry.version, entry.lease).into_pyobject(py)
}

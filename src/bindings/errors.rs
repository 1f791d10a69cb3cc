//! Errors of the cores as the classes of `coterie.exceptions`, with their fields.

use std::fmt::Write as _;

use pyo3::import_exception;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::client::Failure;
use crate::store::Refusal;

import_exception!(coterie.exceptions, AuthError);
import_exception!(coterie.exceptions, CompactedError);
import_exception!(coterie.exceptions, ConfigError);
import_exception!(coterie.exceptions, EmptyRingError);
import_exception!(coterie.exceptions, InternalError);
import_exception!(coterie.exceptions, InvariantViolated);
import_exception!(coterie.exceptions, LockLostError);
import_exception!(coterie.exceptions, NoBackendError);
import_exception!(coterie.exceptions, NotLeaderError);
import_exception!(coterie.exceptions, OverloadedError);
import_exception!(coterie.exceptions, QuotaError);
import_exception!(coterie.exceptions, RequestError);
import_exception!(coterie.exceptions, StorageError);
import_exception!(coterie.exceptions, StoppedError);
import_exception!(coterie.exceptions, UnavailableError);
import_exception!(coterie.exceptions, UnknownNodeError);
import_exception!(coterie.exceptions, UnknownOutcomeError);

/// A bug of ours.
pub(super) fn internal(what: &str) -> PyErr {
    InternalError::new_err(format!("{what}; this is a bug in coterie, please report it"))
}

/// `node`, called a `kind` in the message, is not here.
pub(super) fn unknown_node(node: &Bound<'_, PyAny>, kind: &str) -> PyErr {
    let py = node.py();
    let error = || -> PyResult<PyErr> {
        let fields = PyDict::new(py);
        fields.set_item("node", node)?;
        let message = format!("there is no {kind} {}", node.repr()?);
        Ok(PyErr::from_value(py.get_type::<UnknownNodeError>().call((message,), Some(&fields))?))
    };
    error().unwrap_or_else(|error| error)
}

/// No backend may take a request, for these reasons.
pub(super) fn no_backend(py: Python<'_>, reasons: &[(Py<PyAny>, String)]) -> PyErr {
    let error = || -> PyResult<PyErr> {
        let table = PyDict::new(py);
        let mut message = String::from("no backend may take the request");
        if reasons.is_empty() {
            message.push_str(": the balancer has none; add one with add()");
        }
        for (place, (backend, reason)) in reasons.iter().enumerate() {
            message.push_str(if place == 0 { ": " } else { "; " });
            let _ = write!(message, "{}: {reason}", backend.bind(py).repr()?);
            table.set_item(backend, reason)?;
        }
        let fields = PyDict::new(py);
        fields.set_item("reasons", table)?;
        Ok(PyErr::from_value(py.get_type::<NoBackendError>().call((message,), Some(&fields))?))
    };
    error().unwrap_or_else(|error| error)
}

/// Why a client's call could not be answered.
pub(super) fn failure(py: Python<'_>, failure: &Failure) -> PyErr {
    let message = failure.to_string();
    let with = |kind: Bound<'_, PyType>, fields: Bound<'_, PyDict>| {
        let error = kind.call((message.clone(),), Some(&fields)).map(PyErr::from_value);
        error.unwrap_or_else(|error| error)
    };
    let fields = PyDict::new(py);
    let filled = match failure {
        Failure::Unavailable(_) => return UnavailableError::new_err(message),
        Failure::Unknown => return UnknownOutcomeError::new_err(message),
        Failure::Stopped(_) => return StoppedError::new_err(message),
        Failure::LeaseLost => return LockLostError::new_err(message),
        Failure::Auth(_) => return AuthError::new_err(message),
        Failure::Internal(what) => return internal(what),
        Failure::Refused(Refusal::Quota { .. }) => return QuotaError::new_err(message),
        Failure::NotLeader { term, leader } => {
            let filled = fields.set_item("term", term);
            filled.and_then(|()| fields.set_item("leader", leader.map(|leader| leader.0)))
        }
        Failure::Overloaded { limit } => fields.set_item("limit", limit),
        Failure::Refused(Refusal::Compacted { revision }) => fields.set_item("revision", revision),
        Failure::Rejected(_) | Failure::Refused(_) => return RequestError::new_err(message),
    };
    if let Err(error) = filled {
        return error;
    }
    match failure {
        Failure::NotLeader { .. } => with(py.get_type::<NotLeaderError>(), fields),
        Failure::Overloaded { .. } => with(py.get_type::<OverloadedError>(), fields),
        _ => with(py.get_type::<CompactedError>(), fields),
    }
}

/// What a disk failed to keep.
pub(super) fn storage(py: Python<'_>, message: &str, path: &str, offset: Option<u64>) -> PyErr {
    let error = || -> PyResult<PyErr> {
        let fields = PyDict::new(py);
        fields.set_item("path", path)?;
        fields.set_item("offset", offset)?;
        Ok(PyErr::from_value(py.get_type::<StorageError>().call((message,), Some(&fields))?))
    };
    error().unwrap_or_else(|error| error)
}

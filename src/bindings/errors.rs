//! Errors of the cores as the classes of `coterie.exceptions`, with their fields.

use std::fmt::Write as _;

use pyo3::import_exception;
use pyo3::prelude::*;
use pyo3::types::PyDict;

import_exception!(coterie.exceptions, ConfigError);
import_exception!(coterie.exceptions, EmptyRingError);
import_exception!(coterie.exceptions, InternalError);
import_exception!(coterie.exceptions, InvariantViolated);
import_exception!(coterie.exceptions, NoBackendError);
import_exception!(coterie.exceptions, StoppedError);
import_exception!(coterie.exceptions, UnknownNodeError);

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

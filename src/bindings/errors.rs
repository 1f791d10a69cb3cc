//! Errors of the cores as the classes of `coterie.exceptions`, with their fields.

use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(coterie.exceptions, ConfigError);
import_exception!(coterie.exceptions, EmptyRingError);
import_exception!(coterie.exceptions, InternalError);
import_exception!(coterie.exceptions, NoBackendError);
import_exception!(coterie.exceptions, UnknownNodeError);

/// A bug of ours.
pub(super) fn internal(what: &str) -> PyErr {
    InternalError::new_err(format!("{what}; this is a bug in coterie, please report it"))
}

//! The one place that names `PyO3`: translate, detach, lock once. Nobody imports it.
//!
//! The compiled module `coterie._coterie` is flat; the Python modules give it shape, documentation and types.

mod errors;
mod guard;
mod ring;

use pyo3::prelude::*;

/// The compiled half of Coterie. Import `coterie` instead: the names here may change in any release.
#[pymodule(gil_used = false)]
mod _coterie {
    #[pymodule_export]
    use super::provoke_panic;
    #[pymodule_export]
    use super::ring::PyRing;

    #[pymodule_init]
    fn init() {
        // A second module state (a sub-interpreter) finds the logger in place: that is no error.
        let _ = pyo3_log::try_init();
    }
}

/// Panics, so that a test can see what becomes of a panic.
#[pyfunction]
fn provoke_panic() -> PyResult<()> {
    guard::shielded(|| panic!("provoked by a test"))
}

//! The one place that names `PyO3`: translate, detach, lock once. Nobody imports it.
//!
//! The compiled module `coterie._coterie` is flat; the Python modules give it shape, documentation and types.

#![expect(
    clippy::doc_link_with_quotes,
    clippy::doc_markdown,
    reason = "what stands above a `pyclass` or a `pymethod` is a Python docstring, in numpydoc's markup"
)]

mod balance;
mod check;
#[cfg(unix)]
mod client;
mod effects;
mod errors;
mod faults;
mod guard;
mod logger;
mod member;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod pool;
mod process;
mod raft;
mod ring;
mod shrink;
mod sim;
mod values;
mod watcher;
mod words;

use pyo3::prelude::*;

/// The compiled half of Coterie. Import `coterie` instead: the names here may change in any release.
#[pymodule(gil_used = false)]
mod _coterie {
    #[pymodule_export]
    use super::balance::{Balancer, Lease};
    #[pymodule_export]
    use super::check::{CheckHistory, CheckPart};
    #[cfg(unix)]
    #[pymodule_export]
    use super::client::{ClientAcquisition, ClientCore, ClientHold, ClientQueue, ClientWatch};
    #[pymodule_export]
    use super::member::{MemberCore, make_authority, make_certificate};
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[pymodule_export]
    use super::pool::{
        PoolCore, PoolDesk, PoolListener, PoolMap, pool_await_end, pool_follow, pool_hold, pool_pin,
        pool_resume,
    };
    #[pymodule_export]
    use super::process::{SimOutbox, SimRandom};
    #[pymodule_export]
    use super::raft::{RaftNode, raft_begin, raft_line};
    #[pymodule_export]
    use super::ring::PyRing;
    #[pymodule_export]
    use super::shrink::sim_shrink;
    #[pymodule_export]
    use super::sim::{SimWorld, sim_swarm};
    #[pymodule_export]
    use super::{provoke_panic, version};

    #[pymodule_init]
    fn init() {
        super::logger::install();
    }
}

/// Panics, so that a test can see what becomes of a panic.
#[pyfunction]
fn provoke_panic() -> PyResult<()> {
    guard::shielded(|| panic!("provoked by a test"))
}

/// The version of the crate and of the package: they are one.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

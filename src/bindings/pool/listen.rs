//! A thread that sleeps until a descriptor can be read, and then calls Python.

use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;

use pyo3::prelude::*;

use super::super::guard;
use crate::pool::system;
use crate::time::Instant;

/// Calls a function whenever a descriptor can be read, until it says False. Its thread is none of Python's while it
/// sleeps, so that who looks whether this process may be forked sees none.
#[pyclass(frozen, module = "coterie._coterie")]
pub(in super::super) struct PoolListener {
    /// Is cut off when the thread has ended.
    alive: Mutex<Option<(Receiver<()>, JoinHandle<()>)>>,
    owner: i32,
}

#[pymethods]
impl PoolListener {
    #[new]
    fn new(file: RawFd, hear: Py<PyAny>) -> PyResult<Self> {
        guard::shielded(|| {
            let (end, alive) = mpsc::channel();
            let listen = move || {
                let _end = end;
                system::block_signals();
                // Nobody knows why a sleep ended early; then nothing is to be read, and that is not the end.
                while !system::readable(&[file], Instant::NEVER)[0] || is_heard(&hear) {}
                Python::attach(|_| drop(hear));
            };
            let thread = std::thread::Builder::new().name("coterie-listen".into()).spawn(listen)?;
            Ok(Self { alive: Mutex::new(Some((alive, thread))), owner: system::process_id() })
        })
    }

    /// Waits so many seconds for the thread to end; says whether it has. It does not wait for itself.
    fn join(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        guard::shielded(|| {
            if system::process_id() != self.owner {
                return Ok(true);
            }
            let Some((alive, thread)) = guard::attached(py, &self.alive, Option::take)? else {
                return Ok(true);
            };
            if thread.thread().id() == std::thread::current().id() {
                return Ok(true);
            }
            let timeout = Instant::from_seconds(timeout) - Instant::ZERO;
            let (end, alive) = py.detach(move || (alive.recv_timeout(timeout), alive));
            if end == Err(RecvTimeoutError::Timeout) {
                guard::attached(py, &self.alive, |kept| *kept = Some((alive, thread)))?;
                return Ok(false);
            }
            // A panic was told by Python's own machinery.
            let _ = py.detach(|| thread.join());
            Ok(true)
        })
    }
}

fn is_heard(hear: &Py<PyAny>) -> bool {
    Python::attach(|py| {
        let heard = hear.bind(py).call0().and_then(|more| more.extract());
        heard.unwrap_or_else(|error| {
            error.write_unraisable(py, None);
            true
        })
    })
}

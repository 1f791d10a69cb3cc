//! What outlives a call: a lock that is held or asked for, a watch.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;

use super::super::errors;
use super::{Ours, Outcome, Slot, To, call, convert, patience};
use crate::bindings::guard;
use crate::client::{self, Acquisition, Held, Lost, Watcher};
use crate::store::{LeaseId, Revision};
use crate::time::Instant;

/// A lock that is held.
#[pyclass(frozen, module = "coterie._coterie")]
pub(in super::super) struct ClientHold {
    held: Ours<Mutex<Option<Held>>>,
    lost: Ours<Arc<Lost>>,
    token: Revision,
    lease: LeaseId,
    key: Vec<u8>,
}

impl ClientHold {
    pub(super) fn new(mut held: Held) -> Self {
        held.keep();
        Self {
            token: held.token(),
            lease: held.lease(),
            key: held.key().to_vec(),
            lost: Ours::new(Arc::clone(held.lost())),
            held: Ours::new(Mutex::new(Some(held))),
        }
    }
}

#[pymethods]
impl ClientHold {
    /// Greater than that of every holder before.
    #[getter]
    const fn token(&self) -> Revision {
        self.token
    }

    /// The lease with which it ends.
    #[getter]
    const fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The key by which it is held.
    #[getter]
    fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it is lost. In a forked child it is: the child holds nothing.
    fn is_lost(&self) -> bool {
        self.lost.get().map_or(true, |lost| lost.is_lost())
    }

    /// Waits until it is lost, at most so many seconds; whether it is. With `to`, resolves a future when it is.
    #[pyo3(signature = (timeout, to = None))]
    fn wait_lost<'py>(&self, py: Python<'py>, timeout: Option<f64>, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let lost = self.lost.get()?;
            if to.is_some() {
                return call(py, to, convert::flag, |finish| lost.listen(|| finish(Ok(Outcome::Flag(true)))));
            }
            let slot = Arc::new(Slot::default());
            let filled = Arc::clone(&slot);
            lost.listen(move || filled.finish(Ok(Outcome::Flag(true))));
            let until = timeout.map_or(Instant::NEVER, |timeout| client::now() + patience(timeout));
            let heard = slot.wait(py, until)?.is_some();
            convert::flag(py, Outcome::Flag(heard || lost.is_lost()))
        })
    }

    /// Gives it back; whether it was held until then. The second time, None.
    #[pyo3(signature = (timeout, to = None))]
    fn release<'py>(&self, py: Python<'py>, timeout: f64, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let Some(held) = guard::attached(py, self.held.get()?, Option::take)? else {
                return Ok(py.None());
            };
            call(py, to, convert::flag, |finish| {
                held.release(patience(timeout), |released| finish(released.map(Outcome::Flag)));
            })
        })
    }
}

/// A lock that is asked for.
#[pyclass(frozen, module = "coterie._coterie")]
pub(in super::super) struct ClientAcquisition {
    under_way: Ours<Arc<Acquisition>>,
}

impl ClientAcquisition {
    pub(super) fn new(under_way: Arc<Acquisition>) -> Self {
        Self { under_way: Ours::new(under_way) }
    }
}

#[pymethods]
impl ClientAcquisition {
    /// Gives the place in the queue up; whether nothing had come yet.
    fn cancel(&self) -> PyResult<bool> {
        guard::shielded(|| Ok(self.under_way.get()?.cancel()))
    }
}

/// A watch.
#[pyclass(frozen, module = "coterie._coterie")]
pub(in super::super) struct ClientWatch {
    watcher: Ours<Arc<Watcher>>,
}

impl ClientWatch {
    pub(super) fn new(watcher: Arc<Watcher>) -> Self {
        Self { watcher: Ours::new(watcher) }
    }
}

#[pymethods]
impl ClientWatch {
    /// Waits for what happens next, at most so many seconds (None: for ever): events, or an empty list when nothing
    /// came in time; None when the watch was closed.
    #[pyo3(signature = (timeout, to = None))]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<f64>, to: To<'py>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let watcher = self.watcher.get()?;
            let seen = Arc::clone(watcher);
            let outcome = move |batch| Outcome::Batch(seen, batch);
            if to.is_some() {
                return call(py, to, convert::batch, |finish| {
                    watcher.next(|batch| finish(batch.map(outcome)));
                });
            }
            let slot = Arc::new(Slot::default());
            let filled = Arc::clone(&slot);
            watcher.next(move |batch| filled.finish(batch.map(outcome)));
            let until = timeout.map_or(Instant::NEVER, |timeout| client::now() + patience(timeout));
            let finished = match slot.wait(py, until) {
                Ok(Some(finished)) => finished,
                Ok(None) if watcher.cancel() => return convert::no_events(py),
                // It came in the last moment.
                Ok(None) => match slot.wait(py, Instant::NEVER)? {
                    Some(finished) => finished,
                    None => return convert::no_events(py),
                },
                Err(interrupted) => {
                    if !watcher.cancel()
                        && let Ok(Some(Ok(Outcome::Batch(_, Some(batch))))) = slot.wait(py, Instant::NEVER)
                    {
                        watcher.put_back(batch);
                    }
                    return Err(interrupted);
                }
            };
            finished
                .map_err(|failure| errors::failure(py, &failure))
                .and_then(|batch| convert::batch(py, batch))
        })
    }

    /// Nobody waits any more. What comes meanwhile is kept.
    fn cancel(&self) -> PyResult<bool> {
        guard::shielded(|| Ok(self.watcher.get()?.cancel()))
    }

    /// From where on another watch would miss nothing; None as long as that is not known.
    #[getter]
    fn next_revision(&self) -> PyResult<Option<Revision>> {
        guard::shielded(|| Ok(self.watcher.get()?.next_revision()))
    }

    /// Ends it.
    fn close(&self) {
        if let Ok(watcher) = self.watcher.get() {
            watcher.close();
        }
    }
}

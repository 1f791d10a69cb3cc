//! The results of a map: a list that is filled as they come, in whatever order.

use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::super::{errors, guard};
use super::offer::{Offering, Source};
use super::{PoolCore, check_signals};
use crate::pool::driver::Waiting;
use crate::pool::scheduler::JobId;
use crate::pool::store::Run;
use crate::time::Instant;

/// The values of a map, and the failure that came first.
pub(super) type Values<'py> = (Bound<'py, PyList>, Option<Bound<'py, PyAny>>);

/// A list of known length, whose places are filled one by one, and the failure that came first.
pub(super) struct Gathered {
    list: Py<PyList>,
    length: u64,
    filled: u64,
    failure: Option<Py<PyAny>>,
}

impl Gathered {
    pub(super) fn new(py: Python<'_>, length: usize) -> PyResult<Self> {
        // SAFETY: attached. Nobody looks at the list before all its places are filled.
        let list = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyList_New(length as ffi::Py_ssize_t))? };
        Ok(Self {
            list: list.cast_into::<PyList>()?.unbind(),
            length: length as u64,
            filled: 0,
            failure: None,
        })
    }

    /// Takes in results. After a failure nobody wants the others.
    pub(super) fn take(&mut self, core: &PoolCore, py: Python<'_>, run: Run) -> PyResult<()> {
        self.filled += run.count;
        if self.failure.is_some() {
            return Ok(());
        }
        let (mut index, end) = (run.first, run.first + run.count);
        if end > self.length || self.filled > self.length {
            return Err(errors::internal("more results than items"));
        }
        let (list, failure) = (&self.list, &mut self.failure);
        core.decode(py, run, |value, is_failure| {
            if is_failure {
                failure.get_or_insert_with(|| value.unbind());
            } else {
                // SAFETY: the place is inside the list, which takes over the reference.
                unsafe { ffi::PyList_SetItem(list.as_ptr(), index as ffi::Py_ssize_t, value.into_ptr()) };
            }
            index += 1;
            Ok(())
        })
    }

    /// There are so many items after all.
    fn expect(&mut self, py: Python<'_>, length: u64) -> PyResult<()> {
        while self.length < length {
            self.list.bind(py).append(py.None())?;
            self.length += 1;
        }
        Ok(())
    }

    /// All that there is.
    pub(super) fn end(self, py: Python<'_>) -> PyResult<Values<'_>> {
        if let Some(failure) = self.failure {
            return Ok((PyList::empty(py), Some(failure.into_bound(py))));
        }
        let list = self.list.into_bound(py);
        if self.filled < self.length {
            list.del_slice(self.filled as usize, self.length as usize)?; // the input was shorter than it had said
        }
        Ok((list, None))
    }
}

/// A map that the thread which waits for it feeds as it goes: only so many items are encoded as keep the workers busy, and
/// results are taken in while they are in the caches. Use `coterie.Pool`.
#[pyclass(frozen, module = "coterie._coterie")]
pub(in super::super) struct PoolMap {
    job: JobId,
    function: u32,
    /// Taken out while it is used.
    state: Mutex<Option<State>>,
}

struct State {
    source: Source,
    is_sealed: bool,
    gathered: Gathered,
}

impl PoolMap {
    pub(super) fn new(
        job: JobId,
        function: u32,
        source: Source,
        count: usize,
        py: Python<'_>,
    ) -> PyResult<Self> {
        let state = State { source, is_sealed: false, gathered: Gathered::new(py, count)? };
        Ok(Self { job, function, state: Mutex::new(Some(state)) })
    }

    fn take_state(&self, py: Python<'_>) -> PyResult<State> {
        guard::attached(py, &self.state, Option::take)?
            .ok_or_else(|| PyValueError::new_err("another thread waits for this map, or has its results"))
    }

    pub(super) fn advance(&self, core: &PoolCore, py: Python<'_>, timeout: Option<f64>) -> PyResult<u8> {
        let deadline = super::deadline(timeout);
        let mut state = self.take_state(py)?;
        let waited = self.work(core, py, &mut state, deadline);
        guard::attached(py, &self.state, |place| *place = Some(state))?;
        waited
    }

    fn work(&self, core: &PoolCore, py: Python<'_>, state: &mut State, deadline: Instant) -> PyResult<u8> {
        let pool = core.ours()?;
        loop {
            let Some((runs, unfinished, wanted)) = pool.turn(self.job) else { return Ok(2) };
            let is_over = state.is_sealed && unfinished == 0;
            if !state.is_sealed && unfinished < wanted {
                self.feed(core, py, state, unfinished, wanted)?;
            }
            for run in runs {
                state.gathered.take(core, py, run)?;
            }
            if is_over {
                return Ok(0);
            }
            // Results that never let us wait shall not keep a signal waiting, nor another thread.
            py.check_signals()?;
            match py.detach(|| pool.wait_some(self.job, deadline, check_signals))? {
                Waiting::Over => {}
                Waiting::TimedOut => return Ok(1),
                Waiting::Stopped => return Ok(2),
                Waiting::Failed(_) => return Ok(3),
            }
        }
    }

    /// Offers more items. When the arena is full, it waits until the workers have done most of what they have.
    fn feed(
        &self,
        core: &PoolCore,
        py: Python<'_>,
        state: &mut State,
        unfinished: u64,
        wanted: u64,
    ) -> PyResult<()> {
        let mut offering = Offering::new(core, py, self.job, self.function, true)?;
        state.is_sealed = offering.some(&mut state.source, wanted - unfinished)?;
        offering.finish(state.is_sealed);
        // An input need not have the length that it says it has.
        let offered = core.ours()?.offered(self.job).unwrap_or_default();
        state.gathered.expect(py, offered)
    }
}

#[pymethods]
impl PoolMap {
    /// All results, in order, and the failure that came first.
    fn results<'py>(&self, py: Python<'py>) -> PyResult<Values<'py>> {
        guard::shielded(|| self.take_state(py)?.gathered.end(py))
    }
}

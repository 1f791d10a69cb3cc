//! The pool for Python: a handle of it, and the loop of a worker.
//!
//! The driver's lock is its own, and is taken here while attached: whoever holds it never waits for the interpreter
//! and touches no Python object, so nobody who waits for it waits long. A forked child may find it taken for ever,
//! and therefore is told that the pool is stopped before anything looks at the lock.

mod call;
mod codec;
mod listen;
mod map;
mod offer;
mod stopwatch;
mod work;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMemoryView};

use super::errors::{ConfigError, StoppedError};
use super::guard;
use crate::pool::arena::THRESHOLD;
use crate::pool::channel::{Memory, pin_arenas};
use crate::pool::driver::{Failure, Host, Pool, State, Waiting};
use crate::pool::gate;
use crate::pool::message::{Kind, Number, split};
use crate::pool::parcel::Mode;
use crate::pool::scheduler::{JobId, Settings};
use crate::pool::store::{Order, Run};
use crate::pool::system;
use crate::time::Instant;
use codec::{Arrival, Encoded, Lent, Objects, PoolBuffer, Sender};
pub(super) use listen::PoolListener;
pub(super) use map::PoolMap;
use map::{Gathered, Values};
use offer::{Offering, Source, hand_out};
use stopwatch::Spent;
use work::PARCEL;
pub(super) use work::{PoolDesk, pool_follow};

/// What runs a pool. Use `coterie.Pool`.
#[pyclass(frozen, module = "coterie._coterie")]
pub(super) struct PoolCore {
    pool: Arc<Pool>,
    objects: Arc<Objects>,
    /// Whether workers are threads of this process, so that objects need not be encoded.
    threads: bool,
    mode: Mode,
    host: Py<PyAny>,
    problem: Arc<Mutex<Option<PyErr>>>,
    /// Nanoseconds that this process spent on encoding items, and on decoding results.
    encoding: AtomicU64,
    decoding: AtomicU64,
}

/// What the pool asks of Python.
struct PyHost {
    host: Py<PyAny>,
    problem: Arc<Mutex<Option<PyErr>>>,
}

impl Host for PyHost {
    fn start(&self, worker: usize) -> Result<i32, String> {
        let _inside = gate::enter();
        Python::attach(|py| {
            let started = self.host.bind(py).call_method1("start", (worker,)).and_then(|id| id.extract());
            started.map_err(|error| {
                let why = error.to_string();
                let _ = guard::attached(py, &self.problem, |problem| *problem = Some(error));
                why
            })
        })
    }

    fn reap(&self, worker: usize) -> Option<i32> {
        let _inside = gate::enter();
        Python::attach(|py| {
            let status =
                self.host.bind(py).call_method1("reap", (worker,)).and_then(|status| status.extract());
            status.unwrap_or_else(|error| {
                error.write_unraisable(py, None);
                None
            })
        })
    }

    fn dismiss(&self) {
        let _inside = gate::enter();
        Python::attach(|py| {
            if let Err(error) = self.host.bind(py).call_method0("dismiss") {
                error.write_unraisable(py, None);
            }
        });
    }

    fn deliver(&self, finished: Vec<(JobId, u64)>) {
        let _inside = gate::enter();
        Python::attach(|py| {
            if let Err(error) = self.host.bind(py).call_method1("deliver", (finished,)) {
                error.write_unraisable(py, None);
            }
        });
    }
}

#[pymethods]
impl PoolCore {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "they are a constructor's keywords")]
    #[pyo3(signature = (host, workers, *, retries, task_timeout, tasks_max, threads, memory_limit = None))]
    fn new(
        host: Py<PyAny>,
        workers: usize,
        retries: u32,
        task_timeout: Option<f64>,
        tasks_max: Option<u64>,
        threads: bool,
        memory_limit: Option<usize>,
        py: Python<'_>,
    ) -> PyResult<Self> {
        guard::shielded(|| {
            let task_timeout = task_timeout.map(|seconds| Instant::from_seconds(seconds) - Instant::ZERO);
            let settings = Settings {
                workers,
                retries,
                task_timeout,
                tasks_max,
                #[cfg(feature = "mutants")]
                mutant: planted(),
            };
            let memory =
                if threads { Memory::private(workers) } else { shared_memory(workers, memory_limit) };
            let memory = memory.map_err(|error| {
                ConfigError::new_err(format!("no shared memory for {workers} workers: {error}"))
            })?;
            let problem = Arc::new(Mutex::new(None));
            let py_host = PyHost { host: host.clone_ref(py), problem: Arc::clone(&problem) };
            let pool = Pool::new(memory, settings, Box::new(py_host))?;
            Ok(Self {
                pool,
                objects: Arc::default(),
                threads,
                // Who has written to an argument and dies must not spoil it for who tries again.
                mode: if retries > 0 { Mode::Kept } else { Mode::Owned },
                host,
                problem,
                encoding: AtomicU64::new(0),
                decoding: AtomicU64::new(0),
            })
        })
    }

    /// Bytes of the smallest buffer that travels through the arena.
    #[staticmethod]
    fn threshold() -> usize {
        THRESHOLD
    }

    /// Whether workers are woken through pipes, as on systems without futexes.
    #[staticmethod]
    fn is_portable() -> bool {
        system::IS_PORTABLE
    }

    /// The descriptors that a worker inherits: the shared memory's, and others where the system needs them.
    fn files(&self, worker: usize) -> Vec<i32> {
        self.pool.files(worker)
    }

    /// Starts the workers that are missing.
    fn populate(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| {
            let pool = self.ours()?;
            if py.detach(|| pool.populate()).is_err() {
                let problem = guard::attached(py, &self.problem, Option::take)?;
                return Err(problem.unwrap_or_else(|| StoppedError::new_err("no worker can be started")));
            }
            Ok(())
        })
    }

    /// All workers are on their way; the host's `start` says who they are.
    fn expect(&self) -> PyResult<()> {
        guard::shielded(|| {
            self.ours()?.expect();
            Ok(())
        })
    }

    /// Starts the pool's threads.
    fn watch(&self) -> PyResult<()> {
        guard::shielded(|| Ok(self.ours()?.watch()?))
    }

    /// Takes in what tasks call, and which of `place`'s bytes its pickle left out; says its place.
    #[pyo3(signature = (style, function, views = Vec::new()))]
    fn define(
        &self,
        py: Python<'_>,
        style: u8,
        function: &Bound<'_, PyAny>,
        views: Vec<PyBuffer<u8>>,
    ) -> PyResult<u32> {
        guard::shielded(|| {
            let mut definition = vec![style];
            let mut kept = Vec::new();
            if self.threads {
                for freed in self.ours()?.freed() {
                    let handle = freed[1..].first_chunk::<8>().copied().unwrap_or_default();
                    self.objects.take(py, u64::from_le_bytes(handle))?;
                }
                definition.extend(self.objects.put(function)?.to_le_bytes());
            } else if views.is_empty() {
                definition.extend_from_slice(function.cast::<PyBytes>()?.as_bytes());
            } else {
                let views = views.into_iter().map(Lent::new).collect::<PyResult<Vec<_>>>()?;
                let body = function.cast::<PyBytes>()?.as_bytes();
                let (outline, shared) = self.sender(py)?.outline(py, Kind::Pickle, body, None, &views);
                definition[0] |= PARCEL;
                definition.extend(outline);
                kept = shared;
            }
            self.ours()?
                .define(&definition, kept)
                .ok_or_else(|| StoppedError::new_err("too many functions are in use"))
        })
    }

    /// One more user of a function.
    fn share(&self, function: u32) -> PyResult<()> {
        guard::shielded(|| {
            self.ours()?.share(function);
            Ok(())
        })
    }

    /// One user of a function less.
    fn release(&self, function: u32) -> PyResult<()> {
        guard::shielded(|| {
            if self.pool.is_ours() {
                self.pool.release(function);
            }
            Ok(())
        })
    }

    /// Opens a job: `order` is 0 gathered, 1 sorted, 2 as they arrive, 3 single calls, 4 single calls as they arrive.
    fn open(&self, order: u8, function: Option<u32>, chunk: u64, notify: bool) -> PyResult<Option<JobId>> {
        guard::shielded(|| {
            let order = match order {
                0 => Order::Gathered,
                1 => Order::Sorted,
                2 => Order::Arrival,
                3 => Order::Single,
                _ => Order::Calls,
            };
            Ok(self.ours()?.open(order, function, chunk, notify))
        })
    }

    /// Encodes items and hands them out; says the index of the first.
    fn offer(
        &self,
        py: Python<'_>,
        job: JobId,
        function: u32,
        items: &Bound<'_, PyAny>,
        sealed: bool,
        waits: bool,
    ) -> PyResult<Option<u64>> {
        guard::shielded(|| {
            let mut offering = Offering::new(self, py, job, function, waits)?;
            offering.all(&mut Source::of(items, !self.threads)?)?;
            Ok(offering.finish(sealed))
        })
    }

    /// Hands out a single call; says its index. It takes over one user of the function.
    fn offer_call(
        &self,
        py: Python<'_>,
        job: JobId,
        function: u32,
        item: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<u64> {
        guard::shielded(|| {
            let pool = self.ours()?;
            let mut watch = Spent::on(&self.encoding);
            let mut batch = Encoded::new(usize::MAX);
            let encoded = if self.threads {
                batch.push_object(function, item, &self.objects)
            } else {
                batch.push(function, item, &self.sender(py)?)
            };
            match encoded {
                Ok(_) => Ok(watch.aside(|| hand_out(pool, job, function, &mut batch, false, waits))),
                Err(error) => {
                    let handle = self.objects.put(error.value(py))?;
                    Ok(pool.offer_failed(job, function, Kind::ObjectError, &handle.to_le_bytes()))
                }
            }
        })
    }

    /// Bytes that lie in shared memory from now on, read-only; nothing when there is no room.
    fn place<'py>(&self, py: Python<'py>, bytes: PyBuffer<u8>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        guard::shielded(|| {
            let Some(arena) = self.ours()?.arena() else { return Ok(None) };
            let lent = Lent::new(bytes)?;
            let slot = codec::place(py, arena, lent.bytes());
            slot.map(|slot| PoolBuffer::shared(py, slot.share(), lent.bytes().len())).transpose()
        })
    }

    /// Whether these bytes lie where `place` put them.
    fn is_placed(&self, bytes: PyBuffer<u8>) -> PyResult<bool> {
        guard::shielded(|| {
            let Some(arena) = self.pool.arena().filter(|arena| arena.is_ours()) else { return Ok(false) };
            let lent = Lent::new(bytes)?;
            Ok(arena.find_shared(lent.bytes().as_ptr(), lent.bytes().len()).is_some())
        })
    }

    /// The pool does not work, because of this exception.
    fn fail(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| {
            self.pool.fail(Failure::Object(self.objects.put(error)?));
            Ok(())
        })
    }

    /// Nobody wants the job any more.
    fn forget(&self, job: JobId) -> PyResult<()> {
        guard::shielded(|| {
            if self.pool.is_ours() {
                self.pool.forget(job);
            }
            Ok(())
        })
    }

    /// Nobody wants the result of this single call.
    fn forget_single(&self, job: JobId, index: u64) -> PyResult<()> {
        guard::shielded(|| {
            if self.pool.is_ours() {
                self.pool.forget_single(job, index);
            }
            Ok(())
        })
    }

    /// Tell the host when this item is finished; says whether it is finished already.
    fn notify_item(&self, job: JobId, index: u64) -> PyResult<bool> {
        guard::shielded(|| Ok(self.ours()?.notify_item(job, index)))
    }

    /// All results of a job that is over, in order, and the failure that came first.
    ///
    /// Nothing when the job was dropped.
    fn gather<'py>(&self, py: Python<'py>, job: JobId) -> PyResult<Option<Values<'py>>> {
        guard::shielded(|| {
            let pool = self.ours()?;
            let Some(offered) = pool.offered(job) else { return Ok(None) };
            let runs = pool.fetch(job);
            let count: u64 = runs.iter().map(|run| run.count).sum();
            if count != offered {
                return Err(super::errors::internal(&format!("{count} results of {offered} items")));
            }
            let mut gathered = Gathered::new(py, count as usize)?;
            for run in runs {
                gathered.take(self, py, run)?;
            }
            gathered.end(py).map(Some)
        })
    }

    /// Begins a map that one thread feeds and gathers, by `advance`.
    fn begin(&self, job: JobId, function: u32, items: &Bound<'_, PyAny>, count: usize) -> PyResult<PoolMap> {
        guard::shielded(|| PoolMap::new(job, function, Source::of(items, !self.threads)?, count, items.py()))
    }

    /// Feeds a map and takes in its results, until it is over: answers as `wait_over`.
    fn advance(&self, py: Python<'_>, map: &Bound<'_, PoolMap>, timeout: Option<f64>) -> PyResult<u8> {
        guard::shielded(|| map.get().advance(self, py, timeout))
    }

    /// Results of a job that may be fetched now: values, and which of them (by their place) are failures.
    fn fetch<'py>(&self, py: Python<'py>, job: JobId) -> PyResult<(Bound<'py, PyList>, Vec<usize>)> {
        guard::shielded(|| {
            let list = PyList::empty(py);
            let mut failures = Vec::new();
            for run in self.ours()?.fetch(job) {
                self.decode(py, run, |value, is_failure| {
                    if is_failure {
                        failures.push(list.len());
                    }
                    list.append(value)
                })?;
            }
            Ok((list, failures))
        })
    }

    /// The same with indices: of each, which item it is, whether it is a failure, and what it is.
    fn fetch_outcomes<'py>(
        &self,
        py: Python<'py>,
        job: JobId,
    ) -> PyResult<Vec<(u64, bool, Bound<'py, PyAny>)>> {
        guard::shielded(|| {
            let mut found = Vec::new();
            for run in self.ours()?.fetch(job) {
                let mut index = run.first;
                self.decode(py, run, |value, is_failure| {
                    found.push((index, is_failure, value));
                    index += 1;
                    Ok(())
                })?;
            }
            Ok(found)
        })
    }

    /// Tell the host (with `WHOLE - 1` for an item) whenever results may be fetched.
    fn observe(&self, job: JobId) -> PyResult<()> {
        guard::shielded(|| {
            self.ours()?.observe(job);
            Ok(())
        })
    }

    /// Nothing more of the job is begun, and nobody wants what was.
    fn cancel(&self, job: JobId) -> PyResult<()> {
        guard::shielded(|| {
            if self.pool.is_ours() {
                self.pool.cancel(job);
            }
            Ok(())
        })
    }

    /// A single call is not to be begun; says whether that came in time.
    fn withdraw(&self, job: JobId, index: u64) -> PyResult<bool> {
        guard::shielded(|| Ok(self.pool.is_ours() && self.pool.withdraw(job, index)))
    }

    /// Whether a worker runs this item.
    fn is_running(&self, job: JobId, index: u64) -> PyResult<bool> {
        guard::shielded(|| Ok(self.pool.is_ours() && self.pool.is_running(job, index)))
    }

    /// How many items of the job are finished, of how many that there are.
    fn progress(&self, job: JobId) -> PyResult<Option<(u64, u64)>> {
        guard::shielded(|| Ok(self.ours()?.progress(job)))
    }

    /// What the pool has done, and is doing: see `coterie.Pool.stats`. Times are in nanoseconds.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guard::shielded(|| {
            let found = self.ours()?.statistics();
            let told = PyDict::new(py);
            told.set_item("seconds", found.seconds)?;
            told.set_item("done", found.done)?;
            told.set_item("waiting", found.waiting)?;
            told.set_item("started", found.started)?;
            told.set_item("deaths", found.deaths)?;
            told.set_item("traffic", found.traffic)?;
            told.set_item("spent", found.spent)?;
            told.set_item("pumping", found.pumping)?;
            told.set_item("memory", found.memory)?;
            told.set_item("workers", found.workers)?;
            told.set_item("encoding", self.encoding.load(Ordering::Relaxed))?;
            told.set_item("decoding", self.decoding.load(Ordering::Relaxed))?;
            Ok(told)
        })
    }

    /// The result of a single call if it is there: whether it is a failure, and what it is.
    fn fetch_single<'py>(
        &self,
        py: Python<'py>,
        job: JobId,
        index: u64,
    ) -> PyResult<Option<(bool, Bound<'py, PyAny>)>> {
        guard::shielded(|| {
            let Some(run) = self.ours()?.fetch_single(job, index) else { return Ok(None) };
            let mut found = None;
            self.decode(py, run, |value, is_failure| {
                found = Some((is_failure, value));
                Ok(())
            })?;
            Ok(found)
        })
    }

    /// Whether the job is over.
    fn is_over(&self, job: JobId) -> PyResult<bool> {
        guard::shielded(|| Ok(self.ours()?.is_over(job)))
    }

    /// Whether the result of a single call is there.
    fn has_single(&self, job: JobId, index: u64) -> PyResult<bool> {
        guard::shielded(|| Ok(self.ours()?.has_single(job, index)))
    }

    /// How many more items of the job should be drawn.
    fn appetite(&self, job: JobId, most: u64) -> PyResult<u64> {
        guard::shielded(|| Ok(self.ours()?.appetite(job, most)))
    }

    /// Waits until the job is over: 0 it is, 1 the time was up, 2 the pool was terminated, 3 it does not work.
    fn wait_over(&self, py: Python<'_>, job: JobId, timeout: Option<f64>) -> PyResult<u8> {
        self.wait(py, timeout, |pool, deadline| pool.wait_over(job, deadline, check_signals))
    }

    /// The same for a single call.
    fn wait_single(&self, py: Python<'_>, job: JobId, index: u64, timeout: Option<f64>) -> PyResult<u8> {
        self.wait(py, timeout, |pool, deadline| pool.wait_single(job, index, deadline, check_signals))
    }

    /// The same for some results of a job.
    fn wait_some(&self, py: Python<'_>, job: JobId, timeout: Option<f64>) -> PyResult<u8> {
        self.wait(py, timeout, |pool, deadline| pool.wait_some(job, deadline, check_signals))
    }

    /// The same for the end of all workers.
    fn wait_stopped(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u8> {
        self.wait(py, timeout, |pool, deadline| pool.wait_stopped(deadline, check_signals))
    }

    /// Takes no more work; stops when all is done.
    fn close(&self) -> PyResult<()> {
        guard::shielded(|| {
            if self.pool.is_ours() {
                self.pool.close();
            }
            Ok(())
        })
    }

    /// Ends all workers at once.
    fn terminate(&self) -> PyResult<()> {
        guard::shielded(|| {
            if self.pool.is_ours() {
                self.pool.terminate();
            }
            Ok(())
        })
    }

    /// Whether no worker is left.
    fn is_stopped(&self) -> PyResult<bool> {
        guard::shielded(|| Ok(!self.pool.is_ours() || self.pool.state() == State::Stopped))
    }

    /// Waits until the pool's threads have ended, after it has stopped.
    fn join_threads(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| {
            let pool = self.ours()?;
            py.detach(|| pool.join_threads());
            Ok(())
        })
    }

    /// Why the pool does not work, if it does not: a word, and what belongs to it.
    fn failure<'py>(&self, py: Python<'py>) -> PyResult<Option<(&'static str, Bound<'py, PyAny>)>> {
        guard::shielded(|| {
            Ok(Some(match self.ours()?.failure() {
                None => return Ok(None),
                Some(Failure::Hopeless(process, signal)) => {
                    ("hopeless", (process, signal).into_pyobject(py)?.into_any())
                }
                Some(Failure::Initializer(body)) => ("initializer", PyBytes::new(py, &body).into_any()),
                Some(Failure::Object(handle)) => ("object", self.objects.look(py, handle)?),
                Some(Failure::CannotStart(why)) => ("start", why.into_pyobject(py)?.into_any()),
            }))
        })
    }

    /// Interrupts what runs of this job, or this item of it; says how many workers run it.
    fn interrupt(&self, job: JobId, item: Option<u64>) -> PyResult<usize> {
        guard::shielded(|| Ok(self.ours()?.interrupt(job, item)))
    }

    /// The same as `wait_over` for the moment when nobody runs an item of the job.
    fn wait_at_rest(
        &self,
        py: Python<'_>,
        job: JobId,
        item: Option<u64>,
        timeout: Option<f64>,
    ) -> PyResult<u8> {
        self.wait(py, timeout, |pool, deadline| pool.wait_at_rest(job, item, deadline, check_signals))
    }

    /// Ends workers that run something of this job, or this item of it; says how many.
    fn kill_runners(&self, job: JobId, item: Option<u64>) -> PyResult<usize> {
        guard::shielded(|| Ok(self.ours()?.kill_runners(job, item)))
    }

    /// Nobody wants the results of the job, which shall be done all the same.
    fn abandon(&self, job: JobId) -> PyResult<()> {
        guard::shielded(|| {
            if self.pool.is_ours() {
                self.pool.abandon(job);
            }
            Ok(())
        })
    }

    /// The desk of a worker that is a thread of this process.
    fn desk(&self, worker: usize) -> PyResult<PoolDesk> {
        guard::shielded(|| {
            let pool = self.ours()?;
            Ok(PoolDesk::new(Arc::clone(pool.memory()), worker, Some(Arc::clone(&self.objects))))
        })
    }

    /// A worker thread has left.
    fn left(&self, worker: usize) -> PyResult<()> {
        guard::shielded(|| {
            self.pool.left(worker);
            Ok(())
        })
    }
}

/// Keeps the threads of all pools out of Python, so that this one may fork; false when they do not leave in time.
/// `pool_resume` must follow, in the child too, and does nothing when this was in vain.
#[pyfunction]
pub(super) fn pool_hold(py: Python<'_>, timeout: f64) -> PyResult<bool> {
    guard::shielded(|| {
        let deadline = deadline(Some(timeout));
        Ok(py.detach(|| gate::hold(deadline)))
    })
}

/// Lets them go on. In a `child` there are none.
#[pyfunction]
#[pyo3(signature = (child = false))]
pub(super) fn pool_resume(child: bool) -> PyResult<()> {
    guard::shielded(|| {
        if child {
            gate::renew();
        }
        gate::release();
        Ok(())
    })
}

/// Waits so many seconds for a process to end, or as long as that takes; says whether it has ended.
#[pyfunction]
pub(super) fn pool_await_end(py: Python<'_>, process: i32, timeout: Option<f64>) -> PyResult<bool> {
    guard::shielded(|| {
        let Ok(process) = system::Process::open(process) else { return Ok(true) };
        let deadline = deadline(timeout);
        loop {
            if py.detach(|| system::ended(None, &[process.watched()], deadline))[0] {
                return Ok(true);
            }
            if system::now() >= deadline {
                return Ok(false);
            }
            py.check_signals()?;
        }
    })
}

/// With as much room for large buffers as is asked for, or else a quarter of what this process may use: that need not
/// be had (address space may be limited as well), and a pool works with less.
fn shared_memory(workers: usize, limit: Option<usize>) -> std::io::Result<Memory> {
    if let Some(limit) = limit {
        return Memory::shared(workers, limit);
    }
    let quarter = usize::try_from(system::memory() / 4).unwrap_or(usize::MAX);
    [quarter, quarter / 8]
        .into_iter()
        .find_map(|limit| Memory::shared(workers, limit).ok())
        .map_or_else(|| Memory::shared(workers, 0), Ok)
}

/// This process is about to fork: what it has in arenas, the child shall see as it is now.
#[pyfunction]
pub(super) fn pool_pin() -> PyResult<()> {
    guard::shielded(|| {
        pin_arenas();
        Ok(())
    })
}

impl PoolCore {
    fn sender<'a, 'py>(&'a self, py: Python<'py>) -> PyResult<Sender<'a, 'py>> {
        let dumps = self.host.bind(py).getattr("dumps")?;
        Ok(Sender { dumps, arena: self.pool.arena(), mode: self.mode, is_crowded: Cell::new(false) })
    }

    fn ours(&self) -> PyResult<&Arc<Pool>> {
        if self.pool.is_ours() {
            return Ok(&self.pool);
        }
        Err(StoppedError::new_err("this pool belongs to the parent process; make a new one here"))
    }

    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        body: impl FnOnce(&Pool, Instant) -> PyResult<Waiting> + Send,
    ) -> PyResult<u8> {
        guard::shielded(|| {
            let pool = self.ours()?;
            let deadline = deadline(timeout);
            Ok(match py.detach(|| body(pool, deadline))? {
                Waiting::Over => 0,
                Waiting::TimedOut => 1,
                Waiting::Stopped => 2,
                Waiting::Failed(_) => 3,
            })
        })
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        mut run: Run,
        mut each: impl FnMut(Bound<'py, PyAny>, bool) -> PyResult<()>,
    ) -> PyResult<()> {
        let _watch = Spent::on(&self.decoding);
        let loads = self.host.bind(py).getattr("loads")?;
        let mut bytes = &run.bytes[..];
        for index in run.first..run.first + run.count {
            if let Some((number, rest)) = Number::split(bytes) {
                each(codec::from_number(py, number)?, false)?;
                bytes = rest;
                continue;
            }
            let Some((header, body, rest)) = split(bytes) else {
                return Err(super::errors::internal("a result is not a message"));
            };
            if header.kind.is_failure() {
                each(self.explain(py, header.kind, index, body)?, true)?;
            } else {
                let mut arrival = Arrival::Worker(&mut run.slots);
                match codec::decode(py, header.kind, body, Some(&loads), Some(&self.objects), &mut arrival) {
                    Ok(value) => each(value, false)?,
                    Err(error) => {
                        let failure =
                            self.host.bind(py).call_method1("cannot_load", (index, error.value(py)))?;
                        each(failure, true)?;
                    }
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    fn explain<'py>(
        &self,
        py: Python<'py>,
        kind: Kind,
        index: u64,
        body: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host.bind(py);
        let number = |at: usize| {
            body.get(at..at + 4).map_or(0, |four| i32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        };
        match kind {
            Kind::ObjectError => {
                codec::decode(py, Kind::Object, body, None, Some(&self.objects), &mut Arrival::Nothing)
            }
            Kind::Died => host.call_method1("died", (index, number(0), number(4))),
            Kind::TimedOut => host.call_method1("timed_out", (index, number(0))),
            _ => host.call_method1("failed", (index, PyBytes::new(py, body))),
        }
    }
}

/// The bug that the environment asks for: only the soak of a build with planted bugs does.
#[cfg(feature = "mutants")]
fn planted() -> Option<crate::pool::scheduler::Mutant> {
    let name = std::env::var("COTERIE_POOL_MUTANT").ok()?;
    crate::pool::scheduler::Mutant::ALL.iter().copied().find(|mutant| format!("{mutant:?}") == name)
}

/// When a time-out in seconds from now is over; without one, never.
fn deadline(timeout: Option<f64>) -> Instant {
    let end = |seconds| system::now() + (Instant::from_seconds(seconds) - Instant::ZERO);
    timeout.map_or(Instant::NEVER, end)
}

fn check_signals() -> PyResult<()> {
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself has one lifetime, not any"
    )]
    Python::attach(|py| py.check_signals())
}

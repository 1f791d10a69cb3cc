//! `coterie.balance` over `crate::balance`.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::ring::{PyRing, Standing, read_key};
use super::{errors, guard};
use crate::balance::{
    self, BoundedHashed, Counters, Event, Hashed, HealthSettings, Healthy, LeaseId, LeastConnections,
    NOWHERE, NoBackend, Outcome, PeakEwma, Placement, Places, Policy, RandomChoice, Refusal, Request,
    RoundRobin, Slot, Stateless, TwoChoices, View, WeightedRandom, WeightedRoundRobin,
};
use crate::random::GOLDEN;
use crate::ring::Key;
use crate::time::Instant;

/// The compiled half of every balancer of `coterie.balance`: a policy, or a layer over another balancer.
#[pyclass(frozen, subclass, module = "coterie._coterie")]
pub(super) struct Balancer {
    shared: Arc<Shared>,
    view: View,
    /// The balancer below, for a layer. Only the lowest one shows the shared objects to the garbage collector.
    below: Option<Py<Balancer>>,
    /// Whether `pick` and `done` need the time.
    timed: bool,
    /// Whether picks without a lock are possible: no layers, and a policy without state.
    lock_free: bool,
}

struct Shared {
    /// Counts publications of `fast`.
    version: AtomicU64,
    /// What a pick without layers needs, where the policy needs no lock.
    fast: ArcSwapOption<Fast>,
    inner: Mutex<Inner>,
    /// Slots by backend, for a backend that is equal to ours but not the same object. `None` while it is added.
    slots: Py<PyDict>,
    clock: OnceLock<Py<PyAny>>,
    /// A `threading.RLock` around each change of the table, and the process that it belongs to. A change looks
    /// backends up by `__hash__` and `__eq__`, which is Python code and must not run under `inner`.
    changes: ArcSwap<(u32, Py<PyAny>)>,
    /// For a policy that places by key: whether integers beyond 64 bits wrap, as its ring has it.
    keyed: Option<bool>,
}

struct Fast {
    policy: Arc<dyn Stateless>,
    active: Vec<Slot>,
    members: Vec<Option<(Py<PyAny>, Arc<Counters>)>>,
    identities: Identities,
}

struct Inner {
    balancer: balance::Balancer,
    backends: Vec<Option<Py<PyAny>>>,
    identities: Identities,
}

/// Slots by object identity: what `pick` gave comes back to `done` as the same object, without a look inside it.
#[derive(Clone, Default)]
struct Identities {
    few: Vec<usize>,
    #[expect(clippy::disallowed_types, reason = "only ever asked for one key, so its order shows nowhere")]
    many: std::collections::HashMap<usize, Slot, BuildHasherDefault<AddressHasher>>,
}

/// Up to so many, comparing addresses one after the other is faster than hashing one.
const FEW: usize = 12;

impl Identities {
    #[inline]
    fn find(&self, backend: *mut pyo3::ffi::PyObject) -> Option<Slot> {
        let address = backend as usize;
        if self.few.len() <= FEW {
            return self.few.iter().position(|&other| other == address).map(|slot| slot as Slot);
        }
        self.many.get(&address).copied()
    }

    fn add(&mut self, slot: Slot, backend: *mut pyo3::ffi::PyObject) {
        let address = backend as usize;
        if self.few.len() <= slot as usize {
            self.few.resize(slot as usize + 1, 0);
        }
        self.few[slot as usize] = address;
        self.many.insert(address, slot);
    }

    fn of(backends: &[Option<Py<PyAny>>]) -> Self {
        let few: Vec<usize> = backends
            .iter()
            .map(|backend| backend.as_ref().map_or(0, |object| object.as_ptr() as usize))
            .collect();
        let many = few.iter().enumerate().map(|(slot, &address)| (address, slot as Slot)).collect();
        Self { few, many }
    }
}

/// Addresses are multiples of 16 and close together; one multiplication spreads them.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }
    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(GOLDEN).rotate_right(20);
    }
}

/// Settings of `coterie.balance.Healthy`, checked by it; times are seconds.
#[derive(FromPyObject)]
struct HealthArguments {
    consecutive_failures: u32,
    success_rate_min: f64,
    window: f64,
    window_requests_min: u32,
    ejection_time: f64,
    ejection_time_max: f64,
    ejected_max: f64,
    panic_threshold: f64,
    slow_start: f64,
}

impl From<HealthArguments> for HealthSettings {
    fn from(arguments: HealthArguments) -> Self {
        Self {
            consecutive_failures: arguments.consecutive_failures,
            success_rate_min: arguments.success_rate_min,
            window: seconds(arguments.window),
            window_requests_min: arguments.window_requests_min,
            ejection_time: seconds(arguments.ejection_time),
            ejection_time_max: seconds(arguments.ejection_time_max),
            ejected_max: arguments.ejected_max,
            panic_threshold: arguments.panic_threshold,
            slow_start: seconds(arguments.slow_start),
        }
    }
}

/// A span that Python has checked; more than a `Duration` can hold is for ever.
fn seconds(span: f64) -> Duration {
    Duration::try_from_secs_f64(span).unwrap_or(Duration::MAX)
}

/// What `Balancer.states` tells of one backend: weight, picks, failures, in flight, expected latency in seconds,
/// whether it drains, why it would be passed over, and its share while it warms up.
type State = (Py<PyAny>, f64, u64, u64, u64, Option<f64>, bool, Option<String>, Option<f64>);

#[pymethods]
impl Balancer {
    #[new]
    #[pyo3(signature = (
        policy, *, below = None, health = None, ring = None, seed = 0, clock = None, decay = 0.0, penalty = 0.0
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "one constructor serves every subclass, which names what it needs"
    )]
    fn new(
        py: Python<'_>,
        policy: &str,
        below: Option<Bound<'_, Self>>,
        health: Option<HealthArguments>,
        ring: Option<&Bound<'_, PyRing>>,
        seed: u64,
        clock: Option<Py<PyAny>>,
        decay: f64,
        penalty: f64,
    ) -> PyResult<Self> {
        guard::shielded(|| {
            if let Some(below) = below {
                let healthy = health.map(|arguments| Healthy::new(arguments.into(), seed));
                return Self::layer(py, below, healthy, clock);
            }
            if let Some(ring) = ring {
                let (standing, nodes, wraps) = ring.get().for_balancer(py)?;
                let policy: Box<dyn Policy> = match placement(standing, vec![NOWHERE; nodes.len()]) {
                    Placement::Free(places) => Box::new(Hashed::new(places)),
                    Placement::Bounded(places) => Box::new(BoundedHashed::new(places)),
                };
                return Self::lowest(py, policy, clock, Some(wraps));
            }
            let policy: Box<dyn Policy> = match policy {
                "round robin" => Box::new(RoundRobin::default()),
                "weighted round robin" => Box::new(WeightedRoundRobin::default()),
                "random" => Box::new(RandomChoice::new(seed)),
                "weighted random" => Box::new(WeightedRandom::new(seed)),
                "least connections" => Box::new(LeastConnections::default()),
                "two choices" => Box::new(TwoChoices::new(seed)),
                "peak ewma" => Box::new(PeakEwma::new(seed, seconds(decay), seconds(penalty))),
                _ => return Err(errors::internal(&format!("there is no policy {policy:?}"))),
            };
            Self::lowest(py, policy, clock, None)
        })
    }

    /// A backend for one request. Tell :meth:`done` when the request has ended, or use :meth:`lease`.
    ///
    /// Parameters
    /// ----------
    /// key : str, bytes or int, optional
    ///     What the request is about. Only :class:`Hashed` looks at it.
    /// exclude : iterable, optional
    ///     Backends that must not get the request: those that failed it before, so that a second attempt goes
    ///     elsewhere. One that the balancer does not have is ignored.
    ///
    /// Returns
    /// -------
    /// backend
    ///     The object that was added.
    ///
    /// Raises
    /// ------
    /// NoBackendError
    ///     No backend may take the request; ``.reasons`` says why each was passed over. Nothing was counted.
    /// TypeError
    ///     The policy places requests by key, and there is none.
    ///
    /// Examples
    /// --------
    /// >>> from coterie.balance import RoundRobin
    /// >>> balancer = RoundRobin(["a", "b"])
    /// >>> balancer.pick(), balancer.pick(), balancer.pick()
    /// ('a', 'b', 'a')
    /// >>> balancer.pick(exclude=["b"])
    /// 'a'
    #[pyo3(signature = (key = None, *, exclude = None))]
    fn pick(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let mut kept = None;
            let key = self.shared.key(key, &mut kept)?;
            if self.lock_free
                && exclude.is_none()
                && let Some(backend) = self.shared.pick_without_lock(py, key)?
            {
                return Ok(backend);
            }
            let now = self.now(py)?;
            let exclude = self.shared.slots_of(exclude)?;
            self.choose(py, Request { now, key, exclude: &exclude }, |_, _| ()).map(|(backend, ())| backend)
        })
    }

    /// A request that was picked for `backend` has ended.
    ///
    /// Parameters
    /// ----------
    /// backend
    ///     What :meth:`pick` returned, or an equal object.
    /// latency : float
    ///     How long it took, in seconds.
    /// ok : bool, default True
    ///     Whether it succeeded. A failure never makes a backend look fast: where load or latency decide, it
    ///     counts as a slow answer.
    ///
    /// Raises
    /// ------
    /// UnknownNodeError
    ///     The balancer does not have that backend, or no longer.
    /// ConfigError
    ///     `latency` is negative or not finite.
    ///
    /// Examples
    /// --------
    /// >>> from coterie.balance import LeastConnections
    /// >>> balancer = LeastConnections(["a", "b"])
    /// >>> backend = balancer.pick()
    /// >>> balancer.done(backend, 0.012)
    /// >>> balancer.stats().backends[backend].in_flight
    /// 0
    #[pyo3(signature = (backend, latency, ok = true))]
    fn done(&self, py: Python<'_>, backend: &Bound<'_, PyAny>, latency: f64, ok: bool) -> PyResult<()> {
        guard::shielded(|| {
            let Ok(latency) = Duration::try_from_secs_f64(latency) else {
                return Err(errors::ConfigError::new_err(format!(
                    "latency is {latency:?}; it must be a number of seconds, from 0 to 1e19"
                )));
            };
            let outcome = if ok { Outcome::Answered(latency) } else { Outcome::Failed(latency) };
            if self.lock_free && self.done_without_lock(py, backend, outcome)? {
                return Ok(());
            }
            self.done_locked(py, backend, outcome)
        })
    }

    /// Adds a backend, or takes a draining one back into service.
    #[pyo3(name = "_insert")]
    fn insert(&self, py: Python<'_>, backend: &Bound<'_, PyAny>, weight: f64, first: bool) -> PyResult<()> {
        guard::shielded(|| {
            let shared = &self.shared;
            let now = shared.now(py)?;
            let _changing = shared.changing(py)?;
            shared.purge(py)?;
            let slots = shared.slots.bind(py);
            if let Some(slot) = slots.get_item(backend)? {
                let slot = slot.extract()?;
                let resume = |inner: &mut Inner| inner.balancer.resume(now, slot, weight);
                if !guard::attached(py, &shared.inner, resume)? {
                    let text = backend.repr()?;
                    return Err(errors::ConfigError::new_err(format!("backend {text} is here already")));
                }
                return shared.publish(py);
            }
            // Before anything else, since this may raise.
            slots.set_item(backend, NOWHERE)?;
            let object = backend.clone().unbind();
            let slot = guard::attached(py, &shared.inner, |inner| {
                let slot = inner.balancer.add(now, weight, first);
                if inner.backends.len() <= slot as usize {
                    inner.backends.resize_with(slot as usize + 1, || None);
                }
                inner.identities.add(slot, object.as_ptr());
                inner.backends[slot as usize] = Some(object);
                slot
            })?;
            slots.set_item(backend, slot)?;
            // Those that a balancer starts with are published together, once all are in.
            if first { Ok(()) } else { shared.publish(py) }
        })
    }

    /// Shows the backends that were inserted first.
    #[pyo3(name = "_publish")]
    fn publish(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| self.shared.publish(py))
    }

    /// Changes the weight of a backend.
    #[pyo3(name = "_weigh")]
    fn weigh(&self, py: Python<'_>, backend: &Bound<'_, PyAny>, weight: f64) -> PyResult<()> {
        guard::shielded(|| {
            let _changing = self.shared.changing(py)?;
            let slot = self.shared.slot(py, backend)?;
            guard::attached(py, &self.shared.inner, |inner| inner.balancer.weigh(slot, weight))?;
            self.shared.publish(py)
        })
    }

    /// Takes a backend out of service: after its last request has ended, or at once.
    #[pyo3(name = "_discard")]
    fn discard(&self, py: Python<'_>, backend: &Bound<'_, PyAny>, drain: bool) -> PyResult<()> {
        guard::shielded(|| {
            let shared = &self.shared;
            let _changing = shared.changing(py)?;
            let slot = shared.slot(py, backend)?;
            guard::attached(py, &shared.inner, |inner| inner.balancer.drain(slot))?;
            shared.publish(py)?;
            guard::attached(py, &shared.inner, |inner| {
                if drain {
                    inner.balancer.settle(slot);
                } else {
                    inner.balancer.drop_now(slot);
                }
            })?;
            self.report(py)
        })
    }

    /// Tells a `Hashed` policy what its ring looks like now. A node that is no backend yet, or no longer, is
    /// passed over.
    #[pyo3(name = "_place")]
    fn place(&self, py: Python<'_>, ring: &Bound<'_, PyRing>) -> PyResult<()> {
        guard::shielded(|| {
            let _changing = self.shared.changing(py)?;
            let (standing, nodes, _) = ring.get().for_balancer(py)?;
            let table = self.shared.slots.bind(py);
            let slots = nodes.iter().map(|node| match table.get_item(node)? {
                Some(slot) => slot.extract::<Slot>(),
                None => Ok(NOWHERE),
            });
            let slots = slots.collect::<PyResult<Vec<Slot>>>()?;
            guard::attached(py, &self.shared.inner, |inner| {
                inner.balancer.place(placement(standing, slots));
            })?;
            self.shared.publish(py)
        })
    }

    /// Tells the `Trusted` layer whether a backend satisfies its policy, or why not.
    #[pyo3(name = "_judge")]
    fn judge(&self, py: Python<'_>, backend: &Bound<'_, PyAny>, refusal: Option<String>) -> PyResult<()> {
        guard::shielded(|| {
            let _changing = self.shared.changing(py)?;
            let slot = self.shared.slot(py, backend)?;
            guard::attached(py, &self.shared.inner, |inner| {
                if let Some(trusted) = inner.balancer.trusted_mut(&self.view) {
                    trusted.judge(slot, refusal);
                }
            })
        })
    }

    /// What is known of each backend.
    #[pyo3(name = "_states")]
    fn states(&self, py: Python<'_>) -> PyResult<Vec<State>> {
        guard::shielded(|| {
            let now = self.shared.now(py)?;
            let states = guard::attached(py, &self.shared.inner, |inner| {
                inner.balancer.expire(now, &self.view);
                let states = inner.balancer.slots(now, &self.view);
                let with_backend = states.into_iter().filter_map(|state| {
                    let backend = inner.backend(py, state.slot)?;
                    let draining = state.refusal == Some(Refusal::Draining);
                    Some((
                        backend,
                        state.weight,
                        state.picks,
                        state.failures,
                        state.in_flight,
                        state.latency.map(|latency| latency.as_secs_f64()),
                        draining,
                        state.refusal.map(|refusal| refusal.to_string()),
                        state.warmth,
                    ))
                });
                with_backend.collect()
            })?;
            self.report(py)?;
            Ok(states)
        })
    }

    /// The lock around each change of the table, for changes that have several steps.
    #[getter(_changes)]
    fn changes(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| self.shared.changes(py))
    }

    /// Whether a `Healthy` layer panics, and how many ejections its limit has prevented.
    #[pyo3(name = "_health")]
    fn health(&self, py: Python<'_>) -> PyResult<(bool, u64)> {
        guard::shielded(|| {
            guard::attached(py, &self.shared.inner, |inner| {
                inner.balancer.healthy(&self.view).fold((false, 0), |(panicking, prevented), layer| {
                    (panicking || layer.panicking(), prevented + layer.not_ejected())
                })
            })
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(below) = &self.below {
            return visit.call(below);
        }
        visit.call(&self.shared.slots)?;
        if let Some(clock) = self.shared.clock.get() {
            visit.call(clock)?;
        }
        // A lock that is taken just now hides its objects, which then count as reachable: late, never wrong.
        if let Ok(inner) = self.shared.inner.try_lock() {
            for backend in inner.backends.iter().flatten() {
                visit.call(backend)?;
            }
        }
        if let Some(fast) = &*self.shared.fast.load() {
            for (backend, _) in fast.members.iter().flatten() {
                visit.call(backend)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        if self.below.is_some() {
            return;
        }
        let backends = self.shared.inner.try_lock().map(|mut inner| std::mem::take(&mut inner.backends));
        drop(self.shared.fast.swap(None));
        drop(backends);
    }
}

impl Balancer {
    fn lowest(
        py: Python<'_>,
        policy: Box<dyn Policy>,
        clock: Option<Py<PyAny>>,
        keyed: Option<bool>,
    ) -> PyResult<Self> {
        let timed = policy.timed();
        let lock_free = policy.stateless().is_some();
        let shared = Shared {
            version: AtomicU64::new(0),
            fast: ArcSwapOption::empty(),
            inner: Mutex::new(Inner {
                balancer: balance::Balancer::new(policy),
                backends: Vec::new(),
                identities: Identities::default(),
            }),
            slots: PyDict::new(py).unbind(),
            clock: clock.map_or_else(OnceLock::new, OnceLock::from),
            changes: ArcSwap::from_pointee(new_lock(py)?),
            keyed,
        };
        Ok(Self { shared: Arc::new(shared), view: View::default(), below: None, timed, lock_free })
    }

    /// A layer over `below`: `Healthy` if there is one, `Trusted` otherwise.
    fn layer(
        py: Python<'_>,
        below: Bound<'_, Self>,
        healthy: Option<Healthy>,
        clock: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let under = below.get();
        let shared = Arc::clone(&under.shared);
        if let Some(clock) = clock {
            // Two looks at a bound method are equal, but not the same object.
            if !shared.clock.get_or_init(|| clock.clone_ref(py)).bind(py).eq(&clock)? {
                return Err(errors::ConfigError::new_err(
                    "the balancer below has a clock of its own; pass that one, or none",
                ));
            }
            if !guard::attached(py, &shared.inner, |inner| inner.balancer.restart_clock())? {
                return Err(errors::ConfigError::new_err(
                    "leases run on the clock of the balancer below; give it its clock before the first lease",
                ));
            }
        }
        let view = guard::attached(py, &shared.inner, |inner| match healthy {
            Some(healthy) => inner.balancer.watch(&under.view, healthy),
            None => inner.balancer.trust(&under.view),
        })?;
        let timed = under.timed || view.timed();
        Ok(Self { shared, view, below: Some(below.unbind()), timed, lock_free: false })
    }

    /// The time, where anybody looks at it.
    fn now(&self, py: Python<'_>) -> PyResult<Instant> {
        if self.timed { self.shared.now(py) } else { Ok(Instant::ZERO) }
    }

    /// Picks a backend and, under the same lock, does something with its slot.
    fn choose<R>(
        &self,
        py: Python<'_>,
        request: Request<'_>,
        then: impl FnOnce(&mut balance::Balancer, Slot) -> R,
    ) -> PyResult<(Py<PyAny>, R)> {
        let shared = &self.shared;
        let (picked, news) = guard::attached(py, &shared.inner, |inner| {
            let picked = inner.balancer.pick(request, &self.view).map(|slot| {
                let result = then(&mut inner.balancer, slot);
                inner.backend(py, slot).map(|backend| (backend, result))
            });
            (picked, inner.balancer.has_news())
        })?;
        if news {
            self.report(py)?;
        }
        match picked {
            Ok(Some(chosen)) => Ok(chosen),
            Ok(None) => Err(errors::internal("a slot without a backend was picked")),
            Err(refusal) => Err(shared.no_backend(py, refusal)),
        }
    }

    fn done_locked(&self, py: Python<'_>, backend: &Bound<'_, PyAny>, outcome: Outcome) -> PyResult<()> {
        let now = self.now(py)?;
        let address = backend.as_ptr();
        let found = guard::attached(py, &self.shared.inner, |inner| {
            let slot = inner.identities.find(address)?;
            inner.balancer.done(now, slot, outcome, &self.view);
            Some(inner.balancer.has_news())
        })?;
        let news = if let Some(news) = found {
            news
        } else {
            let _changing = self.shared.changing(py)?;
            let slot = self.shared.slot(py, backend)?;
            guard::attached(py, &self.shared.inner, |inner| {
                inner.balancer.done(now, slot, outcome, &self.view);
                inner.balancer.has_news()
            })?
        };
        if news { self.report(py) } else { Ok(()) }
    }

    /// Logs what the layers decided and lets go of backends that have gone, once the lock is free again.
    fn report(&self, py: Python<'_>) -> PyResult<()> {
        let shared = &self.shared;
        let events = guard::attached(py, &shared.inner, |inner| {
            let events = inner.balancer.take_events();
            events.into_iter().map(|event| inner.name(py, event)).collect::<Vec<_>>()
        })?;
        shared.purge(py)?;
        for (event, backend) in events {
            let name =
                backend.map(|backend| backend.bind(py).repr().map(|text| text.to_string())).transpose()?;
            log(&event, &name.unwrap_or_default());
        }
        Ok(())
    }

    /// Counts the end of a request without a lock; false when that takes one.
    #[inline]
    fn done_without_lock(
        &self,
        py: Python<'_>,
        backend: &Bound<'_, PyAny>,
        outcome: Outcome,
    ) -> PyResult<bool> {
        let shared = &self.shared;
        let version = shared.version.load(Ordering::SeqCst);
        let fast = shared.fast.load();
        let Some(fast) = &*fast else { return Ok(false) };
        let Some(slot) = fast.identities.find(backend.as_ptr()) else { return Ok(false) };
        let Some((_, counters)) = &fast.members[slot as usize] else { return Ok(false) };
        counters.end(outcome);
        // Whoever began to drain it meanwhile may have found this request still open.
        if shared.version.load(Ordering::SeqCst) != version {
            shared.settle(py, slot)?;
        }
        Ok(true)
    }
}

/// A `threading.RLock` held until this is dropped.
struct Changing<'py>(Bound<'py, PyAny>);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // It can only fail for a lock that this thread does not hold.
        let _ = self.0.call_method0("release");
    }
}

fn new_lock(py: Python<'_>) -> PyResult<(u32, Py<PyAny>)> {
    Ok((std::process::id(), py.import("threading")?.call_method0("RLock")?.unbind()))
}

impl Inner {
    fn backend(&self, py: Python<'_>, slot: Slot) -> Option<Py<PyAny>> {
        Some(self.backends.get(slot as usize)?.as_ref()?.clone_ref(py))
    }

    fn name(&self, py: Python<'_>, event: Event) -> (Event, Option<Py<PyAny>>) {
        let backend = match &event {
            Event::Ejected { slot, .. } | Event::NotEjected { slot, .. } | Event::Returned { slot } => {
                self.backend(py, *slot)
            }
            Event::Panicking { .. } | Event::Calmed { .. } => None,
        };
        (event, backend)
    }
}

impl Shared {
    /// Keeps all other threads from changing the table, until the result is dropped. It is taken before `inner`,
    /// never after.
    fn changing<'py>(&self, py: Python<'py>) -> PyResult<Changing<'py>> {
        let lock = self.changes(py)?.into_bound(py);
        lock.call_method0("acquire")?;
        Ok(Changing(lock))
    }

    fn changes(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.changes.load().0 != std::process::id() {
            // A forked child: whoever held the lock is not in it.
            self.changes.store(Arc::new(new_lock(py)?));
        }
        Ok(self.changes.load().1.clone_ref(py))
    }

    /// Lets go of the backends that have gone. Only from here on may their slots mean others.
    fn purge(&self, py: Python<'_>) -> PyResult<()> {
        if !guard::attached(py, &self.inner, |inner| inner.balancer.has_gone())? {
            return Ok(());
        }
        let _changing = self.changing(py)?;
        let gone = guard::attached(py, &self.inner, |inner| {
            let gone = inner.balancer.take_gone();
            let gone: Vec<_> =
                gone.into_iter().filter_map(|slot| inner.backends.get_mut(slot as usize)?.take()).collect();
            inner.identities = Identities::of(&inner.backends);
            gone
        })?;
        for backend in gone {
            self.slots.bind(py).del_item(backend)?;
        }
        Ok(())
    }

    /// Lets a draining backend go whose last request has just ended.
    fn settle(&self, py: Python<'_>, slot: Slot) -> PyResult<()> {
        guard::attached(py, &self.inner, |inner| inner.balancer.settle(slot))?;
        self.purge(py)
    }

    /// The key, for a policy that looks at it. It borrows from what it is read from, or from `kept`.
    #[inline]
    fn key<'a, 'py: 'a>(
        &self,
        key: Option<&'a Bound<'py, PyAny>>,
        kept: &'a mut Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Key<'a>>> {
        match (self.keyed, key) {
            (Some(wraps), Some(key)) => read_key(key.as_borrowed(), wraps, kept).map(Some),
            _ => Ok(None),
        }
    }

    /// A pick that takes no lock; `None` when it has to.
    #[inline]
    fn pick_without_lock(&self, py: Python<'_>, key: Option<Key<'_>>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let version = self.version.load(Ordering::SeqCst);
            let fast = self.fast.load();
            let Some(fast) = &*fast else { return Ok(None) };
            if fast.active.is_empty() {
                return Ok(None);
            }
            let request = Request { now: Instant::ZERO, key, exclude: &[] };
            let Some(slot) = fast.policy.pick(request, &fast.active) else { return Ok(None) };
            let Some((backend, counters)) = &fast.members[slot as usize] else {
                return Err(errors::internal("a slot without a backend was picked"));
            };
            counters.begin();
            // A backend that was drained meanwhile must not get the request: its drain may have ended already.
            if self.version.load(Ordering::SeqCst) == version {
                return Ok(Some(backend.clone_ref(py)));
            }
            counters.end(Outcome::Abandoned(Duration::ZERO));
            self.settle(py, slot)?;
        }
    }

    /// Shows the present backends to the picks that take no lock.
    fn publish(&self, py: Python<'_>) -> PyResult<()> {
        let old = guard::attached(py, &self.inner, |inner| {
            let fast = inner.balancer.stateless().map(|(policy, active)| {
                let mut members = Vec::new();
                members.resize_with(inner.backends.len(), || None);
                for &slot in &active {
                    members[slot as usize] = inner.backend(py, slot).zip(inner.balancer.counters(slot));
                }
                let served: Vec<Option<Py<PyAny>>> = members
                    .iter()
                    .map(|member| member.as_ref().map(|(backend, _)| backend.clone_ref(py)))
                    .collect();
                let identities = Identities::of(&served);
                Arc::new(Fast { policy, active, members, identities })
            });
            let old = self.fast.swap(fast);
            self.version.fetch_add(1, Ordering::SeqCst);
            old
        })?;
        drop(old); // here and not under the lock, since it may be the last owner of a Python object
        Ok(())
    }

    /// The slots of those of `backends` that are here.
    fn slots_of(&self, backends: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Slot>> {
        let Some(backends) = backends else { return Ok(Vec::new()) };
        if backends.is_instance_of::<PyString>() || backends.is_instance_of::<PyBytes>() {
            return Err(PyTypeError::new_err(
                "exclude is one text, not several backends; put it into a list",
            ));
        }
        let slots = self.slots.bind(backends.py());
        let mut found = Vec::new();
        for backend in backends.try_iter()? {
            if let Some(slot) = slots.get_item(backend?)? {
                found.push(slot.extract::<Slot>()?);
            }
        }
        Ok(found)
    }

    /// The slot of `backend` or of one that is equal to it.
    fn slot(&self, py: Python<'_>, backend: &Bound<'_, PyAny>) -> PyResult<Slot> {
        self.purge(py)?;
        match self.slots.bind(py).get_item(backend)? {
            Some(slot) => slot.extract(),
            None => Err(errors::unknown_node(backend, "backend")),
        }
    }

    fn now(&self, py: Python<'_>) -> PyResult<Instant> {
        match self.clock.get() {
            None => Ok(monotonic()),
            Some(clock) => {
                let seconds: f64 = clock.bind(py).call0()?.extract()?;
                // Time never goes back, so one reading from beyond all time would stop it.
                if seconds.is_finite() && seconds < CLOCK_MAX {
                    return Ok(Instant::from_seconds(seconds));
                }
                Err(errors::ConfigError::new_err(format!(
                    "the clock says {seconds:e}; it must return seconds, below {CLOCK_MAX:e}"
                )))
            }
        }
    }

    fn no_backend(&self, py: Python<'_>, refusal: NoBackend) -> PyErr {
        let slots = match refusal {
            NoBackend::KeyMissing => {
                return PyTypeError::new_err("pick() needs a key: this balancer places requests by key");
            }
            NoBackend::Refused(slots) => slots,
        };
        let named: PyResult<Vec<_>> = guard::attached(py, &self.inner, |inner| {
            let named = slots
                .into_iter()
                .filter_map(|(slot, refusal)| Some((inner.backend(py, slot)?, refusal.to_string())));
            named.collect()
        });
        named.map_or_else(|error| error, |reasons| errors::no_backend(py, &reasons))
    }
}

fn placement(standing: Standing, slots: Vec<Slot>) -> Placement {
    match standing {
        Standing::Core(core) => Placement::Free(Places { ring: core.shared(), slots }),
        Standing::Bounded(ring) => Placement::Bounded(Places { ring: Arc::new(ring), slots }),
    }
}

/// Seconds: 317 years, well within an `Instant`.
const CLOCK_MAX: f64 = 1e10;

/// Nanoseconds since the first call.
#[expect(clippy::disallowed_methods, reason = "the bindings are where the machine's clock enters")]
fn monotonic() -> Instant {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    Instant::ZERO + START.get_or_init(std::time::Instant::now).elapsed()
}

fn log(event: &Event, backend: &str) {
    match event {
        Event::Ejected { cause, length, .. } => {
            tracing::warn!(target: "coterie::balance", "ejected {backend} for {length:?}: {cause}");
        }
        Event::NotEjected { cause, ejected, limit, .. } => tracing::warn!(
            target: "coterie::balance",
            "did not eject {backend} ({cause}): {ejected} backends are ejected, and ejected_max allows {limit}"
        ),
        Event::Returned { .. } => tracing::info!(target: "coterie::balance", "{backend} is back"),
        Event::Panicking { healthy, backends } => tracing::warn!(
            target: "coterie::balance",
            "panic: only {healthy} of {backends} backends are healthy, so health is ignored"
        ),
        Event::Calmed { healthy, backends } => {
            tracing::info!(target: "coterie::balance", "panic over: {healthy} of {backends} backends are healthy");
        }
    }
}

/// A request that is being served; closing it is `done`.
#[pyclass(frozen, subclass, module = "coterie._coterie")]
pub(super) struct Lease {
    balancer: Py<Balancer>,
    backend: Py<PyAny>,
    id: LeaseId,
}

#[pymethods]
impl Lease {
    #[new]
    fn new(
        balancer: &Bound<'_, Balancer>,
        key: Option<&Bound<'_, PyAny>>,
        exclude: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Self> {
        guard::shielded(|| {
            let py = balancer.py();
            let this = balancer.get();
            let now = this.shared.now(py)?;
            guard::attached(py, &this.shared.inner, |inner| inner.balancer.expire(now, &this.view))?;
            let exclude = this.shared.slots_of(exclude)?;
            let until = timeout.map_or(Instant::NEVER, |timeout| now + seconds(timeout));
            let mut kept = None;
            let key = this.shared.key(key, &mut kept)?;
            let (backend, id) =
                this.choose(py, Request { now, key, exclude: &exclude }, |balancer, slot| {
                    balancer.lease(now, slot, until)
                })?;
            Ok(Self { balancer: balancer.clone().unbind(), backend, id })
        })
    }

    /// The backend that serves the request.
    #[getter]
    fn backend(&self, py: Python<'_>) -> Py<PyAny> {
        self.backend.clone_ref(py)
    }

    /// Ends the lease: well, badly, or (`None`) nobody can tell. False when it had ended before.
    #[pyo3(name = "_finish")]
    fn finish(&self, py: Python<'_>, ok: Option<bool>) -> PyResult<bool> {
        guard::shielded(|| {
            let balancer = self.balancer.get();
            let now = balancer.shared.now(py)?;
            let outcome = |latency| match ok {
                Some(true) => Outcome::Answered(latency),
                Some(false) => Outcome::Failed(latency),
                None => Outcome::Abandoned(latency),
            };
            let (closed, news) = guard::attached(py, &balancer.shared.inner, |inner| {
                let closed = inner.balancer.close(now, self.id, outcome, &balancer.view);
                (closed, inner.balancer.has_news())
            })?;
            if news {
                balancer.report(py)?;
            }
            Ok(closed)
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.balancer)?;
        visit.call(&self.backend)
    }
}

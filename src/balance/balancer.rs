//! One table of backends, one policy over it, any number of layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Healthy, Outcome, Placement, Policy, Request, Slot, Stateless, Trusted};
use crate::time::Instant;

/// The layers that a caller looks through, as indices from [`Balancer::trust`] and [`Balancer::watch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    trusted: Vec<usize>,
    healthy: Vec<usize>,
}

impl View {
    /// Whether there are no layers.
    pub fn is_bare(&self) -> bool {
        self.trusted.is_empty() && self.healthy.is_empty()
    }

    /// Whether the layers look at the time.
    pub fn timed(&self) -> bool {
        !self.healthy.is_empty()
    }
}

/// A lease in the balancer's table.
pub type LeaseId = u64;

/// Why one backend did not get the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was removed and only finishes what it has.
    Draining,
    /// The request was not to go there.
    Excluded,
    /// A layer refuses it, for this reason.
    Layer(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => formatter.write_str("draining: it was removed"),
            Self::Excluded => formatter.write_str("excluded by the request"),
            Self::Layer(reason) => formatter.write_str(reason),
        }
    }
}

/// Why there is no backend for a request. Nothing was counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBackend {
    /// All were refused; an empty list means that there are none at all.
    #[error("no backend may take the request")]
    Refused(Vec<(Slot, Refusal)>),
    /// The policy places requests by key, and this one has none.
    #[error("the policy places requests by key, and this request has none")]
    KeyMissing,
}

/// What the layers decided; for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A backend is out.
    Ejected {
        /// Which.
        slot: Slot,
        /// Why.
        cause: String,
        /// For how long.
        length: Duration,
    },
    /// A backend should be out, but too many are.
    NotEjected {
        /// Which.
        slot: Slot,
        /// Why it should be out.
        cause: String,
        /// How many are.
        ejected: usize,
        /// How many may be.
        limit: usize,
    },
    /// A backend is back.
    Returned {
        /// Which.
        slot: Slot,
    },
    /// Too few backends are healthy: health is ignored from here on.
    Panicking {
        /// How many are healthy.
        healthy: usize,
        /// Of how many.
        backends: usize,
    },
    /// Enough backends are healthy again.
    Calmed {
        /// How many are healthy.
        healthy: usize,
        /// Of how many.
        backends: usize,
    },
}

/// Requests of one backend.
///
/// `begin` is ordered with what follows it (a look at whether the table has changed meanwhile), and `in_flight`
/// with what precedes it (that change): so a backend that drains is never forgotten under a fresh request.
#[derive(Debug, Default)]
pub struct Counters {
    picks: AtomicU64,
    ends: AtomicU64,
    failures: AtomicU64,
}

impl Counters {
    /// A request was given to the backend.
    #[inline]
    pub fn begin(&self) {
        self.picks.fetch_add(1, Ordering::SeqCst);
    }

    /// A request has ended.
    #[inline]
    pub fn end(&self, outcome: Outcome) {
        if self.in_flight() == 0 {
            return; // an end without a beginning: `done` twice, or for a request of before a removal
        }
        self.ends.fetch_add(1, Ordering::SeqCst);
        if matches!(outcome, Outcome::Failed(_)) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests given to the backend so far.
    pub fn picks(&self) -> u64 {
        self.picks.load(Ordering::Relaxed)
    }

    /// Those of them that failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Those of them that have not ended. `done` without `pick` never makes it negative.
    pub fn in_flight(&self) -> u64 {
        let ends = self.ends.load(Ordering::SeqCst);
        self.picks.load(Ordering::SeqCst).saturating_sub(ends)
    }
}

/// A backend in the table, as [`Balancer::slots`] tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotState {
    /// Which.
    pub slot: Slot,
    /// Its weight.
    pub weight: f64,
    /// Requests given to it.
    pub picks: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that have not ended.
    pub in_flight: u64,
    /// The latency that the policy expects of it, where it measures one.
    pub latency: Option<Duration>,
    /// Why it would not get a request now.
    pub refusal: Option<Refusal>,
    /// The share of its requests that it gets while it warms up.
    pub warmth: Option<f64>,
}

#[derive(Debug)]
struct Backend {
    weight: f64,
    draining: bool,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Lease {
    slot: Slot,
    began: Instant,
    until: Instant,
}

/// One table of backends, one policy over it, and any number of layers.
#[derive(Debug)]
pub struct Balancer {
    policy: Box<dyn Policy>,
    backends: Vec<Option<Backend>>,
    /// Slots that take requests, in the order in which they came.
    active: Vec<Slot>,
    trusted: Vec<Trusted>,
    healthy: Vec<Healthy>,
    leases: BTreeMap<LeaseId, Lease>,
    expiries: BTreeSet<(Instant, LeaseId)>,
    leases_begun: LeaseId,
    now: Instant,
    events: Vec<Event>,
    /// Filled anew by each layered pick; kept for its memory.
    candidates: Vec<Slot>,
    gone: Vec<Slot>,
}

impl Balancer {
    /// A balancer without backends.
    pub fn new(policy: Box<dyn Policy>) -> Self {
        Self {
            policy,
            backends: Vec::new(),
            active: Vec::new(),
            trusted: Vec::new(),
            healthy: Vec::new(),
            leases: BTreeMap::new(),
            expiries: BTreeSet::new(),
            leases_begun: 0,
            now: Instant::ZERO,
            events: Vec::new(),
            candidates: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// A layer that admits only backends that [`Trusted::judge`] found trustworthy, on top of `view`.
    pub fn trust(&mut self, view: &View) -> View {
        self.trusted.push(Trusted::default());
        let mut view = view.clone();
        view.trusted.push(self.trusted.len() - 1);
        view
    }

    /// A layer that ejects failing backends, on top of `view`.
    pub fn watch(&mut self, view: &View, healthy: Healthy) -> View {
        self.healthy.push(healthy);
        let mut view = view.clone();
        view.healthy.push(self.healthy.len() - 1);
        view
    }

    /// The uppermost `Trusted` layer of `view`.
    pub fn trusted_mut(&mut self, view: &View) -> Option<&mut Trusted> {
        view.trusted.last().map(|&layer| &mut self.trusted[layer])
    }

    /// The `Healthy` layers of `view`.
    pub fn healthy<'a>(&'a self, view: &'a View) -> impl Iterator<Item = &'a Healthy> {
        view.healthy.iter().map(|&layer| &self.healthy[layer])
    }

    /// A new backend. `first`: one of those that the balancer starts with, which need no warming up.
    pub fn add(&mut self, now: Instant, weight: f64, first: bool) -> Slot {
        let now = self.advance(now);
        let backend = Backend { weight, draining: false, counters: Arc::default() };
        // Whoever keeps what a slot means has to hear that it has gone before it may mean something else.
        let free = (0..self.backends.len())
            .find(|&slot| self.backends[slot].is_none() && !self.gone.contains(&(slot as Slot)));
        let slot = if let Some(free) = free {
            self.backends[free] = Some(backend);
            free as Slot
        } else {
            self.backends.push(Some(backend));
            (self.backends.len() - 1) as Slot
        };
        self.active.push(slot);
        self.policy.weigh(slot, weight);
        for healthy in &mut self.healthy {
            healthy.welcome(now, slot, first);
        }
        slot
    }

    /// Takes a draining backend back into service, as if it were new. False when it was not draining.
    pub fn resume(&mut self, now: Instant, slot: Slot, weight: f64) -> bool {
        let now = self.advance(now);
        let Some(backend) = self.backend_mut(slot).filter(|backend| backend.draining) else { return false };
        backend.draining = false;
        backend.weight = weight;
        self.active.push(slot);
        // What vouched for it then does not vouch for it now.
        self.trusted.iter_mut().for_each(|layer| layer.forget(slot));
        self.policy.weigh(slot, weight);
        for healthy in &mut self.healthy {
            healthy.welcome(now, slot, false);
        }
        true
    }

    /// Changes a weight while serving.
    pub fn weigh(&mut self, slot: Slot, weight: f64) {
        if let Some(backend) = self.backend_mut(slot) {
            backend.weight = weight;
            self.policy.weigh(slot, weight);
        }
    }

    /// Tells a policy that places by key where keys belong from now on.
    pub fn place(&mut self, placement: Placement) {
        self.policy.place(placement);
    }

    /// No new requests for `slot` from here on; [`Balancer::settle`] ends it when its last one has ended. Between
    /// the two, a caller who picks [without a lock](Balancer::stateless) publishes the change.
    pub fn drain(&mut self, slot: Slot) {
        self.active.retain(|&active| active != slot);
        if let Some(backend) = self.backend_mut(slot) {
            backend.draining = true;
        }
    }

    /// Forgets a draining backend that has nothing open. True when it has gone.
    pub fn settle(&mut self, slot: Slot) -> bool {
        let idle = self
            .backend_mut(slot)
            .is_some_and(|backend| backend.draining && backend.counters.in_flight() == 0);
        if idle {
            self.forget(slot);
        }
        idle
    }

    /// Forgets `slot` at once, whatever is open.
    pub fn drop_now(&mut self, slot: Slot) {
        self.active.retain(|&active| active != slot);
        let leases: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.slot == slot).map(|(&id, _)| id).collect();
        for id in leases {
            self.strike(id);
        }
        self.forget(slot);
    }

    /// The slots that have gone since the last call: from now on their numbers may mean other backends.
    pub fn take_gone(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.gone)
    }

    /// A backend for `request`, which must be followed by one [`Balancer::done`].
    #[inline]
    pub fn pick(&mut self, request: Request<'_>, view: &View) -> Result<Slot, NoBackend> {
        let slot = if view.is_bare() && request.exclude.is_empty() {
            if self.active.is_empty() {
                return Err(self.refusals(request, view));
            }
            self.policy.pick(request, &self.active)
        } else {
            self.narrow(request.now, view);
            self.candidates.retain(|slot| !request.exclude.contains(slot));
            if self.candidates.is_empty() {
                return Err(self.refusals(request, view));
            }
            self.policy.pick(request, &self.candidates)
        };
        let slot = slot.ok_or(NoBackend::KeyMissing)?;
        if let Some(backend) = &self.backends[slot as usize] {
            backend.counters.begin();
        }
        Ok(slot)
    }

    /// A request that was picked for `slot` has ended.
    #[inline]
    pub fn done(&mut self, now: Instant, slot: Slot, outcome: Outcome, view: &View) {
        let Some(backend) = self.backends.get(slot as usize).and_then(Option::as_ref) else { return };
        backend.counters.end(outcome);
        let draining = backend.draining;
        self.policy.done(now, slot, outcome);
        if !view.healthy.is_empty() {
            let now = self.advance(now);
            self.admit_trusted(view);
            for &layer in &view.healthy {
                self.healthy[layer].done(now, slot, outcome, &self.candidates, &mut self.events);
            }
        }
        if draining {
            self.settle(slot);
        }
    }

    /// Notes a lease on a request that was picked for `slot`; it ends by itself at `until`.
    pub fn lease(&mut self, now: Instant, slot: Slot, until: Instant) -> LeaseId {
        self.leases_begun += 1;
        self.leases.insert(self.leases_begun, Lease { slot, began: now, until });
        self.expiries.insert((until, self.leases_begun));
        self.leases_begun
    }

    /// Ends a lease with an outcome that depends on how long it lasted. False when it had ended before.
    pub fn close(
        &mut self,
        now: Instant,
        id: LeaseId,
        outcome: impl FnOnce(Duration) -> Outcome,
        view: &View,
    ) -> bool {
        let Some(lease) = self.strike(id) else { return false };
        self.done(now, lease.slot, outcome(now - lease.began), view);
        true
    }

    /// Ends the leases whose time is over. How their requests ended, nobody can tell.
    pub fn expire(&mut self, now: Instant, view: &View) -> usize {
        let mut expired = 0;
        while let Some(&(until, id)) = self.expiries.first() {
            if until > now {
                break;
            }
            self.close(now, id, Outcome::Abandoned, view);
            expired += 1;
        }
        expired
    }

    /// What the layers have decided since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether there is anything for [`Balancer::take_gone`].
    pub fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Whether there is anything for [`Balancer::take_events`] or [`Balancer::take_gone`].
    #[inline]
    pub fn has_news(&self) -> bool {
        !(self.events.is_empty() && self.gone.is_empty())
    }

    /// Whether the policy looks at the time.
    pub fn timed(&self) -> bool {
        self.policy.timed()
    }

    /// The policy without a lock and the slots that it chooses from, where it is stateless.
    pub fn stateless(&self) -> Option<(Arc<dyn Stateless>, Vec<Slot>)> {
        self.policy.stateless().map(|policy| (policy, self.active.clone()))
    }

    /// The counters of `slot`.
    pub fn counters(&self, slot: Slot) -> Option<Arc<Counters>> {
        let backend = self.backends.get(slot as usize)?.as_ref()?;
        Some(Arc::clone(&backend.counters))
    }

    /// All backends, seen through `view`: those in service in the order in which they came, then those that drain.
    pub fn slots(&mut self, now: Instant, view: &View) -> Vec<SlotState> {
        let now = self.advance(now);
        let draining = self.known().filter(|(_, backend)| backend.draining).map(|(slot, _)| slot);
        let order: Vec<Slot> = self.active.iter().copied().chain(draining).collect();
        order.into_iter().filter_map(|slot| self.state(now, slot, view)).collect()
    }

    /// From here on, another clock tells the time. False, and nothing changes, while leases run on the old one.
    pub fn restart_clock(&mut self) -> bool {
        if self.leases.is_empty() {
            self.now = Instant::ZERO;
        }
        self.leases.is_empty()
    }

    /// The clock never goes back here, whatever it does outside.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn narrow(&mut self, now: Instant, view: &View) {
        let now = self.advance(now);
        // Trust comes first wherever it stands in the stack: a panic about health must not widen it.
        self.admit_trusted(view);
        for &layer in &view.healthy {
            self.healthy[layer].narrow(now, &mut self.candidates, &mut self.events);
        }
    }

    fn admit_trusted(&mut self, view: &View) {
        self.candidates.clear();
        self.candidates.extend_from_slice(&self.active);
        for &layer in &view.trusted {
            let trusted = &self.trusted[layer];
            self.candidates.retain(|&slot| trusted.refusal(slot).is_none());
        }
    }

    fn refusal(&self, now: Instant, slot: Slot, view: &View) -> Option<Refusal> {
        if self.backends[slot as usize].as_ref().is_some_and(|backend| backend.draining) {
            return Some(Refusal::Draining);
        }
        let distrust =
            view.trusted.iter().find_map(|&layer| self.trusted[layer].refusal(slot).map(str::to_owned));
        distrust
            .or_else(|| view.healthy.iter().find_map(|&layer| self.healthy[layer].refusal(now, slot)))
            .map(Refusal::Layer)
    }

    fn refusals(&self, request: Request<'_>, view: &View) -> NoBackend {
        let now = self.now.max(request.now);
        let refusals = self.known().filter_map(|(slot, _)| {
            let excluded = || request.exclude.contains(&slot).then_some(Refusal::Excluded);
            Some((slot, self.refusal(now, slot, view).or_else(excluded)?))
        });
        NoBackend::Refused(refusals.collect())
    }

    fn state(&self, now: Instant, slot: Slot, view: &View) -> Option<SlotState> {
        let backend = self.backends.get(slot as usize)?.as_ref()?;
        Some(SlotState {
            slot,
            weight: backend.weight,
            picks: backend.counters.picks(),
            failures: backend.counters.failures(),
            in_flight: backend.counters.in_flight(),
            latency: self.policy.latency(now, slot),
            refusal: self.refusal(now, slot, view),
            warmth: view.healthy.iter().find_map(|&layer| self.healthy[layer].warmth(now, slot)),
        })
    }

    fn known(&self) -> impl Iterator<Item = (Slot, &Backend)> {
        self.backends.iter().enumerate().filter_map(|(slot, backend)| Some((slot as Slot, backend.as_ref()?)))
    }

    fn backend_mut(&mut self, slot: Slot) -> Option<&mut Backend> {
        self.backends.get_mut(slot as usize)?.as_mut()
    }

    fn strike(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.expiries.remove(&(lease.until, id));
        Some(lease)
    }

    fn forget(&mut self, slot: Slot) {
        self.backends[slot as usize] = None;
        self.policy.forget(slot);
        self.trusted.iter_mut().for_each(|layer| layer.forget(slot));
        self.healthy.iter_mut().for_each(|layer| layer.forget(slot));
        self.gone.push(slot);
    }
}

//! The store itself.

use bytes::Bytes;

use super::history::{History, Place, Slot, Version, fold};
use super::leases::{LEASE_WEIGHT, Lease, Leases, TTL_MAX};
use super::locks::{Locks, Turn};
use super::watches::Watches;
use super::{
    Answer, Command, Compare, Comparison, Contents, Done, Entry, Expected, Keys, LeaseId, LeaseTerms, Limits,
    Operation, Order, Past, Put, PutLease, Query, Range, Refusal, Reply, Revision, Status, Target, Ticket,
    Watch, WatchToken, lock_key,
};
use crate::wire::{Decode, Encode};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a command or a query gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<T = Bytes> {
    /// This.
    Now(T),
    /// Nothing yet: [`Store::take_woken`] or [`Store::take_watched`] will have it.
    Later,
}

/// What has happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseChange {
    /// Which.
    pub lease: LeaseId,
    /// What holds for it now; `None`: it is over.
    pub terms: Option<LeaseTerms>,
}

/// A replicated store: see the [module](self).
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) limits: Limits,
    pub(super) history: History,
    pub(super) leases: Leases,
    pub(super) locks: Locks,
    pub(super) alarm: bool,
    watches: Watches,
    lease_changes: Vec<LeaseChange>,
    woken: Vec<(Ticket, Answer)>,
    watched: Vec<(WatchToken, Answer)>,
    /// What the command at hand has changed.
    touched: Vec<Place>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Store {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            history: History::new(),
            leases: Leases::default(),
            locks: Locks::default(),
            alarm: false,
            watches: Watches::default(),
            lease_changes: Vec::new(),
            woken: Vec::new(),
            watched: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// What it may hold.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// The present revision.
    pub const fn revision(&self) -> Revision {
        self.history.revision
    }

    /// History before it is forgotten; 0: nothing is.
    pub const fn compacted(&self) -> Revision {
        self.history.compacted
    }

    /// Whether the quota was reached.
    pub const fn is_alarmed(&self) -> bool {
        self.alarm
    }

    /// A key that is there.
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        self.history.get(key).map(|slot| slot.latest.entry(&slot.key))
    }

    /// A lease that lives.
    pub fn lease(&self, lease: LeaseId) -> Option<LeaseTerms> {
        self.leases.all.get(&lease).map(|lease| lease.terms)
    }

    /// All leases that live.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, LeaseTerms)> {
        self.leases.all.iter().map(|(id, lease)| (*id, lease.terms))
    }

    /// Whether the command at that place of the log still waits.
    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        self.locks.is_waiting(ticket)
    }

    /// How many watches wait.
    pub fn watches(&self) -> usize {
        self.watches.len()
    }

    /// What all entries, their history, leases and what waits weigh, in bytes.
    pub fn bytes(&self) -> u64 {
        self.history.bytes + self.leases.all.len() as u64 * LEASE_WEIGHT + self.locks.bytes()
    }

    /// Sums up all that is replicated: members that have applied the same entries have the same.
    pub fn digest(&self) -> u64 {
        digest(
            (self.history.revision, self.history.compacted, self.alarm),
            self.history.digest,
            self.leases.digest(),
            self.locks.digest(),
        )
    }

    /// All that is replicated, spelled out.
    pub fn contents(&self) -> Contents {
        let history = &self.history;
        let versions =
            history.after(None).flat_map(|slot| slot.versions().map(|version| version.entry(&slot.key)));
        let leases = self.leases.all.iter();
        let mut waits: Vec<_> = self
            .locks
            .queues
            .values()
            .flat_map(|queue| &queue.waits)
            .map(|(key, waits)| (key.clone(), waits.lease, waits.tickets.clone()))
            .collect();
        waits.sort();
        Contents {
            revision: self.revision(),
            compacted: self.compacted(),
            alarm: self.alarm,
            versions: versions.collect(),
            leases: leases
                .map(|(id, lease)| (*id, lease.terms, lease.keys.iter().cloned().collect()))
                .collect(),
            waits,
        }
    }

    /// Executes the command at `index` of the log, from its bytes. Whatever they are, every member does the same.
    pub fn execute(&mut self, index: Ticket, command: &Bytes) -> Response {
        let bytes = command.len() as u64;
        let response = if bytes > self.limits.request_bytes_max {
            self.refuse(Refusal::TooLarge { bytes, limit: self.limits.request_bytes_max })
        } else {
            match Command::from_bytes(command.clone(), super::VERSION) {
                Ok(command) => self.operate(index, command),
                Err(_) => self.refuse(Refusal::Malformed),
            }
        };
        match response {
            Response::Now(answer) => Response::Now(answer.to_bytes()),
            Response::Later => Response::Later,
        }
    }

    /// Executes the command at `index` of the log.
    pub fn operate(&mut self, index: Ticket, command: Command) -> Response<Answer> {
        let reply = match command {
            Command::Put(put) => self.transact_one(Operation::Put(put)),
            Command::Delete { keys, previous } => self.transact_one(Operation::Delete { keys, previous }),
            Command::Transaction { compares, success, failure } => {
                self.transact(&compares, &success, &failure)
            }
            Command::CompareAndSwap { key, expected, value, lease } => {
                self.compare_and_swap(&key, expected.as_ref(), value, lease)
            }
            Command::Grant { lease, ttl, home } => self.grant(index, lease, ttl, home),
            Command::Revoke { lease } => self.revoke(lease),
            Command::Attach { lease, home } => self.attach(index, lease, home),
            Command::Compact { revision } => self.compact(revision),
            Command::Acquire { name, lease, value, wait } => {
                if let Some(reply) = self.acquire(index, &name, lease, &value, wait) {
                    reply
                } else {
                    self.commit();
                    return Response::Later;
                }
            }
            Command::Release { name, lease } => Ok(self.release(&name, lease)),
            Command::Disarm => self.disarm(),
        };
        self.commit();
        Response::Now(Answer { revision: self.revision(), reply: reply.unwrap_or_else(Reply::Refused) })
    }

    /// The time of a lease is over, or its holder is gone: unless it was attached anew meanwhile, it ends.
    pub fn expire(&mut self, lease: LeaseId, attachment: u64) {
        let ignores = mutant!(self, ExpiryOfAnotherConnection);
        if self.lease(lease).is_some_and(|terms| terms.attachment == attachment || ignores) {
            // What it would refuse is not there.
            let _ = self.revoke(lease);
            self.commit();
        }
    }

    /// History before a revision is old, as whoever measures time has found. What is compacted already, or has not been
    /// yet, is left as it is.
    pub fn compact_to(&mut self, revision: Revision) {
        let _ = self.compact(revision);
    }

    /// Answers a query, from its bytes.
    pub fn ask(&mut self, token: WatchToken, query: &Bytes) -> Response {
        let response = match Query::from_bytes(query.clone(), super::VERSION) {
            Ok(Query::Watch(watch)) => self.watch(token, watch),
            Ok(query) => Response::Now(self.query(&query)),
            Err(_) => self.refuse(Refusal::Malformed),
        };
        match response {
            Response::Now(answer) => Response::Now(answer.to_bytes()),
            Response::Later => Response::Later,
        }
    }

    /// Answers a query at once; what waits is another verb, [`Store::watch`].
    pub fn query(&self, query: &Query) -> Answer {
        let reply = match query {
            Query::Range(range) => self.range(range).map(Reply::Done),
            Query::Holder(name) => {
                let entry = self.locks.holder(&self.history, name).map(|slot| slot.latest.entry(&slot.key));
                let count = u64::from(entry.is_some());
                let entries = entry.into_iter().collect();
                Ok(Reply::Done(Done::Range { entries, more: false, count }))
            }
            Query::Lease(lease) => self.describe_lease(*lease),
            Query::Leases => {
                let fit = self.limits.answer_bytes_max as usize / size_of::<LeaseId>();
                Ok(Reply::Leases(self.leases.all.keys().take(fit).copied().collect()))
            }
            Query::Status => Ok(Reply::Status(self.status())),
            Query::Watch(watch) => self.look(watch, watch.from),
        };
        Answer { revision: self.revision(), reply: reply.unwrap_or_else(Reply::Refused) }
    }

    /// The state as a whole.
    pub fn status(&self) -> Status {
        Status {
            compacted: self.compacted(),
            keys: self.history.len() as u64,
            leases: self.leases.all.len() as u64,
            bytes: self.bytes(),
            alarm: self.alarm,
            digest: self.digest(),
        }
    }

    /// Looks at what has happened to some keys; when that is nothing, waits, if it shall, until something does.
    pub fn watch(&mut self, token: WatchToken, mut watch: Watch) -> Response<Answer> {
        if watch.from == 0 {
            watch.from = self.revision() + 1;
        }
        let answer = self.query(&Query::Watch(watch.clone()));
        if watch.wait && matches!(&answer.reply, Reply::Events { events, .. } if events.is_empty()) {
            self.watches.add(token, watch);
            return Response::Later;
        }
        Response::Now(answer)
    }

    /// Nobody waits for that watch any more.
    pub fn forget(&mut self, token: WatchToken) {
        self.watches.remove(token);
    }

    /// Takes the commands that waited and need not any longer, with what became of them.
    pub fn take_woken(&mut self) -> Vec<(Ticket, Answer)> {
        std::mem::take(&mut self.woken)
    }

    /// Takes the leases that began, changed or ended, in this order.
    pub fn take_lease_changes(&mut self) -> Vec<LeaseChange> {
        std::mem::take(&mut self.lease_changes)
    }

    /// Takes the watches that need not wait any longer, with what they were to see. Nothing is lost when this is asked
    /// for late: more is seen at once.
    pub fn take_watched(&mut self) -> Vec<(WatchToken, Answer)> {
        for (token, watch, from) in self.watches.take_ready() {
            let reply = self.look(&watch, from).unwrap_or_else(Reply::Refused);
            let answer = Answer { revision: self.revision(), reply };
            self.watched.push((token, answer));
        }
        std::mem::take(&mut self.watched)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Answer> {
        Response::Now(Answer { revision: self.revision(), reply: Reply::Refused(refusal) })
    }

    /// Another state has come in the place of this one: whoever watched is answered, or waits for what comes next.
    pub(super) fn adopt(&mut self, mut other: Self) {
        let watches = self.watches.take_all();
        other.watched = std::mem::take(&mut self.watched);
        *self = other;
        for (token, watch) in watches {
            if let Response::Now(answer) = self.watch(token, watch) {
                self.watched.push((token, answer));
            }
        }
    }
}

/// Sums up what is replicated.
pub(super) fn digest(
    (revision, compacted, alarm): (Revision, Revision, bool),
    history: u64,
    leases: u64,
    locks: u64,
) -> u64 {
    [revision, compacted, u64::from(alarm), history, leases, locks].into_iter().fold(0, fold)
}

/// Keys.
impl Store {
    /// A transaction of one step that depends on nothing.
    #[inline]
    fn transact_one(&mut self, operation: Operation) -> Result<Reply, Refusal> {
        self.admit(&operation)?;
        self.make_room(std::slice::from_ref(&operation))?;
        Ok(Reply::Done(self.step(operation)?))
    }

    fn transact(
        &mut self,
        compares: &[Compare],
        success: &[Operation],
        failure: &[Operation],
    ) -> Result<Reply, Refusal> {
        for count in [compares.len(), success.len(), failure.len()] {
            let (count, limit) = (count as u64, self.limits.operations_max);
            if count > limit {
                return Err(Refusal::TooMany { count, limit });
            }
        }
        distinct(success)?;
        distinct(failure)?;
        let succeeded = compares.iter().all(|compare| self.holds(compare));
        let steps = if succeeded { success } else { failure };
        if !mutant!(self, HalfATransaction) {
            // No two steps change the same key, so what would be refused is known before anything happens.
            for step in steps {
                self.admit(step)?;
            }
        }
        self.make_room(steps)?;
        let mut results = Vec::with_capacity(steps.len());
        for step in steps {
            if mutant!(self, HalfATransaction) {
                self.admit(step)?;
            }
            results.push(self.step(step.clone())?);
            if mutant!(self, RevisionPerStep) {
                self.commit();
            }
        }
        Ok(Reply::Transaction { succeeded, results })
    }

    fn compare_and_swap(
        &mut self,
        key: &Bytes,
        expected: Option<&Expected>,
        value: Option<Bytes>,
        lease: PutLease,
    ) -> Result<Reply, Refusal> {
        let there = self.history.get(key);
        let as_expected = match (there, expected) {
            (None, None) => true,
            (Some(slot), Some(expected)) => compares(&slot.latest, Comparison::Equal, expected),
            _ => false,
        };
        let previous = there.map(|slot| slot.latest.entry(&slot.key));
        let step = match value {
            Some(value) => {
                Operation::Put(Put { key: key.clone(), value: Some(value), lease, previous: false })
            }
            None => Operation::Delete { keys: Keys::One(key.clone()), previous: false },
        };
        // What cannot be done is refused whatever is there.
        self.admit(&step)?;
        if as_expected {
            self.make_room(std::slice::from_ref(&step))?;
            self.step(step)?;
        }
        Ok(Reply::Swapped { swapped: as_expected, previous })
    }

    /// Refuses a step that cannot be done. What is not refused here succeeds.
    #[inline]
    fn admit(&self, step: &Operation) -> Result<(), Refusal> {
        match step {
            Operation::Put(put) => {
                if put.key.is_empty() {
                    return Err(Refusal::EmptyKey);
                }
                if let PutLease::With(lease) = put.lease
                    && lease != 0
                    && !self.leases.contains(lease)
                {
                    return Err(Refusal::LeaseNotFound);
                }
                let keeps = put.value.is_none() || put.lease == PutLease::Keep;
                if keeps && self.history.get(&put.key).is_none() {
                    return Err(Refusal::KeyNotFound);
                }
                Ok(())
            }
            Operation::Delete { previous: false, .. } => Ok(()),
            Operation::Delete { keys, previous: true } => {
                let weight = |slot: &Slot| (slot.key.len() + slot.latest.value.len()) as u64;
                let bytes = self.history.present(keys).map(weight).sum();
                let limit = self.limits.answer_bytes_max;
                if bytes > limit { Err(Refusal::TooLarge { bytes, limit }) } else { Ok(()) }
            }
            Operation::Range(range) => self.reach(range.past).map(|_| ()),
        }
    }

    /// Refuses what adds when the store is full.
    #[inline]
    fn make_room(&mut self, steps: &[Operation]) -> Result<(), Refusal> {
        let weight = |step: &Operation| match step {
            Operation::Put(put) => {
                put.key.len() as u64 + put.value.as_ref().map_or(0, |value| value.len() as u64) + LEASE_WEIGHT
            }
            _ => 0,
        };
        self.add(steps.iter().map(weight).sum())
    }

    fn add(&mut self, bytes: u64) -> Result<(), Refusal> {
        let limit = self.limits.quota;
        if bytes == 0 || (!self.alarm && self.bytes() + bytes <= limit) {
            return Ok(());
        }
        self.alarm = true;
        Err(Refusal::Quota { limit })
    }

    /// Does a step that was admitted.
    #[inline]
    fn step(&mut self, step: Operation) -> Result<Done, Refusal> {
        match step {
            Operation::Put(put) => Ok(self.put(put)),
            Operation::Delete { keys, previous } => Ok(self.delete(&keys, previous)),
            Operation::Range(range) => self.range(&range),
        }
    }

    #[inline]
    fn put(&mut self, put: Put) -> Done {
        let there = self.history.get(&put.key);
        let before = there.map_or(0, |slot| slot.latest.lease);
        let value = put.value.map(|value| Bytes::copy_from_slice(&value));
        let value = value.or_else(|| there.map(|slot| slot.latest.value.clone())).unwrap_or_default();
        let previous = there.filter(|_| put.previous).map(|slot| slot.latest.entry(&slot.key));
        let lease = match put.lease {
            PutLease::None => 0,
            PutLease::With(lease) => lease,
            PutLease::Keep => before,
        };
        self.set(&put.key, value, lease, before);
        Done::Put { previous }
    }

    fn set(&mut self, key: &Bytes, value: Bytes, lease: LeaseId, before: LeaseId) {
        let place = self.history.put(self.revision() + 1, key, value, lease);
        self.touched.push(place);
        if before != lease {
            let before = if mutant!(self, KeyOfTwoLeases) { 0 } else { before };
            self.leases.moves(&self.history.slot(place).key, before, lease);
        }
    }

    fn delete(&mut self, keys: &Keys, previous: bool) -> Done {
        let revision = self.revision() + 1;
        let mut entries = Vec::new();
        let places: Vec<Place> = if let Keys::One(key) = keys {
            let place = self.history.find(key);
            place.into_iter().filter(|place| !self.history.slot(*place).latest.is_deletion()).collect()
        } else {
            self.history.present(keys).filter_map(|slot| self.history.find(&slot.key)).collect()
        };
        for &place in &places {
            let slot = self.history.slot(place);
            if previous {
                entries.push(slot.latest.entry(&slot.key));
            }
            self.leases.moves(&slot.key, slot.latest.lease, 0);
            self.history.delete(revision, place);
        }
        let count = places.len() as u64;
        self.touched.extend(places);
        Done::Deleted { count, previous: entries }
    }

    /// All that the command has changed becomes visible, in one revision.
    #[inline]
    fn commit(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        let revision = self.revision() + 1;
        self.history.commit(revision, &mut self.touched);
        let slots = self.touched.iter().map(|place| self.history.slot(*place));
        let turns = self.locks.changed(slots, mutant!(self, UnfairQueue));
        if !self.watches.is_empty() {
            for &place in &self.touched {
                self.watches.changed(&self.history.slot(place).key, revision);
            }
        }
        self.touched.clear();
        for turn in turns {
            self.tell(turn);
        }
        let keeps = self.limits.revisions_max;
        if keeps > 0 && revision - self.compacted() > keeps {
            self.history.compact(revision - keeps, mutant!(self, CompactionForgetsTheDeletion));
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<Reply, Refusal> {
        if revision > self.revision() {
            return Err(Refusal::Future { revision: self.revision() });
        }
        if revision <= self.compacted() {
            return Err(Refusal::Compacted { revision: self.compacted() });
        }
        self.history.compact(revision, mutant!(self, CompactionForgetsTheDeletion));
        Ok(Reply::Compacted { revision })
    }

    fn disarm(&mut self) -> Result<Reply, Refusal> {
        if self.bytes() >= self.limits.quota {
            return Err(Refusal::Quota { limit: self.limits.quota });
        }
        self.alarm = false;
        Ok(Reply::Disarmed)
    }
}

/// Reading.
impl Store {
    /// The revision that is read, if it can be: `None` is the present one.
    fn reach(&self, past: Past) -> Result<Option<Revision>, Refusal> {
        match past {
            Past::Now => Ok(None),
            Past::At(revision) if revision > self.revision() => {
                Err(Refusal::Future { revision: self.revision() })
            }
            Past::At(revision) if revision < self.compacted() => {
                Err(Refusal::Compacted { revision: self.compacted() })
            }
            Past::At(revision) => Ok(Some(revision)),
        }
    }

    /// Reads keys.
    fn range(&self, range: &Range) -> Result<Done, Refusal> {
        let fits = |version: &Version| {
            let within = |bounds: Option<(u64, u64)>, what| {
                bounds.is_none_or(|(least, most)| least <= what && what <= most)
            };
            within(range.modified, version.mod_revision) && within(range.created, version.create_revision)
        };
        let Some(revision) = self.reach(range.past)? else {
            if let Keys::One(key) = &range.keys {
                let found = self.history.get(key).map(|slot| (slot, &slot.latest));
                return Ok(self.gather(range, found.into_iter().filter(|found| fits(found.1))));
            }
            let all = self.history.present(&range.keys).map(|slot| (slot, &slot.latest));
            return Ok(self.gather_sorted(range, all.filter(|found| fits(found.1))));
        };
        if let Keys::One(key) = &range.keys {
            let slot = self.history.find(key).map(|place| self.history.slot(place));
            let found = slot.and_then(|slot| slot.at(revision).map(|version| (slot, version)));
            let found = found.filter(|(_, version)| !version.is_deletion() && fits(version));
            return Ok(self.gather(range, found.into_iter()));
        }
        let all = self.history.past(&range.keys, revision).into_iter();
        Ok(self.gather_sorted(range, all.filter(|found| fits(found.1))))
    }

    fn gather_sorted<'a>(
        &self,
        range: &Range,
        found: impl DoubleEndedIterator<Item = (&'a Slot, &'a Version)>,
    ) -> Done {
        let descends = range.sort.order == Order::Descending;
        match range.sort.by {
            _ if range.count_only => self.gather(range, found),
            Target::Key if descends => self.gather(range, found.rev()),
            Target::Key => self.gather(range, found),
            by => {
                let mut all: Vec<_> = found.collect();
                // Stable: equal ones stay in the order of their keys, whichever way.
                all.sort_by(|one, other| {
                    let order = compare_by(by, one, other);
                    if descends { order.reverse() } else { order }
                });
                self.gather(range, all.into_iter())
            }
        }
    }

    fn gather<'a>(&self, range: &Range, mut found: impl Iterator<Item = (&'a Slot, &'a Version)>) -> Done {
        if range.count_only {
            let count = found.count() as u64;
            return Done::Range { entries: Vec::new(), more: false, count };
        }
        let limit = if range.limit == 0 { u64::MAX } else { range.limit };
        let (mut entries, mut bytes, mut more) = (Vec::new(), 0, false);
        for (slot, version) in found.by_ref() {
            let entry = if range.keys_only { version.outline(&slot.key) } else { version.entry(&slot.key) };
            bytes += (entry.key.len() + entry.value.len()) as u64;
            let full = bytes > self.limits.answer_bytes_max && !entries.is_empty();
            if entries.len() as u64 >= limit || full {
                more = true;
                break;
            }
            entries.push(entry);
        }
        // With a limit one wants a page, and is not made to wait while all others are counted.
        let rest = if more && range.limit == 0 { 1 + found.count() as u64 } else { u64::from(more) };
        let count = entries.len() as u64 + rest;
        Done::Range { entries, more, count }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let holds = |version: &Version| compares(version, compare.is, &compare.expected);
        let mut there = self.history.present(&compare.keys).map(|slot| &slot.latest).peekable();
        if there.peek().is_none() {
            let absent = Version::deletion(0);
            return !matches!(compare.expected, Expected::Value(_)) && holds(&absent);
        }
        there.all(holds)
    }

    /// What happened to some keys from a revision on, for who has seen all before it.
    fn look(&self, watch: &Watch, from: Revision) -> Result<Reply, Refusal> {
        let from = if from == 0 { self.revision() + 1 } else { from };
        if from < self.compacted() {
            return Err(Refusal::Compacted { revision: self.compacted() });
        }
        let splits = mutant!(self, EventsSplitARevision);
        let fit = self.limits.answer_bytes_max;
        let (events, next) = self.history.events(&watch.keys, from, watch.previous, fit, splits);
        Ok(Reply::Events { events, next })
    }
}

/// Leases.
impl Store {
    fn grant(&mut self, index: Ticket, lease: LeaseId, ttl: Duration, home: u64) -> Result<Reply, Refusal> {
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(Refusal::BadTtl);
        }
        if self.leases.contains(lease) {
            return Err(Refusal::LeaseExists);
        }
        self.add(LEASE_WEIGHT)?;
        let lease = if lease == 0 { self.leases.free_name(index) } else { lease };
        let terms = LeaseTerms { ttl, home, attachment: index };
        self.leases.all.insert(lease, Lease { terms, keys: BTreeSet::new() });
        self.lease_changes.push(LeaseChange { lease, terms: Some(terms) });
        Ok(Reply::Granted { lease, attachment: index })
    }

    fn attach(&mut self, index: Ticket, lease: LeaseId, home: u64) -> Result<Reply, Refusal> {
        let terms = &mut self.leases.all.get_mut(&lease).ok_or(Refusal::LeaseNotFound)?.terms;
        (terms.home, terms.attachment) = (home, index);
        self.lease_changes.push(LeaseChange { lease, terms: Some(*terms) });
        Ok(Reply::Attached { attachment: index })
    }

    fn revoke(&mut self, lease: LeaseId) -> Result<Reply, Refusal> {
        let over = self.leases.all.remove(&lease).ok_or(Refusal::LeaseNotFound)?;
        self.lease_changes.push(LeaseChange { lease, terms: None });
        let count = over.keys.len() as u64;
        for key in over.keys {
            self.delete(&Keys::One(key), false);
        }
        Ok(Reply::Revoked { count })
    }

    fn describe_lease(&self, lease: LeaseId) -> Result<Reply, Refusal> {
        let lease = self.leases.all.get(&lease).ok_or(Refusal::LeaseNotFound)?;
        let mut bytes = 0;
        let fits = |key: &&Bytes| {
            bytes += key.len() as u64 + 4;
            bytes <= self.limits.answer_bytes_max
        };
        Ok(Reply::Lease { ttl: lease.terms.ttl, keys: lease.keys.iter().take_while(fits).cloned().collect() })
    }
}

/// Locks.
impl Store {
    /// `None`: it waits.
    fn acquire(
        &mut self,
        index: Ticket,
        name: &Bytes,
        lease: LeaseId,
        value: &Bytes,
        wait: bool,
    ) -> Option<Result<Reply, Refusal>> {
        // Here, where the place is taken, and nowhere before: a lease may end while a command is on its way.
        if !self.leases.contains(lease) && !mutant!(self, LockOfADeadLease) {
            return Some(Err(Refusal::LeaseNotFound));
        }
        let key = lock_key(name, lease);
        let holder = self.locks.holder(&self.history, name);
        let holder = holder.map(|slot| (slot.key.clone(), slot.latest.create_revision));
        let there = self.history.get(&key).map(|slot| (slot.latest.value.clone(), slot.latest.lease));
        if there.is_none()
            && !wait
            && let Some((_, token)) = holder
        {
            return Some(Ok(Reply::Held { token }));
        }
        let (is, before) = there.clone().unwrap_or_default();
        if there.is_none() || is != *value || before != lease {
            if let Err(refusal) = self.add((key.len() + value.len()) as u64 + LEASE_WEIGHT) {
                return Some(Err(refusal));
            }
            self.set(&key, Bytes::copy_from_slice(value), lease, before);
        }
        let token = self.revision() + 1;
        match holder {
            None => Some(Ok(Reply::Locked { key, token })),
            Some((holder, token)) if holder == key => Some(Ok(Reply::Locked { key, token })),
            Some((_, token)) if !wait => Some(Ok(Reply::Held { token })),
            Some(_) => {
                self.locks.wait(&self.history, name, key, lease, index);
                None
            }
        }
    }

    fn release(&mut self, name: &[u8], lease: LeaseId) -> Reply {
        let done = self.delete(&Keys::One(lock_key(name, lease)), false);
        Reply::Released { was_queued: matches!(done, Done::Deleted { count: 1, .. }) }
    }

    /// Those who waited hear of it.
    fn tell(&mut self, turn: Turn) {
        let (tickets, reply) = match turn {
            Turn::Holds { tickets, key, token } => (tickets, Reply::Locked { key, token }),
            Turn::Gone { tickets, lease } if self.leases.contains(lease) => {
                (tickets, Reply::Released { was_queued: true })
            }
            Turn::Gone { tickets, .. } => (tickets, Reply::Refused(Refusal::LeaseNotFound)),
        };
        let answer = Answer { revision: self.revision(), reply };
        self.woken.extend(tickets.into_iter().map(|ticket| (ticket, answer.clone())));
    }
}

/// No two steps change the same key, or nobody could say what came of it in one revision.
fn distinct(steps: &[Operation]) -> Result<(), Refusal> {
    let mut set: BTreeSet<&Bytes> = BTreeSet::new();
    for step in steps {
        if let Operation::Put(put) = step
            && !set.insert(&put.key)
        {
            return Err(Refusal::DuplicateKey);
        }
    }
    for step in steps {
        if let Operation::Delete { keys, .. } = step
            && set.iter().any(|key| keys.contains(key))
        {
            return Err(Refusal::DuplicateKey);
        }
    }
    Ok(())
}

fn compares(version: &Version, is: Comparison, expected: &Expected) -> bool {
    let order = match expected {
        Expected::Value(value) => version.value.cmp(value),
        Expected::Version(wanted) => version.count.cmp(wanted),
        Expected::Created(revision) => version.create_revision.cmp(revision),
        Expected::Modified(revision) => version.mod_revision.cmp(revision),
        Expected::Lease(lease) => version.lease.cmp(lease),
    };
    match is {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Greater => order.is_gt(),
        Comparison::Less => order.is_lt(),
    }
}

fn compare_by(by: Target, one: &(&Slot, &Version), other: &(&Slot, &Version)) -> std::cmp::Ordering {
    match by {
        Target::Key => one.0.key.cmp(&other.0.key),
        Target::Version => one.1.count.cmp(&other.1.count),
        Target::Created => one.1.create_revision.cmp(&other.1.create_revision),
        Target::Modified => one.1.mod_revision.cmp(&other.1.mod_revision),
        Target::Value => one.1.value.cmp(&other.1.value),
    }
}

//! A store that is obviously right, and slow: a map of keys for every revision that there was. What it does is read off
//! the documentation of [`Command`], not off the store's code.

use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::store::{
    Answer, Command, Compare, Comparison, Contents, Done, Entry, Event, EventKind, Expected, Keys, LeaseId,
    LeaseTerms, Limits, Operation, Order, Past, Put, PutLease, Query, Range, Refusal, Reply, Revision,
    Target, Ticket, Watch, lock_key,
};

/// The keys at one revision.
type State = BTreeMap<Bytes, Entry>;

/// A store that is obviously right.
#[derive(Clone, Debug)]
pub struct Plain {
    limits: Limits,
    revision: Revision,
    compacted: Revision,
    alarm: bool,
    /// By revision: what there was after it. Those before `compacted` are gone.
    states: BTreeMap<Revision, State>,
    /// By revision: what happened in it. Nothing is forgotten here.
    events: BTreeMap<Revision, Vec<Event>>,
    leases: BTreeMap<LeaseId, LeaseTerms>,
    /// Who waits for which key under which name to be the oldest.
    waits: Vec<Wait>,
    woken: Vec<(Ticket, Answer)>,
}

#[derive(Clone, Debug)]
struct Wait {
    name: Bytes,
    key: Bytes,
    lease: LeaseId,
    ticket: Ticket,
}

/// What weighs how much.
const VERSION_WEIGHT: u64 = 64;
const LEASE_WEIGHT: u64 = 128;
const TICKET_WEIGHT: u64 = 64;

impl Plain {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            revision: 1,
            compacted: 0,
            alarm: false,
            states: BTreeMap::from([(0, State::new()), (1, State::new())]),
            events: BTreeMap::new(),
            leases: BTreeMap::new(),
            waits: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// The present revision.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// History before it is forgotten.
    pub const fn compacted(&self) -> Revision {
        self.compacted
    }

    /// A lease that lives.
    pub fn lease(&self, lease: LeaseId) -> Option<LeaseTerms> {
        self.leases.get(&lease).copied()
    }

    /// All leases that live.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, LeaseTerms)> {
        self.leases.iter().map(|(id, terms)| (*id, *terms))
    }

    /// The keys as they are now.
    pub fn state(&self) -> &State {
        &self.states[&self.revision]
    }

    /// What happened from one revision on, before another: all of it, also what was compacted.
    pub fn happened(&self, from: Revision, before: Revision) -> impl Iterator<Item = (Revision, &Event)> {
        let range = from..before.max(from);
        self.events.range(range).flat_map(|(revision, events)| events.iter().map(|event| (*revision, event)))
    }

    /// Who need not wait any longer since this was last asked, and what became of them; by their places in the log.
    pub fn take_woken(&mut self) -> Vec<(Ticket, Answer)> {
        let mut woken = std::mem::take(&mut self.woken);
        woken.sort_by_key(|(ticket, _)| *ticket);
        woken
    }

    /// Executes the command at `index` of the log; `None`: it waits.
    pub fn operate(&mut self, index: Ticket, command: &Command) -> Option<Answer> {
        let mut next = self.state().clone();
        let reply = self.reply(index, command, &mut next);
        self.become_state(next);
        let reply = match reply {
            Ok(None) => return None,
            Ok(Some(reply)) => reply,
            Err(refusal) => Reply::Refused(refusal),
        };
        Some(Answer { revision: self.revision, reply })
    }

    /// The time of a lease is over; whether it was that one's.
    pub fn expire(&mut self, lease: LeaseId, attachment: u64) -> bool {
        let is_it = self.lease(lease).is_some_and(|terms| terms.attachment == attachment);
        if is_it {
            let mut next = self.state().clone();
            self.revoke(lease, &mut next);
            self.become_state(next);
        }
        is_it
    }

    /// Answers a query. A watch is answered from all that happened, as if nothing had to fit.
    pub fn query(&self, query: &Query) -> Answer {
        let reply = match query {
            Query::Range(range) => self.range(range, self.state()).map(Reply::Done),
            Query::Holder(name) => {
                let entries: Vec<Entry> = Self::holder(name, self.state()).cloned().into_iter().collect();
                let count = entries.len() as u64;
                Ok(Reply::Done(Done::Range { entries, more: false, count }))
            }
            Query::Lease(lease) => match self.lease(*lease) {
                Some(terms) => Ok(Reply::Lease { ttl: terms.ttl, keys: self.keys_that_fit(*lease) }),
                None => Err(Refusal::LeaseNotFound),
            },
            Query::Leases => {
                let fit = self.limits.answer_bytes_max as usize / 8;
                Ok(Reply::Leases(self.leases.keys().take(fit).copied().collect()))
            }
            Query::Watch(watch) => self.look(watch),
            // A sum is nothing that a model can have.
            Query::Status => Err(Refusal::Malformed),
        };
        Answer { revision: self.revision, reply: reply.unwrap_or_else(Reply::Refused) }
    }

    /// All that is replicated.
    pub fn contents(&self) -> Contents {
        let leases = self.leases.iter().map(|(id, terms)| (*id, *terms, self.keys_of(*id)));
        let mut waits: BTreeMap<Bytes, (LeaseId, Vec<Ticket>)> = BTreeMap::new();
        for wait in &self.waits {
            let entry = waits.entry(wait.key.clone()).or_default();
            entry.0 = wait.lease;
            entry.1.push(wait.ticket);
        }
        Contents {
            revision: self.revision,
            compacted: self.compacted,
            alarm: self.alarm,
            versions: self.versions(),
            leases: leases.collect(),
            waits: waits.into_iter().map(|(key, (lease, tickets))| (key, lease, tickets)).collect(),
        }
    }

    /// What all of it weighs.
    pub fn bytes(&self) -> u64 {
        let weight = |entry: &Entry| (entry.key.len() + entry.value.len()) as u64 + VERSION_WEIGHT;
        self.versions().iter().map(weight).sum::<u64>()
            + self.leases.len() as u64 * LEASE_WEIGHT
            + self.waits.len() as u64 * TICKET_WEIGHT
    }
}

impl Plain {
    fn reply(
        &mut self,
        index: Ticket,
        command: &Command,
        next: &mut State,
    ) -> Result<Option<Reply>, Refusal> {
        Ok(Some(match command {
            Command::Put(put) => self.one(&Operation::Put(put.clone()), next)?,
            Command::Delete { keys, previous } => {
                self.one(&Operation::Delete { keys: keys.clone(), previous: *previous }, next)?
            }
            Command::Transaction { compares, success, failure } => {
                self.transact(compares, success, failure, next)?
            }
            Command::CompareAndSwap { key, expected, value, lease } => {
                let previous = next.get(key).cloned();
                let swaps = match (&previous, expected) {
                    (None, None) => true,
                    (Some(entry), Some(expected)) => compare(entry, expected) == Ordering::Equal,
                    _ => false,
                };
                let step = match value {
                    Some(value) => Operation::Put(Put {
                        key: key.clone(),
                        value: Some(value.clone()),
                        lease: *lease,
                        previous: false,
                    }),
                    None => Operation::Delete { keys: Keys::One(key.clone()), previous: false },
                };
                self.admit(&step, next)?;
                if swaps {
                    self.one(&step, next)?;
                }
                Reply::Swapped { swapped: swaps, previous }
            }
            Command::Grant { lease, ttl, home } => self.grant(index, *lease, *ttl, *home)?,
            Command::Revoke { lease } => {
                self.lease(*lease).ok_or(Refusal::LeaseNotFound)?;
                Reply::Revoked { count: self.revoke(*lease, next) }
            }
            Command::Attach { lease, home } => {
                let terms = self.leases.get_mut(lease).ok_or(Refusal::LeaseNotFound)?;
                *terms = LeaseTerms { ttl: terms.ttl, home: *home, attachment: index };
                Reply::Attached { attachment: index }
            }
            Command::Compact { revision } => {
                if *revision > self.revision {
                    return Err(Refusal::Future { revision: self.revision });
                }
                if *revision <= self.compacted {
                    return Err(Refusal::Compacted { revision: self.compacted });
                }
                self.compact(*revision);
                Reply::Compacted { revision: *revision }
            }
            Command::Acquire { name, lease, value, wait } => {
                return self.acquire(index, name, *lease, value, *wait, next);
            }
            Command::Release { name, lease } => {
                Reply::Released { was_queued: next.remove(&lock_key(name, *lease)).is_some() }
            }
            Command::Disarm => {
                if self.bytes() >= self.limits.quota {
                    return Err(Refusal::Quota { limit: self.limits.quota });
                }
                self.alarm = false;
                Reply::Disarmed
            }
        }))
    }

    /// What is different now happened in one revision, if anything is.
    fn become_state(&mut self, next: State) {
        let before = self.state();
        let revision = self.revision + 1;
        let keys: BTreeSet<&Bytes> = before.keys().chain(next.keys()).collect();
        let mut events = Vec::new();
        for key in keys {
            let (was, is) = (before.get(key), next.get(key));
            match is {
                Some(entry) if entry.mod_revision == revision => {
                    let (entry, previous) = (entry.clone(), was.cloned());
                    events.push(Event { kind: EventKind::Put, entry, previous });
                }
                None => events.push(Event {
                    kind: EventKind::Delete,
                    entry: deletion(key, revision),
                    previous: was.cloned(),
                }),
                Some(_) => {}
            }
        }
        if events.is_empty() {
            return;
        }
        self.revision = revision;
        self.events.insert(revision, events);
        self.states.insert(revision, next);
        self.wake();
        let keeps = self.limits.revisions_max;
        if keeps > 0 && self.revision - self.compacted > keeps {
            self.compact(self.revision - keeps);
        }
    }

    fn wake(&mut self) {
        let state = self.state();
        let (mut still, mut woken) = (Vec::new(), Vec::new());
        for wait in &self.waits {
            let reply = match state.get(&wait.key) {
                Some(_) => {
                    let Some(holder) = Self::holder(&wait.name, state) else { continue };
                    if holder.key != wait.key {
                        still.push(wait.clone());
                        continue;
                    }
                    Reply::Locked { key: wait.key.clone(), token: holder.create_revision }
                }
                None if self.lease(wait.lease).is_some() => Reply::Released { was_queued: true },
                None => Reply::Refused(Refusal::LeaseNotFound),
            };
            woken.push((wait.ticket, Answer { revision: self.revision, reply }));
        }
        self.waits = still;
        self.woken.extend(woken);
    }

    fn compact(&mut self, revision: Revision) {
        self.compacted = revision;
        self.states.retain(|other, _| *other >= revision);
    }

    /// Each version that history must still have: what one can see at the compacted revision, and all that happened in
    /// it and since.
    fn versions(&self) -> Vec<Entry> {
        let base = self.states.get(&self.compacted).into_iter().flat_map(BTreeMap::values);
        let since = self.events.range(self.compacted..).flat_map(|(_, events)| events);
        let all = base.chain(since.map(|event| &event.entry));
        let sorted: BTreeMap<(Bytes, Revision), Entry> =
            all.map(|entry| ((entry.key.clone(), entry.mod_revision), entry.clone())).collect();
        sorted.into_values().collect()
    }
}

/// Keys.
impl Plain {
    fn one(&mut self, step: &Operation, next: &mut State) -> Result<Reply, Refusal> {
        self.admit(step, next)?;
        self.make_room(std::slice::from_ref(step))?;
        Ok(Reply::Done(self.step(step, next)?))
    }

    fn transact(
        &mut self,
        compares: &[Compare],
        success: &[Operation],
        failure: &[Operation],
        next: &mut State,
    ) -> Result<Reply, Refusal> {
        let limit = self.limits.operations_max;
        for count in [compares.len() as u64, success.len() as u64, failure.len() as u64] {
            if count > limit {
                return Err(Refusal::TooMany { count, limit });
            }
        }
        for branch in [success, failure] {
            for (at, step) in branch.iter().enumerate() {
                let Operation::Put(put) = step else { continue };
                let clashes = |(other, step): (usize, &Operation)| match step {
                    Operation::Put(again) => other != at && again.key == put.key,
                    Operation::Delete { keys, .. } => keys.contains(&put.key),
                    Operation::Range(_) => false,
                };
                if branch.iter().enumerate().any(clashes) {
                    return Err(Refusal::DuplicateKey);
                }
            }
        }
        let succeeded = compares.iter().all(|compare| holds(compare, next));
        let steps = if succeeded { success } else { failure };
        for step in steps {
            self.admit(step, next)?;
        }
        self.make_room(steps)?;
        let results: Result<Vec<Done>, Refusal> = steps.iter().map(|step| self.step(step, next)).collect();
        Ok(Reply::Transaction { succeeded, results: results? })
    }

    fn admit(&self, step: &Operation, next: &State) -> Result<(), Refusal> {
        match step {
            Operation::Put(Put { key, value, lease, .. }) => {
                if key.is_empty() {
                    return Err(Refusal::EmptyKey);
                }
                match lease {
                    PutLease::With(lease) if *lease != 0 && self.lease(*lease).is_none() => {
                        return Err(Refusal::LeaseNotFound);
                    }
                    _ => {}
                }
                let keeps = value.is_none() || *lease == PutLease::Keep;
                if keeps && !next.contains_key(key) { Err(Refusal::KeyNotFound) } else { Ok(()) }
            }
            Operation::Delete { keys, previous } => {
                let gone = next.values().filter(|entry| *previous && keys.contains(&entry.key));
                let bytes = gone.map(|entry| (entry.key.len() + entry.value.len()) as u64).sum();
                let limit = self.limits.answer_bytes_max;
                if bytes > limit { Err(Refusal::TooLarge { bytes, limit }) } else { Ok(()) }
            }
            Operation::Range(range) => self.past(range.past, next).map(|_| ()),
        }
    }

    fn make_room(&mut self, steps: &[Operation]) -> Result<(), Refusal> {
        let mut bytes = 0;
        for step in steps {
            if let Operation::Put(put) = step {
                bytes += (put.key.len() + put.value.as_ref().map_or(0, Bytes::len)) as u64 + LEASE_WEIGHT;
            }
        }
        self.add(bytes)
    }

    fn add(&mut self, bytes: u64) -> Result<(), Refusal> {
        let limit = self.limits.quota;
        if bytes == 0 {
            return Ok(());
        }
        // Nobody comes near the default in a test, and weighing everything takes its time.
        let full = limit < Limits::default().quota && self.bytes() + bytes > limit;
        if !self.alarm && !full {
            return Ok(());
        }
        self.alarm = true;
        Err(Refusal::Quota { limit })
    }

    fn step(&self, step: &Operation, next: &mut State) -> Result<Done, Refusal> {
        match step {
            Operation::Put(put) => {
                let previous = next.get(&put.key).cloned();
                self.set(put, next);
                Ok(Done::Put { previous: previous.filter(|_| put.previous) })
            }
            Operation::Delete { keys, previous } => {
                let gone: Vec<Entry> =
                    next.values().filter(|entry| keys.contains(&entry.key)).cloned().collect();
                next.retain(|key, _| !keys.contains(key));
                let count = gone.len() as u64;
                Ok(Done::Deleted { count, previous: if *previous { gone } else { Vec::new() } })
            }
            Operation::Range(range) => self.range(range, next),
        }
    }

    fn set(&self, put: &Put, next: &mut State) {
        let revision = self.revision + 1;
        let before = next.get(&put.key);
        let entry = Entry {
            key: put.key.clone(),
            value: put.value.clone().or_else(|| before.map(|entry| entry.value.clone())).unwrap_or_default(),
            create_revision: before.map_or(revision, |entry| entry.create_revision),
            mod_revision: revision,
            version: before.map_or(1, |entry| entry.version + 1),
            lease: match put.lease {
                PutLease::None => 0,
                PutLease::With(lease) => lease,
                PutLease::Keep => before.map_or(0, |entry| entry.lease),
            },
        };
        next.insert(put.key.clone(), entry);
    }
}

/// Reading.
impl Plain {
    fn past<'a>(&'a self, past: Past, present: &'a State) -> Result<&'a State, Refusal> {
        match past {
            Past::Now => Ok(present),
            Past::At(revision) if revision > self.revision => {
                Err(Refusal::Future { revision: self.revision })
            }
            Past::At(revision) => {
                self.states.get(&revision).ok_or(Refusal::Compacted { revision: self.compacted })
            }
        }
    }

    fn range(&self, range: &Range, present: &State) -> Result<Done, Refusal> {
        let within = |bounds: Option<(u64, u64)>, what: u64| {
            bounds.is_none_or(|(least, most)| (least..=most).contains(&what))
        };
        let mut found: Vec<Entry> = self
            .past(range.past, present)?
            .values()
            .filter(|entry| range.keys.contains(&entry.key))
            .filter(|entry| within(range.modified, entry.mod_revision))
            .filter(|entry| within(range.created, entry.create_revision))
            .cloned()
            .collect();
        let count = found.len() as u64;
        if range.count_only {
            return Ok(Done::Range { entries: Vec::new(), more: false, count });
        }
        found.sort_by(|one, other| {
            let order = match range.sort.by {
                Target::Key => one.key.cmp(&other.key),
                Target::Version => one.version.cmp(&other.version),
                Target::Created => one.create_revision.cmp(&other.create_revision),
                Target::Modified => one.mod_revision.cmp(&other.mod_revision),
                Target::Value => one.value.cmp(&other.value),
            };
            if range.sort.order == Order::Descending { order.reverse() } else { order }
        });
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for mut entry in found {
            if range.keys_only {
                entry.value = Bytes::new();
            }
            bytes += (entry.key.len() + entry.value.len()) as u64;
            let full = bytes > self.limits.answer_bytes_max && !entries.is_empty();
            if full || (range.limit > 0 && entries.len() as u64 == range.limit) {
                break;
            }
            entries.push(entry);
        }
        let more = (entries.len() as u64) < count;
        // With a limit, it is not counted how many more there are.
        let count = if range.limit > 0 { entries.len() as u64 + u64::from(more) } else { count };
        Ok(Done::Range { entries, more, count })
    }

    fn look(&self, watch: &Watch) -> Result<Reply, Refusal> {
        let from = if watch.from == 0 { self.revision + 1 } else { watch.from };
        if from < self.compacted {
            return Err(Refusal::Compacted { revision: self.compacted });
        }
        let events =
            self.happened(from, Revision::MAX).filter(|(_, event)| watch.keys.contains(&event.entry.key));
        let events = events.map(|(_, event)| {
            // What was there before is only known as far as history goes.
            let known = |entry: &Entry| watch.previous && self.knows(entry);
            Event { previous: event.previous.clone().filter(known), ..event.clone() }
        });
        Ok(Reply::Events { events: events.collect(), next: from.max(self.revision + 1) })
    }

    /// Whether history still has that version.
    pub fn knows(&self, entry: &Entry) -> bool {
        let base = self.states.get(&self.compacted);
        entry.mod_revision >= self.compacted || base.is_some_and(|state| state.get(&entry.key) == Some(entry))
    }
}

/// Leases and locks.
impl Plain {
    fn grant(&mut self, index: Ticket, lease: LeaseId, ttl: Duration, home: u64) -> Result<Reply, Refusal> {
        if ttl.is_zero() || ttl > Duration::from_secs(100 * 365 * 24 * 60 * 60) {
            return Err(Refusal::BadTtl);
        }
        if self.leases.contains_key(&lease) {
            return Err(Refusal::LeaseExists);
        }
        self.add(LEASE_WEIGHT)?;
        let mut name = lease;
        if name == 0 {
            name = index.max(1);
            while self.leases.contains_key(&name) {
                name += 1;
            }
        }
        self.leases.insert(name, LeaseTerms { ttl, home, attachment: index });
        Ok(Reply::Granted { lease: name, attachment: index })
    }

    fn revoke(&mut self, lease: LeaseId, next: &mut State) -> u64 {
        let before = next.len();
        next.retain(|_, entry| entry.lease != lease);
        self.leases.remove(&lease);
        (before - next.len()) as u64
    }

    fn keys_of(&self, lease: LeaseId) -> Vec<Bytes> {
        self.state().values().filter(|entry| entry.lease == lease).map(|entry| entry.key.clone()).collect()
    }

    fn keys_that_fit(&self, lease: LeaseId) -> Vec<Bytes> {
        let mut keys = self.keys_of(lease);
        while keys.iter().map(|key| key.len() as u64 + 4).sum::<u64>() > self.limits.answer_bytes_max {
            keys.pop();
        }
        keys
    }

    /// The oldest key under a name.
    fn holder<'a>(name: &[u8], state: &'a State) -> Option<&'a Entry> {
        let prefix = [name, b"/"].concat();
        let under = state.values().filter(|entry| entry.key.starts_with(&prefix));
        under.min_by_key(|entry| (entry.create_revision, entry.key.clone()))
    }

    fn acquire(
        &mut self,
        index: Ticket,
        name: &Bytes,
        lease: LeaseId,
        value: &Bytes,
        wait: bool,
        next: &mut State,
    ) -> Result<Option<Reply>, Refusal> {
        self.lease(lease).ok_or(Refusal::LeaseNotFound)?;
        let key = lock_key(name, lease);
        if let (None, false, Some(holder)) = (next.get(&key), wait, Self::holder(name, next)) {
            return Ok(Some(Reply::Held { token: holder.create_revision }));
        }
        let as_it_is = |entry: &Entry| entry.value == *value && entry.lease == lease;
        if !next.get(&key).is_some_and(as_it_is) {
            self.add((key.len() + value.len()) as u64 + LEASE_WEIGHT)?;
            let put = Put {
                key: key.clone(),
                value: Some(value.clone()),
                lease: PutLease::With(lease),
                previous: false,
            };
            self.set(&put, next);
        }
        match Self::holder(name, next) {
            Some(holder) if holder.key == key => {
                let token = holder.create_revision;
                Ok(Some(Reply::Locked { key, token }))
            }
            Some(holder) if !wait => Ok(Some(Reply::Held { token: holder.create_revision })),
            _ => {
                self.waits.push(Wait { name: name.clone(), key, lease, ticket: index });
                Ok(None)
            }
        }
    }
}

fn deletion(key: &Bytes, revision: Revision) -> Entry {
    Entry {
        key: key.clone(),
        value: Bytes::new(),
        create_revision: 0,
        mod_revision: revision,
        version: 0,
        lease: 0,
    }
}

fn compare(entry: &Entry, expected: &Expected) -> Ordering {
    match expected {
        Expected::Value(value) => entry.value.cmp(value),
        Expected::Version(version) => entry.version.cmp(version),
        Expected::Created(revision) => entry.create_revision.cmp(revision),
        Expected::Modified(revision) => entry.mod_revision.cmp(revision),
        Expected::Lease(lease) => entry.lease.cmp(lease),
    }
}

fn holds(compared: &Compare, state: &State) -> bool {
    let holds = |entry: &Entry| {
        let order = compare(entry, &compared.expected);
        match compared.is {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::NotEqual => order != Ordering::Equal,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::Less => order == Ordering::Less,
        }
    };
    let there: Vec<&Entry> = state.values().filter(|entry| compared.keys.contains(&entry.key)).collect();
    if there.is_empty() {
        return !matches!(compared.expected, Expected::Value(_)) && holds(&deletion(&Bytes::new(), 0));
    }
    there.into_iter().all(holds)
}

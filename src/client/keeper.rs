//! Leases, kept alive by a thread of their own.
//!
//! A lease is believed in until the last instant at which no member can have ended it: counted from when its latest renewal
//! was asked, less what clocks may drift. It is lost then, or when a member says so, or when the connection has ended and
//! no other was found in time: then the members may end it any moment.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use super::calls::{Farewell, Inner, locked};
use super::transport::Connection;
use super::{Failure, now};
use crate::replica::asks::{Answer, Ask, Error};
use crate::store::{self, Command, LeaseId, Refusal};
use crate::time::Instant;
use crate::wire::Encode;

/// Says that a lease, and all that hangs on it, is lost.
#[derive(Default)]
pub struct Lost {
    lost: AtomicBool,
    /// Whoever wants to hear of it, once.
    hear: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Lost {
    /// Whether it is.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Calls `hear` when it is, perhaps at once, on a thread of the client's. It must not block.
    pub fn listen(&self, hear: impl FnOnce() + Send + 'static) {
        let mut all = locked(&self.hear);
        if self.is_lost() {
            drop(all);
            hear();
        } else {
            all.push(Box::new(hear));
        }
    }

    fn lose(&self) {
        let mut all = locked(&self.hear);
        self.lost.store(true, Ordering::Release);
        let all = std::mem::take(&mut *all);
        for hear in all {
            hear();
        }
    }
}

/// Keeps a client's leases.
#[derive(Default)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    kept: Mutex<Kept>,
    news: Condvar,
}

#[derive(Default)]
struct Kept {
    leases: BTreeMap<LeaseId, Lease>,
    is_running: bool,
    is_closed: bool,
    connection: Option<Connection>,
    /// There is no connection since before, and at this instant it is too late.
    down_until: Option<Instant>,
    /// Places in queues that could not be given back yet, and when to try again.
    unreturned: Vec<(Instant, LeaseId, Bytes)>,
}

struct Lease {
    ttl: Duration,
    /// By which attachment its holder is connected; through which of its own connections.
    attachment: u64,
    connection: Option<Connection>,
    attaching: bool,
    believed_until: Instant,
    renew_at: Instant,
    renewing: bool,
    /// The names that it is queued for, or holds.
    names: BTreeMap<Bytes, Use>,
}

/// What a lease has to do with a name.
#[derive(Default)]
struct Use {
    /// How many commands about it are not answered, and one more while it is held.
    count: u32,
    /// A command about it may be under way for ever: it would be taken for another one's.
    is_spoilt: bool,
    /// Who wants to know when it is lost.
    lost: Option<Arc<Lost>>,
}

/// Renewed after a third of its time to live, a lease survives that one renewal gets lost.
const RENEWALS: u32 = 3;

/// Leases that nobody uses, of one time to live, beyond this number are given back.
const IDLE_MAX: usize = 8;

/// Clocks are taken to drift apart by less than this part: 0.8 %.
const DRIFT_SHIFT: u32 = 7;

/// When to try again what failed.
const AGAIN: Duration = Duration::from_millis(100);

impl Keeper {
    /// Finds or begins a lease of this time to live that is not queued for `name`, and takes the name.
    pub(super) fn take(
        &self,
        inner: &Arc<Inner>,
        name: Bytes,
        ttl: Duration,
        deadline: Instant,
        done: impl FnOnce(Result<LeaseId, Failure>) + Send + 'static,
    ) {
        let time = now();
        let mut kept = locked(&self.shared.kept);
        let free = kept.leases.iter_mut().find(|(_, lease)| {
            lease.ttl == ttl && !lease.names.contains_key(&name) && lease.believed_until - time > ttl / 4
        });
        if let Some((id, lease)) = free {
            lease.names.insert(name, Use { count: 1, ..Use::default() });
            let id = *id;
            drop(kept);
            done(Ok(id));
            return;
        }
        drop(kept);
        grant(inner, name, ttl, deadline, done);
    }

    fn add(&self, inner: &Arc<Inner>, id: LeaseId, lease: Lease) {
        if let Some(connection) = lease.connection {
            hold(inner, id, lease.attachment, connection);
        }
        let mut kept = locked(&self.shared.kept);
        kept.leases.insert(id, lease);
        if !kept.is_running {
            kept.is_running = true;
            kept.connection = inner.transport.connection();
            let (shared, inner) = (Arc::clone(&self.shared), Arc::downgrade(inner));
            // Without a thread nothing is renewed, and the lease is lost by its own clock whenever somebody looks.
            let keep = std::thread::Builder::new().name("coterie-leases".to_owned());
            let _ = keep.spawn(move || shared.keep(&inner));
        }
        drop(kept);
        self.shared.news.notify_all();
    }

    /// Who holds `name` by this lease wants to know when it is lost.
    pub(super) fn watch(&self, lease: LeaseId, name: &Bytes, lost: &Arc<Lost>) {
        let mut kept = locked(&self.shared.kept);
        if let Some(used) = kept.leases.get_mut(&lease).and_then(|lease| lease.names.get_mut(name)) {
            used.lost = Some(Arc::clone(lost));
        } else {
            drop(kept);
            lost.lose();
        }
    }

    /// Nobody wants to know any more.
    pub(super) fn unwatch(&self, lease: LeaseId, name: &Bytes) {
        self.with(lease, name, |used| used.lost = None);
    }

    /// One more command about the name is under way.
    pub(super) fn enter(&self, lease: LeaseId, name: &Bytes) {
        self.with(lease, name, |used| used.count += 1);
    }

    /// What became of a command about the name will never be known: the lease is not used for it again.
    pub(super) fn spoil(&self, lease: LeaseId, name: &Bytes) {
        self.with(lease, name, |used| used.is_spoilt = true);
    }

    fn with(&self, lease: LeaseId, name: &Bytes, body: impl FnOnce(&mut Use)) {
        let mut kept = locked(&self.shared.kept);
        if let Some(used) = kept.leases.get_mut(&lease).and_then(|lease| lease.names.get_mut(name)) {
            body(used);
        }
    }

    /// One command about the name less, or it is held no longer.
    pub(super) fn leave(&self, inner: &Arc<Inner>, lease: LeaseId, name: &Bytes) {
        let mut kept = locked(&self.shared.kept);
        let Some(left) = kept.leases.get_mut(&lease) else { return };
        let Some(used) = left.names.get_mut(name) else { return };
        used.count = used.count.saturating_sub(1);
        if used.count > 0 || used.is_spoilt {
            return;
        }
        left.names.remove(name);
        if !left.names.is_empty() {
            return;
        }
        let ttl = left.ttl;
        let idle = kept.leases.values().filter(|lease| lease.ttl == ttl && lease.names.is_empty()).count();
        if idle > IDLE_MAX {
            kept.leases.remove(&lease);
            drop(kept);
            inner.command(&Command::Revoke { lease }, now() + AGAIN * 20, Box::new(|_| {}));
        }
    }

    /// A place in the queue could not be given back: it is tried again, as long as the lease lives.
    pub(super) fn give_back_later(&self, lease: LeaseId, name: Bytes) {
        let mut kept = locked(&self.shared.kept);
        if kept.leases.contains_key(&lease) {
            kept.unreturned.push((now() + AGAIN, lease, name));
            drop(kept);
            self.shared.news.notify_all();
        }
    }

    /// A member says that the lease is over.
    pub(super) fn lose(&self, lease: LeaseId) {
        let lost = locked(&self.shared.kept).leases.remove(&lease);
        for lost in lost.into_iter().flat_map(Lease::into_lost) {
            lost.lose();
        }
    }

    pub(super) fn up(&self, connection: Connection) {
        let mut kept = locked(&self.shared.kept);
        kept.connection = Some(connection);
        kept.down_until = None;
        drop(kept);
        self.shared.news.notify_all();
    }

    pub(super) fn down(&self, grace: Option<Duration>) {
        let mut kept = locked(&self.shared.kept);
        kept.connection = None;
        if kept.down_until.is_none() {
            kept.down_until = grace.map(|grace| now() + grace);
        }
        drop(kept);
        self.shared.news.notify_all();
    }

    /// Ends all leases, and whatever hangs on them.
    pub(super) fn close(&self, inner: &Arc<Inner>, farewell: &Arc<Farewell>) {
        let mut kept = locked(&self.shared.kept);
        kept.is_closed = true;
        let leases = std::mem::take(&mut kept.leases);
        drop(kept);
        self.shared.news.notify_all();
        for (lease, over) in leases {
            for lost in over.into_lost() {
                lost.lose();
            }
            let farewell = Arc::clone(farewell);
            let ask = Ask::Command { stamp: None, command: Command::Revoke { lease }.to_bytes() };
            inner.transport.submit(Duration::from_secs(2), ask, Box::new(move |_| drop(farewell)));
        }
    }
}

impl Lease {
    fn into_lost(self) -> impl Iterator<Item = Arc<Lost>> {
        self.names.into_values().filter_map(|used| used.lost)
    }
}

/// What the thread is to do next.
#[derive(Default)]
struct Chores {
    lost: Vec<Arc<Lost>>,
    renew: Vec<(LeaseId, Duration)>,
    attach: Vec<LeaseId>,
    give_back: Vec<(LeaseId, Bytes)>,
    /// When there will be more.
    next: Option<Instant>,
}

impl Shared {
    fn keep(&self, inner: &Weak<Inner>) {
        let mut kept = locked(&self.kept);
        while !kept.is_closed {
            let chores = kept.take_chores(now());
            let (connection, next) = (kept.connection, chores.next);
            if !chores.is_empty() {
                drop(kept);
                let Some(inner) = inner.upgrade() else { return };
                chores.run(&inner, connection);
                drop(inner);
                kept = locked(&self.kept);
                continue;
            }
            // A client that was dropped without goodbye is noticed by then.
            let wait = next.map_or(Duration::from_secs(1), |next| next - now()).min(Duration::from_secs(1));
            let waited = self.news.wait_timeout(kept, wait.max(Duration::from_micros(100)));
            kept = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            if inner.strong_count() == 0 {
                return;
            }
        }
    }
}

impl Kept {
    fn take_chores(&mut self, time: Instant) -> Chores {
        let mut chores = Chores::default();
        let too_late = self.down_until.is_some_and(|until| until <= time);
        let connection = self.connection;
        self.leases.retain(|id, lease| {
            if too_late || lease.believed_until <= time {
                chores
                    .lost
                    .extend(std::mem::take(&mut lease.names).into_values().filter_map(|used| used.lost));
                return false;
            }
            chores.at(lease.believed_until);
            if connection.is_some() && lease.connection != connection {
                if !lease.attaching {
                    lease.attaching = true;
                    chores.attach.push(*id);
                }
            } else if !lease.renewing {
                if lease.renew_at <= time {
                    lease.renewing = true;
                    chores.renew.push((*id, lease.believed_until - time));
                } else {
                    chores.at(lease.renew_at);
                }
            }
            true
        });
        if let Some(until) = self.down_until.filter(|until| *until > time) {
            chores.at(until);
        }
        let leases: BTreeSet<LeaseId> = self.leases.keys().copied().collect();
        self.unreturned.retain(|(at, lease, name)| {
            if *at > time {
                chores.at(*at);
            } else if leases.contains(lease) {
                chores.give_back.push((*lease, name.clone()));
            }
            *at > time
        });
        chores
    }
}

impl Chores {
    fn at(&mut self, time: Instant) {
        self.next = Some(self.next.map_or(time, |next| next.min(time)));
    }

    const fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.renew.is_empty() && self.attach.is_empty() && self.give_back.is_empty()
    }

    fn run(self, inner: &Arc<Inner>, connection: Option<Connection>) {
        for lost in self.lost {
            lost.lose();
        }
        for lease in self.attach {
            if let Some(connection) = connection {
                attach(inner, lease, connection);
            }
        }
        for (lease, patience) in self.renew {
            renew(inner, lease, patience);
        }
        for (lease, name) in self.give_back {
            super::locks::give_back(inner, lease, &name);
        }
    }
}

/// Begins a lease. There must be a connection first: a member shall say when it ends.
fn grant(
    inner: &Arc<Inner>,
    name: Bytes,
    ttl: Duration,
    deadline: Instant,
    done: impl FnOnce(Result<LeaseId, Failure>) + Send + 'static,
) {
    if inner.transport.connection().is_some() {
        grant_over_connection(inner, name, ttl, deadline, done);
        return;
    }
    let again = Arc::clone(inner);
    let respond = move |_| grant_over_connection(&again, name, ttl, deadline, done);
    inner.transport.submit(deadline - now(), Ask::Members, Box::new(respond));
}

fn grant_over_connection(
    inner: &Arc<Inner>,
    name: Bytes,
    ttl: Duration,
    deadline: Instant,
    done: impl FnOnce(Result<LeaseId, Failure>) + Send + 'static,
) {
    let connection = inner.transport.connection();
    let home = connection.map_or(0, |connection| connection.member.0);
    let (asked, again) = (now(), Arc::clone(inner));
    let answered = move |answer: Result<store::Answer, Failure>| match answer.map(|answer| answer.reply) {
        Ok(store::Reply::Granted { lease, attachment }) => {
            let keeper = &again.keeper;
            keeper.add(
                &again,
                lease,
                Lease {
                    ttl,
                    attachment,
                    connection,
                    attaching: false,
                    believed_until: asked + believed(ttl),
                    renew_at: asked + ttl / RENEWALS,
                    renewing: false,
                    names: BTreeMap::from([(name, Use { count: 1, ..Use::default() })]),
                },
            );
            done(Ok(lease));
        }
        Ok(_) => done(Err(Failure::Internal("a lease was granted as something else"))),
        // What was perhaps granted ends by itself: nobody uses it.
        Err(Failure::Unknown) => done(Err(Error::TimedOut.into())),
        Err(failure) => done(Err(failure)),
    };
    inner.command(&Command::Grant { lease: 0, ttl, home }, deadline, Box::new(answered));
}

fn renew(inner: &Arc<Inner>, lease: LeaseId, patience: Duration) {
    let (asked, again) = (now(), Arc::clone(inner));
    let respond = move |reply: Result<Answer, Error>| {
        let keeper = &again.keeper;
        if reply == Err(Error::LeaseNotFound) {
            keeper.lose(lease);
            return;
        }
        let mut kept = locked(&keeper.shared.kept);
        let Some(renewed) = kept.leases.get_mut(&lease) else { return };
        renewed.renewing = false;
        if let Ok(Answer::Lease { left, .. }) = reply {
            renewed.believed_until = renewed.believed_until.max(asked + believed(left));
            renewed.renew_at = asked + renewed.ttl / RENEWALS;
        } else {
            renewed.renew_at = now() + AGAIN.min(renewed.ttl / 10);
        }
        drop(kept);
        keeper.shared.news.notify_all();
    };
    inner.transport.submit(patience, Ask::Lease { lease, renew: true }, Box::new(respond));
}

/// The holder is connected to another member now, or anew: who watches over the connection must know.
fn attach(inner: &Arc<Inner>, lease: LeaseId, connection: Connection) {
    let (asked, again) = (now(), Arc::clone(inner));
    let answered = move |answer: Result<store::Answer, Failure>| {
        let keeper = &again.keeper;
        if answer == Err(Failure::Refused(Refusal::LeaseNotFound)) {
            keeper.lose(lease);
            return;
        }
        let mut kept = locked(&keeper.shared.kept);
        let Some(attached) = kept.leases.get_mut(&lease) else { return };
        attached.attaching = false;
        if let Ok(store::Reply::Attached { attachment }) = answer.map(|answer| answer.reply) {
            attached.attachment = attachment;
            attached.connection = Some(connection);
            attached.believed_until = attached.believed_until.max(asked + believed(attached.ttl));
            attached.renew_at = asked + attached.ttl / RENEWALS;
            drop(kept);
            hold(&again, lease, attachment, connection);
        } else {
            drop(kept);
        }
        keeper.shared.news.notify_all();
    };
    let patience = Duration::from_secs(1);
    let command = Command::Attach { lease, home: connection.member.0 };
    inner.command(&command, asked + patience, Box::new(answered));
}

/// The member at the other end shall say when the connection ends.
fn hold(inner: &Arc<Inner>, lease: LeaseId, attachment: u64, connection: Connection) {
    // Over another connection it would bind that one to an attachment which is not its own.
    if inner.transport.connection() == Some(connection) {
        inner.transport.submit(Duration::from_secs(1), Ask::Hold { lease, attachment }, Box::new(|_| {}));
    }
}

/// For how long a time to live can be believed in.
fn believed(span: Duration) -> Duration {
    span.saturating_sub(span / (1 << DRIFT_SHIFT))
}

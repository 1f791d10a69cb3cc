//! Locks and elections: places in a queue that end with a lease.

use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::calls::{Inner, locked};
use super::{Client, Failure, Lost, now};
use crate::store::{self, Command, LeaseId, Refusal, Revision};
use crate::time::Instant;

/// What is wanted of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// Its name.
    pub name: Bytes,
    /// What stands under the holder's key.
    pub value: Bytes,
    /// How long it is held on to when nobody can renew it.
    pub ttl: Duration,
    /// Whether to queue, until it is held or [given up](Acquisition::cancel).
    pub wait: bool,
    /// For how long to wait for a member, when not queueing.
    pub patience: Duration,
}

/// A lock that is held. Dropped, it is given back, unless [`Held::keep`] said that somebody knows of it.
pub struct Held {
    inner: Arc<Inner>,
    name: Bytes,
    lease: LeaseId,
    token: Revision,
    key: Bytes,
    lost: Arc<Lost>,
    kept: bool,
}

/// An acquiring that is under way.
pub struct Acquisition {
    inner: Arc<Inner>,
    acquire: Acquire,
    deadline: Instant,
    progress: Mutex<Progress>,
}

type Done = Box<dyn FnOnce(Result<Option<Held>, Failure>) + Send>;

struct Progress {
    /// Taken when it is called, or when nobody wants to know any more.
    done: Option<Done>,
    /// The lease with which it queues.
    lease: Option<LeaseId>,
    tries: u32,
}

/// A lease may end while it is used for the first time; so often another one is tried.
const TRIES_MAX: u32 = 8;

/// How long one asking to give a place back waits, before it is asked anew.
const RETURN: Duration = Duration::from_secs(10);

impl Client {
    /// Acquires a lock. `done` gets what is held; nothing, when it is another's, and not waited for.
    pub fn acquire(
        &self,
        acquire: Acquire,
        done: impl FnOnce(Result<Option<Held>, Failure>) + Send + 'static,
    ) -> Arc<Acquisition> {
        let progress = Progress { done: Some(Box::new(done)), lease: None, tries: 0 };
        let acquisition = Arc::new(Acquisition {
            inner: Arc::clone(&self.inner),
            // A place in a queue is given up by the word of who waits in it, and not by a time that is over somewhere.
            deadline: if acquire.wait { Instant::NEVER } else { now() + acquire.patience },
            acquire,
            progress: Mutex::new(progress),
        });
        acquisition.begin();
        acquisition
    }
}

impl Acquisition {
    /// Nobody wants it any more: the place in the queue is given back, and what is held already, too. `done` is not called
    /// if it was not yet. Whether that is so.
    pub fn cancel(&self) -> bool {
        let mut progress = locked(&self.progress);
        let pending = progress.done.take();
        let lease = progress.lease;
        drop(progress);
        if pending.is_some()
            && let Some(lease) = lease
        {
            abandon(&self.inner, lease, self.acquire.name.clone());
        }
        pending.is_some()
    }

    fn begin(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let (name, ttl) = (self.acquire.name.clone(), self.acquire.ttl);
        self.inner.keeper.take(&self.inner, name, ttl, self.deadline, move |lease| match lease {
            Ok(lease) => this.queue(lease),
            Err(failure) => this.finish(Err(failure)),
        });
    }

    fn queue(self: &Arc<Self>, lease: LeaseId) {
        let Acquire { name, value, wait, .. } = self.acquire.clone();
        let mut progress = locked(&self.progress);
        if progress.done.is_none() {
            drop(progress);
            self.inner.keeper.leave(&self.inner, lease, &name);
            return;
        }
        progress.lease = Some(lease);
        progress.tries += 1;
        drop(progress);
        let this = Arc::clone(self);
        let answered = move |answer: Result<store::Answer, Failure>| this.answered(lease, answer);
        let command = Command::Acquire { name, lease, value, wait };
        self.inner.command(&command, self.deadline, Box::new(answered));
    }

    fn answered(self: &Arc<Self>, lease: LeaseId, answer: Result<store::Answer, Failure>) {
        let (keeper, name) = (&self.inner.keeper, &self.acquire.name);
        match answer.map(|answer| answer.reply) {
            Ok(store::Reply::Locked { key, token }) => self.hold(lease, key, token),
            Ok(store::Reply::Held { .. } | store::Reply::Released { .. }) => {
                keeper.leave(&self.inner, lease, name);
                self.finish(Ok(None));
            }
            Ok(_) => {
                give_back(&self.inner, lease, name);
                self.finish(Err(Failure::Internal("a lock was acquired as something else")));
            }
            Err(Failure::Refused(Refusal::LeaseNotFound)) => {
                keeper.lose(lease);
                let mut progress = locked(&self.progress);
                progress.lease = None;
                let again = progress.tries < TRIES_MAX && progress.done.is_some() && self.deadline > now();
                drop(progress);
                if again { self.begin() } else { self.finish(Err(Failure::LeaseLost)) }
            }
            // It may have its place in the queue, or get it yet.
            Err(Failure::Unknown) => {
                keeper.spoil(lease, name);
                give_back(&self.inner, lease, name);
                let is_closed = self.inner.is_closed();
                let stopped = || Failure::Stopped("the client is closed".to_owned());
                self.finish(Err(if is_closed { stopped() } else { Failure::Unknown }));
            }
            Err(failure) => {
                keeper.leave(&self.inner, lease, name);
                self.finish(Err(failure));
            }
        }
    }

    fn hold(&self, lease: LeaseId, key: Bytes, token: Revision) {
        let lost = Arc::new(Lost::default());
        let (inner, name) = (Arc::clone(&self.inner), self.acquire.name.clone());
        inner.keeper.watch(lease, &name, &lost);
        // Nobody may want it any more; then it is dropped here, and given back.
        self.finish(Ok(Some(Held { inner, name, lease, token, key, lost, kept: false })));
    }

    fn finish(&self, result: Result<Option<Held>, Failure>) {
        let done = locked(&self.progress).done.take();
        if let Some(done) = done {
            done(result);
        }
    }
}

impl Held {
    /// The fencing token: greater than that of every holder before.
    pub const fn token(&self) -> Revision {
        self.token
    }

    /// The key that holds the lock. It is there exactly as long as the lock is held.
    pub const fn key(&self) -> &Bytes {
        &self.key
    }

    /// The lease with which it ends.
    pub const fn lease(&self) -> LeaseId {
        self.lease
    }

    /// When it is lost.
    pub const fn lost(&self) -> &Arc<Lost> {
        &self.lost
    }

    /// Somebody knows of it, and will release it: that it is forgotten does not give it back.
    pub const fn keep(&mut self) {
        self.kept = true;
    }

    /// Gives it back, and says whether it was held until then. When that fails, the client goes on trying.
    pub fn release(mut self, patience: Duration, done: impl FnOnce(Result<bool, Failure>) + Send + 'static) {
        self.kept = true;
        self.inner.keeper.unwatch(self.lease, &self.name);
        if self.lost.is_lost() {
            done(Ok(false));
            return;
        }
        let (inner, lease, name) = (Arc::clone(&self.inner), self.lease, self.name.clone());
        let answered = move |answer: Result<store::Answer, Failure>| {
            let released = answer.map(|answer| answer.reply == store::Reply::Released { was_queued: true });
            if released.is_ok() {
                inner.keeper.leave(&inner, lease, &name);
            } else {
                inner.keeper.spoil(lease, &name);
                inner.keeper.give_back_later(lease, name);
            }
            done(released);
        };
        let command = Command::Release { name: self.name.clone(), lease: self.lease };
        self.inner.command(&command, now() + patience, Box::new(answered));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.kept {
            self.inner.keeper.unwatch(self.lease, &self.name);
            give_back(&self.inner, self.lease, &self.name);
        }
    }
}

/// Gives up what was held, and goes on trying as long as the lease lives.
pub(super) fn give_back(inner: &Arc<Inner>, lease: LeaseId, name: &Bytes) {
    let (again, name) = (Arc::clone(inner), name.clone());
    let command = Command::Release { name: name.clone(), lease };
    let answered = move |answer: Result<store::Answer, Failure>| {
        if answer.is_ok() {
            again.keeper.leave(&again, lease, &name);
        } else {
            again.keeper.spoil(lease, &name);
            again.keeper.give_back_later(lease, name);
        }
    };
    inner.command(&command, now() + RETURN, Box::new(answered));
}

/// Leaves a queue in which a command of ours still waits: that one is answered, too. Should this come to nothing, the place
/// is given back when its turn has come.
fn abandon(inner: &Arc<Inner>, lease: LeaseId, name: Bytes) {
    inner.keeper.enter(lease, &name);
    let again = Arc::clone(inner);
    let command = Command::Release { name: name.clone(), lease };
    let answered = move |answer: Result<store::Answer, Failure>| {
        if answer == Err(Failure::Unknown) {
            again.keeper.spoil(lease, &name);
        }
        again.keeper.leave(&again, lease, &name);
    };
    inner.command(&command, now() + RETURN, Box::new(answered));
}

//! Watches: what happens to some keys, batch by batch, without a gap.
//!
//! A watch is a place in history. Whoever wants to hear more asks for what comes after it, at whatever member; nothing is
//! buffered but the one batch that nobody has taken yet. Who is so late that history was compacted meanwhile is told so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::calls::{Inner, locked};
use super::{Client, Failure, now};
use crate::replica::Consistency;
use crate::store::{Answer, Event, Keys, Query, Reply, Revision, Watch};
use crate::time::Instant;

/// What happened, all of it up to a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// In the order of the revisions.
    pub events: Vec<Event>,
    /// All before this one was told.
    pub next: Revision,
}

/// A watch.
pub struct Watcher {
    inner: Arc<Inner>,
    keys: Keys,
    previous: bool,
    progress: Mutex<Progress>,
}

type Done = Box<dyn FnOnce(Result<Option<Batch>, Failure>) + Send>;

struct Progress {
    /// From where on it looks; `None`: from when it began, which a member must say.
    next: Option<Revision>,
    asking: bool,
    /// Who waits.
    waiter: Option<Done>,
    /// What came when nobody waited any more.
    ready: Option<Result<Batch, Failure>>,
    is_closed: bool,
}

/// After so long without events the place in history is moved on, so that what is behind it may be forgotten.
const POLL: Duration = Duration::from_secs(10);

impl Client {
    /// Watches keys, from a revision on, or from now on.
    pub fn watch(&self, keys: Keys, from: Option<Revision>, previous: bool) -> Arc<Watcher> {
        let progress = Progress { next: from, asking: false, waiter: None, ready: None, is_closed: false };
        let inner = Arc::clone(&self.inner);
        let watcher = Arc::new(Watcher { inner, keys, previous, progress: Mutex::new(progress) });
        if from.is_none() {
            watcher.ask_if_idle();
        }
        watcher
    }
}

impl Watcher {
    /// Waits for the next batch; `None` when the watch was closed. One at a time.
    pub fn next(self: &Arc<Self>, done: impl FnOnce(Result<Option<Batch>, Failure>) + Send + 'static) {
        let mut progress = locked(&self.progress);
        if progress.is_closed {
            drop(progress);
            done(Ok(None));
        } else if let Some(ready) = progress.ready.take() {
            drop(progress);
            done(ready.map(Some));
        } else if progress.waiter.is_some() {
            drop(progress);
            done(Err(Failure::Rejected("somebody else waits for this watch already".to_owned())));
        } else {
            progress.waiter = Some(Box::new(done));
            drop(progress);
            self.ask_if_idle();
        }
    }

    /// Nobody waits any more. What comes meanwhile is kept for the next one who does. Whether somebody did.
    pub fn cancel(&self) -> bool {
        locked(&self.progress).waiter.take().is_some()
    }

    /// What was handed out has not arrived: it comes again.
    pub fn put_back(&self, batch: Batch) {
        locked(&self.progress).ready = Some(Ok(batch));
    }

    /// From where on a new watch would miss nothing, when it is known.
    pub fn next_revision(&self) -> Option<Revision> {
        let progress = locked(&self.progress);
        match &progress.ready {
            Some(Ok(batch)) => batch.events.first().map(|event| event.entry.mod_revision),
            _ => progress.next,
        }
    }

    /// Ends it: who waits hears so.
    pub fn close(&self) {
        let mut progress = locked(&self.progress);
        progress.is_closed = true;
        progress.ready = None;
        let waiter = progress.waiter.take();
        drop(progress);
        if let Some(done) = waiter {
            done(Ok(None));
        }
    }

    fn ask_if_idle(self: &Arc<Self>) {
        let mut progress = locked(&self.progress);
        if !progress.asking {
            progress.asking = true;
            drop(progress);
            self.ask(true);
        }
    }

    /// Looks; `wait`s for something to happen.
    fn ask(self: &Arc<Self>, wait: bool) {
        let from = locked(&self.progress).next;
        let watch = Watch { keys: self.keys.clone(), from: from.unwrap_or(0), previous: self.previous, wait };
        let this = Arc::clone(self);
        // From a given revision on, any member knows, sooner or later. What "now" is, a quorum must say.
        let (watch, consistency) = match from {
            Some(_) => (watch, Consistency::Stale),
            None => (Watch { wait: false, ..watch }, Consistency::Lease),
        };
        let deadline: Instant = now() + POLL;
        let answered = move |answer: Result<Answer, Failure>| this.answered(wait, answer);
        self.inner.query(&Query::Watch(watch), consistency, deadline, Box::new(answered));
    }

    fn answered(self: &Arc<Self>, waited: bool, answer: Result<Answer, Failure>) {
        let mut progress = locked(&self.progress);
        let result = match answer.map(|answer| answer.reply) {
            Ok(Reply::Events { events, next }) => {
                // A member that lags behind does not move the place back.
                let next = progress.next.map_or(next, |before| before.max(next));
                progress.next = Some(next);
                if events.is_empty() {
                    return self.go_on(progress, true);
                }
                Ok(Batch { events, next })
            }
            Ok(_) => Err(Failure::Internal("a watch was answered as something else")),
            // Nothing happened in that time: learn how far history has come.
            Err(Failure::Unavailable(_)) => return self.go_on(progress, !waited),
            Err(failure) => Err(failure),
        };
        progress.asking = false;
        if progress.is_closed {
            return;
        }
        if let Some(done) = progress.waiter.take() {
            drop(progress);
            done(result.map(Some));
        } else {
            progress.ready = Some(result);
        }
    }

    fn go_on(self: &Arc<Self>, mut progress: std::sync::MutexGuard<'_, Progress>, wait: bool) {
        let idle = progress.is_closed || progress.waiter.is_none() && progress.next.is_some();
        if idle {
            progress.asking = false;
            return;
        }
        drop(progress);
        self.ask(wait);
    }
}

//! What waits to be handled by a member.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

use super::Failure;
use super::clients::Connection;
use crate::id::NodeId;
use crate::net::{Hello, Known, Refusal};
use crate::protocol::Link;
use crate::raft::{Change, SnapshotId};
use crate::replica::asks::{Ask, Reply};
use crate::replica::{Message, Request};
use crate::store::LeaseId;
use crate::time::Instant;
use crate::wal::FileError;

/// Hears the reply to what was asked inside this process. Called on the member's thread: it must not block.
pub(super) type Responder = Box<dyn FnOnce(Reply) + Send>;

/// Who asks.
pub(super) enum Asker {
    /// Somebody in this process.
    Local(Responder),
    /// A client, with its number for what it asks.
    Client(Arc<Connection>, u64),
    /// Nobody: the member itself.
    Nobody,
}

/// What may come.
pub(super) enum Input {
    /// From a peer.
    Message(NodeId, Message),
    /// Somebody asks.
    Ask(Asker, Duration, Ask),
    /// Changes of the membership whose members were found out, or why they were not.
    Change(Asker, Instant, Result<Vec<Change>, String>),
    /// A sync has ended.
    Synced(Result<(), FileError>),
    /// A job with snapshots is done.
    Snapshots(Result<Request, Failure>),
    /// A snapshot is of a later version than the member reads that needs it.
    TooNew(SnapshotId, NodeId),
    /// A connection has come about or gone.
    Link(NodeId, Link),
    /// A peer has shown who it is.
    Met(Hello),
    /// A peer tells of members.
    Told(Vec<Known>),
    /// A peer refuses this member.
    Refused(Refusal),
    /// A client's connection has ended: what it held, and what it still waited for.
    Gone(Arc<Connection>, Vec<(LeaseId, u64)>),
    /// Stop in order.
    Close,
    /// Stop at once, as a killed process does.
    Kill,
}

/// A queue that any thread may fill.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Default)]
struct Queue {
    inputs: Vec<Input>,
    closed: bool,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { queue: Mutex::default(), news: Notify::new() }
    }

    pub(super) fn push(&self, input: Input) {
        // What comes too late is nobody's any more.
        let _ = self.offer(input);
    }

    /// Takes an input, or gives it back when nobody will handle it.
    pub(super) fn offer(&self, input: Input) -> Result<(), Input> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(input);
        }
        queue.inputs.push(input);
        let first = queue.inputs.len() == 1;
        drop(queue);
        // Whoever fills an empty queue wakes; the others know that somebody has.
        if first {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Takes all; `into` is empty.
    pub(super) fn take(&self, into: &mut Vec<Input>) {
        std::mem::swap(&mut self.lock().inputs, into);
    }

    /// Takes all that is left: nothing more is taken.
    pub(super) fn close(&self) -> Vec<Input> {
        let mut queue = self.lock();
        queue.closed = true;
        std::mem::take(&mut queue.inputs)
    }

    /// Returns when something may be there.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Lets [`Inbox::news`] return, whatever is there.
    pub(super) fn nudge(&self) {
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

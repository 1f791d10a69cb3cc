//! What waits to be sent on a connection.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::Counters;

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Before anything that can wait.
    Urgent,
    /// When nothing urgent is there: parts of snapshots.
    Bulk,
}

/// Bytes on their way out, bounded.
#[derive(Debug)]
pub struct Outgoing {
    queue: Mutex<Queue>,
    news: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    urgent: Vec<u8>,
    bulk: Vec<u8>,
    closed: bool,
}

/// More than this is not kept for reuse.
const KEPT_MAX: usize = 4 << 20;

impl Outgoing {
    /// Takes up to so many bytes, and one thing more.
    pub fn new(bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), news: Notify::new(), bytes_max }
    }

    /// Appends what `write` writes, unless the queue is full or closed; whether it did.
    pub fn push(&self, priority: Priority, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut queue = self.lock();
        if queue.closed || queue.urgent.len() + queue.bulk.len() > self.bytes_max {
            return false;
        }
        match priority {
            Priority::Urgent => write(&mut queue.urgent),
            Priority::Bulk => write(&mut queue.bulk),
        }
        drop(queue);
        self.news.notify_one();
        true
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        let queue = self.lock();
        queue.urgent.len() + queue.bulk.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What still waits is sent, and then the connection ends.
    pub fn close(&self) {
        self.lock().closed = true;
        self.news.notify_one();
    }

    /// Drops what waits: it was meant for a connection that is gone.
    pub fn clear(&self) {
        let mut queue = self.lock();
        queue.urgent.clear();
        queue.bulk.clear();
    }

    /// Writes what comes, until the queue is closed or the connection broken.
    pub async fn run(&self, out: &mut (impl AsyncWrite + Unpin), counters: &Counters) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            if bytes.capacity() > KEPT_MAX {
                bytes = Vec::new();
            }
            let closed = self.take(&mut bytes);
            if !bytes.is_empty() {
                out.write_all(&bytes).await?;
                out.flush().await?;
                Counters::add(&counters.bytes_sent, bytes.len());
            } else if closed {
                return out.shutdown().await;
            } else {
                self.news.notified().await;
            }
        }
    }

    /// Takes what goes next; whether the queue is closed.
    fn take(&self, into: &mut Vec<u8>) -> bool {
        let mut queue = self.lock();
        if queue.urgent.is_empty() {
            std::mem::swap(&mut queue.bulk, into);
        } else {
            std::mem::swap(&mut queue.urgent, into);
        }
        queue.closed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

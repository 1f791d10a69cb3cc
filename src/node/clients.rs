//! Clients that ask over a connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

use super::inbox::{Asker, Inbox, Input};
use crate::net::{
    CLIENT_PAYLOAD_MAX, Counters, End, Frames, Outgoing, PING, Priority, Receiving, SILENCE_MAX, Sending,
};
use crate::replica::asks::{ASKS, Answer, Ask, Asked, REPLIES, Replied, Reply};
use crate::store::LeaseId;
use crate::wire::frame::{self, Frame};
use crate::wire::{Decode, Encode, Reader};

/// A client's connection.
pub(super) struct Connection {
    out: Outgoing,
    /// What was agreed on with the client.
    version: u16,
    /// Replies of this batch of inputs.
    replies: Mutex<Vec<Replied>>,
    /// How many asks wait for their replies.
    waiting: AtomicUsize,
    /// Something was replied: there may be room again.
    room: Notify,
    /// Leases whose holder speaks through here, and by which attachment.
    holds: Mutex<BTreeMap<LeaseId, u64>>,
    open: AtomicBool,
}

/// How many asks of one connection may wait; a client that asks more is not read from meanwhile.
const ASKS_MAX: usize = 16_384;
/// How many bytes of replies may wait for a client to take them before it is not read from.
const REPLY_BYTES_MAX: usize = 16 << 20;
/// After so many bytes of replies another frame begins.
const FRAME_BYTES_MAX: usize = 8 << 20;
/// How many bytes of replies may wait at all: a client that takes none is cut off.
const OUT_BYTES_MAX: usize = 256 << 20;

impl Connection {
    fn new(version: u16) -> Self {
        Self {
            version,
            out: Outgoing::new(OUT_BYTES_MAX),
            replies: Mutex::default(),
            waiting: AtomicUsize::new(0),
            room: Notify::new(),
            holds: Mutex::default(),
            open: AtomicBool::new(true),
        }
    }

    /// Keeps a reply until [`Connection::send_replies`]; whether it is the first.
    pub(super) fn reply(&self, id: u64, reply: Reply) -> bool {
        self.waiting.fetch_sub(1, Relaxed);
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        replies.push(Replied { id, reply });
        replies.len() == 1
    }

    /// All replies so far leave, in as few frames as their size allows.
    pub(super) fn send_replies(&self) {
        let replies = std::mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner));
        let mut rest = &replies[..];
        while !rest.is_empty() && self.open.load(Relaxed) {
            let (now, later) = rest.split_at(fitting(rest));
            let sent = self.out.push(Priority::Urgent, |out| {
                frame::write_in(self.version, REPLIES, 0, out, |payload| now.encode(payload));
            });
            if !sent {
                self.close();
            }
            rest = later;
        }
        self.room.notify_one();
    }

    /// The holder of this lease speaks through here.
    pub(super) fn hold(&self, lease: LeaseId, attachment: u64) {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).insert(lease, attachment);
    }

    /// What waits is sent, and then it ends.
    pub(super) fn close(&self) {
        self.open.store(false, Relaxed);
        self.out.close();
    }

    fn has_room(&self) -> bool {
        self.waiting.load(Relaxed) < ASKS_MAX && self.out.len() < REPLY_BYTES_MAX
    }
}

/// How many of these go into one frame.
fn fitting(replies: &[Replied]) -> usize {
    let mut bytes = 0;
    let fits = replies.iter().take_while(|replied| {
        let before = bytes;
        bytes += match &replied.reply {
            Ok(Answer::Result { result, .. } | Answer::Queried(result)) => result.len(),
            _ => 64,
        };
        before == 0 || bytes <= FRAME_BYTES_MAX
    });
    fits.count()
}

/// Serves a client until its connection ends.
pub(super) async fn serve(
    connection: Arc<Connection>,
    (receiving, mut sending): (Receiving, Sending),
    inbox: &Inbox,
    counters: &Counters,
) {
    tokio::select! {
        _ = connection.out.run(&mut sending, counters) => {}
        end = hear(&connection, receiving, inbox, counters) => match end {
            End::Bad(_) => Counters::count(&counters.bad_frames),
            End::Silent => Counters::count(&counters.silent),
            End::Closed | End::Network(_) => {}
        },
    }
    connection.close();
    let holds = std::mem::take(&mut *connection.holds.lock().unwrap_or_else(PoisonError::into_inner));
    inbox.push(Input::Gone(connection, holds.into_iter().collect()));
}

/// A new client's connection.
pub(super) fn connection(version: u16) -> Arc<Connection> {
    Arc::new(Connection::new(version))
}

async fn hear(connection: &Arc<Connection>, receiving: Receiving, inbox: &Inbox, counters: &Counters) -> End {
    let mut frames = Frames::new(receiving, CLIENT_PAYLOAD_MAX, connection.version);
    loop {
        loop {
            while !connection.has_room() {
                connection.room.notified().await;
            }
            match frames.take() {
                Ok(Some(frame)) => {
                    if !take(connection, frame, inbox) {
                        Counters::count(&counters.bad_frames);
                        return End::Closed;
                    }
                }
                Ok(None) => break,
                Err(bad) => return End::Bad(bad),
            }
        }
        if let Err(end) = frames.fill(SILENCE_MAX, counters).await {
            return end;
        }
    }
}

/// Takes a client's frame; whether it makes sense.
fn take(connection: &Arc<Connection>, frame: Frame, inbox: &Inbox) -> bool {
    match frame.kind {
        PING => true,
        ASKS => read_asks(&mut frame.reader(), |Asked { id, patience, ask }| {
            connection.waiting.fetch_add(1, Relaxed);
            inbox.push(Input::Ask(Asker::Client(Arc::clone(connection), id), patience, ask));
        }),
        _ => false,
    }
}

/// Hands on each ask of a frame; whether all of it makes sense.
fn read_asks(input: &mut Reader, mut each: impl FnMut(Asked)) -> bool {
    let Ok(count) = input.count(Asked::SIZE_MIN) else { return false };
    for _ in 0..count {
        match Asked::decode(input) {
            Ok(asked) => each(asked),
            Err(_) => return false,
        }
    }
    input.remaining() == 0
}

/// Whether an ask is answered by the driver at once, so that nobody waits.
pub(super) const fn is_immediate(ask: &Ask) -> bool {
    matches!(ask, Ask::Hold { .. } | Ask::Status | Ask::Members)
}

//! The shape that all protocols share.
//!
//! ```text
//!   start receive expire request link flush ──►  a pure machine  ──► Send Persist Checkpoint Promise
//!              (with the time)                                       Set Cancel Answer Notify
//! ```
//!
//! A machine is handed the time and a seeded generator, and answers with effects in the order in which they must
//! happen. It does no I/O, so one machine runs unchanged in a simulated world, in a thread and over TCP.
//!
//! **The durability law.** [`Effect::Send`] waits for nothing and promises nothing that a crash could undo. An
//! [`Effect::Promise`] leaves only when every record that this machine persisted before it, in this call or in any
//! earlier one, is durable. The driver never waits for its disk: one sync serves all that queued meanwhile.
//!
//! **The laws** that `tests/rust/laws.rs` holds every protocol to:
//! 1. the same inputs give the same outbox;
//! 2. a refused request changes nothing;
//! 3. what a promise says was persisted before it;
//! 4. duplicated, late, reordered and lost messages never break safety;
//! 5. [`Protocol::start`] from the records forgets no promise ([`Promises`]);
//! 6. an expired timer that was not set any more is a no-op;
//! 7. a peer's nonsense is input, never a panic;
//! 8. `now` never goes back.

use std::fmt::{self, Debug};

use crate::id::{NodeId, RequestId};
use crate::random::Random;
use crate::time::Instant;

/// A deterministic machine: six verbs in, effects out.
pub trait Protocol: Sized {
    /// What members say to each other.
    type Message: Clone + Debug + PartialEq;
    /// What the journal keeps.
    type Record: Clone + Debug + PartialEq;
    /// The alarms that it sets: one of each at a time.
    type Timer: Copy + Ord + Debug;
    /// What its application hears.
    type Event: Clone + Debug + PartialEq;
    /// What it may be asked.
    type Request: Clone + Debug + PartialEq;
    /// What it answers when it could.
    type Answer: Clone + Debug + PartialEq;
    /// What it answers when it could not.
    type Error: Clone + Debug + PartialEq;

    /// Begins a life, from what the journal kept of the lives before (nothing, in the first). Called once, first.
    fn start(&mut self, now: Instant, random: Random, records: Vec<Self::Record>, out: &mut Outbox<Self>);

    /// Takes a message from `from`: a peer, or itself for a promise that it made to itself.
    fn receive(&mut self, now: Instant, from: NodeId, message: Self::Message, out: &mut Outbox<Self>);

    /// Takes an alarm that it had set.
    fn expire(&mut self, now: Instant, timer: Self::Timer, out: &mut Outbox<Self>);

    /// Takes a request. It is answered exactly once in this life; an error other than "unknown" means that nothing
    /// happened and nothing will.
    fn request(&mut self, now: Instant, id: RequestId, request: Self::Request, out: &mut Outbox<Self>);

    /// Takes a hint about the connection to `peer`. Hints are often wrong: they may serve liveness, never safety.
    fn link(&mut self, now: Instant, peer: NodeId, link: Link, out: &mut Outbox<Self>) {
        let _ = (now, peer, link, out);
    }

    /// Ends a batch of inputs: what was gathered leaves now.
    fn flush(&mut self, now: Instant, out: &mut Outbox<Self>) {
        let _ = (now, out);
    }
}

/// What is known of the connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Established.
    Up,
    /// Lost: its end was seen.
    Down,
    /// The peer's machine answered that nobody listens there.
    Refused,
}

/// What a machine wants done. Effects happen in order.
pub enum Effect<P: Protocol> {
    /// Leaves at once; promises nothing that a crash could undo.
    Send(NodeId, P::Message),
    /// Is appended to the journal. Nobody waits for it.
    Persist(P::Record),
    /// Replaces all records before it, so that journals end.
    Checkpoint(P::Record),
    /// Leaves when every record persisted before it is durable. To oneself it never touches the network: it comes
    /// back by [`Protocol::receive`], once and in order, unless the machine crashes.
    Promise(NodeId, P::Message),
    /// Sets this alarm, in place of one of the same name.
    Set(P::Timer, Instant),
    /// Forgets this alarm.
    Cancel(P::Timer),
    /// Answers a request.
    Answer(RequestId, Result<P::Answer, P::Error>),
    /// Tells the application.
    Notify(P::Event),
}

/// The state that a protocol serves: applies what was decided, and keeps the snapshots.
pub trait Application<P: Protocol> {
    /// Hears of an event, and asks in return. The driver gives these requests their ids and drops their answers.
    fn hear(&mut self, event: P::Event) -> Vec<P::Request>;
}

/// What a machine has given its word for. For tests of law 5: no promise that left is forgotten by a restart.
pub trait Promises: Protocol {
    /// Ordered by what it binds: a later value keeps every promise of an earlier one.
    type Promised: PartialOrd + Debug;

    /// What this machine must never go back on.
    fn promised(&self) -> Self::Promised;
}

/// Effects, in the order in which they must happen.
pub struct Outbox<P: Protocol> {
    effects: Vec<Effect<P>>,
}

impl<P: Protocol> Outbox<P> {
    /// Nothing to do.
    pub const fn new() -> Self {
        Self { effects: Vec::new() }
    }

    /// Pushes any effect.
    #[inline]
    pub fn push(&mut self, effect: Effect<P>) {
        self.effects.push(effect);
    }

    /// [`Effect::Send`].
    #[inline]
    pub fn send(&mut self, to: NodeId, message: P::Message) {
        self.push(Effect::Send(to, message));
    }

    /// [`Effect::Persist`].
    #[inline]
    pub fn persist(&mut self, record: P::Record) {
        self.push(Effect::Persist(record));
    }

    /// [`Effect::Checkpoint`].
    #[inline]
    pub fn checkpoint(&mut self, record: P::Record) {
        self.push(Effect::Checkpoint(record));
    }

    /// [`Effect::Promise`].
    #[inline]
    pub fn promise(&mut self, to: NodeId, message: P::Message) {
        self.push(Effect::Promise(to, message));
    }

    /// [`Effect::Set`].
    #[inline]
    pub fn set(&mut self, timer: P::Timer, at: Instant) {
        self.push(Effect::Set(timer, at));
    }

    /// [`Effect::Cancel`].
    #[inline]
    pub fn cancel(&mut self, timer: P::Timer) {
        self.push(Effect::Cancel(timer));
    }

    /// [`Effect::Answer`].
    #[inline]
    pub fn answer(&mut self, id: RequestId, answer: Result<P::Answer, P::Error>) {
        self.push(Effect::Answer(id, answer));
    }

    /// [`Effect::Notify`].
    #[inline]
    pub fn notify(&mut self, event: P::Event) {
        self.push(Effect::Notify(event));
    }

    /// The effects so far.
    pub fn as_slice(&self) -> &[Effect<P>] {
        &self.effects
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// How many effects there are.
    pub fn len(&self) -> usize {
        self.effects.len()
    }

    /// Takes the effects out, keeping the room for the next ones.
    #[inline]
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect<P>> {
        self.effects.drain(..)
    }
}

impl<P: Protocol> Default for Outbox<P> {
    fn default() -> Self {
        Self::new()
    }
}

// By hand, because a derive would demand `Debug`, `Clone` and `PartialEq` of `P` itself.
impl<P: Protocol> Debug for Outbox<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.effects).finish()
    }
}

impl<P: Protocol> Debug for Effect<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(to, message) => f.debug_tuple("Send").field(to).field(message).finish(),
            Self::Persist(record) => f.debug_tuple("Persist").field(record).finish(),
            Self::Checkpoint(record) => f.debug_tuple("Checkpoint").field(record).finish(),
            Self::Promise(to, message) => f.debug_tuple("Promise").field(to).field(message).finish(),
            Self::Set(timer, at) => f.debug_tuple("Set").field(timer).field(at).finish(),
            Self::Cancel(timer) => f.debug_tuple("Cancel").field(timer).finish(),
            Self::Answer(id, answer) => f.debug_tuple("Answer").field(id).field(answer).finish(),
            Self::Notify(event) => f.debug_tuple("Notify").field(event).finish(),
        }
    }
}

impl<P: Protocol> Clone for Effect<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Send(to, message) => Self::Send(*to, message.clone()),
            Self::Persist(record) => Self::Persist(record.clone()),
            Self::Checkpoint(record) => Self::Checkpoint(record.clone()),
            Self::Promise(to, message) => Self::Promise(*to, message.clone()),
            Self::Set(timer, at) => Self::Set(*timer, *at),
            Self::Cancel(timer) => Self::Cancel(*timer),
            Self::Answer(id, answer) => Self::Answer(*id, answer.clone()),
            Self::Notify(event) => Self::Notify(event.clone()),
        }
    }
}

impl<P: Protocol> PartialEq for Effect<P> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Send(to, one), Self::Send(also, two))
            | (Self::Promise(to, one), Self::Promise(also, two)) => to == also && one == two,
            (Self::Persist(one), Self::Persist(two)) | (Self::Checkpoint(one), Self::Checkpoint(two)) => {
                one == two
            }
            (Self::Set(timer, at), Self::Set(same, when)) => timer == same && at == when,
            (Self::Cancel(timer), Self::Cancel(same)) => timer == same,
            (Self::Answer(id, one), Self::Answer(same, two)) => id == same && one == two,
            (Self::Notify(one), Self::Notify(two)) => one == two,
            _ => false,
        }
    }
}

//! Who lives with a machine in its process, who asks it, and who watches.

use crate::check::Violation;
use crate::id::{NodeId, RequestId};
use crate::protocol::{Application, Effect, Protocol};
use crate::random::Random;
use crate::time::Instant;

/// An application in a simulated process: it lives and dies with its machine, and its disk outlives both.
pub trait Host<P: Protocol>: Application<P> + Sized {
    /// What survives a crash.
    type Disk: Default + Clone;

    /// Begins a life, from what is on its disk.
    fn open(id: NodeId, disk: Self::Disk) -> Self;

    /// Ends it: what is on the disk then. What was not yet durable may survive or not, as `random` says.
    fn crash(self, random: &mut Random) -> Self::Disk;
}

/// Hears everything and does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deaf;

impl<P: Protocol> Application<P> for Deaf {
    fn hear(&mut self, _event: P::Event) -> Vec<P::Request> {
        Vec::new()
    }
}

impl<P: Protocol> Host<P> for Deaf {
    type Disk = ();

    fn open(_id: NodeId, (): ()) -> Self {
        Self
    }

    fn crash(self, _random: &mut Random) {}
}

/// A process, as a watcher sees it.
pub struct Seen<'a, P, H> {
    /// The world's time.
    pub at: Instant,
    /// How many inputs had been handled in this world.
    pub step: u64,
    /// Who.
    pub node: NodeId,
    /// Which of its lives, counted from 1.
    pub life: u32,
    /// Its machine, after the whole batch of inputs whose effects are seen now.
    pub machine: &'a P,
    /// Its application.
    pub host: &'a H,
}

/// Looks on, and tells when something happens that must not. `()` sees nothing and costs nothing.
pub trait Watch<P: Protocol, H> {
    /// Whether anything is looked at.
    const WATCHES: bool = true;

    /// A life is about to begin from these records.
    fn recovered(&mut self, at: Instant, node: NodeId, records: &[P::Record]) -> Result<(), Violation> {
        let _ = (at, node, records);
        Ok(())
    }

    /// Somebody outside asks `node`.
    fn asked(
        &mut self,
        at: Instant,
        node: NodeId,
        id: RequestId,
        request: &P::Request,
    ) -> Result<(), Violation> {
        let _ = (at, node, id, request);
        Ok(())
    }

    /// A batch of inputs was handled; these are its effects, and none has happened yet.
    fn handled(&mut self, seen: &Seen<'_, P, H>, effects: &[Effect<P>]) -> Result<(), Violation> {
        let _ = (seen, effects);
        Ok(())
    }

    /// An effect happens now: in order, and only those that happen before a crash.
    fn effect(&mut self, seen: &Seen<'_, P, H>, effect: &Effect<P>) -> Result<(), Violation> {
        let _ = (seen, effect);
        Ok(())
    }

    /// A promise leaves: what it waited for is durable.
    fn promised(&mut self, seen: &Seen<'_, P, H>, to: NodeId, message: &P::Message) -> Result<(), Violation> {
        let _ = (seen, to, message);
        Ok(())
    }

    /// Whom a fault befalls that names [`LEADER`](super::LEADER) or [`VOTER`](super::VOTER).
    fn target(&self, whom: NodeId) -> Option<NodeId> {
        let _ = whom;
        None
    }

    /// A life has ended.
    fn crashed(&mut self, at: Instant, node: NodeId) -> Result<(), Violation> {
        let _ = (at, node);
        Ok(())
    }
}

impl<P: Protocol, H> Watch<P, H> for () {
    const WATCHES: bool = false;
}

/// Asks the processes. `()` asks nothing.
pub trait Load<P: Protocol> {
    /// The world begins.
    fn begin(&mut self, asks: &mut Asks<'_, P>) {
        let _ = asks;
    }

    /// A wake-up that it had asked for.
    fn wake(&mut self, token: u64, asks: &mut Asks<'_, P>) {
        let _ = (token, asks);
    }

    /// An answer. It comes once at most: a process that crashes answers nothing.
    fn answered(
        &mut self,
        node: NodeId,
        id: RequestId,
        answer: Result<P::Answer, P::Error>,
        asks: &mut Asks<'_, P>,
    ) {
        let _ = (node, id, answer, asks);
    }
}

impl<P: Protocol> Load<P> for () {}

/// What a [`Load`] may do.
pub struct Asks<'a, P: Protocol> {
    pub(super) now: u64,
    pub(super) requests: &'a mut Vec<u8>,
    pub(super) wishes: &'a mut Vec<Wish<P>>,
    pub(super) clocks: &'a mut [super::clock::Clock],
}

pub(super) enum Wish<P: Protocol> {
    Request(usize, RequestId, P::Request),
    Wake(u64, u64),
}

impl<P: Protocol> Asks<'_, P> {
    /// The world's time.
    pub const fn now(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    /// What the clock of `node` shows: deadlines are told in it.
    pub fn clock(&mut self, node: NodeId) -> Instant {
        let now = self.now;
        let index = node.0.wrapping_sub(1) as usize;
        self.clocks.get_mut(index).map_or(Instant::from_nanos(now), |clock| clock.read(now))
    }

    /// How many processes there are.
    pub const fn processes(&self) -> u64 {
        self.clocks.len() as u64
    }

    /// Asks `node`.
    pub fn request(&mut self, node: NodeId, request: P::Request) -> RequestId {
        self.requests.push(0);
        let id = RequestId(self.requests.len() as u64 - 1);
        self.wishes.push(Wish::Request(node.0.wrapping_sub(1) as usize, id, request));
        id
    }

    /// Asks to be woken at `at`, with `token`.
    pub fn wake_at(&mut self, at: Instant, token: u64) {
        self.wishes.push(Wish::Wake(at.as_nanos().max(self.now), token));
    }
}

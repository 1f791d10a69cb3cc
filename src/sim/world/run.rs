//! What happens next, and to whom.

use super::{Cell, Pending, WORLD, World};
use crate::id::NodeId;
use crate::protocol::Outbox;
use crate::sim::host::{Host, Load, Watch};
use crate::sim::medium::{Damage, Medium};
use crate::sim::process::Ring;
use crate::sim::trace::{Fingerprint, Row, Verb};
use crate::time::Instant;

impl<P, H, W, L, M> World<P, H, W, L, M>
where
    P: Fingerprint,
    H: Host<P>,
    W: Watch<P, H>,
    L: Load<P>,
    M: Medium<P>,
{
    /// Lets the next thing happen, when it is due by `end`.
    #[inline]
    pub(super) fn advance(&mut self, end: u64) -> bool {
        if !self.begun {
            self.begun = true;
            self.ask(L::begin);
        }
        if self.queue.next_at().is_none_or(|at| at > end) {
            return false;
        }
        let Some((at, cell)) = self.queue.pop() else { return false };
        self.now = at;
        if cell.node == WORLD {
            self.happen(&cell.pending);
        } else {
            self.befall(cell);
        }
        true
    }

    /// Something befalls the world.
    fn happen(&mut self, pending: &Pending<P, M>) {
        match *pending {
            Pending::Begin(place) => self.begin_fault(place as usize),
            Pending::End(place) => self.end_fault(place as usize),
            Pending::Wake(token) => self.ask(|load, asks| load.wake(token, asks)),
            _ => {}
        }
    }

    /// Something befalls a process.
    #[inline]
    fn befall(&mut self, cell: Cell<P, M>) {
        let node = cell.node as usize;
        let process = &mut self.processes[node];
        match cell.pending {
            Pending::Start => self.begin_life(node),
            Pending::Crash { life } => {
                if process.life == life && process.doomed.is_some() {
                    self.end_life(node);
                }
            }
            Pending::Message { from, sent, parcel } if process.alive.is_none() => {
                self.statistics.astray += 1;
                self.strand(node, from, sent, parcel);
            }
            _ if process.alive.is_none() => self.statistics.astray += 1,
            _ if process.pauses > 0 => process.inbox.push(cell),
            Pending::Synced { life, count } => self.synced(node, life, count),
            input => self.batch(node, input),
        }
    }

    /// Hands over inputs that are due, as many as are drawn, and does what comes of them.
    #[inline]
    fn batch(&mut self, node: usize, first: Pending<P, M>) {
        let mut out = std::mem::take(&mut self.outbox);
        let now = self.clocks[node].read(self.now);
        let before = self.step;
        self.hand(node, now, first, &mut out);
        if self.batch_max > 1 && self.is_next(node) {
            let mut left = self.processes[node].batches.below(self.batch_max);
            while left > 0 && self.is_next(node) {
                let Some((_, cell)) = self.queue.pop() else { break };
                self.hand(node, now, cell.pending, &mut out);
                left -= 1;
            }
        }
        if self.step > before {
            self.machine_of(node, |machine| machine.flush(now, &mut out));
            self.statistics.batches += 1;
            self.perform(node, &mut out);
        }
        self.outbox = out;
    }

    /// Whether what comes next is an input of `node`, and due now.
    #[inline]
    fn is_next(&self, node: usize) -> bool {
        self.queue.peek().is_some_and(|(at, cell)| {
            at == self.now
                && cell.node as usize == node
                && !matches!(cell.pending, Pending::Synced { .. } | Pending::Start | Pending::Crash { .. })
        })
    }

    /// Hands one input to a machine.
    #[inline]
    fn hand(&mut self, node: usize, now: Instant, input: Pending<P, M>, out: &mut Outbox<P>) {
        let current = self.processes[node].life;
        match input {
            Pending::Message { from, sent, parcel } => {
                let (from, sent) = (NodeId(u64::from(from) + 1), Instant::from_nanos(sent));
                let message = match M::open(parcel) {
                    Ok(message) => message,
                    Err(damage) => {
                        self.refused(node, from, sent, damage);
                        return;
                    }
                };
                self.statistics.delivered += 1;
                self.take(Verb::Receive, node, Some(from), P::of_message(&message), Some(sent), || {
                    format!("{message:?}")
                });
                self.machine_of(node, |machine| machine.receive(now, from, message, out));
            }
            Pending::Own { life, message } if life == current => {
                let id = self.processes[node].id;
                self.take(Verb::Receive, node, Some(id), P::of_message(&message), None, || {
                    format!("{message:?}")
                });
                self.machine_of(node, |machine| machine.receive(now, id, message, out));
            }
            Pending::Expire { life, timer, generation } if life == current => {
                match self.processes[node].alarms.ring(timer, generation, now) {
                    Ring::Now => {
                        self.take(Verb::Expire, node, None, P::of_timer(timer), None, || {
                            format!("{timer:?}")
                        });
                        self.machine_of(node, |machine| machine.expire(now, timer, out));
                    }
                    Ring::Later(at) => self.set(node, timer, at),
                    Ring::Never => {}
                }
            }
            Pending::Request { id, request } => {
                let text = || format!("{id:?} {request:?}");
                self.take(Verb::Request, node, None, P::of_request(&request), None, text);
                self.statistics.requests += 1;
                self.machine_of(node, |machine| machine.request(now, id, request, out));
            }
            Pending::Applied { life, id, request } if life == current => {
                let host = Some(self.processes[node].id);
                self.take(Verb::Request, node, host, P::of_request(&request), None, || {
                    format!("{request:?}")
                });
                self.machine_of(node, |machine| machine.request(now, id, request, out));
            }
            Pending::Hint { peer, link } => {
                let peer = NodeId(u64::from(peer) + 1);
                self.take(Verb::Link, node, Some(peer), link as u64, None, || format!("{link:?}"));
                self.machine_of(node, |machine| machine.link(now, peer, link, out));
            }
            // What an earlier life was to get, and what is no input.
            _ => {}
        }
    }

    /// A message arrived damaged.
    #[cold]
    fn refused(&mut self, node: usize, from: NodeId, sent: Instant, damage: Damage) {
        self.statistics.corrupted += 1;
        let id = self.processes[node].id;
        self.note(Verb::Lost, Some(id), Some(from), 1, Some(sent), || damage.to_string());
        if let Damage::Missed(violation) = damage {
            self.judge(node, Err(violation));
        }
    }

    /// A message arrives where nobody lives. The digest has the crash, from which this follows.
    #[cold]
    pub(super) fn strand(&mut self, node: usize, from: u32, sent: u64, parcel: M::Parcel) {
        let (id, from) = (self.processes[node].id, NodeId(u64::from(from) + 1));
        let sent = Some(Instant::from_nanos(sent));
        self.jot(Verb::Lost, Some(id), Some(from), 0, sent, || match M::open(parcel) {
            Ok(message) => format!("nobody there: {message:?}"),
            Err(damage) => damage.to_string(),
        });
    }

    #[inline]
    pub(super) fn machine_of(&mut self, node: usize, verb: impl FnOnce(&mut P)) {
        if let Some((machine, _)) = &mut self.processes[node].alive {
            verb(machine);
        }
    }

    /// Counts and notes an input: each is a step.
    #[inline]
    pub(super) fn take(
        &mut self,
        verb: Verb,
        node: usize,
        peer: Option<NodeId>,
        fingerprint: u64,
        sent: Option<Instant>,
        text: impl FnOnce() -> String,
    ) {
        self.step += 1;
        self.note(verb, Some(self.processes[node].id), peer, fingerprint, sent, text);
    }

    /// Folds something that happened into the digest, and keeps it.
    #[inline]
    pub(super) fn note(
        &mut self,
        verb: Verb,
        node: Option<NodeId>,
        peer: Option<NodeId>,
        fingerprint: u64,
        sent: Option<Instant>,
        text: impl FnOnce() -> String,
    ) {
        let id = |node: Option<NodeId>| node.map_or(0, |node| node.0);
        self.digest.fold(self.now);
        self.digest.fold((verb as u64) << 56 | id(node) << 28 | id(peer));
        self.digest.fold(fingerprint);
        self.jot(verb, node, peer, fingerprint, sent, text);
    }

    /// Keeps something that happened, without folding it in: the digest stays what it was before anybody drew pictures.
    #[inline]
    pub(super) fn jot(
        &mut self,
        verb: Verb,
        node: Option<NodeId>,
        peer: Option<NodeId>,
        fingerprint: u64,
        sent: Option<Instant>,
        text: impl FnOnce() -> String,
    ) {
        if self.trace.keeps(verb) {
            let text = if self.trace.words(verb) { text() } else { String::new() };
            self.trace.push(Row { sent, text, ..self.row(verb, node, peer, fingerprint) });
        }
    }

    /// A row of now.
    #[inline]
    pub(super) const fn row(
        &self,
        verb: Verb,
        node: Option<NodeId>,
        peer: Option<NodeId>,
        fingerprint: u64,
    ) -> Row {
        let (at, step) = (Instant::from_nanos(self.now), self.step);
        Row { at, step, node, verb, peer, fingerprint, sent: None, part: None, text: String::new() }
    }

    /// Puts an input of `node` at the first time from `at` on at which it looks for inputs.
    #[inline]
    pub(super) fn push(&mut self, at: u64, node: usize, pending: Pending<P, M>) {
        let due = self.due(node, at);
        self.queue.push(due, Cell { node: node as u32, pending });
    }

    #[inline]
    pub(super) fn due(&self, node: usize, at: u64) -> u64 {
        at.saturating_add(self.phases[node].wrapping_sub(at) & self.poll_mask)
    }

    /// Sets an alarm, on the process's clock.
    #[inline]
    pub(super) fn set(&mut self, node: usize, timer: P::Timer, at: Instant) {
        let due = self.due(node, self.clocks[node].when(self.now, at));
        let process = &mut self.processes[node];
        if let Some(generation) = process.alarms.set(timer, at, due) {
            let pending = Pending::Expire { life: process.life, timer, generation };
            self.queue.push(due, Cell { node: node as u32, pending });
        }
    }
}

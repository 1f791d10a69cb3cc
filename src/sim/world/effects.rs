//! What processes do to the world.

use super::{ANSWERED, Cell, DIRECT, Failure, HOST, Pending, WORLD, World};
use crate::check::Violation;
use crate::id::{NodeId, RequestId};
use crate::protocol::{Effect, Outbox};
use crate::random::{mix, scale};
use crate::sim::host::{Asks, Host, Load, Seen, Watch, Wish};
use crate::sim::medium::{Journal, Medium};
use crate::sim::trace::{Fingerprint, Part, Row, Verb};
use crate::time::Instant;

impl<P, H, W, L, M> World<P, H, W, L, M>
where
    P: Fingerprint,
    H: Host<P>,
    W: Watch<P, H>,
    L: Load<P>,
    M: Medium<P>,
{
    /// Does what is in the outbox, in order; all of it, unless the process crashes on the way.
    #[inline]
    pub(super) fn perform(&mut self, node: usize, out: &mut Outbox<P>) {
        if W::WATCHES {
            self.watched(node, |watch, seen| watch.handled(seen, out.as_slice()));
        }
        if out.is_empty() {
            return;
        }
        // A doomed process crashes before one of its effects, or after the last.
        let doom = self.processes[node].doomed;
        let mut left = doom.map_or(out.len(), |word| scale(word, out.len() as u64 + 1) as usize);
        for effect in out.drain() {
            if left == 0 || self.failure.is_some() {
                break;
            }
            left -= 1;
            if W::WATCHES {
                self.watched(node, |watch, seen| watch.effect(seen, &effect));
            }
            self.perform_one(node, effect);
        }
        if doom.is_some() {
            self.end_life(node);
        } else {
            self.begin_sync(node);
        }
    }

    #[inline]
    fn perform_one(&mut self, node: usize, effect: Effect<P>) {
        match effect {
            Effect::Send(to, message) => {
                self.tell(Verb::Send, node, Some(to), 0, || format!("{message:?}"));
                self.send(node, to, message);
            }
            Effect::Persist(record) => {
                self.tell(Verb::Persist, node, None, P::of_record(&record), || format!("{record:?}"));
                self.statistics.records += 1;
                let process = &mut self.processes[node];
                process.journal.append(record);
                process.disk.appended += 1;
            }
            Effect::Checkpoint(record) => {
                self.tell(Verb::Checkpoint, node, None, P::of_record(&record), || format!("{record:?}"));
                self.statistics.records += 1;
                let process = &mut self.processes[node];
                process.journal.checkpoint(record);
                process.disk.appended += 1;
            }
            Effect::Promise(to, message) => {
                self.tell(Verb::Promise, node, Some(to), 0, || format!("{message:?}"));
                let process = &mut self.processes[node];
                let after = process.disk.appended;
                if process.disk.durable == after && process.promises.is_empty() {
                    self.release(node, to, message);
                } else {
                    process.promises.push_back((after, to, message));
                }
            }
            Effect::Set(timer, at) => {
                let word = P::of_timer(timer) ^ at.as_nanos();
                self.tell(Verb::Set, node, None, word, || format!("{timer:?} {at:?}"));
                self.set(node, timer, at);
            }
            Effect::Cancel(timer) => {
                self.tell(Verb::Cancel, node, None, P::of_timer(timer), || format!("{timer:?}"));
                self.processes[node].alarms.cancel(timer);
            }
            Effect::Answer(id, answer) => {
                let text = || format!("{id:?} {answer:?}");
                self.tell(Verb::Answer, node, None, P::of_answer(&answer) ^ mix(id.0), text);
                self.answered(node, id, answer);
            }
            Effect::Notify(event) => {
                self.tell(Verb::Notify, node, None, P::of_event(&event), || format!("{event:?}"));
                self.notify(node, event);
            }
        }
    }

    /// Notes an effect.
    #[inline]
    fn tell(
        &mut self,
        verb: Verb,
        node: usize,
        peer: Option<NodeId>,
        fingerprint: u64,
        text: impl FnOnce() -> String,
    ) {
        self.note(verb, Some(self.processes[node].id), peer, fingerprint, None, text);
    }

    /// A message leaves.
    #[inline]
    fn send(&mut self, node: usize, to: NodeId, message: P::Message) {
        let Some(to) = self.index(to) else {
            self.statistics.astray += 1;
            return;
        };
        if to == node {
            let life = self.processes[node].life;
            self.push(self.now, node, Pending::Own { life, message });
            return;
        }
        self.statistics.sent += 1;
        let Some(route) = self.fabric.route(self.now, node, to) else {
            self.lose(node, to, &message);
            return;
        };
        let (from, sent) = (node as u32, self.now);
        // What it was is not known any more once it is damaged.
        let words = if route.damage.is_some() && self.trace.is_recording() {
            format!("damaged: {message:?}")
        } else {
            String::new()
        };
        let mut parcel = M::pack(message);
        if let Some(after) = route.again {
            self.statistics.duplicated += 1;
            let pending = Pending::Message { from, sent, parcel: M::copy(&parcel) };
            self.push(self.now.saturating_add(after), to, pending);
        }
        if let Some(word) = route.damage {
            let Some(damaged) = M::damage(parcel, word) else {
                self.statistics.corrupted += 1;
                let (from, to) = (self.processes[node].id, self.processes[to].id);
                self.jot(Verb::Lost, Some(from), Some(to), 1, None, || words);
                return;
            };
            parcel = damaged;
        }
        self.push(self.now.saturating_add(route.after), to, Pending::Message { from, sent, parcel });
    }

    fn lose(&mut self, from: usize, to: usize, message: &P::Message) {
        self.statistics.lost += 1;
        let to = NodeId(to as u64 + 1);
        self.tell(Verb::Lost, from, Some(to), 0, || format!("{message:?}"));
    }

    /// A promise leaves: what it waited for is durable.
    #[inline]
    fn release(&mut self, node: usize, to: NodeId, message: P::Message) {
        if W::WATCHES {
            self.watched(node, |watch, seen| watch.promised(seen, to, &message));
        }
        self.send(node, to, message);
    }

    /// A sync has ended.
    pub(super) fn synced(&mut self, node: usize, life: u32, count: u64) {
        let process = &mut self.processes[node];
        if process.life != life {
            return;
        }
        if process.disk.stalled > 0 {
            process.disk.held = Some(count);
            return;
        }
        self.statistics.syncs += 1;
        self.tell(Verb::Synced, node, None, count, || count.to_string());
        let process = &mut self.processes[node];
        process.disk.syncing = false;
        let failing = std::mem::take(&mut process.disk.failing)
            .then(|| mix(self.seed ^ mix(process.id.0 ^ count << 8)));
        let Ok(durable) = process.journal.end_sync(count, failing) else {
            // What the disk has is not known any more: never tried again, the driver drops the machine.
            self.end_life(node);
            return;
        };
        process.disk.durable = durable;
        while self.processes[node].promises.front().is_some_and(|(after, _, _)| *after <= durable) {
            let Some((_, to, message)) = self.processes[node].promises.pop_front() else { break };
            self.release(node, to, message);
        }
        self.begin_sync(node);
    }

    /// Begins a sync when there is something to sync and none is under way: it covers what is appended now.
    #[inline]
    pub(super) fn begin_sync(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let disk = &mut process.disk;
        if disk.syncing || disk.full > 0 || disk.appended == disk.durable || process.alive.is_none() {
            return;
        }
        disk.syncing = true;
        process.journal.begin_sync();
        let (life, count) = (process.life, disk.appended);
        let takes = self.fabric.quantiles().draw(self.sync, disk.random.word()).saturating_add(disk.slow);
        let at = self.now.saturating_add(takes);
        self.queue.push(at, Cell { node: node as u32, pending: Pending::Synced { life, count } });
    }

    /// A process says that it plays another part.
    fn play(&mut self, node: usize, part: Part) {
        let process = &mut self.processes[node];
        if process.part.replace(part) == Some(part) {
            return;
        }
        let node = Some(process.id);
        self.trace.push(Row { part: Some(part), ..self.row(Verb::Become, node, None, part.term) });
    }

    fn notify(&mut self, node: usize, event: P::Event) {
        self.statistics.events += 1;
        if let Some(part) = P::part(&event) {
            self.play(node, part);
        }
        let process = &mut self.processes[node];
        let life = process.life;
        let Some((_, host)) = &mut process.alive else { return };
        for request in host.hear(event) {
            let id = RequestId(HOST | self.host_requests);
            self.host_requests += 1;
            let takes = self.fabric.quantiles().draw(self.apply, mix(id.0 ^ self.seed));
            let process = &mut self.processes[node];
            process.applied = process.applied.max(self.now.saturating_add(takes));
            let at = process.applied;
            self.push(at, node, Pending::Applied { life, id, request });
        }
    }

    fn answered(&mut self, node: usize, id: RequestId, answer: Result<P::Answer, P::Error>) {
        if id.0 >= HOST {
            return;
        }
        self.statistics.answers += 1;
        let state = self.requests.get_mut(id.0 as usize);
        let Some(state) = state.filter(|state| **state & ANSWERED == 0) else {
            let detail = format!("{id:?} was answered before, or never asked: {answer:?}");
            self.judge(node, Err(Violation::new("answered once", detail)));
            return;
        };
        *state |= ANSWERED;
        if *state & DIRECT != 0 {
            self.answers.insert(id, answer);
        } else {
            let node = self.processes[node].id;
            self.ask(|load, asks| load.answered(node, id, answer, asks));
        }
    }

    /// Lets the load ask.
    pub(super) fn ask(&mut self, speak: impl FnOnce(&mut L, &mut Asks<'_, P>)) {
        let mut wishes = std::mem::take(&mut self.wishes);
        let mut asks = Asks {
            now: self.now,
            requests: &mut self.requests,
            wishes: &mut wishes,
            clocks: &mut self.clocks,
        };
        speak(&mut self.load, &mut asks);
        for wish in wishes.drain(..) {
            match wish {
                Wish::Request(node, id, request) if node < self.processes.len() => {
                    self.asked(node, id, request);
                }
                Wish::Request(..) => {}
                Wish::Wake(at, token) => {
                    self.queue.push(at, Cell { node: WORLD, pending: Pending::Wake(token) });
                }
            }
        }
        self.wishes = wishes;
    }

    /// Somebody outside asks.
    pub(super) fn asked(&mut self, node: usize, id: RequestId, request: P::Request) {
        let verdict = self.watch.asked(Instant::from_nanos(self.now), self.processes[node].id, id, &request);
        if verdict.is_err() {
            self.judge(node, verdict);
        }
        self.push(self.now, node, Pending::Request { id, request });
    }

    /// Shows a process to the watcher.
    #[inline]
    pub(super) fn watched(
        &mut self,
        node: usize,
        look: impl FnOnce(&mut W, &Seen<'_, P, H>) -> Result<(), Violation>,
    ) {
        let process = &self.processes[node];
        let Some((machine, host)) = &process.alive else { return };
        let (at, step) = (Instant::from_nanos(self.now), self.step);
        let seen = Seen { at, step, node: process.id, life: process.life, machine, host };
        let verdict = look(&mut self.watch, &seen);
        if verdict.is_err() {
            self.judge(node, verdict);
        }
    }

    /// Keeps the first violation; the world stops there.
    #[cold]
    pub(super) fn judge(&mut self, node: usize, verdict: Result<(), Violation>) {
        if let (Err(violation), None) = (verdict, &self.failure) {
            self.failure = Some(Failure {
                seed: self.seed,
                step: self.step,
                at: Instant::from_nanos(self.now),
                node: self.processes[node].id,
                violation,
            });
        }
    }
}

//! Performs what the replica wants done, in order.

mod asks;
mod closing;
mod forming;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{Instant as Alarm, Sleep, sleep_until};

use self::closing::Closing;
use super::clients::Connection;
use super::folder::{Card, Folder};
use super::inbox::{Asker, Inbox, Input};
use super::network::Network;
use super::requests::Requests;
use super::shared::{Part, SharedHandle};
use super::snapshots::{self, Job};
use super::{Config, Failure, clock};
use crate::id::{NodeId, RequestId};
use crate::net::Hello;
use crate::protocol::{Application, Effect, Outbox, Protocol};
use crate::raft::{Membership, Record, Snapshot, SnapshotId};
use crate::random::Random;
use crate::replica::asks::{Error, Reply};
use crate::replica::{Event, Machine, Message, Replica, Request, Timer, Writing};
use crate::store::Store;
use crate::time::Instant;
use crate::wal::{self, Wal};

/// A member's thread.
pub(super) struct Driver {
    pub(super) config: Config,
    pub(super) replica: Replica,
    pub(super) wal: Wal,
    pub(super) shared: SharedHandle,
    pub(super) inbox: Arc<Inbox>,
    pub(super) network: Rc<Network>,
    pub(super) folder: Folder,
    pub(super) card: Card,
    pub(super) syncs: mpsc::Sender<wal::Sync>,
    pub(super) jobs: mpsc::Sender<Job>,
    /// How many pieces of this member's own snapshot wait for the disk.
    pub(super) pieces: Arc<AtomicUsize>,
    pub(super) work: Work,
}

/// What changes while a member lives.
#[derive(Default)]
pub(super) struct Work {
    out: Outbox<Replica>,
    /// What comes back: promises to oneself, and what the application asks.
    own: VecDeque<Message>,
    asked: VecDeque<Request>,
    requests: Requests,
    timers: BTreeMap<Timer, Instant>,
    /// What waits until the journal has reached a place.
    promises: VecDeque<(u64, NodeId, Message)>,
    /// Clients' connections with replies of this batch.
    replied: Vec<Arc<Connection>>,
    /// A snapshot that is being written.
    writing: Option<Writing>,
    /// Which snapshot each member could not be given, because it would not read it.
    too_new: BTreeMap<NodeId, SnapshotId>,
    /// What peers have said of themselves, by their names, until the cluster is formed.
    met: BTreeMap<String, Hello>,
    membership: Arc<Membership>,
    failure: Option<Failure>,
    closing: Option<Closing>,
    /// Whether it ends because the disk is full.
    crowded: bool,
    killed: bool,
    syncs: u64,
}

/// Requests of the member itself: nobody hears their answers.
const OWN: u64 = 1 << 63;
/// How much of a snapshot is made at once, between two batches of inputs.
const PIECE_BYTES: usize = 256 << 10;
/// How many of them may wait for the disk.
const PIECES_MAX: usize = 16;

impl Driver {
    /// Lives until it is told to stop, or cannot go on. `meddle` is called before each batch of inputs.
    pub(super) async fn run(
        mut self,
        random: Random,
        records: Vec<Record>,
        meddle: impl Fn(),
    ) -> Option<Failure> {
        let mut alarm = Box::pin(sleep_until(Alarm::now()));
        let mut batch = Vec::new();
        self.begin(random, records);
        while !self.has_ended() {
            self.wait(&mut alarm).await;
            meddle();
            self.inbox.take(&mut batch);
            // Read after the inputs were taken: what is decided by it is not older than they are.
            let now = clock::now();
            for input in batch.drain(..) {
                self.take(now, input);
            }
            self.expire(now);
            self.settle(now);
            self.write_snapshot();
            self.mind_the_room(now);
            self.go_on_closing(now);
            self.publish(now);
            // What was said leaves before more is heard.
            yield_now().await;
        }
        self.end();
        self.work.failure
    }

    fn begin(&mut self, random: Random, records: Vec<Record>) {
        let now = clock::now();
        self.replica.start(now, random, records, &mut self.work.out);
        self.settle(now);
        self.begin_forming(now);
        self.publish(now);
    }

    /// Returns when there is an input, or the next alarm rings.
    async fn wait(&self, alarm: &mut Pin<Box<Sleep>>) {
        let next = self.work.timers.values().min().copied().unwrap_or(Instant::NEVER);
        let next = self.work.closing.as_ref().map_or(next, |closing| closing.next().min(next));
        // An alarm that rings too early costs less than setting it anew each time.
        let wait = next.since(clock::now()).min(Duration::from_secs(1 << 20));
        let at = Alarm::now() + wait;
        if alarm.is_elapsed() || at < alarm.deadline() || at > alarm.deadline() + Duration::from_millis(20) {
            alarm.as_mut().reset(at);
        }
        tokio::select! {
            biased;
            () = self.inbox.news() => {}
            () = alarm.as_mut() => {}
        }
    }

    fn take(&mut self, now: Instant, input: Input) {
        match input {
            Input::Message(from, message) => self.replica.receive(now, from, message, &mut self.work.out),
            Input::Ask(asker, patience, ask) => self.take_ask(now, asker, patience, ask),
            Input::Change(asker, deadline, changes) => self.take_change(now, asker, deadline, changes),
            Input::Synced(outcome) => self.synced(outcome),
            Input::Snapshots(Ok(request)) => self.work.asked.push_back(request),
            Input::Snapshots(Err(failure)) => self.fail(failure),
            Input::TooNew(snapshot, to) => self.rewrite_snapshot(snapshot, to),
            Input::Link(peer, link) => {
                self.replica.link(now, peer, link, &mut self.work.out);
                self.show_members();
            }
            Input::Met(hello) => self.meet(now, hello),
            Input::Told(members) => self.learn(members),
            Input::Refused(refusal) => self.be_refused(refusal),
            Input::Gone(connection, leases) => self.lose_client(now, &connection, leases),
            Input::Close => self.begin_closing(now),
            Input::Kill => self.work.killed = true,
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(timer) = self.work.timers.iter().find(|(_, at)| **at <= now).map(|(timer, _)| *timer) {
            self.work.timers.remove(&timer);
            self.replica.expire(now, timer, &mut self.work.out);
        }
    }

    /// Ends the batch, performs what is wanted, hands in what comes back of it at once, and so on until nothing does.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some(request) = self.work.asked.pop_front() {
                self.replica.request(now, RequestId(OWN), request, &mut self.work.out);
            }
            while let Some(message) = self.work.own.pop_front() {
                let id = self.replica.id();
                self.replica.receive(now, id, message, &mut self.work.out);
            }
            self.replica.flush(now, &mut self.work.out);
            self.perform();
            if self.work.failure.is_some() || (self.work.asked.is_empty() && self.work.own.is_empty()) {
                break;
            }
        }
        if let Some(sync) = self.wal.begin_sync() {
            // The other end is gone only when it has said why.
            let _ = self.syncs.send(sync);
        }
        for connection in self.work.replied.drain(..) {
            connection.send_replies();
        }
    }

    fn perform(&mut self) {
        let mut out = std::mem::take(&mut self.work.out);
        for effect in out.drain() {
            if self.work.failure.is_some() {
                break;
            }
            self.perform_one(effect);
        }
        self.work.out = out;
    }

    fn perform_one(&mut self, effect: Effect<Replica>) {
        match effect {
            Effect::Send(to, message) => self.network.send(to, &message),
            Effect::Persist(record) => self.persist(|wal| wal.append_encoded(&record)),
            Effect::Checkpoint(record) => self.persist(|wal| wal.checkpoint_encoded(&record)),
            Effect::Promise(to, message) => {
                let after = self.wal.appended();
                if self.wal.durable() == after && self.work.promises.is_empty() {
                    self.release(to, message);
                } else {
                    self.work.promises.push_back((after, to, message));
                }
            }
            Effect::Set(timer, at) => {
                self.work.timers.insert(timer, at);
            }
            Effect::Cancel(timer) => {
                self.work.timers.remove(&timer);
            }
            Effect::Answer(RequestId(OWN), _) => {}
            Effect::Answer(id, answer) => {
                self.closing_hears(id);
                if let Some(asker) = self.work.requests.take(id) {
                    self.reply(asker, answer.map_err(Error::from).map(Into::into));
                }
            }
            Effect::Notify(event) => self.notify(event),
        }
    }

    fn persist(&mut self, write: impl FnOnce(&mut Wal) -> Result<u64, wal::WalError>) {
        if let Err(error) = write(&mut self.wal) {
            let failure = Failure::journal(&self.folder.wal(), &error);
            self.fail(failure);
        }
    }

    /// A promise leaves: what it waited for is durable.
    fn release(&mut self, to: NodeId, message: Message) {
        if to == self.replica.id() {
            self.work.own.push_back(message);
        } else {
            self.network.send(to, &message);
        }
    }

    fn synced(&mut self, outcome: Result<(), wal::FileError>) {
        match self.wal.end_sync(outcome) {
            Ok(durable) => {
                self.work.syncs += 1;
                while self.work.promises.front().is_some_and(|(after, _, _)| *after <= durable) {
                    let Some((_, to, message)) = self.work.promises.pop_front() else { break };
                    self.release(to, message);
                }
            }
            Err(error) => self.fail(Failure::journal(&self.folder.wal(), &error)),
        }
    }

    fn reply(&mut self, asker: Asker, reply: Reply) {
        match asker {
            Asker::Local(respond) => respond(reply),
            Asker::Client(connection, id) => {
                if connection.reply(id, reply) {
                    self.work.replied.push(connection);
                }
            }
            Asker::Nobody => {}
        }
    }

    /// Nothing is done any more after this.
    fn fail(&mut self, failure: Failure) {
        tracing::error!(member = self.config.name, %failure, "stopped");
        self.work.failure.get_or_insert(failure);
    }

    const fn has_ended(&self) -> bool {
        self.work.failure.is_some()
            || self.work.killed
            || matches!(&self.work.closing, Some(closing) if closing.is_over())
    }

    /// Whoever waits hears that nothing more comes. What was under way may have happened, or may yet happen.
    fn end(&mut self) {
        self.shared.lease.publish(None, 0);
        if self.work.killed || self.work.failure.is_some() {
            self.network.reset();
        }
        for asker in self.work.requests.drain() {
            if matches!(asker, Asker::Local(_)) || !self.work.killed {
                self.reply(asker, Err(Error::Unknown));
            }
        }
        for input in self.inbox.close() {
            if let Input::Ask(asker, ..) | Input::Change(asker, ..) = input {
                let why = self.work.failure.as_ref().map_or("closed".to_owned(), ToString::to_string);
                self.reply(asker, Err(Error::Stopped(why)));
            }
        }
        for connection in self.work.replied.drain(..) {
            connection.send_replies();
        }
        self.network.close();
    }
}

/// The application.
impl Driver {
    fn notify(&mut self, event: Event) {
        match event {
            Event::Restore(snapshot) => {
                if let Err(failure) = snapshots::tidy(&self.folder.snapshots(), Some(snapshot.id)) {
                    self.fail(failure);
                }
                self.install(&snapshot);
            }
            Event::Install(snapshot) => self.install(&snapshot),
            Event::MakeSnapshot => self.begin_snapshot(),
            Event::Read { snapshot, offset, length, to } => {
                let version = self.network.version_of_all([to]);
                self.order(Job::Read { id: snapshot, offset, length, to, version });
            }
            Event::Write { snapshot, offset, data } => {
                self.order(Job::Write { id: snapshot.id, length: snapshot.length, offset, data });
            }
            Event::Discard(snapshot) => self.order(Job::Discard(snapshot)),
            Event::Role { role, term, leader } => {
                let revision = self.with_machine(|machine| machine.state().revision());
                tracing::info!(member = self.config.name, ?role, term, ?leader, revision, "role");
            }
            Event::Membership(index, membership) => {
                tracing::info!(member = self.config.name, index, ?membership, "membership");
                self.network.set_members(&membership);
                self.work.membership = membership;
                self.keep_card();
            }
            Event::Halted(why) => self.fail(Failure::Storage {
                path: self.folder.path().to_owned(),
                offset: None,
                complaint: format!(
                    "cannot be used: {why}; remove this member from the cluster and add it again with an empty folder"
                ),
                full: false,
            }),
            event => {
                let asked = self.with_machine(|machine| machine.hear(event));
                self.work.asked.extend(asked);
            }
        }
    }

    fn with_machine<R>(&self, work: impl FnOnce(&mut Machine<Store>) -> R) -> R {
        work(&mut self.shared.machine.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn install(&mut self, snapshot: &Snapshot) {
        match snapshots::load(&self.folder.snapshots(), snapshot) {
            Ok(bytes) => {
                let asked = self.with_machine(|machine| machine.install(snapshot, bytes));
                self.work.asked.extend(asked);
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn order(&self, job: Job) {
        // The other end is gone only when it has said why.
        let _ = self.jobs.send(job);
    }

    /// In a version that every member reads, for any of them may need it.
    fn begin_snapshot(&mut self) {
        if self.work.writing.is_none() {
            let version = self.network.version_of_all(self.work.membership.each());
            let writing = self.with_machine(|machine| machine.begin_snapshot(version));
            self.work.writing = Some(writing);
        }
    }

    /// A member of an older version needs a snapshot that it could not read, as one does that has come later or has gone
    /// back to an older build. It waits for another one, which is made at once if anything was applied since.
    fn rewrite_snapshot(&mut self, snapshot: SnapshotId, to: NodeId) {
        if self.work.too_new.insert(to, snapshot) != Some(snapshot) {
            let peer = self.network.find(to).map(|known| known.name);
            tracing::warn!(
                member = self.config.name,
                peer,
                index = snapshot.last.index,
                "a snapshot waits: the peer is of an older version; it is made anew after the next write, or upgrade the peer"
            );
        }
        if self.replica.applied() > snapshot.last.index && self.pieces.load(Relaxed) == 0 {
            self.begin_snapshot();
        }
    }

    /// Makes the next piece of a snapshot, between two batches of inputs.
    fn write_snapshot(&mut self) {
        // A disk that is slower than memory is waited for, or the whole state would wait for it in memory.
        if self.pieces.load(Relaxed) >= PIECES_MAX {
            return;
        }
        let Some(mut writing) = self.work.writing.take() else { return };
        let mut data = Vec::with_capacity(PIECE_BYTES + 4096);
        let more = self.with_machine(|machine| machine.write_snapshot(&mut writing, PIECE_BYTES, &mut data));
        let id = writing.id();
        if more {
            self.pieces.fetch_add(1, Relaxed);
            self.order(Job::Append { id, data, last: false });
            self.work.writing = Some(writing);
            self.inbox.nudge();
            return;
        }
        // Another snapshot may have come in the place of the state that this was of.
        let whole = writing.is_whole();
        self.with_machine(|machine| machine.end_snapshot(writing));
        self.pieces.fetch_add(usize::from(whole), Relaxed);
        self.order(if whole { Job::Append { id, data, last: true } } else { Job::Discard(id) });
    }
}

/// What others see.
impl Driver {
    fn publish(&self, now: Instant) {
        let raft = self.replica.raft();
        // A lease counts once an entry of the term is applied, and with it all that earlier terms have acknowledged.
        let lease = raft.readable_until().map(|until| (raft.term(), until.as_nanos()));
        debug_assert!(lease.is_none_or(|(_, until)| until > 0) && now > Instant::ZERO);
        self.shared.lease.publish(lease, raft.commit());
        self.shared.update(|status| {
            let member = &mut status.member;
            (member.role, member.term, member.leader) = (raft.role(), raft.term(), raft.leader());
            (member.last, member.commit) = (raft.last().index, raft.commit());
            member.applied = self.replica.applied();
            member.pending = self.replica.pending() as u64;
            let votes = self.work.membership.is_voter(self.replica.id());
            status.part = Part::of(raft.role(), votes, !self.work.membership.is_empty());
            status.syncs = self.work.syncs;
        });
    }
}

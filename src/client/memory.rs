//! `memory:`: a cluster of one member in a thread of this process, with the same machine that members run, and a journal
//! that is memory. What it keeps is gone with its last client.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::calls::locked;
use super::now;
use super::transport::{Connection, Heard, Responder, Transport};
use crate::id::{NodeId, RequestId};
use crate::protocol::{Application, Effect, Outbox, Protocol};
use crate::raft::{self, Membership};
use crate::random::Random;
use crate::replica::asks::{Answer, Ask, Error, MemberInfo, MemberStatus};
use crate::replica::{self, Limits, Machine, Message, Replica, Request, Settings, Shelf, Timer};
use crate::store::{self, LeaseId, Store};
use crate::time::Instant;

/// A member in a thread.
pub struct Memory {
    inputs: Arc<Inputs>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A client's connection to it.
struct MemoryConnection {
    memory: Arc<Memory>,
    number: u64,
}

#[derive(Default)]
struct Inputs {
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Default)]
struct Queue {
    inputs: Vec<Input>,
    connections: u64,
    stopped: bool,
}

enum Input {
    Ask { connection: u64, deadline: Instant, ask: Ask, respond: Responder },
    Closed(u64),
}

const MEMBER: NodeId = NodeId(1);

/// Those that have names: by process, because a forked child has none of its parent's threads.
static NAMED: Mutex<BTreeMap<(u32, String), Weak<Memory>>> = Mutex::new(BTreeMap::new());

impl Memory {
    /// One of its own.
    pub fn start() -> std::io::Result<Arc<Self>> {
        Self::with(store::Limits::default())
    }

    /// One of its own, whose store has these bounds.
    pub fn with(limits: store::Limits) -> std::io::Result<Arc<Self>> {
        let inputs = Arc::new(Inputs::default());
        let theirs = Arc::clone(&inputs);
        let thread = std::thread::Builder::new().name("coterie-memory".to_owned());
        let thread = thread.spawn(move || Driver::new(limits).drive(&theirs))?;
        Ok(Arc::new(Self { inputs, thread: Mutex::new(Some(thread)) }))
    }

    /// The one of that name in this process, which all share who name it.
    pub fn named(name: &str) -> std::io::Result<Arc<Self>> {
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        named.retain(|_, memory| memory.strong_count() > 0);
        let key = (std::process::id(), name.to_owned());
        if let Some(memory) = named.get(&key).and_then(Weak::upgrade) {
            return Ok(memory);
        }
        let memory = Self::start()?;
        named.insert(key, Arc::downgrade(&memory));
        Ok(memory)
    }

    /// A new connection.
    pub fn connect(self: &Arc<Self>) -> Arc<dyn Transport> {
        let mut queue = locked(&self.inputs.queue);
        queue.connections += 1;
        Arc::new(MemoryConnection { memory: Arc::clone(self), number: queue.connections })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        locked(&self.inputs.queue).stopped = true;
        self.inputs.news.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The last to hold it may be an answer that its own thread gives.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Transport for MemoryConnection {
    fn submit(&self, patience: Duration, ask: Ask, respond: Responder) {
        let deadline = now() + patience;
        self.memory.inputs.push(Input::Ask { connection: self.number, deadline, ask, respond });
    }

    fn connection(&self) -> Option<Connection> {
        Some(Connection { member: MEMBER, number: self.number })
    }

    fn listen(&self, _heard: Weak<dyn Heard>) {
        // It is there from the beginning, and does not end before its client does.
    }

    fn close(&self) {
        self.memory.inputs.push(Input::Closed(self.number));
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inputs {
    fn push(&self, input: Input) {
        let mut queue = locked(&self.queue);
        if queue.stopped {
            drop(queue);
            if let Input::Ask { respond, .. } = input {
                respond(Err(Error::Stopped("the memory is gone".to_owned())));
            }
            return;
        }
        let first = queue.inputs.is_empty();
        queue.inputs.push(input);
        drop(queue);
        if first {
            self.news.notify_one();
        }
    }

    /// Waits until an instant for something to do; `None`: there will be nothing any more.
    fn wait(&self, until: Instant) -> Option<Vec<Input>> {
        let mut queue = locked(&self.queue);
        loop {
            if queue.stopped {
                return None;
            }
            let left = until - now();
            if !queue.inputs.is_empty() || left.is_zero() {
                return Some(std::mem::take(&mut queue.inputs));
            }
            let waited = self.news.wait_timeout(queue, left.min(Duration::from_secs(60)));
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Drives the machine: what it wants to be durable is, at once.
struct Driver {
    replica: Replica,
    machine: Machine<Store>,
    out: Outbox<Replica>,
    timers: BTreeMap<Timer, Instant>,
    asked: RequestId,
    responders: BTreeMap<RequestId, (u64, Responder)>,
    /// What it has said to itself, and what its store asks of it.
    own: VecDeque<Own>,
    /// By connection and lease: the attachment that ends with it.
    holds: BTreeMap<(u64, LeaseId), u64>,
}

enum Own {
    Message(Message),
    Request(Request),
}

impl Driver {
    fn new(limits: store::Limits) -> Self {
        let settings = Settings {
            raft: raft::Settings { cluster: 1, ..raft::Settings::default() },
            ..Settings::default()
        };
        let replica = Replica::new(MEMBER, settings).expect("the defaults make sense");
        let machine = Machine::open(MEMBER, Store::new(limits), Limits::default(), Shelf::default());
        Self {
            replica,
            machine,
            out: Outbox::new(),
            timers: BTreeMap::new(),
            asked: RequestId(0),
            responders: BTreeMap::new(),
            own: VecDeque::new(),
            holds: BTreeMap::new(),
        }
    }

    fn drive(mut self, inputs: &Inputs) {
        let time = now();
        // Nothing that it draws matters to anybody: it is alone.
        self.replica.start(time, Random::new(1), Vec::new(), &mut self.out);
        self.own.push_back(Own::Request(Request::Bootstrap(Membership::of([MEMBER]))));
        self.own.push_back(Own::Request(Request::Campaign));
        self.settle(time);
        while let Some(batch) = inputs.wait(self.timers.values().min().copied().unwrap_or(Instant::NEVER)) {
            let time = now();
            self.expire(time);
            for input in batch {
                match input {
                    Input::Ask { connection, deadline, ask, respond } => {
                        self.ask(time, connection, deadline, ask, respond);
                    }
                    Input::Closed(connection) => self.close(time, connection),
                }
            }
            self.settle(time);
        }
        // Those who asked after the last batch hear that it is over, as those do who wait.
        let late = std::mem::take(&mut locked(&inputs.queue).inputs);
        let late = late.into_iter().filter_map(|input| match input {
            Input::Ask { respond, .. } => Some(respond),
            Input::Closed(_) => None,
        });
        for respond in self.responders.into_values().map(|(_, respond)| respond).chain(late) {
            respond(Err(Error::Stopped("the memory is gone".to_owned())));
        }
    }

    fn expire(&mut self, time: Instant) {
        let due: Vec<Timer> =
            self.timers.iter().filter(|(_, at)| **at <= time).map(|(timer, _)| *timer).collect();
        for timer in due {
            self.timers.remove(&timer);
            self.replica.expire(time, timer, &mut self.out);
        }
    }

    fn ask(&mut self, time: Instant, connection: u64, deadline: Instant, ask: Ask, respond: Responder) {
        match ask.into_request(deadline) {
            Ok(request) => {
                self.asked.0 += 1;
                self.responders.insert(self.asked, (connection, respond));
                self.replica.request(time, self.asked, request, &mut self.out);
            }
            Err(Ask::Hold { lease, attachment }) => {
                self.holds.insert((connection, lease), attachment);
                respond(Ok(Answer::Done));
            }
            Err(Ask::Status) => respond(Ok(Answer::Status(self.status()))),
            Err(Ask::Members) => {
                let raft = self.replica.raft();
                let info = MemberInfo {
                    id: MEMBER,
                    name: "memory".to_owned(),
                    address: String::new(),
                    vote: Some(1),
                };
                respond(Ok(Answer::Members {
                    term: raft.term(),
                    leader: raft.leader(),
                    members: vec![info],
                }));
            }
            Err(_) => respond(Err(Error::Refused("memory: has one member, and always will".to_owned()))),
        }
    }

    fn status(&self) -> MemberStatus {
        let status = self.replica.raft().status();
        MemberStatus {
            cluster: self.replica.raft().settings().cluster,
            id: MEMBER,
            name: "memory".to_owned(),
            role: status.role,
            term: status.term,
            leader: status.leader,
            last: status.last.index,
            commit: status.commit,
            applied: self.replica.applied(),
            pending: self.replica.pending() as u64,
        }
    }

    /// A client has gone: what it holds is over soon, and what it waits for concerns nobody.
    fn close(&mut self, time: Instant, connection: u64) {
        let held: Vec<(LeaseId, u64)> = self
            .holds
            .range((connection, 0)..=(connection, LeaseId::MAX))
            .map(|((_, lease), attachment)| (*lease, *attachment))
            .collect();
        for (lease, attachment) in held {
            self.holds.remove(&(connection, lease));
            self.asked.0 += 1;
            self.replica.request(time, self.asked, Request::Detached { lease, attachment }, &mut self.out);
        }
        let gone: Vec<RequestId> = self
            .responders
            .iter()
            .filter(|(_, (whose, _))| *whose == connection)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some((_, respond)) = self.responders.remove(&id) {
                respond(Err(Error::Stopped("the client is closed".to_owned())));
            }
        }
    }

    /// Ends a batch of inputs: does what the machine wants done, until it wants nothing.
    fn settle(&mut self, time: Instant) {
        loop {
            while let Some(own) = self.own.pop_front() {
                match own {
                    Own::Message(message) => self.replica.receive(time, MEMBER, message, &mut self.out),
                    Own::Request(request) => {
                        self.asked.0 += 1;
                        self.replica.request(time, self.asked, request, &mut self.out);
                    }
                }
            }
            self.replica.flush(time, &mut self.out);
            if self.out.is_empty() {
                return;
            }
            let effects: Vec<Effect<Replica>> = self.out.drain().collect();
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect<Replica>) {
        match effect {
            Effect::Promise(to, message) if to == MEMBER => self.own.push_back(Own::Message(message)),
            // There is nobody else, and what is persisted is where it was before.
            Effect::Promise(..) | Effect::Send(..) | Effect::Persist(_) | Effect::Checkpoint(_) => {}
            Effect::Set(timer, at) => {
                self.timers.insert(timer, at);
            }
            Effect::Cancel(timer) => {
                self.timers.remove(&timer);
            }
            Effect::Answer(id, answer) => {
                if let Some((_, respond)) = self.responders.remove(&id) {
                    respond(answer.map(Answer::from).map_err(Error::from));
                }
            }
            Effect::Notify(event) => self.hear(event),
        }
    }

    fn hear(&mut self, event: replica::Event) {
        self.own.extend(self.machine.hear(event).into_iter().map(Own::Request));
    }
}

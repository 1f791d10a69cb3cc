//! Over TCP: one connection to one member, which is the leader when there is a choice, and another one when it ends.
//!
//! ```text
//!   submit ──► Inbox ──► the client's thread ── Asked ──► a member
//!                          │  what waits, by number ◄── Replied ──
//!                          └── the connection has ended: the next endpoint, and what may be asked again is
//! ```
//!
//! Any member takes what is asked; the leader takes it without a detour. So the client asks now and then who leads, and
//! moves there. A member that gives no answer to that has gone silent, as machines do, and is left as well.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::calls::locked;
use super::now;
use super::transport::{Connection, Heard, Responder, Transport};
use crate::id::NodeId;
use crate::net::{
    self, Agreement, CLIENT_PAYLOAD_MAX, Counters, End, Frames, Hello, Mark, Outgoing, PEER_PAYLOAD_MAX,
    Party, Priority, Receiving, Refusal, Refused, Secret, Sending, Tls,
};
use crate::random::Random;
use crate::replica::asks::{ASKS, Answer, Ask, Asked, Error, REPLIES, Replied, Reply};
use crate::time::Instant;
use crate::wire::frame;
use crate::wire::{Decode, Encode, Reader, VERSION};

/// Whom a client speaks to, and how it shows that it may.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// `host:port` of members: one is enough, which names the others.
    pub addresses: Vec<String>,
    /// The cluster's name.
    pub cluster: String,
    /// What members and clients share, if they do.
    pub secret: Option<Secret>,
    /// Certificates, if the members want them.
    pub tls: Option<Tls>,
}

/// A client's way to the members of a cluster.
pub struct Network {
    shared: Arc<Shared>,
    /// In a forked child there is no thread.
    process: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    news: Notify,
    connection: Mutex<Option<Connection>>,
    heard: Mutex<Option<Weak<dyn Heard>>>,
    connections: AtomicU64,
    counters: Counters,
}

#[derive(Default)]
struct Inbox {
    asks: Vec<Pending>,
    closed: bool,
}

/// What waits for its reply.
struct Pending {
    deadline: Instant,
    ask: Ask,
    respond: Responder,
    /// How often it left.
    sent: u32,
}

/// How often the client looks who leads, and whether its member is still there, while something waits.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// A member that has not answered that for so long is gone, or as good as gone: the others can say more.
const SILENT: Duration = Duration::from_millis(300);
/// How long an endpoint may take until there is a connection.
const DIAL: Duration = Duration::from_secs(1);
/// How much later the next endpoint is dialled.
const STAGGER: Duration = Duration::from_millis(4);
/// How long a member that stops is given before the next one is dialled.
const STOPPING: Duration = Duration::from_millis(10);
/// How long nobody is dialled when none of all endpoints answered: first, and at last.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// A member gives its own answer at the deadline; it needs some time to arrive.
const SLACK: Duration = Duration::from_millis(50);
/// How many asks may wait.
const WAITING_MAX: usize = 1 << 17;
/// How many bytes of asks go into a frame, and one ask more.
const FRAME_BYTES: usize = 1 << 20;
/// How many bytes may wait to be written.
const OUT_BYTES_MAX: usize = 256 << 20;
/// The number under which the client itself asks.
const OWN: u64 = 0;

impl Network {
    /// Begins to dial. Nothing is wrong yet when nobody answers: what is asked waits, as long as its patience lasts.
    pub fn start(endpoints: Endpoints) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            news: Notify::new(),
            connection: Mutex::default(),
            heard: Mutex::default(),
            connections: AtomicU64::new(0),
            counters: Counters::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("coterie-client".to_owned()).spawn(move || {
            runtime.block_on(Speaker::new(endpoints, theirs).speak());
        })?;
        Ok(Arc::new(Self { shared, process: std::process::id(), thread: Mutex::new(Some(thread)) }))
    }

    fn is_of_the_parent(&self) -> bool {
        self.process != std::process::id()
    }
}

impl Transport for Network {
    fn submit(&self, patience: Duration, ask: Ask, respond: Responder) {
        if self.is_of_the_parent() {
            respond(Err(Error::Stopped("the client is the parent process's".to_owned())));
            return;
        }
        let (bytes, limit) = (weight(&ask), CLIENT_PAYLOAD_MAX / 2);
        if bytes > limit {
            // No member takes such a frame: it would end the connection, and with it whatever else waits.
            respond(Err(Error::TooLarge { bytes: bytes as u64, limit: limit as u64 }));
            return;
        }
        let pending = Pending { deadline: now() + patience, ask, respond, sent: 0 };
        let mut inbox = locked(&self.shared.inbox);
        if inbox.closed {
            drop(inbox);
            pending.stop();
            return;
        }
        inbox.asks.push(pending);
        let first = inbox.asks.len() == 1;
        drop(inbox);
        if first {
            self.shared.news.notify_one();
        }
    }

    fn connection(&self) -> Option<Connection> {
        *locked(&self.shared.connection)
    }

    fn listen(&self, heard: Weak<dyn Heard>) {
        let connection = self.connection();
        *locked(&self.shared.heard) = Some(Weak::clone(&heard));
        if let (Some(connection), Some(heard)) = (connection, heard.upgrade()) {
            heard.up(connection);
        }
    }

    fn close(&self) {
        if !self.is_of_the_parent() {
            locked(&self.shared.inbox).closed = true;
            self.shared.news.notify_one();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.close();
        let thread = self.thread.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if self.is_of_the_parent() {
            std::mem::forget(thread);
        } else if let Some(thread) =
            thread.filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

impl Pending {
    fn stop(self) {
        (self.respond)(Err(Error::Stopped("the client is closed".to_owned())));
    }

    /// Whether it may have happened without anybody hearing of it.
    fn may_have_happened(&self, sent: u32) -> bool {
        sent > 0
            && !matches!(
                self.ask,
                Ask::Query { .. } | Ask::Status | Ask::Members | Ask::Lease { renew: false, .. }
            )
    }

    fn give_up(self) {
        let error = if self.may_have_happened(self.sent) { Error::Unknown } else { Error::TimedOut };
        (self.respond)(Err(error));
    }

    fn take(self, reply: Reply) {
        // An earlier sending may have happened, whatever became of the last one.
        let uncertain = self.may_have_happened(self.sent - 1);
        (self.respond)(if uncertain { reply.map_err(|_| Error::Unknown) } else { reply });
    }
}

/// The thread's half.
struct Speaker {
    endpoints: Arc<Endpoints>,
    shared: Arc<Shared>,
    waiting: BTreeMap<u64, Pending>,
    deadlines: BTreeSet<(Instant, u64)>,
    next: u64,
    /// How often in a row its member knew of no leader.
    leaderless: u32,
    /// Whom to dial, the likeliest first.
    addresses: Vec<String>,
    random: Random,
}

/// A connection that came about.
struct Line {
    address: String,
    hello: Hello,
    /// What was agreed on.
    version: u16,
    receiving: Receiving,
    sending: Sending,
    /// So that a forked child keeps no connection open.
    mark: Mark,
}

/// A connection that may come about.
type Dialling = Pin<Box<dyn Future<Output = Result<Line, Refused>> + Send>>;

/// Why a conversation ended.
enum Over {
    /// The client is closed.
    Closed,
    /// The connection is.
    Lost,
    /// Another member leads: it has been reached already.
    Moved(Box<Line>),
}

impl Speaker {
    fn new(endpoints: Endpoints, shared: Arc<Shared>) -> Self {
        let addresses = endpoints.addresses.clone();
        // Which of them all clients of a machine dial first should not be the same.
        let random = Random::new(now().as_nanos());
        Self {
            endpoints: Arc::new(endpoints),
            shared,
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next: OWN + 1,
            leaderless: 0,
            addresses,
            random,
        }
    }

    async fn speak(mut self) {
        let mut line = None;
        loop {
            let current = match line.take() {
                Some(line) => line,
                None => match self.find_member().await {
                    Some(line) => line,
                    None => break,
                },
            };
            let address = current.address.clone();
            let number = self.shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
            self.shared.is_up(Connection { member: current.hello.id, number });
            match self.converse(current).await {
                Over::Closed => break,
                Over::Lost => {
                    self.shared.is_down();
                    // Its member has perhaps ended: the others first.
                    self.addresses.retain(|other| *other != address);
                    self.addresses.push(address);
                }
                Over::Moved(next) => line = Some(*next),
            }
            self.forget_what_cannot_be_repeated();
        }
        self.shared.is_down();
        let late = std::mem::take(&mut locked(&self.shared.inbox).asks);
        std::mem::take(&mut self.waiting).into_values().chain(late).for_each(Pending::stop);
    }

    /// Dials until one endpoint answers. `None`: the client is closed.
    async fn find_member(&mut self) -> Option<Line> {
        let mut pause = PAUSE_MIN;
        loop {
            let mut refusals = 0;
            let mut why = String::new();
            let mut dialling = self.dial_all_but(None);
            loop {
                let until = self.next_deadline(Instant::NEVER);
                tokio::select! {
                    dialled = dialling.join_next() => match dialled {
                        Some(Ok(Ok(line))) => return Some(line),
                        Some(Ok(Err(error))) => {
                            tracing::debug!(%error, "no member there");
                            if is_for_good(&error) {
                                refusals += 1;
                                why = error.to_string();
                            }
                        }
                        Some(Err(_)) => {}
                        None => break,
                    },
                    () = self.shared.news.notified() => {}
                    () = sleep_until(until) => {}
                }
                if !self.take_asks() {
                    return None;
                }
                self.expire();
            }
            if refusals == self.addresses.len() {
                self.refuse(&why);
            }
            // Those whom a member named may be gone for good: those whom the user named may not.
            for address in &self.endpoints.addresses {
                if !self.addresses.contains(address) {
                    self.addresses.push(address.clone());
                }
            }
            let wait = pause / 2 + Duration::from_nanos(self.random.below(pause.as_nanos() as u64));
            pause = (pause * 2).min(PAUSE_MAX);
            let until = now() + wait;
            while now() < until {
                let wake = self.next_deadline(until);
                tokio::select! {
                    () = self.shared.news.notified() => {}
                    () = sleep_until(wake) => {}
                }
                if !self.take_asks() {
                    return None;
                }
                self.expire();
            }
        }
    }

    /// Dials all endpoints, each a little after the one before: one whose machine is gone must not make a lease wait that
    /// has milliseconds to be attached anew.
    fn dial_all_but(&self, here: Option<&str>) -> JoinSet<Result<Line, Refused>> {
        let mut dialling = JoinSet::new();
        let elsewhere = self.addresses.iter().filter(|address| Some(address.as_str()) != here);
        for (place, address) in elsewhere.cloned().enumerate() {
            let endpoints = Arc::clone(&self.endpoints);
            dialling.spawn(async move {
                tokio::time::sleep(STAGGER * place as u32).await;
                dial(&endpoints, address).await
            });
        }
        dialling
    }

    /// Dials all endpoints but this one; the first that answers.
    fn dial_another(&self, here: &str) -> Dialling {
        let mut dialling = self.dial_all_but(Some(here));
        Box::pin(async move {
            loop {
                match dialling.join_next().await {
                    Some(Ok(Ok(line))) => return Ok(line),
                    Some(_) => {}
                    None => return Err(Refused::TooSlow),
                }
            }
        })
    }

    /// Speaks to a member until one of the two ends it.
    async fn converse(&mut self, line: Line) -> Over {
        let Line { address: here, hello, version, receiving, mut sending, mark: _mark } = line;
        let out = Writer { out: Outgoing::new(OUT_BYTES_MAX), version };
        let shared = Arc::clone(&self.shared);
        let writing = out.out.run(&mut sending, &shared.counters);
        tokio::pin!(writing);
        let mut frames = Frames::new(receiving, PEER_PAYLOAD_MAX, version);
        // All that waits goes over this connection.
        let again: Vec<u64> = self.waiting.keys().copied().collect();
        self.send(&out, again);
        let mut look = now();
        // A member leaves whom it has not heard of for long.
        let mut ping = look + net::PING_EVERY;
        let mut asked: Option<Instant> = None;
        let mut moving: Option<Dialling> = None;
        let mut fresh = true;
        let mut stopping = false;
        loop {
            if stopping {
                // Should it be the only one, it is not dialled again without end.
                tokio::time::sleep(STOPPING).await;
                return Over::Lost;
            }
            let time = now();
            if look <= time && (fresh || !self.waiting.is_empty()) {
                if moving.is_none() && asked.is_some_and(|asked| time - asked > SILENT) {
                    // It may only be slow, and leases are safe as long as the connection is there: it is left for another
                    // one that answers, and not before.
                    tracing::debug!(member = hello.name, "gives no answer");
                    moving = Some(self.dial_another(&here));
                }
                fresh = false;
                look = time + LOOK_EVERY;
                if asked.is_none() {
                    asked = Some(time);
                    out.write(&[Asked { id: OWN, patience: SILENT, ask: Ask::Members }]);
                }
            }
            if ping <= time {
                ping = time + net::PING_EVERY;
                out.ping();
            }
            let wake = if self.waiting.is_empty() { ping } else { look.min(ping) };
            let wake = self.next_deadline(wake);
            tokio::select! {
                _ = &mut writing => return Over::Lost,
                read = frames.fill(Duration::from_secs(1 << 30), &shared.counters) => match read {
                    Ok(()) => {}
                    Err(End::Bad(_) | End::Closed | End::Network(_) | End::Silent) => return Over::Lost,
                },
                () = shared.news.notified() => fresh = true,
                () = sleep_until(wake) => {}
                moved = poll(&mut moving) => {
                    moving = None;
                    if let Ok(line) = moved && self.may_move() {
                        return Over::Moved(Box::new(line));
                    }
                }
            }
            loop {
                match frames.take() {
                    Ok(Some(frame)) if frame.kind == REPLIES => {
                        let mut input = Reader::new(frame.payload, frame.version);
                        let Ok(replies) = Vec::<Replied>::decode(&mut input) else { return Over::Lost };
                        for Replied { id, reply } in replies {
                            if id == OWN {
                                asked = None;
                                moving = moving.or_else(|| self.leader_elsewhere(&hello, reply));
                            } else {
                                stopping |= !self.answer(id, reply);
                            }
                        }
                    }
                    Ok(Some(frame)) if frame.kind == net::PING => {}
                    Ok(Some(_)) | Err(_) => return Over::Lost,
                    Ok(None) => break,
                }
            }
            let first = self.next;
            if !self.take_asks() {
                self.say_goodbye(&out, first, &mut writing).await;
                return Over::Closed;
            }
            self.send(&out, first..self.next);
            self.expire();
        }
    }

    /// What was asked last still leaves.
    async fn say_goodbye(
        &mut self,
        out: &Writer,
        first: u64,
        writing: &mut (impl Future<Output = std::io::Result<()>> + Unpin),
    ) {
        self.send(out, first..self.next);
        out.out.close();
        let _ = tokio::time::timeout(SLACK, writing).await;
    }

    /// Dials the leader, if that is another member than the one that says so.
    fn leader_elsewhere(&mut self, here: &Hello, reply: Reply) -> Option<Dialling> {
        let Ok(Answer::Members { leader, members, .. }) = reply else { return None };
        let known = members.iter().filter(|member| !member.address.is_empty());
        let addresses: Vec<String> = known.map(|member| member.address.clone()).collect();
        if !addresses.is_empty() {
            self.addresses = addresses;
        }
        let address = match leader {
            Some(leader) if leader == here.id => {
                self.leaderless = 0;
                return None;
            }
            Some(leader) => members.into_iter().find(|member| member.id == leader)?.address,
            // Once is an election; twice, and this member may be cut off from those who have one.
            None => {
                self.leaderless += 1;
                let elsewhere = self.addresses.iter().position(|address| *address == here.address);
                let next = elsewhere.map_or(0, |place| (place + 1) % self.addresses.len());
                if self.leaderless < 2 {
                    return None;
                }
                self.addresses[next].clone()
            }
        };
        if address.is_empty() || address == here.address {
            return None;
        }
        self.leaderless = 0;
        let endpoints = Arc::clone(&self.endpoints);
        Some(Box::pin(async move { dial(&endpoints, address).await }))
    }

    /// Not while something is under way that cannot be asked again.
    fn may_move(&self) -> bool {
        self.waiting.values().all(|pending| pending.sent == 0 || pending.ask.is_repeatable())
    }

    /// Takes what was submitted; whether the client is still open.
    fn take_asks(&mut self) -> bool {
        let mut inbox = locked(&self.shared.inbox);
        let (asks, closed) = (std::mem::take(&mut inbox.asks), inbox.closed);
        drop(inbox);
        for pending in asks {
            if self.waiting.len() >= WAITING_MAX {
                (pending.respond)(Err(Error::Overloaded { limit: "asks that wait".to_owned() }));
                continue;
            }
            self.deadlines.insert((pending.deadline, self.next));
            self.waiting.insert(self.next, pending);
            self.next += 1;
        }
        !closed
    }

    fn send(&mut self, out: &Writer, ids: impl IntoIterator<Item = u64>) {
        let time = now();
        let mut asks = Vec::new();
        let mut bytes = 0;
        for id in ids {
            let Some(pending) = self.waiting.get_mut(&id) else { continue };
            pending.sent += 1;
            bytes += weight(&pending.ask);
            asks.push(Asked { id, patience: pending.deadline - time, ask: pending.ask.clone() });
            if bytes >= FRAME_BYTES {
                out.write(&asks);
                asks.clear();
                bytes = 0;
            }
        }
        if !asks.is_empty() {
            out.write(&asks);
        }
    }

    /// Hands on a reply; whether the member goes on giving some. What one that stops has not done, another one may.
    fn answer(&mut self, id: u64, reply: Reply) -> bool {
        let Some(pending) = self.waiting.remove(&id) else { return true };
        if matches!(reply, Err(Error::Stopped(_))) && pending.ask.is_repeatable() {
            self.waiting.insert(id, pending);
            return false;
        }
        self.deadlines.remove(&(pending.deadline, id));
        pending.take(reply);
        true
    }

    /// No member lets this client in: whoever waits need not wait on.
    fn refuse(&mut self, why: &str) {
        self.deadlines.clear();
        for pending in std::mem::take(&mut self.waiting).into_values() {
            let uncertain = pending.may_have_happened(pending.sent);
            let error = if uncertain { Error::Unknown } else { Error::Unauthorized(why.to_owned()) };
            (pending.respond)(Err(error));
        }
    }

    /// The connection has ended: what was asked over it, and must not be asked twice, has an unknown outcome.
    fn forget_what_cannot_be_repeated(&mut self) {
        let gone: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, pending)| pending.sent > 0 && !pending.ask.is_repeatable())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(pending) = self.waiting.remove(&id) {
                self.deadlines.remove(&(pending.deadline, id));
                pending.give_up();
            }
        }
    }

    /// Whose patience is over, hears so.
    fn expire(&mut self) {
        let time = now();
        while let Some(&(deadline, id)) = self.deadlines.first() {
            let due = self.waiting.get(&id).is_none_or(|pending| pending.due() <= time);
            if !due {
                break;
            }
            self.deadlines.remove(&(deadline, id));
            if let Some(pending) = self.waiting.remove(&id) {
                pending.give_up();
            }
        }
    }

    /// When the next patience is over, but not after `until`.
    fn next_deadline(&self, until: Instant) -> Instant {
        let first = self.deadlines.first().and_then(|(_, id)| self.waiting.get(id));
        first.map_or(until, |pending| pending.due().min(until))
    }
}

impl Pending {
    /// When it is given up.
    fn due(&self) -> Instant {
        if self.sent > 0 { self.deadline + SLACK } else { self.deadline }
    }
}

impl Shared {
    fn is_up(&self, connection: Connection) {
        *locked(&self.connection) = Some(connection);
        if let Some(heard) = self.heard() {
            heard.up(connection);
        }
    }

    fn is_down(&self) {
        if locked(&self.connection).take().is_some()
            && let Some(heard) = self.heard()
        {
            heard.down();
        }
    }

    fn heard(&self) -> Option<Arc<dyn Heard>> {
        locked(&self.heard).as_ref().and_then(Weak::upgrade)
    }
}

async fn dial(endpoints: &Endpoints, address: String) -> Result<Line, Refused> {
    let reach = async {
        let mut stream = net::connect(&address, endpoints.tls.as_ref()).await?;
        let mark = Mark::of(stream.tcp());
        let own = Hello {
            party: Party::Client,
            cluster: endpoints.cluster.clone(),
            id: NodeId(0),
            name: String::new(),
            address: String::new(),
            formed: false,
            observes: false,
            members: Vec::new(),
        };
        let agreement = net::dial_in(&mut stream, &own, VERSION, endpoints.secret.as_ref()).await?;
        Ok((stream, agreement, mark))
    };
    let reached = tokio::time::timeout(DIAL, reach).await;
    let (stream, Agreement { hello, version }, mark) = reached.unwrap_or(Err(Refused::TooSlow))?;
    let (receiving, sending) = stream.split();
    Ok(Line { address, hello, version, receiving, sending, mark })
}

/// Whether dialling again would not help.
fn is_for_good(refused: &Refused) -> bool {
    match refused {
        Refused::Here(refusal) | Refused::ByPeer(refusal) => {
            matches!(refusal, Refusal::Secret | Refusal::OtherCluster | Refusal::Version { .. })
        }
        // What TLS says of certificates, at either end.
        Refused::Network(error) => {
            matches!(error.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::InvalidData)
        }
        Refused::Encrypted => true,
        Refused::TooSlow | Refused::Garbage(_) => false,
    }
}

/// About how many bytes it takes.
fn weight(ask: &Ask) -> usize {
    64 + match ask {
        Ask::Command { command, .. } => command.len(),
        Ask::Query { query, .. } => query.len(),
        _ => 0,
    }
}

/// What leaves on a connection, in the version that was agreed on.
struct Writer {
    out: Outgoing,
    version: u16,
}

impl Writer {
    fn write(&self, asks: &[Asked]) {
        // What does not fit is given up at its deadline: a member that takes nothing is about to be left.
        self.out.push(Priority::Urgent, |out| {
            frame::write_in(self.version, ASKS, 0, out, |payload| asks.encode(payload));
        });
    }

    fn ping(&self) {
        self.out.push(Priority::Urgent, |out| frame::write_in(self.version, net::PING, 0, out, |_| {}));
    }
}

async fn sleep_until(until: Instant) {
    tokio::time::sleep((until - now()).min(Duration::from_secs(3600))).await;
}

/// What may come of a future that may not be there.
async fn poll<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

//! Who is connected: peers that this member dials, peers and clients that have dialled it, and strangers.
//!
//! All of it runs on the member's thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::clients::{self, Connection};
use super::inbox::{Inbox, Input};
use super::shared::SharedHandle;
use crate::id::NodeId;
use crate::net::{
    Agreement, Counters, DIRECTORY, End, Frames, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, Hello, Known, MESSAGE,
    Mark, Outgoing, PEER_PAYLOAD_MAX, PING, PING_EVERY, Party, Priority, Receiving, Refusal, Refused,
    SILENCE_MAX, Secret, Stream, Tls, accept, connect, dial_in, prepare,
};
use crate::protocol::Link;
use crate::raft::{self, Membership};
use crate::random::Random;
use crate::replica::Message;
use crate::wire::frame::{self, Frame};
use crate::wire::{Decode, Encode, VERSION_MIN};

/// Everybody that this member can talk to.
pub(super) struct Network {
    own: RefCell<Hello>,
    life: u64,
    /// The newest version that this member speaks.
    version: u16,
    /// What was agreed on with each member when it was met last.
    versions: RefCell<BTreeMap<NodeId, u16>>,
    secret: Option<Secret>,
    tls: Option<Tls>,
    inbox: Arc<Inbox>,
    shared: SharedHandle,
    /// Members that are known, by their ids.
    directory: RefCell<BTreeMap<NodeId, Known>>,
    /// The members that the log names.
    members: RefCell<Arc<Membership>>,
    /// Whom this member dials, by name.
    peers: RefCell<BTreeMap<String, Rc<Peer>>>,
    by_id: RefCell<BTreeMap<NodeId, Rc<Peer>>>,
    /// The latest connection that each peer has dialled, and how to end it.
    incoming: RefCell<BTreeMap<NodeId, Rc<Incoming>>>,
    handshakes: Cell<usize>,
    clients: RefCell<BTreeMap<u64, Arc<Connection>>>,
    clients_max: usize,
    next_client: Cell<u64>,
    sockets: RefCell<BTreeSet<RawFd>>,
    random: RefCell<Random>,
}

/// A peer that is dialled again and again.
struct Peer {
    name: String,
    address: RefCell<String>,
    id: Cell<Option<NodeId>>,
    out: Outgoing,
    up: Cell<bool>,
    /// What was agreed on for this connection.
    version: Cell<u16>,
    /// A test has cut it off: whatever is sent or comes is dropped, and nobody is told.
    cut: Cell<bool>,
    /// Dial now, do not wait any longer.
    again: Notify,
    task: RefCell<Option<AbortHandle>>,
}

/// A connection that a peer has dialled.
struct Incoming {
    replaced: Notify,
}

/// How many bytes may wait for a peer; what comes on top is dropped, and Raft sends it again.
const PEER_BYTES_MAX: usize = 64 << 20;
/// How long it takes until a peer that did not answer is dialled again: first, and at last.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// A socket is known as long as this lives.
pub(super) struct Socket {
    network: Rc<Network>,
    descriptor: RawFd,
    _mark: Mark,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.sockets.borrow_mut().remove(&self.descriptor);
    }
}

impl Network {
    pub(super) fn new(
        own: Hello,
        (life, version): (u64, u16),
        (secret, tls): (Option<Secret>, Option<Tls>),
        inbox: Arc<Inbox>,
        shared: SharedHandle,
        clients_max: usize,
        random: Random,
    ) -> Rc<Self> {
        let directory = own.members.iter().map(|known| (known.id, known.clone())).collect();
        Rc::new(Self {
            own: RefCell::new(own),
            life,
            version,
            versions: RefCell::default(),
            secret,
            tls,
            inbox,
            shared,
            directory: RefCell::new(directory),
            members: RefCell::default(),
            peers: RefCell::default(),
            by_id: RefCell::default(),
            incoming: RefCell::default(),
            handshakes: Cell::new(0),
            clients: RefCell::default(),
            clients_max,
            next_client: Cell::new(0),
            sockets: RefCell::default(),
            random: RefCell::new(random),
        })
    }

    /// Sends to a peer, if it is there. Nothing is kept for one that is not: Raft sends again.
    pub(super) fn send(&self, to: NodeId, message: &Message) {
        let by_id = self.by_id.borrow();
        let Some(peer) = by_id.get(&to).filter(|peer| peer.up.get() && !peer.cut.get()) else { return };
        let bulk = matches!(message, Message::Raft(raft::Message::Install { .. }));
        let priority = if bulk { Priority::Bulk } else { Priority::Urgent };
        let sent = peer.out.push(priority, |out| {
            frame::write_in(peer.version.get(), MESSAGE, 0, out, |payload| message.encode(payload));
        });
        if !sent {
            Counters::count(&self.shared.counters.dropped);
        }
    }

    /// The newest version that all these members are known to read, and this one. Whoever was not met in this life may be
    /// of the oldest that is still spoken.
    pub(super) fn version_of_all(&self, members: impl IntoIterator<Item = NodeId>) -> u16 {
        let own = self.own.borrow().id;
        let versions = self.versions.borrow();
        let others = members.into_iter().filter(|id| *id != own);
        let spoken = others.map(|id| versions.get(&id).copied().unwrap_or(VERSION_MIN));
        spoken.min().unwrap_or(self.version).min(self.version)
    }

    /// Keeps in mind what a member speaks.
    fn note_version(&self, agreement: &Agreement) {
        let Agreement { hello, version } = agreement;
        let before = self.versions.borrow_mut().insert(hello.id, *version);
        if before != Some(*version) {
            tracing::info!(peer = hello.name, version, newest = self.version, "version agreed on");
        }
    }

    /// Whom it can send to now.
    pub(super) fn connected(&self) -> Vec<NodeId> {
        let by_id = self.by_id.borrow();
        by_id.iter().filter(|(_, peer)| peer.up.get()).map(|(id, _)| *id).collect()
    }

    /// All members that are known.
    pub(super) fn known(&self) -> Vec<Known> {
        self.directory.borrow().values().cloned().collect()
    }

    /// What is known of a member.
    pub(super) fn find(&self, id: NodeId) -> Option<Known> {
        self.directory.borrow().get(&id).cloned()
    }

    /// Cuts this member off from a peer, silently, or ends that. Whether there is such a peer.
    pub(super) fn cut(&self, name: &str, cut: bool) -> bool {
        let peers = self.peers.borrow();
        let Some(peer) = peers.get(name) else { return false };
        peer.cut.set(cut);
        true
    }

    /// Ends that for all.
    pub(super) fn heal(&self) {
        self.peers.borrow().values().for_each(|peer| peer.cut.set(false));
    }

    fn is_cut(&self, id: NodeId) -> bool {
        self.by_id.borrow().get(&id).is_some_and(|peer| peer.cut.get())
    }

    /// The log names these members.
    pub(super) fn set_members(self: &Rc<Self>, members: &Arc<Membership>) {
        self.own.borrow_mut().formed = true;
        *self.members.borrow_mut() = Arc::clone(members);
        self.dial_members();
    }

    /// Learns of members; whether anything was new.
    pub(super) fn learn(self: &Rc<Self>, told: impl IntoIterator<Item = Known>) -> bool {
        let mut news = false;
        for known in told {
            let own = known.id == self.own.borrow().id;
            let mut directory = self.directory.borrow_mut();
            let newer = directory.get(&known.id).is_none_or(|before| {
                before.life < known.life && (before.address != known.address || before.name != known.name)
            });
            if newer && !own && !known.address.is_empty() {
                directory.insert(known.id, known);
                news = true;
            }
        }
        if news {
            let members: Vec<Known> = self.known();
            self.own.borrow_mut().members.clone_from(&members);
            self.tell(&members);
            self.dial_members();
        }
        news
    }

    /// Tells every peer what is known.
    fn tell(&self, members: &Vec<Known>) {
        for peer in self.peers.borrow().values().filter(|peer| peer.up.get()) {
            peer.out.push(Priority::Urgent, |out| {
                frame::write_in(peer.version.get(), DIRECTORY, 0, out, |payload| members.encode(payload));
            });
        }
    }

    /// Dials exactly those that the log names, as far as they are known.
    fn dial_members(self: &Rc<Self>) {
        let members = Arc::clone(&self.members.borrow());
        if members.is_empty() {
            return;
        }
        let wanted: Vec<Known> = members.each().filter_map(|id| self.find(id)).collect();
        let names: BTreeSet<&str> = wanted.iter().map(|known| known.name.as_str()).collect();
        let is_member = members.contains(self.own.borrow().id);
        self.peers.borrow_mut().retain(|name, peer| {
            // Whoever was removed keeps those that it knew, and hears nothing more of them.
            let keep = !is_member || names.contains(name.as_str());
            if !keep {
                peer.stop();
            }
            keep
        });
        for known in wanted {
            self.dial(&known.name, &known.address, Some(known.id));
        }
        let peers = self.peers.borrow();
        let known = peers.values().filter_map(|peer| Some((peer.id.get()?, Rc::clone(peer))));
        *self.by_id.borrow_mut() = known.collect();
    }

    /// Keeps a connection to that peer from now on.
    pub(super) fn dial(self: &Rc<Self>, name: &str, address: &str, id: Option<NodeId>) {
        if name == self.own.borrow().name {
            return;
        }
        if let Some(peer) = self.peers.borrow().get(name) {
            if *peer.address.borrow() != address {
                address.clone_into(&mut peer.address.borrow_mut());
                peer.again.notify_one();
            }
            if let Some(id) = id {
                peer.id.set(Some(id));
            }
            return;
        }
        let peer = Rc::new(Peer {
            name: name.to_owned(),
            address: RefCell::new(address.to_owned()),
            id: Cell::new(id),
            out: Outgoing::new(PEER_BYTES_MAX),
            up: Cell::new(false),
            version: Cell::new(VERSION_MIN),
            cut: Cell::new(false),
            again: Notify::new(),
            task: RefCell::new(None),
        });
        self.peers.borrow_mut().insert(name.to_owned(), Rc::clone(&peer));
        let task = tokio::task::spawn_local(Rc::clone(self).keep_dialling(Rc::clone(&peer)));
        *peer.task.borrow_mut() = Some(task.abort_handle());
    }

    async fn keep_dialling(self: Rc<Self>, peer: Rc<Peer>) {
        let mut pause = PAUSE_MIN;
        let mut refused = false;
        loop {
            let address = peer.address.borrow().clone();
            match self.introduce(&address, Party::Peer).await {
                Ok((stream, agreement, socket)) if agreement.hello.name == peer.name => {
                    (pause, refused) = (PAUSE_MIN, false);
                    self.speak(&peer, stream, agreement, socket).await;
                }
                Ok((stream, agreement, socket)) => {
                    drop(socket);
                    drop(stream);
                    tracing::warn!(
                        address,
                        found = agreement.hello.name,
                        wanted = peer.name,
                        "another member answers there"
                    );
                }
                Err(Refused::Network(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if let Some(id) = peer.id.get().filter(|_| !refused) {
                        self.inbox.push(Input::Link(id, Link::Refused));
                    }
                    refused = true;
                }
                Err(Refused::ByPeer(refusal)) => {
                    tracing::warn!(peer = peer.name, %refusal, "refused");
                    self.inbox.push(Input::Refused(refusal));
                }
                Err(error) => tracing::debug!(peer = peer.name, %error, "no connection"),
            }
            let drawn = self.random.borrow_mut().below(pause.as_nanos() as u64);
            let wait = pause / 2 + Duration::from_nanos(drawn);
            let _ = timeout(wait, peer.again.notified()).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Dials, and shows who this is.
    pub(super) async fn introduce(
        self: &Rc<Self>,
        address: &str,
        party: Party,
    ) -> Result<(Stream, Agreement, Socket), Refused> {
        let connected = timeout(HANDSHAKE_TIMEOUT, connect(address, self.tls.as_ref())).await;
        let mut stream = connected.map_err(|_| Refused::TooSlow)??;
        let socket = self.register(stream.tcp());
        let own = Hello { party, ..self.own.borrow().clone() };
        let agreement = dial_in(&mut stream, &own, self.version, self.secret.as_ref()).await?;
        self.note_version(&agreement);
        Ok((stream, agreement, socket))
    }

    /// Sends to a peer until the connection ends.
    async fn speak(self: &Rc<Self>, peer: &Rc<Peer>, stream: Stream, agreement: Agreement, socket: Socket) {
        let Agreement { hello, version } = agreement;
        let id = hello.id;
        peer.id.set(Some(id));
        // What waits is of the last connection, and perhaps of another version.
        peer.out.clear();
        peer.version.set(version);
        peer.up.set(true);
        self.by_id.borrow_mut().insert(id, Rc::clone(peer));
        Counters::count(&self.shared.counters.connected);
        self.inbox.push(Input::Met(hello));
        self.inbox.push(Input::Link(id, Link::Up));
        let (receiving, mut sending) = stream.split();
        // Given up before its descriptor is closed, and may be another's.
        let socket = socket;
        tokio::select! {
            _ = peer.out.run(&mut sending, &self.shared.counters) => {}
            () = self.await_end(receiving, version) => {}
            () = ping(&peer.out, version) => {}
        }
        peer.up.set(false);
        drop(socket);
        drop(sending);
        self.inbox.push(Input::Link(id, Link::Down));
    }

    /// A peer says nothing on a connection that it did not dial; that it ends is what matters.
    async fn await_end(&self, receiving: Receiving, version: u16) {
        let mut frames = Frames::new(receiving, 0, version);
        // Nothing is no reason to give up: whether the other machine is there, TCP notices on what is sent.
        while frames.fill(Duration::from_secs(1 << 30), &self.shared.counters).await.is_ok() {
            if !matches!(frames.take(), Ok(None)) {
                return;
            }
        }
    }

    /// Takes whoever comes.
    pub(super) async fn listen(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) if self.handshakes.get() >= HANDSHAKES_MAX => {
                    Counters::count(&self.shared.counters.too_many);
                    drop(stream);
                }
                Ok((stream, _)) => {
                    Counters::count(&self.shared.counters.accepted);
                    tokio::task::spawn_local(Rc::clone(&self).serve(stream));
                }
                // Out of descriptors, or the like: what is open goes on.
                Err(error) => {
                    tracing::warn!(%error, "could not take a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream) {
        let socket = self.register(&stream);
        self.handshakes.set(self.handshakes.get() + 1);
        let outcome = self.welcome(stream, socket).await;
        self.handshakes.set(self.handshakes.get() - 1);
        match outcome {
            Ok((stream, agreement, socket)) => match agreement.hello.party {
                Party::Peer => self.hear(stream, agreement, socket).await,
                Party::Client => self.serve_client(stream, agreement.version, socket).await,
            },
            Err(refused) => self.count(&refused),
        }
    }

    async fn welcome(
        &self,
        stream: TcpStream,
        socket: Socket,
    ) -> Result<(Stream, Agreement, Socket), Refused> {
        prepare(&stream)?;
        let mut stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                // Whoever has no certificate of ours.
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Refused::Here(Refusal::Secret));
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Refused::TooSlow),
            },
        };
        // Given up before its descriptor is closed, and may be another's.
        let socket = socket;
        let own = self.own.borrow().clone();
        let secret = self.secret.as_ref();
        let agreement = accept(&mut stream, &own, self.version, secret, |hello| self.judge(hello)).await?;
        Ok((stream, agreement, socket))
    }

    /// What speaks against one who has proved to know the cluster.
    fn judge(&self, hello: &Hello) -> Option<Refusal> {
        if self.shared.is_stopping() {
            return Some(Refusal::Stopping);
        }
        match hello.party {
            Party::Client => (self.clients.borrow().len() >= self.clients_max).then_some(Refusal::Full),
            Party::Peer => {
                let members = self.members.borrow();
                let directory = self.directory.borrow();
                let namesake = directory.values().find(|known| {
                    known.name == hello.name && known.id != hello.id && members.contains(known.id)
                });
                namesake.map(|known| Refusal::NameTaken { name: hello.name.clone(), id: known.id })
            }
        }
    }

    fn count(&self, refused: &Refused) {
        let counters = &self.shared.counters;
        let counter = match refused {
            Refused::TooSlow => &counters.too_slow,
            Refused::Garbage(_) | Refused::Encrypted => &counters.garbage,
            Refused::Here(Refusal::OtherCluster) => &counters.other_clusters,
            Refused::Here(Refusal::Version { .. }) => &counters.other_versions,
            Refused::Here(Refusal::NameTaken { .. }) => &counters.names_taken,
            Refused::Here(Refusal::Full | Refusal::Stopping) => &counters.too_many,
            Refused::Here(Refusal::Secret) | Refused::ByPeer(_) => &counters.strangers,
            Refused::Network(_) => &counters.half_open,
        };
        Counters::count(counter);
    }

    /// Hears a peer until its connection ends.
    async fn hear(self: &Rc<Self>, stream: Stream, agreement: Agreement, socket: Socket) {
        self.note_version(&agreement);
        let Agreement { hello, version } = agreement;
        let id = hello.id;
        let incoming = Rc::new(Incoming { replaced: Notify::new() });
        if let Some(before) = self.incoming.borrow_mut().insert(id, Rc::clone(&incoming)) {
            before.replaced.notify_one();
        }
        // It is there, so it can be dialled.
        if let Some(peer) = self.peers.borrow().get(&hello.name).filter(|peer| !peer.up.get()) {
            peer.again.notify_one();
        }
        self.inbox.push(Input::Met(hello));
        let (receiving, sending) = stream.split();
        let mut frames = Frames::new(receiving, PEER_PAYLOAD_MAX, version);
        let socket = socket;
        tokio::select! {
            () = incoming.replaced.notified() => {}
            end = self.take_frames(id, &mut frames) => match end {
                End::Bad(_) => Counters::count(&self.shared.counters.bad_frames),
                End::Silent => Counters::count(&self.shared.counters.silent),
                End::Closed | End::Network(_) => {}
            },
        }
        drop(socket);
        drop((frames, sending));
        let mut latest = self.incoming.borrow_mut();
        if latest.get(&id).is_some_and(|latest| Rc::ptr_eq(latest, &incoming)) {
            latest.remove(&id);
            self.inbox.push(Input::Link(id, Link::Down));
        }
    }

    async fn take_frames(&self, from: NodeId, frames: &mut Frames<Receiving>) -> End {
        loop {
            loop {
                match frames.take() {
                    Ok(Some(frame)) if self.is_cut(from) => drop(frame),
                    Ok(Some(frame)) => {
                        if !self.take_frame(from, frame) {
                            Counters::count(&self.shared.counters.bad_frames);
                            return End::Closed;
                        }
                    }
                    Ok(None) => break,
                    Err(bad) => return End::Bad(bad),
                }
            }
            if let Err(end) = frames.fill(SILENCE_MAX, &self.shared.counters).await {
                return end;
            }
        }
    }

    /// Takes a peer's frame; whether it makes sense.
    fn take_frame(&self, from: NodeId, frame: Frame) -> bool {
        match frame.kind {
            MESSAGE => frame.decode().map(|message| self.inbox.push(Input::Message(from, message))).is_ok(),
            DIRECTORY => {
                let told = Vec::<Known>::from_bytes(frame.payload, frame.version);
                told.map(|told| self.inbox.push(Input::Told(told))).is_ok()
            }
            PING => true,
            _ => false,
        }
    }

    async fn serve_client(self: &Rc<Self>, stream: Stream, version: u16, socket: Socket) {
        let connection = clients::connection(version);
        let number = self.next_client.get();
        self.next_client.set(number + 1);
        self.clients.borrow_mut().insert(number, Arc::clone(&connection));
        clients::serve(connection, stream.split(), &self.inbox, &self.shared.counters).await;
        drop(socket);
        self.clients.borrow_mut().remove(&number);
    }

    /// Ends every connection; what waits is still sent, if there is time.
    pub(super) fn close(&self) {
        self.clients.borrow().values().for_each(|connection| connection.close());
        self.peers.borrow().values().for_each(|peer| peer.out.close());
    }

    /// Lets every connection end with a reset, as those of a killed process do that has not read all.
    pub(super) fn reset(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        for descriptor in self.sockets.borrow().iter() {
            // SAFETY: the descriptor is registered, so it is open, and the option is a `linger`.
            unsafe {
                libc::setsockopt(
                    *descriptor,
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    (&raw const linger).cast(),
                    size_of::<libc::linger>() as libc::socklen_t,
                );
            }
        }
    }

    /// How this member shows itself.
    pub(super) fn own(&self) -> Known {
        let own = self.own.borrow();
        Known { id: own.id, name: own.name.clone(), address: own.address.clone(), life: self.life }
    }

    fn register(self: &Rc<Self>, stream: &TcpStream) -> Socket {
        let descriptor = stream.as_raw_fd();
        self.sockets.borrow_mut().insert(descriptor);
        Socket { network: Rc::clone(self), descriptor, _mark: Mark::of(stream) }
    }
}

impl Peer {
    fn stop(&self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.abort();
        }
    }
}

/// Says now and then that it is there.
async fn ping(out: &Outgoing, version: u16) {
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        out.push(Priority::Urgent, |out| frame::write_in(version, PING, 0, out, |_| {}));
    }
}

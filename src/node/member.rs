//! The handle of a member.

use std::any::Any;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::task::LocalSet;

use super::config::{Checked, cluster_id};
use super::driver::{Driver, Work};
use super::files::Directory;
use super::folder::{Card, Folder};
use super::inbox::{Asker, Inbox, Input};
use super::network::Network;
use super::shared::{Part, Shared, SharedHandle, Status};
use super::{Config, ConfigError, Failure, snapshots};
use crate::id::NodeId;
use crate::net::{Hello, Known, Mark, Party, forks};
use crate::raft::{Checkpoint, Record, Role};
use crate::random::Random;
use crate::replica::asks::{Ask, Error, MemberStatus, Reply};
use crate::replica::{Machine, Replica, Shelf};
use crate::store::Store;
use crate::wal::Wal;

/// A running member. Dropped, it closes.
pub struct Member {
    inbox: Arc<Inbox>,
    shared: SharedHandle,
    end: Arc<End>,
    id: NodeId,
    name: String,
    address: SocketAddr,
    /// In a forked child there is no member.
    forks: u64,
    threads: Mutex<Vec<JoinHandle<()>>>,
    cuts: mpsc::Sender<Cut>,
}

/// Why a member was not started. Nothing is left running, and nothing was changed that mattered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The disk, or what is on it.
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// How a member has ended, once it has.
#[derive(Default)]
struct End {
    how: Mutex<Ending>,
    known: Condvar,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Ending {
    /// It lives.
    #[default]
    NotYet,
    /// It was told to.
    Told,
    /// It could not go on.
    Failed(Failure),
}

/// What tests do to the network.
enum Cut {
    Off(String, bool),
    Heal,
}

/// How long what waits may take to leave when a member ends.
const LINGER: Duration = Duration::from_millis(100);

impl Member {
    /// Checks the settings, opens the folder, reads the journal, listens, and starts the member's threads. A member of a
    /// cluster that is not formed yet waits for the others.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let checked = config.check()?;
        let folder = Folder::open(&config.data_dir, config.segment_bytes)?;
        let mut opened = Opened::open(&folder, &checked)?;
        let listener = opened.listen(&checked.config)?;
        let address = listener.local_addr().map_err(|error| unusable(&checked.config.listen, &error))?;
        opened.card.listen = address.to_string();
        folder.write_card(&opened.card, checked.config.format_version)?;
        Self::spawn(checked, folder, opened, listener, address)
    }

    fn spawn(
        checked: Checked,
        folder: Folder,
        opened: Opened,
        listener: StdListener,
        address: SocketAddr,
    ) -> Result<Self, StartError> {
        let Opened { mut files, wal, records, card, mut random } = opened;
        let config = checked.config;
        let (id, name) = (card.id, config.name.clone());
        let replica = Replica::new(id, checked.replica).map_err(|invalid| ConfigError {
            setting: invalid.setting,
            complaint: invalid.complaint.to_owned(),
        })?;
        let machine = Machine::open(id, Store::new(config.limits), config.sessions, Shelf::new());
        let shared = Arc::new(Shared::new(machine, first_status(&config, id, &address)));
        let inbox = Arc::new(Inbox::new());
        let end = Arc::new(End::default());
        let (syncs, to_sync) = mpsc::channel();
        let (jobs, to_do) = mpsc::channel();
        files.removes_by(jobs.clone());
        let (cuts, to_cut) = mpsc::channel();
        let own = Hello {
            party: Party::Peer,
            cluster: config.cluster.clone(),
            id,
            name: name.clone(),
            address: advertised(&config, &address),
            formed: false,
            observes: config.observer,
            members: Vec::new(),
        };
        let life = card.life;
        let itself = Known { id, name: name.clone(), address: own.address.clone(), life };
        let known = card.members.iter().filter(|known| known.id != id).cloned().chain([itself]).collect();
        let own = Hello { members: known, ..own };

        let mut threads = Vec::new();
        let (snap, reserve) = (folder.snapshots(), Arc::clone(folder.reserve()));
        threads.push(spawn(&name, "journal", {
            let inbox = Arc::clone(&inbox);
            move || run_journal(files, &to_sync, &inbox)
        })?);
        let pieces = Arc::new(AtomicUsize::new(0));
        threads.push(spawn(&name, "snapshots", {
            let (inbox, pieces) = (Arc::clone(&inbox), Arc::clone(&pieces));
            move || snapshots::run(snap, reserve, &to_do, &pieces, &inbox)
        })?);
        let secrets = (checked.secret, checked.tls);
        threads.push(spawn(&name, "member", {
            let (inbox, shared, end) = (Arc::clone(&inbox), Arc::clone(&shared), Arc::clone(&end));
            move || {
                let lived = catch_unwind(AssertUnwindSafe(|| {
                    let start = (Arc::clone(&inbox), Arc::clone(&shared));
                    live(start, listener, &to_cut, move |inbox, shared| {
                        let clients_max = config.clients_max;
                        let random_network = random.split();
                        let network = Network::new(
                            own,
                            (life, config.format_version),
                            secrets,
                            Arc::clone(&inbox),
                            Arc::clone(&shared),
                            clients_max,
                            random_network,
                        );
                        let work = Work::default();
                        let driver = Driver {
                            config,
                            replica,
                            wal,
                            shared,
                            inbox,
                            network,
                            folder,
                            card,
                            syncs,
                            jobs,
                            pieces,
                            work,
                        };
                        (driver, random, records)
                    })
                }));
                let failure =
                    lived.unwrap_or_else(|panic| Some(Failure::Internal { complaint: words(&*panic) }));
                // After a panic nobody has told those who wait.
                for input in inbox.close() {
                    refuse(input, failure.as_ref());
                }
                end.tell(failure);
            }
        })?);
        let forks = forks();
        Ok(Self { inbox, shared, end, id, name, address, forks, threads: Mutex::new(threads), cuts })
    }

    /// Its id.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks. `respond` hears the reply exactly once: on the member's thread, where it must not block, or, when the member
    /// has ended, before this returns.
    pub fn submit(&self, patience: Duration, ask: Ask, respond: impl FnOnce(Reply) + Send + 'static) {
        if self.is_of_the_parent() {
            respond(Err(Error::Stopped("the member is the parent process's".to_owned())));
            return;
        }
        let asked = Input::Ask(Asker::Local(Box::new(respond)), patience, ask);
        if let Err(input) = self.inbox.offer(asked) {
            refuse(input, self.failure().as_ref());
        }
    }

    /// Reads the store at once, on the caller's thread, when this member leads under a lease: what is read is as new as all
    /// that was acknowledged before. `None`: it holds no lease; ask with [`Member::submit`]. What is applied meanwhile
    /// waits, so `read` should be short.
    pub fn lease_read<R>(&self, read: impl FnOnce(&Store) -> R) -> Option<R> {
        if self.is_of_the_parent() { None } else { self.shared.lease_read(read) }
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Why it has stopped by itself, if it has.
    pub fn failure(&self) -> Option<Failure> {
        if self.is_of_the_parent() {
            return None;
        }
        match &*self.end.lock() {
            Ending::Failed(failure) => Some(failure.clone()),
            Ending::NotYet | Ending::Told => None,
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.is_of_the_parent() || *self.end.lock() != Ending::NotYet
    }

    /// Waits until it has ended, at most so long; whether it has.
    pub fn wait(&self, patience: Duration) -> bool {
        if self.is_of_the_parent() {
            return true;
        }
        let waited =
            self.end.known.wait_timeout_while(self.end.lock(), patience, |how| *how == Ending::NotYet);
        *waited.unwrap_or_else(PoisonError::into_inner).0 != Ending::NotYet
    }

    /// Ends it in order: another member takes the leadership over, what is written down becomes durable, replies leave.
    /// Takes 2 s at most. Returns when its threads have ended.
    pub fn close(&self) {
        self.stop(Input::Close);
    }

    /// Ends it as a killed process ends: nothing more is written, said or answered, and connections are reset.
    pub fn kill(&self) {
        self.stop(Input::Kill);
    }

    /// For tests: cuts it off from the peer of that name, silently and both ways as far as this member goes.
    pub fn partition(&self, peer: &str) {
        self.cut(Cut::Off(peer.to_owned(), true));
    }

    /// For tests: ends [`Member::partition`], for all peers.
    pub fn heal(&self) {
        self.cut(Cut::Heal);
    }

    fn cut(&self, cut: Cut) {
        if !self.is_of_the_parent() && self.cuts.send(cut).is_ok() {
            self.inbox.nudge();
        }
    }

    fn stop(&self, how: Input) {
        if self.is_of_the_parent() {
            return;
        }
        self.shared.killed.store(matches!(how, Input::Kill), SeqCst);
        self.shared.stopping.store(true, SeqCst);
        self.inbox.push(how);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // What it panicked with is the member's failure already.
            let _ = thread.join();
        }
    }

    fn is_of_the_parent(&self) -> bool {
        self.forks != forks()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.is_of_the_parent() {
            // Those threads are not here.
            let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
            threads.drain(..).for_each(std::mem::forget);
        } else {
            self.close();
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Ending> {
        self.how.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, failure: Option<Failure>) {
        *self.lock() = failure.map_or(Ending::Told, Ending::Failed);
        self.known.notify_all();
    }
}

/// What a start has found on the disk.
struct Opened {
    files: Directory,
    wal: Wal,
    records: Vec<Record>,
    card: Card,
    random: Random,
}

impl Opened {
    fn open(folder: &Folder, checked: &Checked) -> Result<Self, StartError> {
        let config = &checked.config;
        let card = folder.card()?;
        if let Some(card) = &card {
            card.check(config)?;
        }
        let journal = |error| Failure::journal(&folder.wal(), &error);
        let mut files = Directory::new(folder.wal(), Arc::clone(folder.reserve()));
        let (mut wal, recovery) = Wal::open(&mut files, checked.wal).map_err(journal)?;
        let mut records: Vec<Record> = recovery.decode().map_err(journal)?;
        if let Some(torn) = &recovery.repaired {
            tracing::info!(
                member = config.name,
                segment = torn.segment,
                offset = torn.offset,
                "repaired a torn end"
            );
        }
        let mut random = random()?;
        let identity = identity(&records);
        let id = match (identity, &card) {
            (Some((cluster, _)), _) if cluster != cluster_id(&config.cluster) => {
                let complaint =
                    format!("{} is of another cluster than {:?}", folder.path().display(), config.cluster);
                return Err(ConfigError { setting: "cluster", complaint }.into());
            }
            (Some((_, id)), _) => id,
            (None, Some(_)) => {
                let complaint = "has no journal any more, though the member had one: restore it, or remove this member \
                                 from the cluster and add it again with an empty folder";
                let complaint = complaint.to_owned();
                return Err(
                    Failure::Storage { path: folder.wal(), offset: None, complaint, full: false }.into()
                );
            }
            (None, None) => {
                // Durable before anybody hears of it: who forgets his name must not be taken for another.
                let id = NodeId(random.word() | 1);
                let record = Record::Identity { cluster: cluster_id(&config.cluster), id };
                wal.append_encoded(&record).map_err(journal)?;
                if let Some(sync) = wal.begin_sync() {
                    let outcome = sync.run(&mut files);
                    wal.end_sync(outcome).map_err(journal)?;
                }
                records.push(record);
                id
            }
        };
        let before = card.unwrap_or_else(|| Card::new(config, id));
        let card = Card { id, life: before.life + 1, ..before };
        if !records
            .iter()
            .any(|record| matches!(record, Record::Checkpoint(checkpoint) if checkpoint.snapshot.is_some()))
        {
            snapshots::tidy(&folder.snapshots(), None)?;
        }
        Ok(Self { files, wal, records, card, random })
    }

    /// Where it listens: as the settings say; where they leave the port open, where it was at first.
    fn listen(&self, config: &Config) -> Result<StdListener, ConfigError> {
        let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_owned());
        let open = port(&config.listen).as_deref() == Some("0") && !self.card.listen.is_empty();
        let address = match (config.listen.rsplit_once(':'), port(&self.card.listen)) {
            (Some((host, _)), Some(before)) if open => format!("{host}:{before}"),
            _ => config.listen.clone(),
        };
        let listener = StdListener::bind(&address).map_err(|error| unusable(&address, &error))?;
        listener.set_nonblocking(true).map_err(|error| unusable(&address, &error))?;
        Ok(listener)
    }
}

impl Card {
    fn new(config: &Config, id: NodeId) -> Self {
        let (cluster, name) = (config.cluster.clone(), config.name.clone());
        Self { cluster, id, name, listen: String::new(), life: 0, members: Vec::new() }
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let of = config.data_dir.display();
        if self.cluster != config.cluster {
            let complaint = format!("{of} is of the cluster {:?}, not {:?}", self.cluster, config.cluster);
            return Err(ConfigError { setting: "cluster", complaint });
        }
        if self.name != config.name {
            let complaint = format!("{of} is of the member {:?}, not {:?}", self.name, config.name);
            return Err(ConfigError { setting: "name", complaint });
        }
        Ok(())
    }
}

/// Whose journal it is.
fn identity(records: &[Record]) -> Option<(u64, NodeId)> {
    records.iter().find_map(|record| match record {
        Record::Identity { cluster, id } => Some((*cluster, *id)),
        Record::Checkpoint(checkpoint) => {
            let Checkpoint { cluster, id, .. } = **checkpoint;
            Some((cluster, id))
        }
        _ => None,
    })
}

/// Seeded by the system.
fn random() -> Result<Random, Failure> {
    let mut seed = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed)
        .map_err(|_| Failure::Internal { complaint: "the system gives no random bytes".to_owned() })?;
    Ok(Random::new(u64::from_le_bytes(seed)))
}

fn first_status(config: &Config, id: NodeId, address: &SocketAddr) -> Status {
    let member = MemberStatus {
        cluster: cluster_id(&config.cluster),
        id,
        name: config.name.clone(),
        role: Role::Follower,
        term: 0,
        leader: None,
        last: 0,
        commit: 0,
        applied: 0,
        pending: 0,
    };
    Status {
        member,
        part: Part::Waiting,
        address: advertised(config, address),
        members: Vec::new(),
        connected: Vec::new(),
        revision: 1,
        syncs: 0,
        network: crate::net::Statistics::default(),
    }
}

/// Where others find it. Who listens everywhere is found where its `peers` say.
fn advertised(config: &Config, address: &SocketAddr) -> String {
    let named = config.peers.get(&config.name).filter(|_| address.ip().is_unspecified());
    config.advertise.as_ref().or(named).cloned().unwrap_or_else(|| address.to_string())
}

fn unusable(address: &str, error: &std::io::Error) -> ConfigError {
    ConfigError { setting: "listen", complaint: format!("{address}: {error}") }
}

fn spawn(member: &str, what: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    let thread = thread::Builder::new().name(format!("{what} {member}")).spawn(work);
    thread.map_err(|error| Failure::Internal { complaint: format!("no thread could be started: {error}") })
}

/// Makes the journal durable, one batch after the other, and never holds anybody up.
fn run_journal(mut files: Directory, syncs: &mpsc::Receiver<crate::wal::Sync>, inbox: &Inbox) {
    for sync in syncs {
        let outcome = sync.run(&mut files);
        let failed = outcome.is_err();
        inbox.push(Input::Synced(outcome));
        if failed {
            return;
        }
    }
}

/// The member's thread.
fn live(
    (inbox, shared): (Arc<Inbox>, SharedHandle),
    listener: StdListener,
    cuts: &mpsc::Receiver<Cut>,
    build: impl FnOnce(Arc<Inbox>, SharedHandle) -> (Driver, Random, Vec<Record>),
) -> Option<Failure> {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Some(Failure::Internal { complaint: format!("no event loop could be started: {error}") });
        }
    };
    let tasks = LocalSet::new();
    let failure = tasks.block_on(&runtime, async {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return Some(Failure::Internal { complaint: error.to_string() }),
        };
        let _mark = Mark::of(&listener);
        let (driver, random, records) = build(inbox, Arc::clone(&shared));
        let network = std::rc::Rc::clone(&driver.network);
        let listening = tokio::task::spawn_local(std::rc::Rc::clone(&network).listen(listener));
        let failure = driver.run(random, records, || take_cuts(cuts, &network)).await;
        listening.abort();
        // What was queued last gets out, if the other ends take it.
        let in_order = failure.is_none() && !shared.killed.load(SeqCst);
        tokio::time::sleep(if in_order { LINGER } else { Duration::ZERO }).await;
        failure
    });
    drop(tasks);
    runtime.shutdown_background();
    failure
}

fn take_cuts(cuts: &mpsc::Receiver<Cut>, network: &Network) {
    for cut in cuts.try_iter() {
        match cut {
            Cut::Off(peer, cut) => {
                network.cut(&peer, cut);
            }
            Cut::Heal => network.heal(),
        }
    }
}

/// Nobody will handle this: whoever waits hears so.
fn refuse(input: Input, failure: Option<&Failure>) {
    if let Input::Ask(Asker::Local(respond), ..) | Input::Change(Asker::Local(respond), ..) = input {
        let why = failure.map_or_else(|| "the member has ended".to_owned(), ToString::to_string);
        respond(Err(Error::Stopped(why)));
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let known = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let known = known.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the member's thread panicked: {}", known.unwrap_or_else(|| "without a word".to_owned()))
}

//! Some members in this process, each with a folder and sockets of its own.

use bytes::Bytes;
use coterie::node::{Config, Failure, Member, Part, SecretSource, Status};
use coterie::replica::Consistency;
use coterie::replica::asks::{Answer, Ask, Error, Reply};
use coterie::store::{self, Command, Done, Put, Query, Range};
use coterie::wire::{Decode, Encode, VERSION};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that is gone when this is.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(what: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("coterie-{what}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Members with the names a, b, c …
pub(crate) struct Group {
    pub(crate) scratch: Scratch,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) peers: BTreeMap<String, String>,
    pub(crate) change: Box<dyn Fn(&mut Config) + Send + Sync>,
}

impl Group {
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, |_| {})
    }

    pub(crate) fn start_with(count: usize, change: impl Fn(&mut Config) + Send + Sync + 'static) -> Self {
        let mut group = Self::prepare(count);
        group.change = Box::new(change);
        group.start_all();
        group
    }

    /// Members that are not there yet, with ports of their own.
    pub(crate) fn prepare(count: usize) -> Self {
        let names = (0..count).map(|place| char::from(b'a' + place as u8).to_string());
        // Held together, so that no port is given out twice.
        let free: Vec<_> =
            names.map(|name| (name, TcpListener::bind("127.0.0.1:0").expect("a port"))).collect();
        let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
        let peers = free.iter().map(|(name, listener)| (name.clone(), address(listener))).collect();
        Self { scratch: Scratch::new("group"), members: BTreeMap::new(), peers, change: Box::new(|_| {}) }
    }

    pub(crate) fn start_all(&mut self) {
        for name in self.peers.clone().into_keys() {
            self.start_one(&name);
        }
    }

    pub(crate) fn config(&self, name: &str) -> Config {
        let mut config = Config::new(name, self.scratch.path().join(name));
        config.listen.clone_from(&self.peers[name]);
        config.peers.clone_from(&self.peers);
        config.secret = SecretSource::Bytes(b"the secret of these tests".to_vec());
        (self.change)(&mut config);
        config
    }

    pub(crate) fn start_one(&mut self, name: &str) {
        let member = Member::start(&self.config(name)).expect("a member");
        self.members.insert(name.to_owned(), member);
    }

    pub(crate) fn kill(&mut self, name: &str) {
        self.members.remove(name).expect("a member").kill();
    }

    /// The name of the leader that a majority follows.
    pub(crate) fn leader(&self) -> String {
        eventually("a leader", || {
            let leading = self.members.iter().filter(|(_, member)| member.status().part == Part::Leader);
            let (name, status) = leading
                .map(|(name, member)| (name, member.status()))
                .max_by_key(|(_, status)| status.member.term)?;
            let follows = |other: &Status| {
                other.member.leader == Some(status.member.id) && other.member.term == status.member.term
            };
            let followers = self.members.values().filter(|member| follows(&member.status())).count();
            (followers > self.peers.len() / 2).then(|| name.clone())
        })
    }

    pub(crate) fn follower(&self) -> String {
        let leader = self.leader();
        self.members.keys().find(|name| **name != leader).expect("another").clone()
    }

    pub(crate) fn failure(&self, name: &str) -> Failure {
        eventually("a failure", || self.members[name].failure())
    }
}

/// Waits until there is something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "no {what} in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn ask(member: &Member, ask: Ask) -> Reply {
    ask_within(member, PATIENCE, ask)
}

pub(crate) fn ask_within(member: &Member, patience: Duration, ask: Ask) -> Reply {
    let (sender, receiver) = mpsc::channel();
    member.submit(patience, ask, move |reply| {
        let _ = sender.send(reply);
    });
    receiver.recv_timeout(PATIENCE * 2).expect("each ask is answered")
}

pub(crate) fn put_command(key: &str, value: &str) -> Bytes {
    Command::Put(Put::new(key.to_owned().into(), value.to_owned().into())).to_bytes()
}

pub(crate) fn put(member: &Member, key: &str, value: &str) -> Result<store::Answer, Error> {
    let command = put_command(key, value);
    match ask(member, Ask::Command { stamp: None, command })? {
        Answer::Result { result, .. } => Ok(store::Answer::from_bytes(result, VERSION).expect("an answer")),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn get(member: &Member, key: &str, consistency: Consistency) -> Result<Option<String>, Error> {
    let query = Query::Range(Range::one(key.to_owned().into())).to_bytes();
    match ask(member, Ask::Query { query, consistency })? {
        Answer::Queried(result) => match store::Answer::from_bytes(result, VERSION).expect("an answer").reply
        {
            store::Reply::Done(Done::Range { entries, .. }) => {
                let value = entries.first().map(|entry| entry.value.to_vec());
                Ok(value.map(|value| String::from_utf8(value).expect("text")))
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

//! Clients over a socket, as simple as can be: one ask after the other.

use crate::group::PATIENCE;
use coterie::id::NodeId;
use coterie::net::{Agreement, Frames, Hello, Party, Refused, Secret, Sending, Statistics, connect, dial_in};
use coterie::net::{CLIENT_PAYLOAD_MAX, PEER_PAYLOAD_MAX, Receiving};
use coterie::replica::SessionStamp;
use coterie::replica::asks::{ASKS, Answer, Ask, Asked, Error, REPLIES, Replied, Reply};
use coterie::wire::{Decode, Encode, VERSION, frame};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};

pub(crate) const SECRET: &[u8] = b"the secret of these tests";

/// A connection to one member.
pub(crate) struct Client {
    runtime: Runtime,
    frames: Frames<Receiving>,
    sending: Sending,
    counters: coterie::net::Counters,
    next: u64,
    pub(crate) member: Hello,
    pub(crate) version: u16,
}

pub(crate) fn hello(cluster: &str) -> Hello {
    Hello {
        party: Party::Client,
        cluster: cluster.to_owned(),
        id: NodeId(0),
        name: "a client".to_owned(),
        address: String::new(),
        formed: false,
        observes: false,
        members: Vec::new(),
    }
}

impl Client {
    pub(crate) fn connect(address: &str) -> Result<Self, Refused> {
        Self::connect_as(address, &hello("coterie"), Some(&Secret::new(SECRET)))
    }

    pub(crate) fn connect_as(address: &str, hello: &Hello, secret: Option<&Secret>) -> Result<Self, Refused> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (stream, agreement) = runtime.block_on(async {
            let mut stream = connect(address, None).await?;
            let agreement = dial_in(&mut stream, hello, VERSION, secret).await?;
            Ok::<_, Refused>((stream, agreement))
        })?;
        let (receiving, sending) = stream.split();
        let Agreement { hello: member, version } = agreement;
        let frames = Frames::new(receiving, PEER_PAYLOAD_MAX, version);
        let counters = coterie::net::Counters::default();
        Ok(Self { runtime, frames, sending, counters, next: 0, member, version })
    }

    /// Asks, and waits; `None`: the connection has ended.
    pub(crate) fn ask(&mut self, ask: Ask) -> Option<Reply> {
        self.ask_all([ask], PATIENCE)?.pop()
    }

    /// Asks all at once, in one frame, and waits for all replies.
    pub(crate) fn ask_all(
        &mut self,
        asks: impl IntoIterator<Item = Ask>,
        patience: Duration,
    ) -> Option<Vec<Reply>> {
        let first = self.next;
        let asked = (first..).zip(asks).map(|(id, ask)| Asked { id, patience, ask });
        let asked: Vec<Asked> = asked.collect();
        self.next += asked.len() as u64;
        let mut bytes = Vec::new();
        frame::write_in(self.version, ASKS, 0, &mut bytes, |payload| asked.encode(payload));
        assert!(bytes.len() < CLIENT_PAYLOAD_MAX);
        let Self { runtime, frames, sending, counters, .. } = self;
        runtime.block_on(async {
            sending.write_all(&bytes).await.ok()?;
            let mut replies = BTreeMap::new();
            while replies.len() < asked.len() {
                while let Some(frame) = frames.take().ok()? {
                    assert_eq!(frame.kind, REPLIES);
                    for Replied { id, reply } in
                        Vec::from_bytes(frame.payload, frame.version).expect("replies")
                    {
                        assert!(id >= first && replies.insert(id, reply).is_none(), "one reply to each ask");
                    }
                }
                if replies.len() < asked.len() {
                    frames.fill(PATIENCE * 2, counters).await.ok()?;
                }
            }
            Some(replies.into_values().collect())
        })
    }

    /// Sends what is no frame, or one that nobody wants.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let Self { runtime, sending, .. } = self;
        let _ = runtime.block_on(sending.write_all(bytes));
    }
}

/// A client that goes on to another member when its own is gone, and asks again with the same stamp.
pub(crate) struct Persistent {
    addresses: Vec<String>,
    client: Option<Client>,
    turn: usize,
    session: Option<u64>,
    sequence: u64,
}

impl Persistent {
    pub(crate) fn new(addresses: impl IntoIterator<Item = String>) -> Self {
        let addresses = addresses.into_iter().collect();
        Self { addresses, client: None, turn: 0, session: None, sequence: 0 }
    }

    /// Asks until there is an answer.
    pub(crate) fn ask(&mut self, ask: &Ask) -> Answer {
        let begun = std::time::Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE * 2, "no answer in time to {ask:?}");
            let Some(client) = self.connected() else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            // Shorter than a test's patience: a member that stands still is left.
            match client
                .ask_all([ask.clone()], Duration::from_millis(800))
                .and_then(|mut replies| replies.pop())
            {
                Some(Ok(answer)) => return answer,
                Some(Err(Error::Unknown | Error::TimedOut | Error::Stopped(_) | Error::NotLeader { .. }))
                | None => {
                    self.client = None;
                }
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// Puts exactly once.
    pub(crate) fn command(&mut self, command: &bytes::Bytes) -> Answer {
        let session = self.session.unwrap_or_else(|| match self.ask(&Ask::OpenSession) {
            Answer::Session(session) => session,
            other => panic!("{other:?}"),
        });
        self.session = Some(session);
        self.sequence += 1;
        let stamp = SessionStamp { session, sequence: self.sequence, answered_below: self.sequence };
        self.ask(&Ask::Command { stamp: Some(stamp), command: command.clone() })
    }

    fn connected(&mut self) -> Option<&mut Client> {
        if self.client.is_none() {
            self.turn += 1;
            self.client = Client::connect(&self.addresses[self.turn % self.addresses.len()]).ok();
        }
        self.client.as_mut()
    }
}

/// How much more than before was counted of what was refused.
pub(crate) fn refused(now: &Statistics) -> BTreeMap<&'static str, u64> {
    let ordinary = ["accepted", "connected", "bytes_received", "bytes_sent"];
    now.each().filter(|(name, count)| *count > 0 && !ordinary.contains(name)).collect()
}

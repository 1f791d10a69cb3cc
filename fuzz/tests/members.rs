//! A member that hears anything: a peer's nonsense is input, never a panic.

use bolero::TypeGenerator;
use bytes::Bytes;
use coterie::id::{NodeId, RequestId};
use coterie::protocol::{Effect, Link, Outbox, Protocol};
use coterie::raft::{self, Membership};
use coterie::random::Random;
use coterie::replica::{Message, Replica, Request, Settings};
use coterie::time::Instant;
use coterie::wire::{Decode, VERSION};
use fuzz::{Edit, examples, spoil};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

#[derive(Clone, Debug, TypeGenerator)]
enum Step {
    /// A message arrives: an example, spoilt. It counts only when it is a message still.
    Hear {
        from: u8,
        which: u8,
        #[generator(bolero::produce::<Vec<Edit>>().with().len(0usize..4))]
        edits: Vec<Edit>,
    },
    /// Time passes, and the alarm that is due first goes off.
    Expire,
    /// A peer seems to be gone.
    Down(u8),
}

#[test]
fn a_member_that_hears_anything() {
    bolero::check!().with_type::<Vec<Step>>().for_each(|steps| {
        let mut member = Member::new();
        for step in steps {
            member.take(step);
        }
    });
}

struct Member {
    replica: Replica,
    now: Instant,
    alarms: BTreeMap<<Replica as Protocol>::Timer, Instant>,
    out: Outbox<Replica>,
}

impl Member {
    fn new() -> Self {
        let settings = Settings {
            raft: raft::Settings { lease: Some(raft::Lease::default()), ..raft::Settings::default() },
            ..Settings::default()
        };
        let replica = Replica::new(NodeId(1), settings).expect("settings that work");
        let mut member = Self { replica, now: Instant::ZERO, alarms: BTreeMap::new(), out: Outbox::new() };
        member.replica.start(member.now, Random::new(1), Vec::new(), &mut member.out);
        let everybody = Membership::of((1..=3).map(NodeId));
        let id = RequestId(1);
        member.replica.request(member.now, id, Request::Bootstrap(everybody), &mut member.out);
        member.settle();
        member
    }

    fn take(&mut self, step: &Step) {
        self.now = self.now + Duration::from_millis(1);
        match step {
            Step::Hear { from, which, edits } => {
                let mut bytes = messages()[usize::from(*which) % messages().len()].to_vec();
                spoil(&mut bytes, edits);
                if let Ok(message) = Message::from_bytes(bytes.into(), VERSION) {
                    let from = NodeId(2 + u64::from(from % 4));
                    self.replica.receive(self.now, from, message, &mut self.out);
                }
            }
            Step::Expire => {
                let Some((timer, at)) = self.alarms.iter().min_by_key(|(_, at)| **at) else { return };
                let (timer, at) = (*timer, *at);
                self.now = self.now.max(at);
                self.alarms.remove(&timer);
                self.replica.expire(self.now, timer, &mut self.out);
            }
            Step::Down(peer) => {
                let peer = NodeId(1 + u64::from(peer % 4));
                self.replica.link(self.now, peer, Link::Down, &mut self.out);
            }
        }
        self.settle();
    }

    /// The batch ends; promises to itself come back, as from a disk that is quick.
    fn settle(&mut self) {
        self.replica.flush(self.now, &mut self.out);
        while !self.out.is_empty() {
            let effects: Vec<_> = self.out.drain().collect();
            for effect in effects {
                match effect {
                    Effect::Promise(to, message) if to == NodeId(1) => {
                        self.replica.receive(self.now, to, message, &mut self.out);
                    }
                    Effect::Set(timer, at) => drop(self.alarms.insert(timer, at)),
                    Effect::Cancel(timer) => drop(self.alarms.remove(&timer)),
                    _ => {}
                }
            }
            self.replica.flush(self.now, &mut self.out);
        }
    }
}

/// A member's messages; those of Raft are pinned without the tag that a replica puts before them.
fn messages() -> &'static [Bytes] {
    static MESSAGES: OnceLock<Vec<Bytes>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        const OF_RAFT: u8 = 1;
        let tagged = |bytes: Bytes| [&[OF_RAFT], &bytes[..]].concat().into();
        let messages: Vec<Bytes> = examples::<raft::Message>().into_iter().map(tagged).collect();
        assert!(messages.len() >= 15, "{} messages", messages.len());
        messages
    })
}

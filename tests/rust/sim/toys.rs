//! Small protocols to try the worlds with.

use std::time::Duration;

use coterie::id::{NodeId, RequestId};
use coterie::protocol::{Link, Outbox, Protocol};
use coterie::random::Random;
use coterie::sim::{Fingerprint, of_hash};
use coterie::time::Instant;
use coterie::wire::{Decode, Encode, Malformed, Reader};

/// Each pings all others, again and again; who is pinged answers.
#[derive(Debug)]
pub(crate) struct Pinger {
    id: NodeId,
    members: u64,
    pub(crate) heard: u64,
    pub(crate) links: Vec<(NodeId, Link)>,
    pub(crate) times: Vec<Instant>,
}

pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Ping {
    Ping(u64),
    Pong(u64),
}

impl Pinger {
    pub(crate) fn new(id: NodeId, members: u64) -> Self {
        Self { id, members, heard: 0, links: Vec::new(), times: Vec::new() }
    }
}

impl Protocol for Pinger {
    type Message = Ping;
    type Record = u64;
    type Timer = ();
    type Event = ();
    type Request = ();
    type Answer = ();
    type Error = ();

    fn start(&mut self, now: Instant, mut random: Random, _records: Vec<u64>, out: &mut Outbox<Self>) {
        out.set((), now + Duration::from_nanos(random.below(10_000_000)));
    }

    fn receive(&mut self, _now: Instant, from: NodeId, message: Ping, out: &mut Outbox<Self>) {
        match message {
            Ping::Ping(number) => out.send(from, Ping::Pong(number)),
            Ping::Pong(_) => self.heard += 1,
        }
    }

    fn expire(&mut self, now: Instant, (): (), out: &mut Outbox<Self>) {
        if self.times.len() < 1000 {
            self.times.push(now);
        }
        for peer in (1..=self.members).map(NodeId).filter(|&peer| peer != self.id) {
            out.send(peer, Ping::Ping(self.heard));
        }
        out.set((), now + PING_INTERVAL);
    }

    fn request(&mut self, _now: Instant, id: RequestId, (): (), out: &mut Outbox<Self>) {
        out.answer(id, Ok(()));
    }

    fn link(&mut self, _now: Instant, peer: NodeId, link: Link, _out: &mut Outbox<Self>) {
        self.links.push((peer, link));
    }
}

impl Encode for Ping {
    fn encode(&self, out: &mut Vec<u8>) {
        let (tag, number) = match self {
            Self::Ping(number) => (1, number),
            Self::Pong(number) => (2, number),
        };
        out.push(tag);
        number.encode(out);
    }
}

impl Decode for Ping {
    const SIZE_MIN: usize = 9;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        match input.u8()? {
            1 => Ok(Self::Ping(input.u64()?)),
            2 => Ok(Self::Pong(input.u64()?)),
            _ => Err(input.malformed("the tag of a Ping before this")),
        }
    }
}

impl Fingerprint for Pinger {
    fn of_message(message: &Ping) -> u64 {
        of_hash(message)
    }

    fn of_timer((): ()) -> u64 {
        0
    }
}

/// A primary (process 1) numbers what it is given and writes it down; each backup writes it down, too, and says so;
/// when all have, the request is answered.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    id: NodeId,
    members: u64,
    /// What is written down, in order.
    pub(crate) kept: Vec<u64>,
    /// For each place: who asked, and who has it.
    waiting: Vec<(RequestId, Vec<NodeId>)>,
    pub(crate) flushes: u64,
    pub(crate) inputs: u64,
    pub(crate) promised_to_self: Vec<u64>,
    pub(crate) latest: Instant,
    /// A planted bug: backups acknowledge before the disk has it.
    pub(crate) hasty: bool,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Keep {
    /// Everything from the first on, so that late and lost ones mend themselves.
    All(Vec<u64>),
    /// "My disk has this many."
    Kept(u64),
}

impl Keeper {
    pub(crate) fn new(id: NodeId, members: u64) -> Self {
        Self { id, members, ..Self::default() }
    }

    fn tell(&self, out: &mut Outbox<Self>) {
        for peer in (2..=self.members).map(NodeId) {
            out.send(peer, Keep::All(self.kept.clone()));
        }
    }

    fn has(&mut self, node: NodeId, count: u64, out: &mut Outbox<Self>) {
        let base = self.kept.len() - self.waiting.len();
        let all = self.members as usize;
        for (place, (id, who)) in self.waiting.iter_mut().enumerate() {
            if ((base + place) as u64) < count && !who.contains(&node) && who.len() < all {
                who.push(node);
                if who.len() == all {
                    out.answer(*id, Ok((base + place) as u64));
                    out.notify(self.kept[base + place]);
                }
            }
        }
    }

    fn see(&mut self, now: Instant) {
        assert!(now >= self.latest, "now went back");
        self.latest = now;
        self.inputs += 1;
    }
}

impl Protocol for Keeper {
    type Message = Keep;
    type Record = u64;
    type Timer = u8;
    type Event = u64;
    type Request = u64;
    type Answer = u64;
    type Error = &'static str;

    fn start(&mut self, now: Instant, _random: Random, records: Vec<u64>, out: &mut Outbox<Self>) {
        self.see(now);
        self.kept = records;
        if self.id == NodeId(1) {
            out.set(0, now + Duration::from_millis(5));
        }
    }

    fn receive(&mut self, now: Instant, from: NodeId, message: Keep, out: &mut Outbox<Self>) {
        self.see(now);
        match message {
            Keep::All(all) => {
                for &value in all.iter().skip(self.kept.len()) {
                    self.kept.push(value);
                    out.persist(value);
                }
                let kept = Keep::Kept(self.kept.len() as u64);
                if self.hasty { out.send(from, kept) } else { out.promise(from, kept) }
            }
            Keep::Kept(count) => {
                if from == self.id {
                    self.promised_to_self.push(count);
                }
                self.has(from, count, out);
            }
        }
    }

    fn expire(&mut self, now: Instant, _timer: u8, out: &mut Outbox<Self>) {
        self.see(now);
        self.tell(out);
        out.set(0, now + Duration::from_millis(5));
        // Set and forgotten at once: it must never ring.
        out.set(1, now + Duration::from_millis(1));
        out.cancel(1);
    }

    fn request(&mut self, now: Instant, id: RequestId, value: u64, out: &mut Outbox<Self>) {
        self.see(now);
        if self.id != NodeId(1) {
            out.answer(id, Err("ask process 1"));
            return;
        }
        self.kept.push(value);
        self.waiting.push((id, Vec::new()));
        out.persist(value);
        out.promise(self.id, Keep::Kept(self.kept.len() as u64));
        self.tell(out);
    }

    fn flush(&mut self, _now: Instant, _out: &mut Outbox<Self>) {
        self.flushes += 1;
    }
}

impl Encode for Keep {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::All(values) => {
                out.push(1);
                values.encode(out);
            }
            Self::Kept(count) => {
                out.push(2);
                count.encode(out);
            }
        }
    }
}

impl Decode for Keep {
    const SIZE_MIN: usize = 5;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        match input.u8()? {
            1 => Ok(Self::All(Vec::decode(input)?)),
            2 => Ok(Self::Kept(input.u64()?)),
            _ => Err(input.malformed("the tag of a Keep before this")),
        }
    }
}

impl Fingerprint for Keeper {
    fn of_message(message: &Keep) -> u64 {
        of_hash(message)
    }
}

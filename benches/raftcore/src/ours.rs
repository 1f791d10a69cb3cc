//! Ours: the machine, with a journal in memory and alarms in an array.

use crate::contestant::{
    Applied, Contestant, ELECTION_TICKS, MESSAGE_BYTES, MESSAGES_IN_FLIGHT, TAIL, TICK_MILLIS,
};
use bytes::BytesMut;
use coterie::id::{NodeId, RequestId};
use coterie::protocol::{Effect, Outbox, Protocol};
use coterie::raft::{
    BatchBuilder, Event, Membership, Message, Payload, Raft, Record, Request, Role, Settings, Timer,
};
use coterie::random::Random;
use coterie::time::Instant;
use coterie::wire::{Decode, Encode, Reader};
use std::cell::RefCell;
use std::time::Duration;

const TIMERS: [Timer; 5] =
    [Timer::Election, Timer::Heartbeat, Timer::Quorum, Timer::Transfer, Timer::Deadline];

thread_local! {
    static RECEIVED: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// A member.
pub struct Ours {
    raft: Raft,
    now: Instant,
    /// What was proposed since the last work, as a driver gathers it.
    gathered: BatchBuilder,
    outbox: Outbox<Raft>,
    journal: Vec<Record>,
    alarms: [Instant; TIMERS.len()],
    to_oneself: Vec<Message>,
    requests: u64,
    applied: u64,
}

impl Ours {
    fn ask(&mut self, request: Request) {
        self.requests += 1;
        self.raft.request(self.now, RequestId(self.requests), request, &mut self.outbox);
    }

    fn perform(&mut self, send: &mut Vec<(u64, Message)>, applied: &mut Applied) {
        let own = self.raft.id();
        for effect in self.outbox.drain() {
            match effect {
                Effect::Promise(to, message) if to == own => self.to_oneself.push(message),
                Effect::Send(to, message) | Effect::Promise(to, message) => send.push((to.0, message)),
                Effect::Persist(record) => self.journal.push(record),
                Effect::Checkpoint(record) => {
                    self.journal.clear();
                    self.journal.push(record);
                }
                Effect::Set(timer, at) => self.alarms[timer as usize] = at,
                Effect::Cancel(timer) => self.alarms[timer as usize] = Instant::NEVER,
                Effect::Notify(Event::Committed(entries)) => {
                    for run in entries.runs() {
                        if let Payload::Commands(batch) = &run.payload {
                            batch.iter().for_each(|command| applied.apply(command));
                        }
                    }
                    self.applied = entries.last().map_or(self.applied, |last| last.index);
                }
                Effect::Answer(..) | Effect::Notify(_) => {}
            }
        }
    }
}

impl Contestant for Ours {
    type Message = Message;

    fn new(id: u64, members: &[u64]) -> Self {
        let tick = Duration::from_millis(TICK_MILLIS);
        let settings = Settings {
            election_timeout: tick * ELECTION_TICKS,
            heartbeat_interval: tick,
            message_bytes_max: MESSAGE_BYTES,
            in_flight_messages_max: MESSAGES_IN_FLIGHT,
            snapshot_log_bytes: usize::MAX,
            snapshot_log_entries: u64::MAX,
            retained_entries: TAIL,
            ..Settings::default()
        };
        let mut member = Self {
            raft: Raft::new(NodeId(id), settings).expect("valid settings"),
            now: Instant::ZERO,
            gathered: BatchBuilder::default(),
            outbox: Outbox::new(),
            journal: Vec::new(),
            alarms: [Instant::NEVER; TIMERS.len()],
            to_oneself: Vec::new(),
            requests: 0,
            applied: 0,
        };
        member.raft.start(member.now, Random::new(id), vec![], &mut member.outbox);
        member.ask(Request::Bootstrap(Membership::of(members.iter().map(|&id| NodeId(id)))));
        member
    }

    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(TICK_MILLIS);
        for timer in TIMERS {
            let alarm = &mut self.alarms[timer as usize];
            if *alarm <= self.now {
                *alarm = Instant::NEVER;
                self.raft.expire(self.now, timer, &mut self.outbox);
            }
        }
    }

    fn propose(&mut self, command: &[u8]) {
        self.gathered.push(command);
    }

    fn receive(&mut self, from: u64, message: Message) {
        self.raft.receive(self.now, NodeId(from), message, &mut self.outbox);
    }

    fn work(&mut self, send: &mut Vec<(u64, Message)>, applied: &mut Applied) {
        if !self.gathered.is_empty() {
            let commands = self.gathered.seal();
            self.ask(Request::Propose { commands, deadline: Instant::NEVER });
        }
        self.raft.flush(self.now, &mut self.outbox);
        self.perform(send, applied);
        // The journal in memory has everything, so promises to oneself come back at once.
        while !self.to_oneself.is_empty() {
            let own = self.raft.id();
            for message in self.to_oneself.drain(..) {
                self.raft.receive(self.now, own, message, &mut self.outbox);
            }
            self.raft.flush(self.now, &mut self.outbox);
            self.perform(send, applied);
        }
    }

    fn compact(&mut self) {
        self.ask(Request::Snapshotted { last: self.applied, length: 0 });
    }

    fn transfer(&mut self, to: u64) {
        self.ask(Request::Transfer { to: NodeId(to) });
    }

    fn leads(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    fn applied_index(&self) -> u64 {
        self.applied
    }

    fn encode(message: &Message, buffer: &mut Vec<u8>) {
        message.encode(buffer);
    }

    fn decode(bytes: &[u8]) -> Message {
        // As from a connection: frames arrive side by side in a buffer, and what they bring is shared with it.
        let frame = RECEIVED.with_borrow_mut(|buffer| {
            if buffer.capacity() < bytes.len() {
                buffer.reserve(bytes.len().max(1 << 16));
            }
            buffer.extend_from_slice(bytes);
            buffer.split().freeze()
        });
        let mut reader = Reader::new(frame, coterie::wire::VERSION);
        Message::decode(&mut reader).expect("what was encoded")
    }
}

//! tikv/raft-rs with its own in-memory storage.

use crate::contestant::{Applied, Contestant, ELECTION_TICKS, MESSAGE_BYTES, MESSAGES_IN_FLIGHT, TAIL};
use prost::Message as _;
use raft::prelude::{Config, Entry, Message, RawNode};
use raft::storage::{MemStorage, Storage as _};
use raft::{Ready, StateRole};

/// A member.
pub struct RaftRs {
    node: RawNode<MemStorage>,
    applied: u64,
}

impl RaftRs {
    fn store(&self, ready: &mut Ready) {
        let mut storage = self.node.store().wl();
        if !ready.snapshot().is_empty() {
            storage.apply_snapshot(ready.snapshot().clone()).expect("newer than what is here");
        }
        storage.append(&ready.take_entries()).expect("entries that follow");
        if let Some(hard_state) = ready.hs() {
            storage.set_hardstate(hard_state.clone());
        }
    }

    fn apply(&mut self, entries: Vec<Entry>, applied: &mut Applied) {
        for entry in entries {
            self.applied = entry.index;
            if !entry.data.is_empty() {
                applied.apply(&entry.data);
            }
        }
    }
}

fn post(messages: Vec<Message>, send: &mut Vec<(u64, Message)>) {
    send.extend(messages.into_iter().map(|message| (message.to, message)));
}

impl Contestant for RaftRs {
    type Message = Message;

    fn new(id: u64, members: &[u64]) -> Self {
        let config = Config {
            id,
            election_tick: ELECTION_TICKS as usize,
            heartbeat_tick: 1,
            max_size_per_msg: MESSAGE_BYTES as u64,
            max_inflight_msgs: MESSAGES_IN_FLIGHT,
            check_quorum: true,
            pre_vote: true,
            // Its quickest setting in every case of more than one command.
            batch_append: true,
            ..Config::default()
        };
        let storage = MemStorage::new_with_conf_state((members.to_vec(), vec![]));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        Self { node: RawNode::new(&config, storage, &logger).expect("valid settings"), applied: 0 }
    }

    fn tick(&mut self) {
        self.node.tick();
    }

    fn propose(&mut self, command: &[u8]) {
        self.node.propose(vec![], command.to_vec()).expect("the leader takes it");
    }

    fn receive(&mut self, _from: u64, message: Message) {
        // What it refuses is its own affair.
        let _ = self.node.step(message);
    }

    fn work(&mut self, send: &mut Vec<(u64, Message)>, applied: &mut Applied) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            post(ready.take_messages(), send);
            self.apply(ready.take_committed_entries(), applied);
            self.store(&mut ready);
            post(ready.take_persisted_messages(), send);
            let mut light = self.node.advance_append(ready);
            if let Some(commit) = light.commit_index() {
                self.node.store().wl().mut_hard_state().commit = commit;
            }
            post(light.take_messages(), send);
            self.apply(light.take_committed_entries(), applied);
            self.node.advance_apply();
        }
    }

    fn compact(&mut self) {
        let keep = self.applied.saturating_sub(TAIL);
        if keep > self.node.store().first_index().expect("a log") {
            self.node.store().wl().compact(keep).expect("entries that were applied");
        }
    }

    fn transfer(&mut self, to: u64) {
        self.node.transfer_leader(to);
    }

    fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn applied_index(&self) -> u64 {
        self.applied
    }

    fn encode(message: &Message, buffer: &mut Vec<u8>) {
        message.encode(buffer).expect("a buffer that grows");
    }

    fn decode(bytes: &[u8]) -> Message {
        Message::decode(bytes).expect("what was encoded")
    }
}

//! Raft's words as digests.

use xxhash_rust::xxh3::xxh3_64;

use super::super::trace::{Digest, Fingerprint, Part, of_hash};
use crate::raft::{
    Answer, Entries, Error, Event, Message, Payload, Raft, Record, Request, Role, Term, Timer,
};

impl Fingerprint for Raft {
    fn of_message(message: &Message) -> u64 {
        let mut digest = Digest::default();
        digest.fold(message.term());
        match message {
            Message::Append { previous, commit, matched, beat, entries, .. } => {
                digest.fold(previous.index ^ (commit << 20) ^ (matched << 40));
                digest.fold(beat.map_or(0, |beat| beat.round ^ beat.sent.as_nanos()));
                fold_entries(&mut digest, entries);
            }
            Message::Appended { matched, .. } => digest.fold(matched ^ 1 << 60),
            Message::Heard { beat, .. } => digest.fold(beat.round ^ 2 << 60),
            Message::RequestPreVote { last, .. } => digest.fold(last.index ^ 3 << 60),
            Message::RequestVote { last, .. } => digest.fold(last.index ^ 4 << 60),
            Message::PreVote { granted, .. } => digest.fold(u64::from(*granted) ^ 5 << 60),
            Message::Vote { granted, .. } => digest.fold(u64::from(*granted) ^ 6 << 60),
            Message::Rejected { previous, hint, .. } => digest.fold(previous ^ (hint.index << 30) ^ 7 << 60),
            Message::Install { offset, .. } => digest.fold(offset ^ 8 << 60),
            Message::Installed { offset, .. } => digest.fold(offset ^ 9 << 60),
            Message::TimeoutNow { round, .. } => digest.fold(round ^ 10 << 60),
            Message::RequestRead { token, .. } => digest.fold(token ^ 11 << 60),
            Message::Read { index, .. } => digest.fold(index ^ 12 << 60),
            Message::Stored { last, .. } => digest.fold(last ^ 13 << 60),
            Message::Superseded { snapshot, .. } => digest.fold(snapshot.last.index ^ 14 << 60),
        }
        digest.word()
    }

    fn of_record(record: &Record) -> u64 {
        let mut digest = Digest::default();
        match record {
            Record::Identity { cluster, id } => digest.fold(cluster ^ id.0),
            Record::HardState(hard) => digest.fold(hard.term << 8 ^ hard.vote.map_or(0, |vote| vote.0)),
            Record::Append(entries) => fold_entries(&mut digest, entries),
            Record::Checkpoint(checkpoint) => {
                digest.fold(checkpoint.base.index);
                fold_entries(&mut digest, &checkpoint.entries);
            }
        }
        digest.word()
    }

    fn of_timer(timer: Timer) -> u64 {
        timer as u64
    }

    fn of_event(event: &Event) -> u64 {
        let mut digest = Digest::default();
        match event {
            Event::Committed(entries) => fold_entries(&mut digest, entries),
            Event::Role { role, term, leader } => {
                digest.fold(term << 8 ^ (*role as u64) << 4 ^ leader.map_or(0, |leader| leader.0));
            }
            Event::Restore(snapshot) | Event::Install(snapshot) => digest.fold(snapshot.id.last.index),
            Event::Membership(index, membership) => digest.fold(index ^ of_hash(membership)),
            Event::Read { offset, to, .. } => digest.fold(offset ^ to.0 << 40),
            Event::Write { offset, .. } => digest.fold(*offset),
            Event::MakeSnapshot | Event::Discard(_) | Event::Halted(_) => {}
        }
        digest.word()
    }

    fn of_request(request: &Request) -> u64 {
        match request {
            Request::Propose { commands, .. } => xxh3_64(commands.bytes()),
            Request::Read { deadline, .. } => deadline.as_nanos(),
            Request::Snapshotted { last, .. } => *last,
            Request::Chunk { offset, .. } | Request::Written { offset, .. } => *offset,
            Request::Transfer { to } => to.0,
            Request::Bootstrap(_) | Request::Change { .. } | Request::Campaign => {
                super::super::of_debug(request)
            }
        }
    }

    fn of_answer(answer: &Result<Answer, Error>) -> u64 {
        match answer {
            Ok(Answer::Committed(position)) => position.index ^ position.term << 40,
            Ok(Answer::Read(index) | Answer::Changed(index)) => *index,
            Ok(Answer::Done) => 0,
            other => super::super::of_debug(other),
        }
    }

    fn part(event: &Event) -> Option<Part> {
        match event {
            Event::Role { role, term, .. } => Some(part(*role, *term)),
            _ => None,
        }
    }
}

pub(super) const fn part(role: Role, term: Term) -> Part {
    let role = match role {
        Role::Follower => "Follower",
        Role::PreCandidate => "PreCandidate",
        Role::Candidate => "Candidate",
        Role::Leader => "Leader",
    };
    Part { role, term }
}

pub(super) fn fold_entries(digest: &mut Digest, entries: &Entries) {
    for run in entries.runs() {
        digest.fold(run.first ^ run.term << 40);
        digest.fold(match &run.payload {
            Payload::Blank => 0,
            Payload::Membership(membership) => of_hash(membership),
            Payload::Commands(batch) => xxh3_64(batch.bytes()),
        });
    }
}

//! A replica's words as digests.

use xxhash_rust::xxh3::xxh3_64;

use super::super::super::trace::{Digest, Fingerprint, Part, of_debug, of_hash};
use super::super::fingerprint::{fold_entries, part};
use crate::raft::{self, Raft};
use crate::replica::{Answer, Error, Event, LeaseReply, Message, Outcome, Replica, Reply, Request, Timer};

impl Fingerprint for Replica {
    fn of_message(message: &Message) -> u64 {
        let mut digest = Digest::default();
        match message {
            Message::Raft(message) => return Raft::of_message(message),
            Message::Forward { term, life, settled, first, patience, commands } => {
                let patience = patience.as_nanos() as u64;
                for word in [*term, *life, *settled, *first, patience, xxh3_64(commands.bytes())] {
                    digest.fold(word);
                }
            }
            Message::Forwarded(replies) => {
                for (token, reply) in replies {
                    digest.fold(*token);
                    fold_reply(&mut digest, reply);
                }
            }
            Message::AskLeases { term, asks } => {
                digest.fold(*term ^ 1 << 60);
                for (token, (lease, renew)) in asks {
                    digest.fold(token ^ lease << 1 ^ u64::from(*renew));
                }
            }
            Message::Leases(replies) => {
                for (token, reply) in replies {
                    digest.fold(token ^ 2 << 60);
                    fold_lease_reply(&mut digest, *reply);
                }
            }
            Message::Detached(leases) => {
                digest.fold(3 << 60);
                for (lease, attachment) in leases {
                    digest.fold(lease << 32 ^ attachment);
                }
            }
        }
        digest.word()
    }

    fn of_record(record: &raft::Record) -> u64 {
        Raft::of_record(record)
    }

    fn of_timer(timer: Timer) -> u64 {
        match timer {
            Timer::Raft(timer) => Raft::of_timer(timer),
            Timer::Deadline => 1 << 32,
            Timer::Retry => 2 << 32,
            Timer::Lease => 3 << 32,
            Timer::History => 4 << 32,
        }
    }

    fn of_event(event: &Event) -> u64 {
        let mut digest = Digest::default();
        match event {
            Event::Apply { entries, wanted } => {
                digest.fold(u64::from(*wanted));
                fold_entries(&mut digest, entries);
            }
            Event::Query { token, query } => digest.fold(token ^ xxh3_64(query)),
            Event::Forget(token) => digest.fold(token ^ 1 << 60),
            Event::Parked(tickets) => tickets.iter().for_each(|ticket| digest.fold(*ticket)),
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
        let mut digest = Digest::default();
        match request {
            Request::OpenSession { deadline } => digest.fold(deadline.as_nanos()),
            Request::CloseSession { session, deadline } => digest.fold(session << 40 ^ deadline.as_nanos()),
            Request::Command { session, command, deadline } => {
                digest.fold(deadline.as_nanos());
                digest.fold(xxh3_64(command));
                if let Some(stamp) = session {
                    digest.fold(stamp.session << 32 ^ stamp.sequence << 16 ^ stamp.answered_below);
                }
            }
            Request::Query { query, consistency, deadline } => {
                digest.fold(deadline.as_nanos());
                digest.fold(xxh3_64(query) ^ *consistency as u64);
            }
            Request::Applied { through, outcomes } => {
                digest.fold(*through);
                for outcome in outcomes {
                    fold_outcome(&mut digest, outcome);
                }
            }
            Request::Queried { token, result } => digest.fold(token ^ xxh3_64(result)),
            Request::Lease { lease, renew, deadline } => {
                digest.fold(lease << 1 ^ u64::from(*renew));
                digest.fold(deadline.as_nanos());
            }
            Request::Detached { lease, attachment } => digest.fold(lease << 32 ^ attachment),
            Request::Held { token } => digest.fold(token ^ 1 << 60),
            Request::Abandon(asked) => asked.iter().for_each(|id| digest.fold(id.0)),
            Request::Woken(woken) => {
                for (ticket, result) in woken {
                    digest.fold(*ticket ^ result.as_ref().map_or(0, |result| xxh3_64(result)));
                }
            }
            Request::Noted { anew, leases, revision } => {
                digest.fold(revision << 1 ^ u64::from(*anew));
                for change in leases {
                    digest.fold(change.lease);
                    digest.fold(change.terms.map_or(0, |terms| terms.attachment << 8 ^ terms.home));
                }
            }
            Request::Snapshotted { last, length } => digest.fold(last << 32 ^ length),
            Request::Chunk { offset, .. } | Request::Written { offset, .. } => digest.fold(*offset),
            Request::Transfer { to } => digest.fold(to.0),
            Request::Bootstrap(_) | Request::Change { .. } | Request::Campaign | Request::Damaged(_) => {
                return of_debug(request);
            }
        }
        digest.word()
    }

    fn of_answer(answer: &Result<Answer, Error>) -> u64 {
        match answer {
            Ok(Answer::Result { index, result }) => index ^ xxh3_64(result),
            Ok(Answer::Queried(result)) => xxh3_64(result),
            Ok(Answer::Done) => 0,
            other => of_debug(other),
        }
    }

    fn part(event: &Event) -> Option<Part> {
        match event {
            Event::Role { role, term, .. } => Some(part(*role, *term)),
            _ => None,
        }
    }
}

fn fold_reply(digest: &mut Digest, reply: &Reply) {
    match reply {
        Reply::Applied(outcome) => fold_outcome(digest, outcome),
        Reply::Refused { term, leader } => digest.fold(term << 8 ^ leader.map_or(0, |leader| leader.0)),
        Reply::Overloaded => digest.fold(1 << 60),
        Reply::Unknown => digest.fold(2 << 60),
    }
}

fn fold_lease_reply(digest: &mut Digest, reply: LeaseReply) {
    digest.fold(match reply {
        LeaseReply::Alive { ttl, left } => ttl.as_nanos() as u64 ^ (left.as_nanos() as u64) << 1,
        LeaseReply::Over => 1 << 60,
        LeaseReply::Refused { term, leader } => term << 8 ^ leader.map_or(0, |leader| leader.0),
    });
}

fn fold_outcome(digest: &mut Digest, outcome: &Outcome) {
    digest.fold(match outcome {
        Outcome::Result { index, result } => index << 1 ^ xxh3_64(result),
        Outcome::Opened(session) => session ^ 1 << 60,
        Outcome::Nothing => 2 << 60,
        Outcome::Closed => 3 << 60,
        Outcome::SessionExpired => 4 << 60,
        Outcome::TooManyResults => 5 << 60,
        Outcome::Answered => 6 << 60,
        Outcome::Malformed => 7 << 60,
        Outcome::Waiting { ticket } => ticket ^ 8 << 60,
    });
}

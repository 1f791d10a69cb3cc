//! Answers to clients, and replies to the members that asked for theirs.

use std::collections::BTreeMap;

use super::renewals::Renewal;
use super::{Answer, Error, LeaseReply, Message, Outcome, Replica, Reply, Token};
use crate::id::{NodeId, RequestId};
use crate::protocol::Outbox;
use crate::raft::Term;
use crate::time::Instant;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client of this member.
    Client(RequestId),
    /// Another member.
    Peer(NodeId, Token),
    /// The leader of that term itself.
    Own(Term),
    /// Nobody any more: the answer was given.
    Gone,
}

/// Somebody who waits for a command's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Waiter {
    pub(super) asker: Asker,
    pub(super) deadline: Instant,
    /// Asking twice is asking once.
    pub(super) repeatable: bool,
    /// An earlier sending may have happened: then no error says otherwise.
    pub(super) uncertain: bool,
    /// How often it was sent again.
    pub(super) tries: u8,
}

impl Waiter {
    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.asker == Asker::Gone
    }
}

/// What is said to who waited.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    Applied(Outcome),
    /// Nothing happened.
    Refused {
        term: Term,
        leader: Option<NodeId>,
    },
    /// Nothing happened.
    Failed(Error),
    Unknown,
}

/// Gives each its one answer, and knows how many are pending.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answers {
    pub(super) pending: usize,
    /// How many of them are the leader's own.
    pub(super) own: usize,
    replies: BTreeMap<NodeId, Vec<(Token, Reply)>>,
    lease_replies: BTreeMap<NodeId, Vec<(Token, LeaseReply)>>,
}

impl Answers {
    /// Answers who waited, once.
    #[inline]
    pub(super) fn settle(&mut self, waiter: &mut Waiter, fate: Fate, out: &mut Outbox<Replica>) {
        match std::mem::replace(&mut waiter.asker, Asker::Gone) {
            Asker::Gone => return,
            Asker::Own(_) => self.own -= 1,
            Asker::Client(id) => {
                let answer = fate.into_answer();
                let answer = if waiter.uncertain { answer.map_err(|_| Error::Unknown) } else { answer };
                out.answer(id, answer);
            }
            Asker::Peer(node, token) => {
                if let Some(reply) = fate.into_reply() {
                    self.reply(node, token, reply);
                }
            }
        }
        self.pending -= 1;
    }

    /// Replies at the end of the batch of inputs.
    #[inline]
    pub(super) fn reply(&mut self, to: NodeId, token: Token, reply: Reply) {
        self.replies.entry(to).or_default().push((token, reply));
    }

    /// Replies at the end of the batch of inputs, how it is with a lease.
    pub(super) fn reply_lease(&mut self, to: NodeId, token: Token, reply: LeaseReply) {
        self.lease_replies.entry(to).or_default().push((token, reply));
    }

    /// Answers who asked about a lease.
    pub(super) fn settle_lease(&mut self, renewal: &Renewal, reply: LeaseReply, out: &mut Outbox<Replica>) {
        self.pending -= 1;
        match (renewal.asker, reply) {
            (Asker::Client(id), LeaseReply::Alive { ttl, left }) => {
                out.answer(id, Ok(Answer::Lease { ttl, left }));
            }
            (Asker::Client(id), LeaseReply::Over) => out.answer(id, Err(Error::LeaseNotFound)),
            (Asker::Client(id), LeaseReply::Refused { term, leader }) => {
                out.answer(id, Err(Error::NotLeader { term, leader }));
            }
            (Asker::Peer(node, token), reply) => self.reply_lease(node, token, reply),
            (Asker::Own(_) | Asker::Gone, _) => {}
        }
    }

    /// All replies leave, in messages of about so many bytes.
    pub(super) fn send_replies(&mut self, bytes_max: usize, out: &mut Outbox<Replica>) {
        while let Some((to, mut replies)) = self.replies.pop_first() {
            while !replies.is_empty() {
                let later = replies.split_off(fitting(&replies, bytes_max));
                out.send(to, Message::Forwarded(std::mem::replace(&mut replies, later)));
            }
        }
        while let Some((to, replies)) = self.lease_replies.pop_first() {
            out.send(to, Message::Leases(replies));
        }
    }
}

/// How many of these go into one message; one always does.
fn fitting(replies: &[(Token, Reply)], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = replies.iter().take_while(|(_, reply)| {
        let before = bytes;
        if let Reply::Applied(Outcome::Result { result, .. }) = reply {
            bytes += result.len();
        }
        before == 0 || bytes <= bytes_max
    });
    fits.count()
}

impl Fate {
    #[inline]
    fn into_answer(self) -> Result<Answer, Error> {
        match self {
            Self::Applied(Outcome::Result { index, result }) => Ok(Answer::Result { index, result }),
            Self::Applied(Outcome::Opened(session)) => Ok(Answer::Session(session)),
            Self::Applied(Outcome::Closed) => Ok(Answer::Done),
            Self::Applied(Outcome::SessionExpired) => Err(Error::SessionExpired),
            Self::Applied(Outcome::TooManyResults) => Err(Error::Overloaded { limit: "results_max" }),
            Self::Applied(Outcome::Malformed) => Err(Error::Malformed),
            // Its answer was given long ago, the session says, and is not kept any more.
            // And what waits is not answered yet.
            Self::Applied(Outcome::Answered | Outcome::Nothing | Outcome::Waiting { .. }) | Self::Unknown => {
                Err(Error::Unknown)
            }
            Self::Refused { term, leader } => Err(Error::NotLeader { term, leader }),
            Self::Failed(error) => Err(error),
        }
    }

    /// Who forwarded has its own deadline, and needs not hear of one.
    fn into_reply(self) -> Option<Reply> {
        match self {
            Self::Applied(outcome) => Some(Reply::Applied(outcome)),
            Self::Refused { term, leader } => Some(Reply::Refused { term, leader }),
            Self::Failed(Error::TimedOut) => None,
            Self::Failed(_) => Some(Reply::Overloaded),
            Self::Unknown => Some(Reply::Unknown),
        }
    }
}

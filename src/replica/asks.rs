//! What clients ask of a member, and what they hear: as values, and as bytes.
//!
//! ```text
//!   client ── [Asked, Asked, …] ──► member        one frame holds as many as are ready
//!          ◄─ [Replied, …] ────────               in whatever order they become ready
//! ```
//!
//! Each has the number that its client gave it on this connection. What a client waits for is a span, not an instant:
//! clocks are not compared. Any member takes any of them, but for changes of the membership and transfers, which only the
//! leader takes, and says who that is.

use bytes::Bytes;
use std::time::Duration;

use super::{Consistency, Request, SessionId, SessionStamp};
use crate::id::NodeId;
use crate::raft::{Index, Role, Term, Weight};
use crate::store::LeaseId;
use crate::time::Instant;
use crate::wire::{Decode, Encode, Malformed, Reader, structures, variants};

/// The kind of a frame that holds [`Asked`]s, one after the other, preceded by their count.
pub const ASKS: u8 = 32;

/// The kind of a frame that holds [`Replied`]s, one after the other, preceded by their count.
pub const REPLIES: u8 = 33;

/// An ask on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The client's number for it, by which the reply is known. Not used again on this connection.
    pub id: u64,
    /// For how long the client waits, counted from when it is taken. [`Duration::MAX`]: for ever.
    pub patience: Duration,
    /// What is asked.
    pub ask: Ask,
}

/// A reply on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Replied {
    /// The number of what was asked.
    pub id: u64,
    /// What came of it.
    pub reply: Reply,
}

/// What came of an ask.
pub type Reply = Result<Answer, Error>;

/// What a client may ask of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Begin a session ([`Request::OpenSession`]).
    OpenSession,
    /// End one ([`Request::CloseSession`]).
    CloseSession(SessionId),
    /// Apply a command of the store ([`Request::Command`]).
    Command {
        /// Whose it is, if it shall be exactly-once.
        stamp: Option<SessionStamp>,
        /// A [`store::Command`](crate::store::Command).
        command: Bytes,
    },
    /// Ask the store ([`Request::Query`]).
    Query {
        /// A [`store::Query`](crate::store::Query).
        query: Bytes,
        /// What it must see.
        consistency: Consistency,
    },
    /// Renew a lease, or ask how much is left of it ([`Request::Lease`]).
    Lease {
        /// Which.
        lease: LeaseId,
        /// Whether it begins to count anew.
        renew: bool,
    },
    /// The holder of this lease speaks through this connection. When the connection ends, the member says so
    /// ([`Request::Detached`]). Answered with [`Answer::Done`], at once.
    Hold {
        /// Which lease.
        lease: LeaseId,
        /// By which attachment.
        attachment: u64,
    },
    /// The holder of this lease is gone, as whoever held it for him says ([`Request::Detached`]).
    Detached {
        /// Which lease.
        lease: LeaseId,
        /// By which attachment.
        attachment: u64,
    },
    /// How the member is, answered at once from what it knows: [`Answer::Status`].
    Status,
    /// Who belongs to the cluster, answered at once from what the member knows: [`Answer::Members`].
    Members,
    /// Change the membership, all of it at once. Leader only. Answered with [`Answer::Changed`].
    Change(Vec<MemberChange>),
    /// Hand leadership to this voter. Leader only. Answered with [`Answer::Transferred`].
    Transfer(NodeId),
}

/// A change of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member that gets the log and does not vote yet. Its id is asked for at its address.
    Add {
        /// Its name.
        name: String,
        /// Where it listens.
        address: String,
    },
    /// A learner becomes a voter, or a voter gets another weight.
    Promote {
        /// Who.
        id: NodeId,
        /// How eager it is to lead.
        weight: Weight,
    },
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A member leaves.
    Remove(NodeId),
}

/// What a member answers when it could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// The session is open.
    Session(SessionId),
    /// The command was applied.
    Result {
        /// Where.
        index: Index,
        /// A [`store::Answer`](crate::store::Answer).
        result: Bytes,
    },
    /// A [`store::Answer`](crate::store::Answer) to a query.
    Queried(Bytes),
    /// The lease lives.
    Lease {
        /// For how long, without being renewed.
        ttl: Duration,
        /// How much of that is left, counted from when it was asked.
        left: Duration,
    },
    /// The change is committed; this entry holds the new membership.
    Changed(Index),
    /// Another leads now.
    Transferred {
        /// Who.
        leader: NodeId,
        /// In which term.
        term: Term,
    },
    /// How the member is.
    Status(MemberStatus),
    /// Who belongs to the cluster.
    Members {
        /// The term.
        term: Term,
        /// Who leads it, when known.
        leader: Option<NodeId>,
        /// All members, by their ids.
        members: Vec<MemberInfo>,
    },
}

/// How a member is, as it knows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The cluster's id.
    pub cluster: u64,
    /// The member's id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Who leads, when known.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: Index,
    /// Up to where it knows that entries are committed.
    pub commit: Index,
    /// Up to where its store has applied them.
    pub applied: Index,
    /// How many requests wait here.
    pub pending: u64,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it listens; empty when it serves its own process alone.
    pub address: String,
    /// Its weight as a voter; `None`: it learns.
    pub vote: Option<Weight>,
}

/// Why a member could not. All but [`Error::Unknown`]: nothing happened and nothing will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Only the leader takes this. Ask `leader`, when known.
    #[error("this member does not lead term {term}")]
    NotLeader {
        /// The term.
        term: Term,
        /// Who leads it, when known.
        leader: Option<NodeId>,
    },
    /// A bound is reached. Ask again later.
    #[error("overloaded: {limit}")]
    Overloaded {
        /// Which bound.
        limit: String,
    },
    /// The command is larger than an entry may be.
    #[error("a command of {bytes} bytes; {limit} may be")]
    TooLarge {
        /// The command's size, with what goes before it.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The client's patience is over, and the ask had not left this member (or was a question).
    #[error("not in time")]
    TimedOut,
    /// The session was closed, has expired, or never was. This asking did nothing; an earlier one of the same command may
    /// have.
    #[error("the session is closed or has expired")]
    SessionExpired,
    /// The lease is over, or never was.
    #[error("the lease is over, or never was")]
    LeaseNotFound,
    /// The member does not understand what it was asked.
    #[error("malformed")]
    Malformed,
    /// It makes no sense here.
    #[error("{0}")]
    Refused(String),
    /// The member does nothing any more.
    #[error("stopped: {0}")]
    Stopped(String),
    /// Who asks could not prove that it belongs here.
    #[error("{0}")]
    Unauthorized(String),
    /// It may have happened, or may yet happen. A stamped command may be asked again.
    #[error("the outcome is unknown")]
    Unknown,
}

impl Ask {
    /// The request that it is to a replica. Those that a replica does not know come back: its driver answers them.
    pub fn into_request(self, deadline: Instant) -> Result<Request, Self> {
        Ok(match self {
            Self::OpenSession => Request::OpenSession { deadline },
            Self::CloseSession(session) => Request::CloseSession { session, deadline },
            Self::Command { stamp, command } => Request::Command { session: stamp, command, deadline },
            Self::Query { query, consistency } => Request::Query { query, consistency, deadline },
            Self::Lease { lease, renew } => Request::Lease { lease, renew, deadline },
            Self::Detached { lease, attachment } => Request::Detached { lease, attachment },
            Self::Transfer(to) => Request::Transfer { to },
            Self::Hold { .. } | Self::Status | Self::Members | Self::Change(_) => return Err(self),
        })
    }

    /// Whether asking twice is asking once.
    pub const fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Command { stamp: None, .. } | Self::Change(_) | Self::Transfer(_))
    }
}

impl From<super::Answer> for Answer {
    fn from(answer: super::Answer) -> Self {
        match answer {
            super::Answer::Done => Self::Done,
            super::Answer::Session(session) => Self::Session(session),
            super::Answer::Result { index, result } => Self::Result { index, result },
            super::Answer::Queried(result) => Self::Queried(result),
            super::Answer::Lease { ttl, left } => Self::Lease { ttl, left },
            super::Answer::Changed(index) => Self::Changed(index),
            super::Answer::Transferred { leader, term } => Self::Transferred { leader, term },
        }
    }
}

impl From<super::Error> for Error {
    fn from(error: super::Error) -> Self {
        match error {
            super::Error::NotLeader { term, leader } => Self::NotLeader { term, leader },
            super::Error::Overloaded { limit } => Self::Overloaded { limit: limit.to_owned() },
            super::Error::TooLarge { bytes, limit } => {
                Self::TooLarge { bytes: bytes as u64, limit: limit as u64 }
            }
            super::Error::TimedOut => Self::TimedOut,
            super::Error::SessionExpired => Self::SessionExpired,
            super::Error::LeaseNotFound => Self::LeaseNotFound,
            super::Error::Malformed => Self::Malformed,
            super::Error::Halted(why) => Self::Stopped(why.to_owned()),
            super::Error::Unknown => Self::Unknown,
            error @ (super::Error::Stale | super::Error::InvalidChange(_) | super::Error::Refused(_)) => {
                Self::Refused(error.to_string())
            }
        }
    }
}

structures! {
    Asked { id: u64, patience: Duration, ask: Ask }
    SessionStamp { session: u64, sequence: u64, answered_below: u64 }
    MemberStatus {
        cluster: u64,
        id: NodeId,
        name: String,
        role: Role,
        term: u64,
        leader: Option<NodeId>,
        last: u64,
        commit: u64,
        applied: u64,
        pending: u64
    }
    MemberInfo { id: NodeId, name: String, address: String, vote: Option<u8> }
}

variants!(Ask {
    1 => OpenSession,
    2 => CloseSession(session),
    3 => Command { stamp, command },
    4 => Query { query, consistency },
    5 => Lease { lease, renew },
    6 => Hold { lease, attachment },
    7 => Detached { lease, attachment },
    8 => Status,
    9 => Members,
    10 => Change(changes),
    11 => Transfer(to),
});

variants!(Consistency {
    1 => Linearizable,
    2 => Lease,
    3 => Stale,
});

variants!(MemberChange {
    1 => Add { name, address },
    2 => Promote { id, weight },
    3 => Demote(id),
    4 => Remove(id),
});

variants!(Answer {
    1 => Done,
    2 => Session(session),
    3 => Result { index, result },
    4 => Queried(result),
    5 => Lease { ttl, left },
    6 => Changed(index),
    7 => Transferred { leader, term },
    8 => Status(status),
    9 => Members { term, leader, members },
});

variants!(Role {
    1 => Follower,
    2 => PreCandidate,
    3 => Candidate,
    4 => Leader,
});

variants!(Error {
    1 => NotLeader { term, leader },
    2 => Overloaded { limit },
    3 => TooLarge { bytes, limit },
    4 => TimedOut,
    5 => SessionExpired,
    6 => LeaseNotFound,
    7 => Malformed,
    8 => Refused(why),
    9 => Stopped(why),
    10 => Unknown,
    11 => Unauthorized(why),
});

impl Encode for Replied {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.id.encode(out);
        self.reply.is_ok().encode(out);
        match &self.reply {
            Ok(answer) => answer.encode(out),
            Err(error) => error.encode(out),
        }
    }
}

impl Decode for Replied {
    const SIZE_MIN: usize = u64::SIZE_MIN + 2;

    #[inline]
    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let id = input.u64()?;
        let reply = if input.bool()? { Ok(Answer::decode(input)?) } else { Err(Error::decode(input)?) };
        Ok(Self { id, reply })
    }
}

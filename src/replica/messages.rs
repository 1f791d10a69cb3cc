//! What members of a replica say, ask, answer and tell.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{NodeId, RequestId};
use crate::raft::{
    self, Batch, Change, Entries, Index, InvalidChange, Membership, Role, Snapshot, SnapshotId, Term,
};
use crate::store::{LeaseChange, LeaseId, Revision};
use crate::time::Instant;

/// A client's session: the index of the entry that opened it, so no two ever share a name (thesis §6.3).
pub type SessionId = Index;

/// A member's number for what it asks of another, or of its application. Each life begins at a place of its own
/// drawing, so that an answer to an earlier life is not taken for one to this.
pub type Token = u64;

/// Makes a command exactly-once, however often it is sent (§6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStamp {
    /// Whose command it is.
    pub session: SessionId,
    /// Which of its commands. A command keeps its number when it is asked again.
    pub sequence: u64,
    /// The client has the answers to all commands before this one: they need not be kept.
    pub answered_below: u64,
}

/// What a query must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// All that was acknowledged before it was asked; the leader asks a quorum whether it still leads (§6.4).
    Linearizable,
    /// The same, but a lease may stand in for the quorum (§6.4.1): right as long as clocks drift no more than the
    /// settings say. Without a valid lease the quorum is asked.
    Lease,
    /// Whatever this member has applied, at once.
    Stale,
}

/// What members say to each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Raft's own.
    Raft(raft::Message),
    /// "Propose these for me: you lead `term`." A leader of that term takes each token once, however often the
    /// message arrives; in any other term it takes none.
    Forward {
        /// The term in which the one asked is believed to lead.
        term: Term,
        /// The first token of the asker's life.
        life: Token,
        /// All tokens before this one are settled: whatever still comes of them is late.
        settled: Token,
        /// The token of the first command; the others count on from it.
        first: Token,
        /// For how long somebody waits for an answer.
        patience: Duration,
        /// The entries.
        commands: Batch,
    },
    /// What became of forwarded commands.
    Forwarded(Vec<(Token, Reply)>),
    /// "Are these leases alive, and renew those: you lead `term`." Asking twice is asking once.
    AskLeases {
        /// The term in which the one asked is believed to lead.
        term: Term,
        /// Under each token: which lease, and whether to renew it.
        asks: Vec<(Token, (LeaseId, bool))>,
    },
    /// How it is with the leases.
    Leases(Vec<(Token, LeaseReply)>),
    /// The holders of these leases were connected here, by this attachment, and went without goodbye.
    Detached(Vec<(LeaseId, u64)>),
}

/// How it is with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseReply {
    /// It lives.
    Alive {
        /// For how long, without being renewed.
        ttl: Duration,
        /// How much of that is left, counted from when the question came.
        left: Duration,
    },
    /// It is over, or never was.
    Over,
    /// The one asked does not lead, or cannot say.
    Refused {
        /// Its term.
        term: Term,
        /// Who leads it, when known.
        leader: Option<NodeId>,
    },
}

/// What became of one forwarded command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It was committed and applied.
    Applied(Outcome),
    /// Nothing happened and nothing will come of it: the one asked does not lead that term, or lost the entry.
    Refused {
        /// Its term.
        term: Term,
        /// Who leads it, when known.
        leader: Option<NodeId>,
    },
    /// Nothing happened: a bound is reached.
    Overloaded,
    /// It may have happened.
    Unknown,
}

/// What applying one entry gave. The same on every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An entry without a command.
    Nothing,
    /// The machine's result.
    Result {
        /// Where the command was applied; for a duplicate, where the first was.
        index: Index,
        /// What the machine said.
        result: Bytes,
    },
    /// A session begins.
    Opened(SessionId),
    /// A session has ended, now or before.
    Closed,
    /// The command names a session that was closed, expired, or never was. It was not applied.
    SessionExpired,
    /// The session, or all of them, hold as many unanswered results as they may. It was not applied.
    TooManyResults,
    /// The session has said that it has this command's answer. It was not applied again.
    Answered,
    /// The entry is none of ours. Nothing was applied.
    Malformed,
    /// The machine's result comes with a later entry ([`Request::Woken`]).
    Waiting {
        /// Where the command was applied; for a duplicate, where the first was.
        ticket: Index,
    },
}

/// The alarms of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Raft's own.
    Raft(raft::Timer),
    /// The earliest deadline of what is pending here.
    Deadline,
    /// Time to ask again for what was refused or got no answer.
    Retry,
    /// A lease may be over.
    Lease,
    /// History has grown old.
    History,
}

/// What the application hears. It takes events in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// At a start: the state is this snapshot's; then ask [`Request::Applied`] through its last entry. (Without
    /// this event, the state is empty.)
    Restore(Arc<Snapshot>),
    /// Apply these in order, then ask [`Request::Applied`].
    Apply {
        /// They follow what was applied before without a gap.
        entries: Entries,
        /// Whether somebody here waits for their outcomes. If not, none need be told.
        wanted: bool,
    },
    /// Answer this query from the state as it is, with [`Request::Queried`].
    Query {
        /// Comes back with the result.
        token: Token,
        /// The question.
        query: Bytes,
    },
    /// Nobody waits for the answer to this query any more, which [`Request::Held`] said would come later.
    Forget(Token),
    /// Somebody here waits for these commands, and may have missed that they need not: say so, with [`Request::Woken`], of
    /// those that do not wait in the state as it is.
    Parked(Vec<Index>),
    /// Role, term or known leader have changed.
    Role {
        /// The role.
        role: Role,
        /// The term.
        term: Term,
        /// Who leads, when known.
        leader: Option<NodeId>,
    },
    /// This membership is effective now (though it may not be committed yet).
    Membership(Index, Arc<Membership>),
    /// The log has grown long: make a snapshot of what is applied, store it, and ask [`Request::Snapshotted`].
    MakeSnapshot,
    /// A follower needs this range: answer with [`Request::Chunk`].
    Read {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// From where.
        offset: u64,
        /// How much.
        length: u64,
        /// For whom.
        to: NodeId,
    },
    /// Keep this part of a snapshot; when it is stored, ask [`Request::Written`].
    Write {
        /// Which snapshot.
        snapshot: Arc<Snapshot>,
        /// Where `data` belongs.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// The snapshot is whole: make it the state, in place of all that was applied; then ask [`Request::Applied`]
    /// through its last entry.
    Install(Arc<Snapshot>),
    /// Nobody needs this snapshot any more.
    Discard(SnapshotId),
    /// This member does nothing any more.
    Halted(&'static str),
}

/// What a member may be asked: by clients, then by its application.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Begin a cluster with these members ([`raft::Request::Bootstrap`]).
    Bootstrap(Membership),
    /// Begin a session. Any member takes this and the next two, and finds the leader.
    OpenSession {
        /// When the asker gives up.
        deadline: Instant,
    },
    /// End a session, and forget its results.
    CloseSession {
        /// Which.
        session: SessionId,
        /// When the asker gives up.
        deadline: Instant,
    },
    /// Apply this command on every member. Without a stamp it is applied at most once; with one, asking again
    /// until an answer comes makes it exactly once.
    Command {
        /// Whose it is.
        session: Option<SessionStamp>,
        /// The machine's command.
        command: Bytes,
        /// When the asker gives up.
        deadline: Instant,
    },
    /// Ask the state a question that changes nothing. Any member takes it.
    Query {
        /// The machine's query.
        query: Bytes,
        /// What it must see.
        consistency: Consistency,
        /// When the asker gives up.
        deadline: Instant,
    },
    /// Renew a lease, or ask how much is left of it. Any member takes it; the leader answers, once it has made sure that
    /// it leads, and its clock alone counts. No entry of the log is needed.
    Lease {
        /// Which.
        lease: LeaseId,
        /// Whether it begins to count anew.
        renew: bool,
        /// When the asker gives up.
        deadline: Instant,
    },
    /// The holder of a lease was connected to this member, and went without goodbye. Unless it is attached anew within
    /// [`Settings::grace`](super::Settings::grace), the lease ends.
    Detached {
        /// Which.
        lease: LeaseId,
        /// By which attachment: what happened to an earlier one does not end a later one.
        attachment: u64,
    },
    /// Nobody waits any longer for the answers to these requests: as if their deadlines had come. What is not pending, or
    /// is a change or a transfer, goes on.
    Abandon(Vec<RequestId>),
    /// Change the membership ([`raft::Request::Change`]). Leader only.
    Change {
        /// All of them at once.
        changes: Vec<Change>,
        /// When the asker gives up.
        deadline: Instant,
    },
    /// Hand leadership to this voter ([`raft::Request::Transfer`]). Leader only.
    Transfer {
        /// Who shall lead.
        to: NodeId,
    },
    /// Campaign now ([`raft::Request::Campaign`]).
    Campaign,
    /// The application has applied all entries through `through`.
    Applied {
        /// The last of them.
        through: Index,
        /// One for each entry, blank ones too, of which the last is `through`'s; or none at all.
        outcomes: Vec<Outcome>,
    },
    /// The answer to [`Event::Query`].
    Queried {
        /// As in the event.
        token: Token,
        /// What the machine said.
        result: Bytes,
    },
    /// The answer to [`Event::Query`] comes later, when something happens.
    Held {
        /// As in the event.
        token: Token,
    },
    /// Commands that waited ([`Outcome::Waiting`]) need not any longer.
    Woken(Vec<(Index, Option<Bytes>)>),
    /// What has changed of the application's leases, before it says that the entries which changed them are applied.
    Noted {
        /// What the replica knew of before does not hold any more.
        anew: bool,
        /// What has changed, in order.
        leases: Vec<LeaseChange>,
        /// How far history has come.
        revision: Revision,
    },
    /// The application has a durable snapshot of all entries through `last`.
    Snapshotted {
        /// The last entry that it covers.
        last: Index,
        /// How many bytes it has.
        length: u64,
    },
    /// A range of a snapshot, as asked for; `None` when it cannot be read.
    Chunk {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Where the range begins.
        offset: u64,
        /// For whom.
        to: NodeId,
        /// The bytes.
        data: Option<Bytes>,
    },
    /// The application has the snapshot up to `offset`, durably.
    Written {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// How many bytes, from the first.
        offset: u64,
    },
    /// The application's state or disk is damaged: this member must neither vote nor lead until it is repaired.
    Damaged(&'static str),
}

/// What a member answers when it could.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was done.
    Done,
    /// The session is open.
    Session(SessionId),
    /// The command was applied.
    Result {
        /// Where.
        index: Index,
        /// What the machine said.
        result: Bytes,
    },
    /// What the machine said to the query.
    Queried(Bytes),
    /// The lease lives.
    Lease {
        /// For how long, without being renewed.
        ttl: Duration,
        /// How much of that is left. Who renewed it counts from when he asked, by his own clock, and allows for drift.
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
}

/// Why a member could not. All but [`Error::Unknown`]: nothing happened and nothing will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Only the leader takes this. Ask `leader`, when known. Commands and queries never hear it: they wait.
    #[error("this member does not lead term {term}")]
    NotLeader {
        /// The term.
        term: Term,
        /// Who leads it, when known.
        leader: Option<NodeId>,
    },
    /// A bound is reached, here or at the leader. Ask again later.
    #[error("overloaded: {limit}")]
    Overloaded {
        /// Which bound.
        limit: &'static str,
    },
    /// The command is larger than an entry may be.
    #[error("a command of {bytes} bytes; an entry may have {limit}")]
    TooLarge {
        /// The command's size, with what goes before it.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The deadline has passed, and the request had not left this member (or was a query).
    #[error("not in time")]
    TimedOut,
    /// The session was closed, has expired, or never was: open another. This asking did nothing; whether an
    /// earlier asking of the same command did cannot be known any more.
    #[error("the session is closed or has expired")]
    SessionExpired,
    /// The lease is over, or never was.
    #[error("the lease is over, or never was")]
    LeaseNotFound,
    /// The members do not understand the command's envelope.
    #[error("malformed")]
    Malformed,
    /// The application named something that is not so.
    #[error("stale")]
    Stale,
    /// The change makes no sense here.
    #[error(transparent)]
    InvalidChange(InvalidChange),
    /// Raft refuses, for a reason of its own.
    #[error(transparent)]
    Refused(raft::Error),
    /// This machine does nothing any more.
    #[error("halted: {0}")]
    Halted(&'static str),
    /// It may have happened, or may yet happen. A stamped command may be asked again.
    #[error("the outcome is unknown")]
    Unknown,
}

impl From<raft::Answer> for Answer {
    fn from(answer: raft::Answer) -> Self {
        match answer {
            // Proposals and reads are the replica's own: nobody outside hears of these two.
            raft::Answer::Done | raft::Answer::Committed(_) | raft::Answer::Read(_) => Self::Done,
            raft::Answer::Changed(index) => Self::Changed(index),
            raft::Answer::Transferred { leader, term } => Self::Transferred { leader, term },
        }
    }
}

impl From<raft::Error> for Error {
    fn from(error: raft::Error) -> Self {
        match error {
            raft::Error::NotLeader { term, leader } => Self::NotLeader { term, leader },
            raft::Error::Overloaded { limit } => Self::Overloaded { limit },
            raft::Error::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            raft::Error::InvalidChange(why) => Self::InvalidChange(why),
            raft::Error::TimedOut => Self::TimedOut,
            raft::Error::Stale => Self::Stale,
            raft::Error::Halted(why) => Self::Halted(why),
            raft::Error::Unknown => Self::Unknown,
            other => Self::Refused(other),
        }
    }
}

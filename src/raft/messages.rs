//! What members of a Raft say, keep, ask, answer and tell.

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

use super::{Batch, Change, Entries, Index, InvalidChange, Membership, Position, Term};
use crate::id::NodeId;
use crate::time::Instant;

/// Counts a leader's questions "do you still follow me?". A read that came before a round began is confirmed when
/// a quorum has answered it (thesis §6.4). Rounds of one term never repeat.
pub type Round = u64;

/// A follower's own number for the reads that it forwards in one message; drawn so that none of an earlier life of
/// the member can be taken for one of this.
pub type ReadToken = u64;

/// A leader's question, carried by an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which question.
    pub round: Round,
    /// The leader's clock when it asked; comes back with the answer. A lease counts from here.
    pub sent: Instant,
}

/// What members say to each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// "Would you vote for me in `term`?" (thesis §9.6). Changes nothing at the one who is asked.
    RequestPreVote {
        /// The term that the candidate would open.
        term: Term,
        /// The end of its log.
        last: Position,
    },
    /// The answer.
    PreVote {
        /// When granted, the term that was asked about; when refused, the term of the one who answers.
        term: Term,
        /// Whether it would.
        granted: bool,
    },
    /// "Vote for me in `term`" (§3.4). A promise: the candidate has written down that it votes for itself.
    RequestVote {
        /// The term that the candidate has opened.
        term: Term,
        /// The end of its log.
        last: Position,
        /// Set when the leader asked it to campaign (§3.10): that leader's term, and the last round of which it
        /// counts no lease any more. Ends stickiness, and leases granted up to then.
        transfer: Option<(Term, Round)>,
    },
    /// The answer. A promise when granted. To oneself: the candidate's own vote is written down.
    Vote {
        /// The term of the one who answers.
        term: Term,
        /// Whether the vote is given.
        granted: bool,
    },
    /// Entries that follow `previous`, or none: then it tells that the leader is there (§3.5).
    Append {
        /// The leader's term.
        term: Term,
        /// The entry before the first.
        previous: Position,
        /// What is committed, as far as the leader knows.
        commit: Index,
        /// Up to where the leader knows that this follower has its log.
        matched: Index,
        /// The entry that made this follower a member. Answers of an earlier membership of the same name go astray.
        joined: Index,
        /// A question that wants an answer at once.
        beat: Option<Beat>,
        /// The entries.
        entries: Entries,
    },
    /// "My disk has your log up to `matched`." A promise.
    Appended {
        /// The leader's term.
        term: Term,
        /// The end of what is stored and equals the leader's log.
        matched: Index,
        /// As in the append.
        joined: Index,
    },
    /// "I have not what you say comes before" (§5.3 of the paper).
    Rejected {
        /// The leader's term.
        term: Term,
        /// The index of the entry before, that is missing or differs.
        previous: Index,
        /// A place where the logs may agree: nothing between it and `previous` can.
        hint: Position,
        /// As in the append.
        joined: Index,
        /// The answer to the question, if there was one.
        beat: Option<Beat>,
    },
    /// "I follow you": the answer to a beat.
    Heard {
        /// The leader's term; or, when it is smaller than that of the one who answers, the latter's.
        term: Term,
        /// The question.
        beat: Beat,
        /// Whether it also promises no vote for the length of a lease.
        lease: bool,
    },
    /// Part of a snapshot, for a follower that needs entries which the log has no more (§5).
    Install {
        /// The leader's term.
        term: Term,
        /// Which snapshot.
        snapshot: Arc<Snapshot>,
        /// Where in it `data` begins.
        offset: u64,
        /// A range of its bytes.
        data: Bytes,
        /// As in an append.
        joined: Index,
    },
    /// "I have the snapshot up to `offset`."
    Installed {
        /// The leader's term.
        term: Term,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// How many of its bytes are there, from the first.
        offset: u64,
        /// As in the append.
        joined: Index,
    },
    /// "Campaign now" (§3.10): you have my whole log.
    TimeoutNow {
        /// The leader's term.
        term: Term,
        /// The last round of which the leader counts no lease any more.
        round: Round,
    },
    /// A follower's reads: "what must I have applied to serve them?" (§6.4)
    RequestRead {
        /// The term in which it follows.
        term: Term,
        /// Its number for them.
        token: ReadToken,
    },
    /// The answer, once a quorum has confirmed that the leader still led when it was asked.
    Read {
        /// The leader's term.
        term: Term,
        /// The follower's number.
        token: ReadToken,
        /// What must be applied.
        index: Index,
    },
    /// To oneself: the own disk has the log up to `last`.
    Stored {
        /// The term in which it was appended.
        term: Term,
        /// The end of what is stored.
        last: Index,
    },
    /// To oneself: all is durable that makes this snapshot superfluous.
    Superseded {
        /// The term in which it became so.
        term: Term,
        /// Which snapshot.
        snapshot: SnapshotId,
    },
}

impl Message {
    /// The term that it speaks of.
    pub const fn term(&self) -> Term {
        match self {
            Self::RequestPreVote { term, .. }
            | Self::PreVote { term, .. }
            | Self::RequestVote { term, .. }
            | Self::Vote { term, .. }
            | Self::Append { term, .. }
            | Self::Appended { term, .. }
            | Self::Rejected { term, .. }
            | Self::Heard { term, .. }
            | Self::Install { term, .. }
            | Self::Installed { term, .. }
            | Self::TimeoutNow { term, .. }
            | Self::RequestRead { term, .. }
            | Self::Read { term, .. }
            | Self::Stored { term, .. }
            | Self::Superseded { term, .. } => *term,
        }
    }
}

/// What the journal keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Whose journal this is: the first record of all.
    Identity {
        /// The cluster.
        cluster: u64,
        /// The member.
        id: NodeId,
    },
    /// Term and vote: one record, so that no crash can fall between them (hashicorp/raft#661).
    HardState(HardState),
    /// Entries, which replace whatever stood at their indexes and after: a truncation is part of the record that
    /// needs it.
    Append(Entries),
    /// Replaces all records before it.
    Checkpoint(Box<Checkpoint>),
}

/// What must survive so that nobody votes twice in a term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got the vote in it.
    pub vote: Option<NodeId>,
}

/// All that a journal must hold, in one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The cluster.
    pub cluster: u64,
    /// The member.
    pub id: NodeId,
    /// Term and vote.
    pub hard: HardState,
    /// The snapshot that holds the state; `None` while everything is still in the log.
    pub snapshot: Option<Snapshot>,
    /// The entry before the first retained one.
    pub base: Position,
    /// The membership at `base`, and the entry that set it (0: none did).
    pub membership: (Index, Arc<Membership>),
    /// The retained end of the log.
    pub entries: Entries,
}

/// A snapshot's name: the last entry that it covers, and who made it (two members' bytes may differ).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The last entry that it covers.
    pub last: Position,
    /// Who made it.
    pub by: NodeId,
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.last, self.by)
    }
}

/// What is known of a snapshot but its bytes, which are the application's.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// The membership at its last entry, and the entry that set it.
    pub membership: (Index, Arc<Membership>),
    /// How many bytes it has.
    pub length: u64,
}

/// The alarms of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// No leader was heard: campaign. At a candidate: ask again.
    Election,
    /// A leader's next beat.
    Heartbeat,
    /// A leader asks itself whether a quorum has answered lately (check-quorum, §6.2).
    Quorum,
    /// A transfer has taken too long.
    Transfer,
    /// The earliest deadline of a pending request.
    Deadline,
}

/// What a member takes part in as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes the leader's entries.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Has opened a term and asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What the application hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// At a start: the state is this snapshot's; entries follow. (Without it, the state is empty.) What other
    /// snapshots an earlier life has left, nobody needs.
    Restore(Arc<Snapshot>),
    /// Apply these in order. They follow each other without a gap.
    Committed(Entries),
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
    /// The snapshot is whole: make it the state, in place of all that was applied.
    Install(Arc<Snapshot>),
    /// Nobody needs this snapshot any more.
    Discard(SnapshotId),
    /// The journal is another member's or makes no sense: this machine does nothing any more.
    Halted(&'static str),
}

/// What a member may be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Begin a cluster with these members. Only with an empty journal; every member that is asked must be told the
    /// same.
    Bootstrap(Membership),
    /// Replicate these commands. Leader only. Answered when the last of them is committed.
    Propose {
        /// The commands, one entry each.
        commands: Batch,
        /// When the asker gives up: the answer is then [`Error::Unknown`].
        deadline: Instant,
    },
    /// Up to which entry must the application have applied, so that a read sees all that was acknowledged before?
    Read {
        /// Whether a lease may answer (cluster-wide opt-in); without a valid one it falls back to a round.
        lease: bool,
        /// When the asker gives up.
        deadline: Instant,
    },
    /// Change the membership. Leader only, one change at a time. Answered when the new membership is committed.
    Change {
        /// All of them at once.
        changes: Vec<Change>,
        /// When the asker gives up: the answer is then [`Error::Unknown`].
        deadline: Instant,
    },
    /// Hand leadership to this voter. Leader only.
    Transfer {
        /// Who shall lead.
        to: NodeId,
    },
    /// Campaign now, as if no leader had been heard for long; pre-vote and stickiness still rule.
    Campaign,
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
    /// The application has the snapshot up to `offset`, durably. May be more than was just written: what an earlier
    /// life had left.
    Written {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// How many bytes, from the first.
        offset: u64,
    },
}

/// What a member answers when it could.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was done.
    Done,
    /// The commands are committed; this is the last one's place. The first is `commands.len() - 1` before it.
    Committed(Position),
    /// A read may be served once this entry is applied.
    Read(Index),
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
        limit: &'static str,
    },
    /// A command is larger than an entry may be, or the batch is empty.
    #[error("a command of {bytes} bytes; an entry may have {limit}")]
    TooLarge {
        /// The command's size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The leader is handing over. Ask again soon.
    #[error("leadership is being handed to {to}")]
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// The target cannot take over: it is no voter, or it leads already.
    #[error("{to} cannot be handed the leadership")]
    NoTarget {
        /// Who was named.
        to: NodeId,
    },
    /// Another change is not yet committed, or the leader has not yet committed an entry of its own term.
    #[error("another change of the membership is under way")]
    ChangeInProgress,
    /// The change makes no sense here.
    #[error(transparent)]
    InvalidChange(InvalidChange),
    /// The learner is too far behind to become a voter.
    #[error("{id} lacks {entries} entries; wait until it has caught up")]
    Behind {
        /// The learner.
        id: NodeId,
        /// How many entries it lacks.
        entries: u64,
    },
    /// The journal is not empty, or the membership makes no sense.
    #[error("this member has a cluster already")]
    Bootstrapped,
    /// Another leader's entry stands where this one's stood.
    #[error("overwritten by a later leader")]
    Overwritten,
    /// The deadline has passed; nothing was done.
    #[error("not in time")]
    TimedOut,
    /// The application named something that is not so (a snapshot beyond the commit index, a chunk nobody asked for).
    #[error("stale")]
    Stale,
    /// This machine does nothing any more.
    #[error("halted: {0}")]
    Halted(&'static str),
    /// It may have happened, or may yet happen.
    #[error("the outcome is unknown")]
    Unknown,
}

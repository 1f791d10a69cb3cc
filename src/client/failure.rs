//! Why a call could not be answered.

use crate::id::NodeId;
use crate::replica::asks::Error;
use crate::store::Refusal;

/// Why. All but [`Failure::Unknown`]: nothing happened and nothing will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No member could be reached, or none led, within the time allowed.
    #[error("no quorum answered in time: {0}")]
    Unavailable(String),
    /// It may have happened, or may yet happen.
    #[error("the outcome is unknown: no answer came in time, and it may have happened")]
    Unknown,
    /// Only the leader takes this, and the member that was asked does not lead.
    #[error("the member that was asked does not lead term {term}")]
    NotLeader {
        /// The term.
        term: u64,
        /// Who leads it, when known.
        leader: Option<NodeId>,
    },
    /// A bound is reached. Ask again later.
    #[error("overloaded: {limit} is reached; ask again later")]
    Overloaded {
        /// Which bound.
        limit: String,
    },
    /// The store refuses.
    #[error(transparent)]
    Refused(Refusal),
    /// A member refuses, for a reason in words.
    #[error("{0}")]
    Rejected(String),
    /// Its time was over, or a member found that its holder was gone.
    #[error("the lease is over")]
    LeaseLost,
    /// This client, or the member that it speaks to, was closed.
    #[error("stopped: {0}")]
    Stopped(String),
    /// The members prove something to each other and to clients that this one could not.
    #[error("{0}")]
    Auth(String),
    /// What came is no answer to what was asked: a bug of ours.
    #[error("{0}")]
    Internal(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotLeader { term, leader } => Self::NotLeader { term, leader },
            Error::Overloaded { limit } => Self::Overloaded { limit },
            Error::TooLarge { bytes, limit } => Self::Refused(Refusal::TooLarge { bytes, limit }),
            Error::TimedOut => {
                Self::Unavailable("nobody led, or the member that was asked was cut off".to_owned())
            }
            Error::LeaseNotFound => Self::LeaseLost,
            Error::Malformed => Self::Rejected("the member does not understand what it was asked".to_owned()),
            Error::Refused(why) => Self::Rejected(why),
            Error::Stopped(why) => Self::Stopped(why),
            Error::Unauthorized(why) => Self::Auth(why),
            // Whoever gets this from a session asks anew; here nothing is left to ask with.
            Error::SessionExpired | Error::Unknown => Self::Unknown,
        }
    }
}

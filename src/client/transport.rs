//! The seam below a client: how asks reach a member.

use std::time::Duration;

use crate::id::NodeId;
use crate::replica::asks::{Ask, Reply};
use crate::store::{Answer, Query};

/// Takes the one reply to an ask, on a thread of the transport's. It must not block.
pub type Responder = Box<dyn FnOnce(Reply) + Send>;

/// A connection to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// To whom.
    pub member: NodeId,
    /// Which of this transport's connections: each is a new one.
    pub number: u64,
}

/// What a client hears of its connections.
pub trait Heard: Send + Sync {
    /// There is a connection; leases must be attached to it.
    fn up(&self, connection: Connection);

    /// It has ended. The transport looks for another one.
    fn down(&self);
}

/// Reaches a member, and goes on to another one when it must.
pub trait Transport: Send + Sync {
    /// Asks. `respond` is called exactly once, at latest a little after `patience`. An ask that may be
    /// [repeated](Ask::is_repeatable) is sent again over the next connection when the one that bore it ends; another one
    /// is [`Error::Unknown`](crate::replica::asks::Error::Unknown) then. An error other than that says that nothing
    /// happened, however often it was sent.
    fn submit(&self, patience: Duration, ask: Ask, respond: Responder);

    /// Answers at once, on the caller's thread, if what is read is certainly as new as all that was acknowledged.
    fn read(&self, _query: &Query) -> Option<Answer> {
        None
    }

    /// The connection that there is now, if there is one.
    fn connection(&self) -> Option<Connection>;

    /// Who hears of connections from now on.
    fn listen(&self, heard: std::sync::Weak<dyn Heard>);

    /// Ends: whatever waits is answered, and whatever is asked afterwards, too. Does not wait.
    fn close(&self);
}

//! Who asks a replicated machine, and what.

use std::time::Duration;

/// Clients of a small key-value machine. Each has one operation under way, and asks any member.
#[derive(Clone, Debug, PartialEq)]
pub struct Clients {
    /// How many. Default 3.
    pub count: u64,
    /// How many operations they begin a second, in all. Default 100.
    pub rate: f64,
    /// What they ask, all alike often. Default: everything.
    pub operations: Vec<ClientOperation>,
    /// How many keys there are. Default 10.
    pub keys: u64,
    /// The deadline of each request: after it, what has left is of unknown outcome. A client waits from a quarter of
    /// it to twice as long, and then asks another member: the same command under the same stamp, or something else.
    /// Default 500 ms.
    pub timeout: Duration,
    /// Up to how many more values are set, of the member that was asked and without waiting, after something was waited for in
    /// vain: a leader that nobody follows then gets a log that is longer than that of those who left it. Default 0.
    pub insistence: u64,
}

/// One kind of what a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientOperation {
    /// Sets a key to a value of its own.
    Put,
    /// Reads a key; sees all that was acknowledged before.
    Get,
    /// The same, by a lease where there is one.
    LeaseGet,
    /// Reads what the member that is asked has applied.
    StaleGet,
    /// Sets a key if it is as the client last saw it.
    CompareAndSwap,
    /// Adds to the end of a key's value.
    Append,
    /// Takes a key's value away. Only under a session.
    Delete,
    /// Opens sessions, and stamps most commands, which makes them exactly-once; closes them again, or leaves them, and
    /// may come back. Members keep eight sessions, so those of who stays away expire.
    Session,
}

impl ClientOperation {
    /// Each kind.
    pub const ALL: [Self; 8] = [
        Self::Put,
        Self::Get,
        Self::LeaseGet,
        Self::StaleGet,
        Self::CompareAndSwap,
        Self::Append,
        Self::Delete,
        Self::Session,
    ];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::LeaseGet => "lease_get",
            Self::StaleGet => "stale_get",
            Self::CompareAndSwap => "compare_and_swap",
            Self::Append => "append",
            Self::Delete => "delete",
            Self::Session => "session",
        }
    }

    /// The kind that is called so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            count: 3,
            rate: 100.0,
            operations: ClientOperation::ALL.to_vec(),
            keys: 10,
            timeout: Duration::from_millis(500),
            insistence: 0,
        }
    }
}

//! What was refused, and how often.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// Counts, as they go on.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// Counts, at a moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Statistics {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// As they are now.
            pub fn read(&self) -> Statistics {
                Statistics { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl Statistics {
            /// Each with its name.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Connections that were taken.
    accepted
    /// Connections to peers that came about.
    connected
    /// Bytes that came.
    bytes_received
    /// Bytes that left.
    bytes_sent
    /// Who could not prove that he belongs here.
    strangers
    /// Who meant another cluster.
    other_clusters
    /// Who speaks no version of ours.
    other_versions
    /// Who came with a name that another member has.
    names_taken
    /// Who did not speak our language at all.
    garbage
    /// Frames that were too large, damaged, or made no sense.
    bad_frames
    /// Who did not show in time who he is, nor went.
    too_slow
    /// Who went before he had shown who he is.
    half_open
    /// Who came while too many were about to show who they are.
    too_many
    /// Connections that were given up because nothing came any more.
    silent
    /// Messages that were dropped because their peer did not take them.
    dropped
}

impl Counters {
    /// One more.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// So many more.
    pub fn add(counter: &AtomicU64, amount: usize) {
        counter.fetch_add(amount as u64, Relaxed);
    }
}

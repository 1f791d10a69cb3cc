//! Commands, queries and answers as bytes. A tag is never given to another variant.

use super::{
    Answer, Command, Compare, Comparison, Done, Entry, Event, EventKind, Expected, Keys, LeaseTerms,
    Operation, Order, Past, Put, PutLease, Query, Range, Refusal, Reply, Sort, Status, Target, Watch,
};
use crate::wire::{structures, variants};
use bytes::Bytes;
use std::time::Duration;

structures! {
    Entry { key: Bytes, value: Bytes, create_revision: u64, mod_revision: u64, version: u64, lease: u64 }
    Range {
        keys: Keys,
        past: Past,
        limit: u64,
        sort: Sort,
        keys_only: bool,
        count_only: bool,
        modified: Option<(u64, u64)>,
        created: Option<(u64, u64)>
    }
    Sort { by: Target, order: Order }
    Put { key: Bytes, value: Option<Bytes>, lease: PutLease, previous: bool }
    Compare { keys: Keys, is: Comparison, expected: Expected }
    Watch { keys: Keys, from: u64, previous: bool, wait: bool }
    Event { kind: EventKind, entry: Entry, previous: Option<Entry> }
    LeaseTerms { ttl: Duration, home: u64, attachment: u64 }
    Status { compacted: u64, keys: u64, leases: u64, bytes: u64, alarm: bool, digest: u64 }
    Answer { revision: u64, reply: Reply }
}

variants!(Keys {
    1 => One(key),
    2 => Between(start, end),
    3 => From(start),
});

variants!(Past {
    1 => Now,
    2 => At(revision),
});

variants!(Target {
    1 => Key,
    2 => Version,
    3 => Created,
    4 => Modified,
    5 => Value,
});

variants!(Order {
    1 => Ascending,
    2 => Descending,
});

variants!(PutLease {
    1 => None,
    2 => With(lease),
    3 => Keep,
});

variants!(Operation {
    1 => Put(put),
    2 => Delete { keys, previous },
    3 => Range(range),
});

variants!(Comparison {
    1 => Equal,
    2 => NotEqual,
    3 => Greater,
    4 => Less,
});

variants!(Expected {
    1 => Value(value),
    2 => Version(version),
    3 => Created(revision),
    4 => Modified(revision),
    5 => Lease(lease),
});

variants!(Command {
    1 => Put(put),
    2 => Delete { keys, previous },
    3 => Transaction { compares, success, failure },
    4 => CompareAndSwap { key, expected, value, lease },
    5 => Grant { lease, ttl, home },
    6 => Revoke { lease },
    7 => Attach { lease, home },
    8 => Compact { revision },
    9 => Acquire { name, lease, value, wait },
    10 => Release { name, lease },
    11 => Disarm,
});

variants!(Query {
    1 => Range(range),
    2 => Holder(name),
    3 => Lease(lease),
    4 => Leases,
    5 => Status,
    6 => Watch(watch),
});

variants!(EventKind {
    1 => Put,
    2 => Delete,
});

variants!(Done {
    1 => Put { previous },
    2 => Deleted { count, previous },
    3 => Range { entries, more, count },
});

variants!(Reply {
    1 => Done(done),
    2 => Transaction { succeeded, results },
    3 => Swapped { swapped, previous },
    4 => Granted { lease, attachment },
    5 => Revoked { count },
    6 => Attached { attachment },
    7 => Compacted { revision },
    8 => Locked { key, token },
    9 => Held { token },
    10 => Released { was_queued },
    11 => Lease { ttl, keys },
    12 => Leases(leases),
    13 => Status(status),
    14 => Events { events, next },
    15 => Disarmed,
    16 => Refused(refusal),
});

variants!(Refusal {
    1 => Malformed,
    2 => Compacted { revision },
    3 => Future { revision },
    4 => Quota { limit },
    5 => TooLarge { bytes, limit },
    6 => TooMany { count, limit },
    7 => DuplicateKey,
    8 => EmptyKey,
    9 => KeyNotFound,
    10 => LeaseNotFound,
    11 => LeaseExists,
    12 => BadTtl,
});

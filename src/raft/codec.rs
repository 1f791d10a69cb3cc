//! Messages and records as bytes.
//!
//! A tag (u8), then the fields in the order of their declaration. What decodes is something that a member could have
//! said: entries are [well formed](Entries::well_formed), batches hold their commands exactly, memberships are
//! sorted and bounded. Whether it makes sense here and now is for the core to judge.

use bytes::Bytes;
use std::sync::Arc;

use super::{
    Batch, Beat, Checkpoint, Entries, HardState, MEMBERS_MAX, Membership, Message, Payload, Position, Record,
    Run, Snapshot, SnapshotId,
};
use crate::id::NodeId;
use crate::time::Instant;
use crate::wire::{Decode, Encode, Malformed, Reader, structures, variants, write_count};

variants!(Message {
    1 => RequestPreVote { term, last },
    2 => PreVote { term, granted },
    3 => RequestVote { term, last, transfer },
    4 => Vote { term, granted },
    5 => Append { term, previous, commit, matched, joined, beat, entries },
    6 => Appended { term, matched, joined },
    7 => Rejected { term, previous, hint, joined, beat },
    8 => Heard { term, beat, lease },
    9 => Install { term, snapshot, offset, data, joined },
    10 => Installed { term, snapshot, offset, joined },
    11 => TimeoutNow { term, round },
    12 => RequestRead { term, token },
    13 => Read { term, token, index },
    14 => Stored { term, last },
    15 => Superseded { term, snapshot },
});

variants!(Record {
    1 => Identity { cluster, id },
    2 => HardState(hard),
    3 => Append(entries),
    4 => Checkpoint(checkpoint),
});

variants!(Payload {
    1 => Blank,
    2 => Membership(membership),
    3 => Commands(batch),
});

structures! {
    Position { term: u64, index: u64 }
    Beat { round: u64, sent: Instant }
    HardState { term: u64, vote: Option<NodeId> }
    SnapshotId { last: Position, by: NodeId }
    Snapshot { id: SnapshotId, membership: (u64, Arc<Membership>), length: u64 }
    Checkpoint {
        cluster: u64,
        id: NodeId,
        hard: HardState,
        snapshot: Option<Snapshot>,
        base: Position,
        membership: (u64, Arc<Membership>),
        entries: Entries
    }
    Run { term: u64, first: u64, payload: Payload }
}

impl Encode for Entries {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        // Runs know their weight, so a long append costs one allocation.
        out.reserve(size_of::<u32>() + self.bytes());
        write_count(self.runs().len(), out);
        for run in self.runs() {
            run.encode(out);
        }
    }
}

impl Decode for Entries {
    const SIZE_MIN: usize = u32::SIZE_MIN;

    #[inline]
    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let count = input.count(Run::SIZE_MIN)?;
        // Mostly one: then nothing is collected.
        let entries = match count {
            1 => Self::one(Run::decode(input)?),
            _ => (0..count).map(|_| Run::decode(input)).collect::<Result<Self, _>>()?,
        };
        if !entries.well_formed() {
            return Err(input.malformed("a log without gaps before this"));
        }
        // Nobody could commit anything under such an entry, ever again.
        let voterless =
            |run: &Arc<Run>| matches!(&run.payload, Payload::Membership(next) if next.voters().is_empty());
        if entries.runs().iter().any(voterless) {
            return Err(input.malformed("entries that leave voters before this"));
        }
        Ok(entries)
    }
}

impl Encode for Batch {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        write_count(self.len(), out);
        self.bytes().encode(out);
    }
}

impl Decode for Batch {
    const SIZE_MIN: usize = u32::SIZE_MIN + Bytes::SIZE_MIN;

    #[inline]
    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let count = input.u32()?;
        let commands = input.range()?;
        let batch = Self::from_bytes(commands, count).filter(|batch| !batch.is_empty());
        batch.ok_or_else(|| input.malformed("as many commands as were counted, and not none, before this"))
    }
}

impl Encode for Membership {
    fn encode(&self, out: &mut Vec<u8>) {
        write_count(self.voters().len(), out);
        for (id, weight) in self.voters() {
            id.encode(out);
            weight.encode(out);
        }
        self.outgoing().encode(out);
        self.learners().encode(out);
    }
}

impl Decode for Membership {
    const SIZE_MIN: usize = 3 * u32::SIZE_MIN;

    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        let voters: Vec<(NodeId, u8)> = Vec::decode(input)?;
        let outgoing: Vec<NodeId> = Vec::decode(input)?;
        let learners: Vec<NodeId> = Vec::decode(input)?;
        if voters.len() + learners.len() > MEMBERS_MAX || outgoing.len() > MEMBERS_MAX {
            return Err(input.malformed("fewer members before this"));
        }
        let sorted = voters.is_sorted_by(|one, other| one.0 < other.0)
            && outgoing.is_sorted_by(|one, other| one < other)
            && learners.is_sorted_by(|one, other| one < other);
        if !sorted {
            return Err(input.malformed("members in order, each once, before this"));
        }
        let votes = |learner: &NodeId| voters.binary_search_by_key(learner, |voter| voter.0).is_ok();
        if learners.iter().any(votes) {
            return Err(input.malformed("learners that do not vote before this"));
        }
        Ok(Self::joint(voters, outgoing, learners))
    }
}

impl Encode for Instant {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_nanos().encode(out);
    }
}

impl Decode for Instant {
    const SIZE_MIN: usize = u64::SIZE_MIN;

    #[inline]
    fn decode(input: &mut Reader) -> Result<Self, Malformed> {
        input.u64().map(Self::from_nanos)
    }
}

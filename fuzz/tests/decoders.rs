//! Every decoder: what it takes is the one way to write that value, and it takes no more memory than it should.

use bolero::TypeGenerator;
use bytes::Bytes;
use coterie::wire::value::Value;
use coterie::{raft, replica, store};
use fuzz::{Edit, all, one_way_to_write_it, spoil};

/// Something to read.
#[derive(Clone, Debug, TypeGenerator)]
enum Input {
    /// Whatever came.
    Raw(#[generator(bolero::produce::<Vec<u8>>().with().len(0usize..300))] Vec<u8>),
    /// One of the examples, spoilt.
    Spoilt(u16, #[generator(bolero::produce::<Vec<Edit>>().with().len(0usize..5))] Vec<Edit>),
}

impl Input {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Raw(bytes) => Bytes::copy_from_slice(bytes),
            Self::Spoilt(which, edits) => {
                let mut bytes = all()[usize::from(*which) % all().len()].to_vec();
                spoil(&mut bytes, edits);
                bytes.into()
            }
        }
    }
}

macro_rules! decoders {
    ($($name:ident: $($type:ty),+;)*) => {$(
        #[test]
        fn $name() {
            bolero::check!().with_type::<Input>().for_each(|input| {
                let bytes = input.bytes();
                $(one_way_to_write_it::<$type>(&bytes);)+
            });
        }
    )*};
}

decoders! {
    what_members_say_to_each_other: raft::Message, replica::Message, Vec<raft::Message>;
    what_a_member_writes_down: raft::Record, raft::Entries, raft::Batch, raft::Membership, raft::Snapshot;
    values_of_python: Value, Vec<(Value, Value)>, Option<Box<Value>>;
    what_clients_and_members_say: replica::asks::Asked, replica::asks::Replied, Vec<replica::asks::Asked>;
    what_a_replica_keeps: replica::Sessions, replica::Operation, replica::OperationResult, replica::Outcome;
    what_a_store_is_asked: store::Command, store::Query, Vec<store::Operation>;
    what_a_store_answers: store::Answer, store::Reply, Vec<store::Event>, store::LeaseTerms;
}

/// Entries have a form of their own: a kind, and the rest belongs to the machine.
#[test]
fn entries_of_a_replica() {
    bolero::check!().with_type::<Input>().for_each(|input| {
        let bytes = input.bytes();
        if let Some(command) = replica::Command::decode(&bytes) {
            let mut written = Vec::new();
            command.encode(&mut written);
            assert_eq!(written, bytes, "{command:?}");
        }
    });
}

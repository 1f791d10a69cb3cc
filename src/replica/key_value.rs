//! A small machine to replicate: values under keys, both bytes. What worlds, tests and first pages use.

use bytes::Bytes;
use std::collections::BTreeMap;

use super::{StateMachine, Token};
use crate::raft::Index;
use crate::store::Response;
use crate::wire::{Decode, Encode, Malformed, VERSION, variants, write_count};

/// Values under keys, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    values: BTreeMap<Bytes, Bytes>,
}

/// What can be done to it. Only [`Operation::Get`] may be asked as a query, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The value under `key`. As a command it takes its place in the log.
    Get {
        /// Where.
        key: Bytes,
    },
    /// Sets a value.
    Put {
        /// Where.
        key: Bytes,
        /// What.
        value: Bytes,
    },
    /// Takes a value away.
    Delete {
        /// Where.
        key: Bytes,
    },
    /// Sets a value if the present one is `expected` (`None`: if there is none).
    CompareAndSwap {
        /// Where.
        key: Bytes,
        /// What must be there.
        expected: Option<Bytes>,
        /// What then.
        value: Bytes,
    },
    /// Adds to the end of a value; without one, to nothing.
    Append {
        /// Where.
        key: Bytes,
        /// What.
        value: Bytes,
    },
}

/// What an operation gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationResult {
    /// Get: the value. Delete and put: the one before.
    Value(Option<Bytes>),
    /// Compare-and-swap: whether it swapped.
    Swapped(bool),
    /// Append: how many bytes the value has now.
    Length(u64),
    /// The bytes were no operation, or no query. Nothing changed.
    Malformed,
}

impl KeyValue {
    /// The value under `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.values.get(key)
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no key has one.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All keys with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.values.iter()
    }

    /// Does it.
    pub fn operate(&mut self, operation: Operation) -> OperationResult {
        match operation {
            Operation::Get { key } => OperationResult::Value(self.get(&key).cloned()),
            Operation::Put { key, value } => OperationResult::Value(self.values.insert(key, value)),
            Operation::Delete { key } => OperationResult::Value(self.values.remove(&key)),
            Operation::CompareAndSwap { key, expected, value } => {
                let swaps = self.get(&key) == expected.as_ref();
                if swaps {
                    self.values.insert(key, value);
                }
                OperationResult::Swapped(swaps)
            }
            Operation::Append { key, value } => {
                let slot = self.values.entry(key).or_default();
                *slot = [&slot[..], &value[..]].concat().into();
                OperationResult::Length(slot.len() as u64)
            }
        }
    }
}

impl StateMachine for KeyValue {
    fn apply(&mut self, _: Index, command: &Bytes) -> Response {
        // Copied: what is kept is a slice of it, and it is a slice of a whole batch.
        let operation = Operation::from_bytes(Bytes::copy_from_slice(command), VERSION);
        let result = operation.map_or(OperationResult::Malformed, |operation| self.operate(operation));
        Response::Now(result.to_bytes())
    }

    fn query(&mut self, _: Token, query: &Bytes) -> Response {
        Response::Now(match Operation::from_bytes(query.clone(), VERSION) {
            Ok(Operation::Get { key }) => OperationResult::Value(self.get(&key).cloned()).to_bytes(),
            _ => OperationResult::Malformed.to_bytes(),
        })
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_count(self.values.len(), &mut out);
        for (key, value) in &self.values {
            key.encode(&mut out);
            value.encode(&mut out);
        }
        out
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let values = Vec::<(Bytes, Bytes)>::from_bytes(Bytes::copy_from_slice(bytes), VERSION)?;
        self.values = values.into_iter().collect();
        Ok(())
    }
}

/// So that who watches a machine built around one can look into it.
impl AsRef<Self> for KeyValue {
    fn as_ref(&self) -> &Self {
        self
    }
}

variants!(Operation {
    1 => Get { key },
    2 => Put { key, value },
    3 => Delete { key },
    4 => CompareAndSwap { key, expected, value },
    5 => Append { key, value },
});

variants!(OperationResult {
    1 => Value(value),
    2 => Swapped(swapped),
    3 => Length(length),
    4 => Malformed,
});

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Bytes {
        Bytes::from_static(b"k")
    }

    fn run(machine: &mut KeyValue, operation: &Operation) -> OperationResult {
        let Response::Now(result) = machine.apply(1, &operation.to_bytes()) else { panic!("it never waits") };
        OperationResult::from_bytes(result, VERSION).expect("a result")
    }

    #[test]
    fn each_operation_does_what_it_says() {
        let mut machine = KeyValue::default();
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let swap = |expected: Option<Bytes>, value| Operation::CompareAndSwap { key: key(), expected, value };
        for (operation, result) in [
            (Operation::Get { key: key() }, OperationResult::Value(None)),
            (swap(Some(text("a")), text("b")), OperationResult::Swapped(false)),
            (swap(None, text("b")), OperationResult::Swapped(true)),
            (Operation::Append { key: key(), value: text("cd") }, OperationResult::Length(3)),
            (Operation::Get { key: key() }, OperationResult::Value(Some(text("bcd")))),
            (Operation::Put { key: key(), value: text("e") }, OperationResult::Value(Some(text("bcd")))),
            (Operation::Delete { key: key() }, OperationResult::Value(Some(text("e")))),
            (Operation::Delete { key: key() }, OperationResult::Value(None)),
        ] {
            assert_eq!(run(&mut machine, &operation), result, "{operation:?}");
        }
        assert!(machine.is_empty());
    }

    #[test]
    fn damaged_bytes_change_nothing() {
        let mut machine = KeyValue::default();
        machine.operate(Operation::Put { key: key(), value: key() });
        let before = machine.clone();
        let good =
            Operation::CompareAndSwap { key: key(), expected: Some(key()), value: Bytes::new() }.to_bytes();
        for cut in 0..good.len() {
            let refused = Response::Now(OperationResult::Malformed.to_bytes());
            assert_eq!(machine.apply(1, &good.slice(..cut)), refused);
        }
        let put = Operation::Put { key: key(), value: Bytes::new() };
        assert_eq!(
            machine.query(1, &put.to_bytes()),
            Response::Now(OperationResult::Malformed.to_bytes()),
            "no query changes anything"
        );
        let snapshot = machine.snapshot();
        for cut in 0..snapshot.len() {
            assert!(machine.restore(&snapshot[..cut]).is_err());
        }
        assert_eq!(machine, before);
        machine.restore(&snapshot).expect("its own snapshot");
        assert_eq!(machine, before);
    }
}

//! What the targets share: sound bytes and how they are spoilt, and how much memory their reading takes.

mod examples;
mod memory;
mod spoilt;

pub use examples::{all, examples};
pub use memory::bounded;
pub use spoilt::{Edit, number, spoil};

use bytes::Bytes;
use coterie::wire::{Decode, Encode, VERSION};
use std::fmt::Debug;

/// Reads bytes as a `T`: they are refused, or they are the one way to write what they say.
pub fn one_way_to_write_it<T: Decode + Encode + Debug>(bytes: &Bytes) {
    let read = bounded(bytes.len(), || T::from_bytes(bytes.clone(), VERSION));
    if let Ok(value) = read {
        assert_eq!(value.to_bytes(), bytes, "{value:?}");
    }
}

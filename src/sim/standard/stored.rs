//! The standard world of a store.

mod plain;

pub use plain::Plain;

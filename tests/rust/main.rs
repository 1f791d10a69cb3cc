//! One binary for all Rust tests: it links once.

mod balance;

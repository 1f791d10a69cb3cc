//! The one binary of Rust tests that look at the crate from outside: one link, one run.

mod architecture;
mod balance;
mod ring;
mod wire;

//! The targets. Under `cargo test` each runs for a moment on drawn input; `make fuzz` runs them for as long as asked, led
//! by what of the code they reach.

mod decoders;
mod frames;
mod journals;
mod members;
mod snapshots;

//! Keys to nodes.

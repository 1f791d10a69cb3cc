//! Keys to nodes.

/// temporary
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// text
    Text(&'a [u8]),
    /// integer
    Integer(i64),
}

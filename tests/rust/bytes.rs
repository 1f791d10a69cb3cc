//! Worlds through bytes.

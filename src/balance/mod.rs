//! Requests to backends.

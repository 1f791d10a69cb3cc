//! `coterie.protocol` over `crate::protocol`: effects as dataclasses.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::words::{Word, class, one_of, seconds_of};
use crate::protocol::{Effect, Link, Outbox, Protocol};

const PROTOCOL: &str = "coterie.protocol";

/// Takes the effects out, as a list of dataclasses.
pub(super) fn show_effects<'py, P>(py: Python<'py>, out: &mut Outbox<P>) -> PyResult<Vec<Bound<'py, PyAny>>>
where
    P: Protocol<Message: Word, Record: Word, Timer: Word, Event: Word, Answer: Word, Error: Word>,
{
    out.drain().map(|effect| show_effect(py, &effect)).collect()
}

fn show_effect<'py, P>(py: Python<'py>, effect: &Effect<P>) -> PyResult<Bound<'py, PyAny>>
where
    P: Protocol<Message: Word, Record: Word, Timer: Word, Event: Word, Answer: Word, Error: Word>,
{
    match effect {
        Effect::Send(to, message) => class!(py, PROTOCOL, "Send")?.call1((to.0, message.show(py)?)),
        Effect::Persist(record) => class!(py, PROTOCOL, "Persist")?.call1((record.show(py)?,)),
        Effect::Checkpoint(record) => class!(py, PROTOCOL, "Checkpoint")?.call1((record.show(py)?,)),
        Effect::Promise(to, message) => class!(py, PROTOCOL, "Promise")?.call1((to.0, message.show(py)?)),
        Effect::Set(timer, at) => class!(py, PROTOCOL, "Set")?.call1((timer.show(py)?, seconds_of(*at))),
        Effect::Cancel(timer) => class!(py, PROTOCOL, "Cancel")?.call1((timer.show(py)?,)),
        Effect::Answer(id, Ok(answer)) => {
            class!(py, PROTOCOL, "Answer")?.call1((id.0, answer.show(py)?, py.None()))
        }
        Effect::Answer(id, Err(error)) => {
            class!(py, PROTOCOL, "Answer")?.call1((id.0, py.None(), error.show(py)?))
        }
        Effect::Notify(event) => class!(py, PROTOCOL, "Notify")?.call1((event.show(py)?,)),
    }
}

/// What a link is called in Python.
#[derive(Clone, Copy)]
struct Named(Link);

#[expect(clippy::to_string_trait_impl, reason = "the name of a link is its Debug form")]
impl ToString for Named {
    fn to_string(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// A link of that name.
pub(super) fn read_link(value: &Bound<'_, PyAny>) -> PyResult<Link> {
    one_of(value, &[Named(Link::Up), Named(Link::Down), Named(Link::Refused)], "link").map(|named| named.0)
}

/// The name of a link.
pub(super) fn show_link<'py>(py: Python<'py>, link: Link) -> Bound<'py, PyString> {
    PyString::new(py, &Named(link).to_string())
}

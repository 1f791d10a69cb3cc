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
    let effects = out.drain();
    show_effects_with(
        py,
        effects,
        |message| message.show(py),
        |record| record.show(py),
        |timer| timer.show(py),
        |event| event.show(py),
        |answer| answer.show(py),
        |error| error.show(py),
    )
}

/// The same, where somebody else knows how to show each word.
#[expect(clippy::too_many_arguments, reason = "one for each family of words")]
pub(super) fn show_effects_with<'py, P: Protocol>(
    py: Python<'py>,
    effects: impl IntoIterator<Item = Effect<P>>,
    message: impl Fn(&P::Message) -> Shown<'py>,
    record: impl Fn(&P::Record) -> Shown<'py>,
    timer: impl Fn(&P::Timer) -> Shown<'py>,
    event: impl Fn(&P::Event) -> Shown<'py>,
    answer: impl Fn(&P::Answer) -> Shown<'py>,
    error: impl Fn(&P::Error) -> Shown<'py>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let one = |effect: Effect<P>| match effect {
        Effect::Send(to, said) => class!(py, PROTOCOL, "Send")?.call1((to.0, message(&said)?)),
        Effect::Persist(kept) => class!(py, PROTOCOL, "Persist")?.call1((record(&kept)?,)),
        Effect::Checkpoint(kept) => class!(py, PROTOCOL, "Checkpoint")?.call1((record(&kept)?,)),
        Effect::Promise(to, said) => class!(py, PROTOCOL, "Promise")?.call1((to.0, message(&said)?)),
        Effect::Set(name, at) => class!(py, PROTOCOL, "Set")?.call1((timer(&name)?, seconds_of(at))),
        Effect::Cancel(name) => class!(py, PROTOCOL, "Cancel")?.call1((timer(&name)?,)),
        Effect::Answer(id, Ok(value)) => {
            class!(py, PROTOCOL, "Answer")?.call1((id.0, answer(&value)?, py.None()))
        }
        Effect::Answer(id, Err(why)) => {
            class!(py, PROTOCOL, "Answer")?.call1((id.0, py.None(), error(&why)?))
        }
        Effect::Notify(told) => class!(py, PROTOCOL, "Notify")?.call1((event(&told)?,)),
    };
    effects.into_iter().map(one).collect()
}

type Shown<'py> = PyResult<Bound<'py, PyAny>>;

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
pub(super) fn show_link(py: Python<'_>, link: Link) -> Bound<'_, PyString> {
    PyString::new(py, &Named(link).to_string())
}

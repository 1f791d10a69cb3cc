//! A model written in Python: its states are numbered, and it is asked each thing once.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::Raises;
use crate::bindings::errors;
use crate::check::linearizability::{Model, State, Value};

/// A record as the model sees it: the number of the operation's name, the value, and the result if it was heard.
type Told = (u32, Value, Option<Value>);

struct Action {
    operation: Py<PyString>,
    value: Py<PyAny>,
    result: Py<PyAny>,
    is_read: bool,
    /// The action when nobody heard the result.
    unheard: u32,
}

pub(super) struct PythonModel {
    step: Py<PyAny>,
    refused: Py<PyAny>,
    numbers: Py<PyDict>,
    states: Vec<Py<PyAny>>,
    actions: Vec<Action>,
    by_content: BTreeMap<Told, u32>,
    /// What the model said: by state and action, the next state if there is one.
    said: BTreeMap<(State, u32), Option<State>>,
    raised: Option<PyErr>,
    bytes: usize,
}

/// What a state in Python costs, about, which nobody can know.
const STATE_BYTES: usize = 256;

impl PythonModel {
    pub(super) fn new(model: &Bound<'_, PyAny>, refused: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = model.py();
        let mut made = Self {
            step: model.getattr("step")?.unbind(),
            refused: refused.clone().unbind(),
            numbers: PyDict::new(py).unbind(),
            states: Vec::new(),
            actions: Vec::new(),
            by_content: BTreeMap::new(),
            said: BTreeMap::new(),
            raised: None,
            bytes: 0,
        };
        let initial = model.call_method0("initial")?;
        made.number(&initial)?;
        Ok(made)
    }

    /// The number of an action; and of the same without its result, which it may become.
    pub(super) fn action(
        &mut self,
        told: Told,
        operation: &str,
        value: &Bound<'_, PyAny>,
        result: &Bound<'_, PyAny>,
        unheard: &Bound<'_, PyAny>,
        is_read: bool,
    ) -> PyResult<u32> {
        if let Some(&known) = self.by_content.get(&told) {
            return Ok(known);
        }
        let forgotten = match told {
            (name, number, Some(_)) => {
                Some(self.action((name, number, None), operation, value, unheard, unheard, is_read)?)
            }
            _ => None,
        };
        let number = self.actions.len() as u32;
        self.by_content.insert(told, number);
        self.actions.push(Action {
            operation: PyString::new(value.py(), operation).unbind(),
            value: value.clone().unbind(),
            result: result.clone().unbind(),
            is_read,
            unheard: forgotten.unwrap_or(number),
        });
        Ok(number)
    }

    fn number(&mut self, state: &Bound<'_, PyAny>) -> PyResult<State> {
        let numbers = self.numbers.bind(state.py());
        if let Some(known) = numbers.get_item(state)? {
            return known.extract();
        }
        let number = self.states.len() as State;
        numbers.set_item(state, number)?;
        self.states.push(state.clone().unbind());
        self.bytes += STATE_BYTES;
        Ok(number)
    }

    fn ask(&mut self, py: Python<'_>, state: State, action: u32) -> PyResult<Option<State>> {
        let asked = &self.actions[action as usize];
        let arguments = (&self.states[state as usize], &asked.operation, &asked.value, &asked.result);
        let next = self.step.bind(py).call1(arguments)?;
        if next.is(&self.refused) {
            return Ok(None);
        }
        // Who forgets to return anything would otherwise accept everything.
        if next.is_none() && !self.states[0].is_none(py) {
            let name = asked.operation.bind(py);
            return Err(errors::ConfigError::new_err(format!(
                "the model's step() returned None for {name}: it returns the next state, or check.REFUSED"
            )));
        }
        self.number(&next).map(Some)
    }
}

impl Model for PythonModel {
    type Action = u32;

    fn initial(&mut self) -> State {
        0
    }

    fn step(&mut self, state: State, action: u32) -> Option<State> {
        if let Some(&said) = self.said.get(&(state, action)) {
            return said;
        }
        if self.raised.is_some() {
            return None;
        }
        match Python::attach(|py| self.ask(py, state, action)) {
            Ok(said) => {
                self.said.insert((state, action), said);
                self.bytes += 48;
                said
            }
            Err(error) => {
                self.raised = Some(error);
                None
            }
        }
    }

    fn is_pure(&self, action: u32) -> bool {
        self.actions[action as usize].is_read
    }

    fn forget(&self, action: u32) -> Option<u32> {
        let action = &self.actions[action as usize];
        (!action.is_read).then_some(action.unheard)
    }

    fn has_failed(&self) -> bool {
        self.raised.is_some()
    }

    fn memory(&self) -> usize {
        self.bytes
    }
}

impl Raises for PythonModel {
    fn raised(&self, py: Python<'_>) -> Option<PyErr> {
        self.raised.as_ref().map(|error| error.clone_ref(py))
    }
}

//! Faults of `crate::sim` as the dataclasses of `coterie.sim`.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyDictMethods};

use super::words::{Word, class, dataclass, field, span, unexpected};
use crate::id::NodeId;
use crate::sim::{Fault, Kind, Links};
use crate::time::Instant;

impl Word for f64 {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.into_pyobject(py)?.into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.extract()
    }
}

impl Word for i64 {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.into_pyobject(py)?.into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.extract()
    }
}

impl Word for Duration {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        (Instant::ZERO + *self).show(py)
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        span(value.extract()?)
    }
}

/// `from` is a keyword in Python.
struct Endpoints {
    sender: Option<NodeId>,
    receiver: Option<NodeId>,
}

dataclass!(Endpoints, "coterie.sim", "Links", { sender, receiver });

impl Word for Links {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Endpoints { sender: self.from, receiver: self.to }.show(py)
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Endpoints::read(value).map(|ends| Self { from: ends.sender, to: ends.receiver })
    }
}

/// One dataclass for each kind: its fields are the kind's, then `start`, `length` and `key` of the fault.
macro_rules! kinds {
    ($( $name:ident { $($field:ident as $shown:literal),* } ),* $(,)?) => {
        impl Word for Fault {
            fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                let fields = PyDict::new(py);
                let class = match &self.kind {
                    $( Kind::$name { $($field),* } => {
                        $( fields.set_item($shown, $field.show(py)?)?; )*
                        class!(py, "coterie.sim", stringify!($name))?
                    } )*
                };
                fields.set_item("start", self.start.show(py)?)?;
                fields.set_item("length", self.length.show(py)?)?;
                fields.set_item("key", self.key)?;
                class.call((), Some(&fields))
            }

            fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                let py = value.py();
                let (start, length) = (field(value, "start"), field(value, "length"));
                let fault = |kind| -> PyResult<Self> {
                    let start: Instant = start?;
                    Ok(Self { start, length: length?, kind, key: field(value, "key")? })
                };
                $( if value.is_exact_instance(class!(py, "coterie.sim", stringify!($name))?) {
                    return fault(Kind::$name { $($field: field(value, $shown)?),* });
                } )*
                Err(unexpected(value, "a fault of coterie.sim"))
            }
        }
    };
}

kinds! {
    Partition { side as "side" },
    OneWay { from as "senders", to as "receivers" },
    Bridge { left as "left", right as "right" },
    Drop { on as "on", rate as "rate" },
    Duplicate { on as "on", rate as "rate" },
    Reorder { on as "on", rate as "rate", by as "by" },
    Corrupt { on as "on", rate as "rate" },
    SlowLink { on as "on", by as "by" },
    FalseEvidence { about as "about", refused as "refused" },
    Crash { node as "node" },
    Pause { node as "node" },
    Jump { node as "node", by as "by" },
    Drift { node as "node", ppm as "ppm" },
    SlowDisk { node as "node", by as "by" },
    FailSync { node as "node" },
    FullDisk { node as "node" },
    StalledDisk { node as "node" },
    Heal { core as "core" },
    Rot { node as "node" },
}

//! What Rust has to say arrives in Python's `logging`, which is imported when there is something to say: to load it takes
//! longer than to start a worker, and a program that never logs does without.

use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

/// Below this nobody is asked.
const LEVEL_MAX: LevelFilter = LevelFilter::Debug;

static LOGGER: LaterLogger = LaterLogger(OnceLock::new());

struct LaterLogger(OnceLock<pyo3_log::Logger>);

/// A logger that is in place already (another extension's, or our own in a second interpreter) stays.
pub(super) fn install() {
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LEVEL_MAX);
    }
}

impl LaterLogger {
    fn made(&self) -> Option<&pyo3_log::Logger> {
        if self.0.get().is_none() {
            // Loggers are cached, levels are not: `logging` may be configured at any time. Made before it is put into
            // its place: who waited for another to make it could hold the interpreter, for which that one waits.
            let made = Python::attach(|py| pyo3_log::Logger::new(py, pyo3_log::Caching::Loggers).ok())?;
            let _ = self.0.set(made.filter(LEVEL_MAX));
        }
        self.0.get()
    }
}

impl Log for LaterLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.get().map_or(metadata.level() <= LEVEL_MAX, |logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(logger) = self.made() {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

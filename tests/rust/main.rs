//! Tests of the cores, one module for each capability. They need no interpreter.

mod ring;

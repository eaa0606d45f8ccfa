//! Whole nests: native code against the interpreter.

mod harness;
mod lifetime;
mod scalar;
mod vector;

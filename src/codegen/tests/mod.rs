//! Whole nests: native code against the interpreter.

pub(super) mod harness;
mod lifetime;
mod random;
mod scalar;
mod vector;
mod x86;

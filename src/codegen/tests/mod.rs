//! Whole nests: native code against the interpreter.

mod aarch64;
mod computed;
mod cuts;
mod dot;
mod dot_halves;
mod extreme;
mod field;
mod gather;
mod halves;
pub(super) mod harness;
mod lanes;
mod lifetime;
mod lookup;
mod random;
mod saturate;
mod scalar;
mod transpose;
mod types;
mod vector;
mod x86;

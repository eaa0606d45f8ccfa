//! What several integration tests share. Each test uses a part of it.
#![allow(dead_code, reason = "every test is a crate of its own and uses a part")]

pub mod cases;
pub mod compare;
pub mod configurations;
pub mod onnx;

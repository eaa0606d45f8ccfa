//! What the shared files of the tests ask of each other.

#[path = "../../../common/compare.rs"]
pub mod compare;
#[path = "../../../common/onnx.rs"]
pub mod onnx;

//! The bytes of a model file -> imported -> compiled -> run, fused against unfused.

#![no_main]

#[path = "../../hostile/allocator.rs"]
mod allocator;
#[path = "../../hostile/harness.rs"]
mod harness;

use libfuzzer_sys::fuzz_target;
use nestjit::onnx::OnnxModel;

fuzz_target!(|bytes: &[u8]| {
    if let Err(defect) = harness::attempt(OnnxModel::from_bytes(bytes), true) {
        panic!("{defect}");
    }
});

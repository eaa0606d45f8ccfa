//! The bytes of a model file -> imported -> compiled -> run, fused against unfused.

#![no_main]
#![allow(dead_code, reason = "a part of what tests share is used")]

#[path = "../../hostile/allocator.rs"]
mod allocator;
mod common;
#[path = "../../hostile/harness.rs"]
mod harness;
#[path = "../../hostile/mutate.rs"]
mod mutate;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use nestjit::onnx::OnnxModel;
use nestjit::onnx::proto::ModelProto;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Err(defect) = harness::attempt(OnnxModel::from_bytes(bytes), true) {
        panic!("{defect}");
    }
});

// Damage to messages gets further than damage to bytes.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = mutate::Random(u64::from(seed));
    let damaged = match ModelProto::decode(&data[..size]) {
        Ok(model) if random.below(4) > 0 => mutate::messages(&model, &mut random).encode_to_vec(),
        _ => return fuzzer_mutate(data, size, max_size),
    };
    if damaged.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..damaged.len()].copy_from_slice(&damaged);
    damaged.len()
});

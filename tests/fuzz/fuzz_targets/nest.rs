//! The text of nests -> parsed -> verified -> interpreted against compiled.

#![no_main]
#![allow(dead_code, reason = "a part of what tests share is used")]

#[path = "../../hostile/allocator.rs"]
mod allocator;
mod common;
#[path = "../../hostile/harness.rs"]
mod harness;
#[path = "../../hostile/mutate.rs"]
mod mutate;
#[path = "../../damage/nests.rs"]
mod nests;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|text: &str| {
    if let Err(defect) = nests::attempt(text) {
        panic!("{defect}");
    }
});

// Damage to tokens gets further than damage to bytes.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = mutate::Random(u64::from(seed));
    let text = match std::str::from_utf8(&data[..size]) {
        Ok(text) if random.below(8) > 0 => nests::damage(text, &mut random),
        _ => return fuzzer_mutate(data, size, max_size),
    };
    let length = text.len().min(max_size);
    data[..length].copy_from_slice(&text.as_bytes()[..length]);
    length
});

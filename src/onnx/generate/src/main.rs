//! Regenerates `src/onnx/proto.rs` from the ONNX project's `onnx.proto`.
//!
//! `cargo run --manifest-path src/onnx/generate/Cargo.toml -- path/to/onnx.proto src/onnx/proto.rs`
//!
//! The schema is part of the `onnx` Python package (`onnx/onnx.proto`); its licence is Apache-2.0. This is a
//! package of its own, so that whoever builds nestjit needs neither a protobuf compiler nor these crates.

use std::path::Path;

const HEADER: &str = "\
//! The messages of ONNX files, generated from `onnx.proto` of the ONNX project (Apache-2.0) by `src/onnx/generate`:
//! do not edit.
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [schema, target] = arguments.as_slice() else {
        return Err("usage: onnx-proto ONNX.PROTO TARGET.RS".into());
    };
    let folder = Path::new(schema).parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let descriptors = protox::compile([schema], [folder])?;
    let out = std::env::temp_dir().join(format!("onnx-proto-{}", std::process::id()));
    std::fs::create_dir_all(&out)?;
    prost_build::Config::new()
        // Raw data stays a slice of the file's bytes.
        .bytes(["."])
        .disable_comments(["."])
        .out_dir(&out)
        .compile_fds(descriptors)?;
    let code = std::fs::read_to_string(out.join("onnx.rs"))?;
    std::fs::write(target, format!("{HEADER}\n{code}"))?;
    std::fs::remove_dir_all(&out)?;
    Ok(())
}

//! External data: nothing outside the model's folder is read, and nothing beyond a file's end.

use std::fs;
use std::path::Path;

use nestjit::onnx::proto::tensor_proto::{DataLocation, DataType::Float};
use nestjit::onnx::proto::{ModelProto, StringStringEntryProto, TensorProto};
use nestjit::{Error, ErrorKind, Model};
use prost::Message;

use super::common::onnx::*;

/// A model whose weight, two floats, has these entries of external data.
fn external(entries: &[(&str, &str)]) -> ModelProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some((*key).into()),
        value: Some((*value).into()),
    };
    let tensor = TensorProto {
        data_location: Some(DataLocation::External.into()),
        external_data: entries.iter().map(entry).collect(),
        ..empty("w", Float, &[2])
    };
    model(&["2"], vec![node("Add", &["x", "w"], &["y"])], vec![tensor])
}

fn load(folder: &Path, entries: &[(&str, &str)]) -> Result<Model, Error> {
    let path = folder.join("m.onnx");
    fs::write(&path, external(entries).encode_to_vec()).unwrap();
    Model::from_onnx(&path)
}

#[track_caller]
fn assert_refused(folder: &Path, entries: &[(&str, &str)], message: &str) {
    let error = load(folder, entries).unwrap_err();
    assert_eq!(without_file(folder, &error), format!("initializer 'w': {message}"));
}

/// The error after the name of the model's file, which it begins with.
fn without_file(folder: &Path, error: &Error) -> String {
    let file = format!("'{}': ", folder.join("m.onnx").display());
    error.to_string().strip_prefix(&file).unwrap_or_else(|| panic!("no {file} in {error}")).to_owned()
}

/// A folder with a folder `models`, and the same twelve bytes in `secret`, `models/weights` and `models/sub/weights`.
fn folders() -> (tempfile::TempDir, std::path::PathBuf) {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("models");
    fs::create_dir_all(folder.join("sub")).unwrap();
    let data: Vec<u8> = [0.0f32, 1.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    for file in [outside.path().join("secret"), folder.join("weights"), folder.join("sub/weights")] {
        fs::write(file, &data).unwrap();
    }
    (outside, folder)
}

#[test]
fn paths_that_leave_the_folder() {
    let (outside, folder) = folders();
    for location in ["weights", "./weights", "sub/weights", "sub//weights"] {
        assert!(load(&folder, &[("location", location)]).is_ok(), "{location}");
    }
    let refused = |location: &str, why: &str| {
        let name = location.escape_debug().to_string();
        assert_refused(
            &folder,
            &[("location", location)],
            &format!("the external data '{name}' is refused: {why}"),
        );
    };
    let parent = "it leaves the model's folder by '..'";
    for location in ["../secret", "sub/../../secret", "sub/../weights", "..", "../models/weights"] {
        refused(location, parent);
    }
    refused(outside.path().join("secret").to_str().unwrap(), "the path is absolute");
    refused(folder.join("weights").to_str().unwrap(), "the path is absolute");
    refused("..\\secret", "it contains a backslash or a NUL");
    refused("weights\0", "it contains a backslash or a NUL");
    refused("", "the location is empty");
    refused("sub", "it is not a regular file");
    refused(".", "it is not a regular file");
    let error = load(&folder, &[("location", "missing")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("missing"), "{error}");
    let long = "a".repeat(5000);
    assert_eq!(load(&folder, &[("location", &long)]).unwrap_err().kind(), ErrorKind::Io);
}

#[cfg(unix)]
#[test]
fn links_that_leave_the_folder() {
    use std::os::unix::fs::symlink;
    let (outside, folder) = folders();
    symlink(outside.path().join("secret"), folder.join("soft")).unwrap();
    symlink("weights", folder.join("soft_within")).unwrap();
    symlink(outside.path(), folder.join("up")).unwrap();
    symlink("nowhere", folder.join("dangling")).unwrap();
    fs::hard_link(outside.path().join("secret"), folder.join("hard")).unwrap();
    let link = "it is, or is reached by, a symbolic link";
    for location in ["soft", "soft_within", "up/secret", "up/models/weights", "dangling"] {
        let message = format!("the external data '{location}' is refused: {link}");
        assert_refused(&folder, &[("location", location)], &message);
    }
    let message = "the external data 'hard' is refused: it has other names elsewhere (hard links): copy it";
    assert_refused(&folder, &[("location", "hard")], message);
    // Devices and pipes would never end.
    let fifo = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status();
    if fifo.is_ok_and(|status| status.success()) {
        let message = "the external data 'pipe' is refused: it is not a regular file";
        assert_refused(&folder, &[("location", "pipe")], message);
    }
}

#[test]
fn ranges_that_leave_the_file() {
    let (_outside, folder) = folders();
    let at = |offset: &str, length: &str| {
        [("location", "weights"), ("offset", offset), ("length", length)].map(|e| (e.0, e.1.to_owned()))
    };
    let load = |offset: &str, length: &str| {
        let entries = at(offset, length);
        let entries: Vec<(&str, &str)> = entries.iter().map(|(k, v)| (*k, v.as_str())).collect();
        load(&folder, &entries).map(drop).map_err(|e| without_file(&folder, &e))
    };
    assert_eq!(load("4", "8"), Ok(()));
    let outside = |offset: &str| {
        format!(
            "initializer 'w': the external data is 8 bytes at offset {offset} of 'weights', which has 12 bytes"
        )
    };
    for offset in ["5", "12", "13", "18446744073709551615", "18446744073709551608"] {
        assert_eq!(load(offset, "8"), Err(outside(offset)));
    }
    let length =
        |n: &str| format!("initializer 'w': the external data has {n} bytes, but type and shape ask for 8");
    for n in ["0", "7", "9", "18446744073709551615"] {
        assert_eq!(load("0", n), Err(length(n)));
    }
    for text in ["-1", "x", "", "18446744073709551616", "1e3"] {
        let message = |what| {
            format!("initializer 'w': the {what} of the external data is '{text}', which is not a number")
        };
        assert_eq!(load(text, "8"), Err(message("offset")));
        assert_eq!(load("0", text), Err(message("length")));
    }
}

#[test]
fn data_that_cannot_be_external() {
    let (_outside, folder) = folders();
    assert_refused(&folder, &[], "the external data has no location");
    let error = load(&folder, &[("location", "weights"), ("colour", "red")]).unwrap_err();
    let message =
        "node 'y' (Add, opset 17): initializer 'w': the entry 'colour' of external data is not supported";
    assert_eq!((error.kind(), without_file(&folder, &error).as_str()), (ErrorKind::Unsupported, message));
    let bytes = external(&[("location", "weights")]).encode_to_vec();
    let error = Model::from_onnx_bytes(&bytes).unwrap_err();
    let message = "the model has external data, but was not read from a file: its folder is unknown";
    assert!(error.to_string().contains(message), "{error}");
}

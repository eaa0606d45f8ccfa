//! Tensors in `.npy` files.
//!
//! NumPy has no `bf16`: what `ml_dtypes` writes, and what is written and read here, are two bytes of no type (`V2`).
//!
//! Files are untrusted: they are read whole before their header is believed, so that a header can ask for no
//! more than the file holds.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use ndarray::ArrayViewD;
use ndarray_npy::{ViewElement, ViewNpyError, ViewNpyExt, WritableElement, WriteNpyExt};
use nestjit::{DType, Element, Error, ErrorKind, Result, Tensor, files};

/// The descriptors under which elements of a half type are found, the first of which is written.
const F16: &[&str] = &["<f2"];
const BF16: &[&str] = &["<V2", "|V2"];
/// The one of integers of their size, as which they are read and written.
const BITS: &str = "<u2";

/// Reads a file that must hold elements of this type.
pub(crate) fn read(path: &Path, dtype: DType) -> Result<Tensor> {
    let bytes = files::read(path)?;
    // Elements are viewed in place, so the bytes must be aligned as strictly as any of them.
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    let aligned = &mut bytemuck::cast_slice_mut(&mut words)[..bytes.len()];
    aligned.copy_from_slice(&bytes);
    let tensor = match dtype {
        DType::F32 => view::<f32>(aligned),
        DType::F64 => view::<f64>(aligned),
        DType::F16 => view_half(aligned, dtype, F16),
        DType::BF16 => view_half(aligned, dtype, BF16),
        DType::I64 => view::<i64>(aligned),
        DType::I32 => view::<i32>(aligned),
        DType::I8 => view::<i8>(aligned),
        DType::U8 => view::<u8>(aligned),
        DType::I16 => view::<i16>(aligned),
        DType::U16 => view::<u16>(aligned),
        DType::U32 => view::<u32>(aligned),
        DType::U64 => view::<u64>(aligned),
        DType::Bool => view::<bool>(aligned),
    };
    tensor.map_err(|e| match e {
        ViewNpyError::WrongDescriptor(found) => {
            let found = found.to_string();
            let found = type_of(found.trim_matches('\'')).map_or(found.clone(), |t| format!("{t} ({found})"));
            Error::shape(format!("{} holds elements of type {found}, but {dtype} is needed", show(path)))
        }
        other => {
            Error::invalid(format!("{} is not a readable .npy file: {other}", show(path))).caused_by(other)
        }
    })
}

/// The element type that a code of NumPy's stands for.
fn type_of(code: &str) -> Option<DType> {
    Some(match code.trim_start_matches(['<', '>', '=', '|']) {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "i1" => DType::I8,
        "u8" => DType::U64,
        "u4" => DType::U32,
        "u2" => DType::U16,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        _ => return None,
    })
}

/// Whether a tensor that was read has the shape that `what`, a port of a model, has.
///
/// # Errors
/// [`ErrorKind::Shape`] with both shapes, if not.
pub(crate) fn expect_shape(path: &Path, tensor: &Tensor, what: &str, shape: &[usize]) -> Result<()> {
    if tensor.shape() == shape {
        return Ok(());
    }
    let (path, found) = (show(path), tensor.shape());
    Err(Error::shape(format!("{path}: shape {found:?}, but {what} has shape {shape:?}")))
}

/// Writes a file, in C order.
pub(crate) fn write(path: &Path, tensor: &Tensor) -> Result<()> {
    match tensor.dtype() {
        DType::F32 => write_elements::<f32>(path, tensor),
        DType::F64 => write_elements::<f64>(path, tensor),
        DType::F16 => write_half(path, tensor, F16),
        DType::BF16 => write_half(path, tensor, BF16),
        DType::I64 => write_elements::<i64>(path, tensor),
        DType::I32 => write_elements::<i32>(path, tensor),
        DType::I8 => write_elements::<i8>(path, tensor),
        DType::U8 => write_elements::<u8>(path, tensor),
        DType::I16 => write_elements::<i16>(path, tensor),
        DType::U16 => write_elements::<u16>(path, tensor),
        DType::U32 => write_elements::<u32>(path, tensor),
        DType::U64 => write_elements::<u64>(path, tensor),
        DType::Bool => write_elements::<bool>(path, tensor),
    }
}

fn view<T: Element + ViewElement>(bytes: &[u8]) -> std::result::Result<Tensor, ViewNpyError> {
    ArrayViewD::<T>::view_npy(bytes).map(|array| Tensor::from(&array))
}

/// The part of a file where its header says what the elements are.
fn header(bytes: &mut [u8]) -> &mut [u8] {
    let size = match bytes {
        [_, _, _, _, _, _, 1, _, a, b, ..] => 10 + usize::from(u16::from_le_bytes([*a, *b])),
        [_, _, _, _, _, _, _, _, a, b, c, d, ..] => {
            12usize.saturating_add(u32::from_le_bytes([*a, *b, *c, *d]) as usize)
        }
        _ => 0,
    };
    let end = size.min(bytes.len());
    &mut bytes[..end]
}

/// Replaces one descriptor in a header by another of the same length; false if it is not there.
fn replace(header: &mut [u8], from: &str, to: &str) -> bool {
    match header.windows(from.len()).position(|w| w == from.as_bytes()) {
        Some(at) => {
            header[at..at + to.len()].copy_from_slice(to.as_bytes());
            true
        }
        None => false,
    }
}

fn view_half(bytes: &mut [u8], dtype: DType, names: &[&str]) -> std::result::Result<Tensor, ViewNpyError> {
    let is_half = names.iter().any(|name| replace(header(bytes), name, BITS));
    if !is_half {
        // Whatever else it holds is the wrong type: two of the types cannot both be in the file.
        view::<u16>(bytes).err().map_or(Ok(()), Err)?;
        view::<u8>(bytes)?;
    }
    let bits = view::<u16>(bytes)?;
    let elements = bits.values::<u16>().expect("just read as such");
    Ok(Tensor::from_bytes(dtype, bits.shape(), bytemuck::cast_slice(elements)).expect("as many bytes"))
}

fn write_half(path: &Path, tensor: &Tensor, names: &[&str]) -> Result<()> {
    let bits = Tensor::from_bytes(DType::U16, tensor.shape(), tensor.bytes()?)?;
    let mut file = Vec::with_capacity(128 + tensor.len() * 2);
    let written = bits.view::<u16>()?.write_npy(&mut file);
    written
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {}: {e}", show(path))).caused_by(e))?;
    replace(header(&mut file), BITS, names[0]);
    fs::write(path, &file).map_err(|e| io_error(path, "write", e))
}

fn write_elements<T: Element + WritableElement>(path: &Path, tensor: &Tensor) -> Result<()> {
    let file = File::create(path).map_err(|e| io_error(path, "write", e))?;
    let mut file = BufWriter::new(file);
    tensor
        .view::<T>()?
        .write_npy(&mut file)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {}: {e}", show(path))).caused_by(e))?;
    file.flush().map_err(|e| io_error(path, "write", e))
}

/// An error that names the file.
pub(crate) fn io_error(path: &Path, verb: &str, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {verb} {}: {cause}", show(path))).caused_by(cause)
}

/// A path as part of a message: printable, in one line.
pub(crate) fn show(path: &Path) -> String {
    format!("'{}'", path.display().to_string().escape_debug())
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, ShapeBuilder};

    use super::*;

    fn round_trip(tensor: &Tensor) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.npy");
        write(&path, tensor).unwrap();
        assert_eq!(&read(&path, tensor.dtype()).unwrap(), tensor);
    }

    #[test]
    fn every_element_type_comes_back() {
        round_trip(&Tensor::new(&[2, 3], &[1.0f32, -0.0, f32::INFINITY, 4.0, 5.5, 1e-40]).unwrap());
        round_trip(&Tensor::new(&[2], &[1.0f64, 2.0]).unwrap());
        round_trip(&Tensor::new(&[2, 1], &[i64::MIN, 2]).unwrap());
        round_trip(&Tensor::new(&[2], &[i32::MAX, 2]).unwrap());
        round_trip(&Tensor::new(&[2], &[-128i8, 2]).unwrap());
        round_trip(&Tensor::new(&[3], &[255u8, 2, 7]).unwrap());
        round_trip(&Tensor::new(&[3], &[true, false, true]).unwrap());
        round_trip(&Tensor::scalar(3.5f32));
        let halves = [1.0, -0.0, 65504.0, 6e-8, f32::INFINITY, 0.1];
        round_trip(&Tensor::new(&[2, 3], &halves.map(nestjit::f16::from_f32)).unwrap());
        round_trip(&Tensor::new(&[6, 1], &halves.map(nestjit::bf16::from_f32)).unwrap());
        round_trip(&Tensor::zeros(DType::F32, &[0, 4]).unwrap());
    }

    #[test]
    fn halves_are_what_numpy_and_ml_dtypes_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.npy");
        let halves = Tensor::new(&[1], &[nestjit::f16::from_f32(1.5)]).unwrap();
        write(&path, &halves).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"\x93NUMPY") && bytes.ends_with(&[0x00, 0x3e]));
        assert!(bytes.windows(5).any(|w| w == b"'<f2'"), "{}", String::from_utf8_lossy(&bytes));
        // What is another type of the same size is not one of them.
        for (dtype, found) in [(DType::BF16, "<f2"), (DType::F32, "<f2"), (DType::U16, "<f2")] {
            let error = read(&path, dtype).unwrap_err();
            assert!(error.message().contains(found) && error.message().contains(dtype.name()), "{error}");
        }
        write(&path, &Tensor::new(&[1], &[7u16]).unwrap()).unwrap();
        let error = read(&path, DType::F16).unwrap_err();
        assert!(error.message().contains("<u2") && error.message().contains("f16"), "{error}");
        // Versions 2 and 3 have four bytes for the length of the header.
        bytes[6] = 2;
        let length = u16::from_le_bytes([bytes[8], bytes[9]]);
        bytes.splice(8..10, u32::from(length).to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path, DType::F16).unwrap(), halves);
    }

    #[test]
    fn fortran_order_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.npy");
        let array = ArrayD::from_shape_vec(vec![2, 2].f(), vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
        ndarray_npy::write_npy(&path, &array).unwrap();
        assert_eq!(read(&path, DType::F32).unwrap().values::<f32>().unwrap(), [1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn unreadable_files_are_errors_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.npy");
        assert_eq!(read(&path, DType::F32).unwrap_err().kind(), ErrorKind::Io);
        write(&path, &Tensor::new(&[1], &[1i64]).unwrap()).unwrap();
        let wrong = read(&path, DType::F32).unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::Shape);
        assert!(wrong.message().contains("t.npy'") && wrong.message().contains("f32"), "{wrong}");
        // A header that promises more than the file holds.
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|w| w == b"(1,)").expect("the shape is a tuple");
        bytes[at..at + 4].copy_from_slice(b"(9,)");
        for cut in [0, 5, 20, bytes.len() - 1, bytes.len()] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(read(&path, DType::I64).unwrap_err().kind(), ErrorKind::Invalid, "{cut} bytes");
        }
    }
}

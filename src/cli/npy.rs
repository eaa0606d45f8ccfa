//! Tensors in `.npy` files.
//!
//! Files are untrusted: they are read whole before their header is believed, so that a header can ask for no
//! more than the file holds.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use ndarray::ArrayViewD;
use ndarray_npy::{ViewElement, ViewNpyError, ViewNpyExt, WritableElement, WriteNpyExt};
use nestjit::{DType, Element, Error, ErrorKind, Result, Tensor};

/// Reads a file that must hold elements of this type.
pub(crate) fn read(path: &Path, dtype: DType) -> Result<Tensor> {
    let bytes = fs::read(path).map_err(|e| io_error(path, "read", e))?;
    // Elements are viewed in place, so the bytes must be aligned as strictly as any of them.
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    let aligned = &mut bytemuck::cast_slice_mut(&mut words)[..bytes.len()];
    aligned.copy_from_slice(&bytes);
    let tensor = match dtype {
        DType::F32 => view::<f32>(aligned),
        DType::F64 => view::<f64>(aligned),
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
            Error::shape(format!("{} holds elements of type {found}, but {dtype} is needed", show(path)))
        }
        other => {
            Error::invalid(format!("{} is not a readable .npy file: {other}", show(path))).caused_by(other)
        }
    })
}

/// Writes a file, in C order.
pub(crate) fn write(path: &Path, tensor: &Tensor) -> Result<()> {
    match tensor.dtype() {
        DType::F32 => write_elements::<f32>(path, tensor),
        DType::F64 => write_elements::<f64>(path, tensor),
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
        round_trip(&Tensor::zeros(DType::F32, &[0, 4]).unwrap());
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

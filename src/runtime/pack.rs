//! Constants in memory: in the order and with the border that code wants, made once, at compile time.
//!
//! Where an element lies is defined by [`nestjit_ir::layout`].

use std::sync::{Arc, Mutex, PoisonError};

use nestjit_ir::{BufId, Role, layout};

use super::arena::Block;
use super::pool::Pool;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::unit::Unit;

/// The storage of a constant.
#[derive(Debug)]
pub enum Storage {
    /// The tensor itself: it lies in logical order already.
    Shared(Arc<Tensor>),
    /// A copy in another order.
    Packed(Block),
}

impl Storage {
    /// The first byte of the storage. It must not be written.
    pub fn as_ptr(&self) -> *mut u8 {
        match self {
            Storage::Shared(tensor) => tensor.bytes().as_ptr().cast_mut(),
            Storage::Packed(block) => block.as_ptr(),
        }
    }
}

/// Brings the constants among `used` into their physical form, several at a time.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] if a constant has no data, or data of another type or shape.
pub fn pack_all(unit: &Unit, used: &[BufId], pool: Option<&Pool>) -> Result<Vec<(BufId, Storage)>> {
    let is_const = |id: &BufId| unit.program.buf(*id).role == Role::Const;
    let consts: Vec<BufId> = used.iter().copied().filter(is_const).collect();
    let results: Vec<Mutex<Option<Result<Storage>>>> = consts.iter().map(|_| Mutex::default()).collect();
    let work = |i: usize| {
        *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(pack(unit, consts[i]));
    };
    match pool {
        Some(pool) => pool.run(consts.len(), &work),
        None => (0..consts.len()).for_each(work),
    }
    let missing = || Err(Error::internal("a constant was not packed"));
    let storage = results
        .into_iter()
        .map(|r| r.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(missing));
    consts.into_iter().zip(storage).map(|(id, storage)| Ok((id, storage?))).collect()
}

fn pack(unit: &Unit, id: BufId) -> Result<Storage> {
    let buffer = unit.program.buf(id);
    let no_data = || Error::internal(format!("the constant %{} has no data", buffer.name));
    let tensor = unit.consts.get(&id).ok_or_else(no_data)?;
    if tensor.dtype() != buffer.dtype || tensor.shape() != buffer.shape {
        return Err(Error::internal(format!("the data of the constant %{} does not fit", buffer.name)));
    }
    if buffer.layout.is_row_major() && buffer.halo.is_empty() {
        return Ok(Storage::Shared(Arc::clone(tensor)));
    }
    let mut block = Block::zeroed(buffer.storage_bytes())?;
    layout::pack_into(buffer, tensor.bytes(), block.bytes_mut())
        .map_err(|e| Error::internal(e.to_string()))?;
    Ok(Storage::Packed(block))
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{Buffer, DType, Layout, Scalar};

    use super::*;

    fn packed(buffer: Buffer) -> Vec<i32> {
        let values: Vec<i32> = (1..=buffer.len() as i32).collect();
        let tensor = Tensor::new(&buffer.shape, &values).unwrap();
        let mut unit = Unit::default();
        let bytes = buffer.storage_bytes();
        let id = unit.program.add_buffer(buffer);
        unit.consts.insert(id, Arc::new(tensor));
        let pool = Pool::new(2).unwrap();
        let mut all = pack_all(&unit, &[id], Some(&pool)).unwrap();
        let Storage::Packed(mut block) = all.remove(0).1 else { panic!("nothing was packed") };
        assert_eq!(block.size(), bytes);
        bytemuck::cast_slice(block.bytes_mut()).to_vec()
    }

    fn buffer(shape: &[usize], order: &[usize], panel: Option<(usize, usize)>) -> Buffer {
        let mut b = Buffer::new("w", DType::I32, shape, Role::Const);
        b.layout = Layout { order: order.to_vec(), panel };
        b
    }

    #[test]
    fn other_orders_are_copied() {
        assert_eq!(packed(buffer(&[2, 3], &[1, 0], None)), [1, 4, 2, 5, 3, 6]);
        // Two blocks of two columns, the second padded.
        assert_eq!(packed(buffer(&[2, 3], &[0, 1], Some((1, 2)))), [1, 2, 4, 5, 3, 0, 6, 0]);
        assert!(packed(buffer(&[2, 0], &[1, 0], None)).is_empty());
        let mut haloed = buffer(&[1, 2], &[0, 1], None);
        (haloed.halo, haloed.halo_fill) = (vec![(1, 0), (1, 1)], Scalar::I32(-7));
        assert_eq!(packed(haloed), [-7, -7, -7, -7, -7, 1, 2, -7]);
    }

    #[test]
    fn logical_order_is_not_copied_and_wrong_data_is_an_error() {
        let mut unit = Unit::default();
        let id = unit.program.add_buffer(buffer(&[2], &[0], None));
        assert!(pack_all(&unit, &[id], None).is_err());
        let tensor = Arc::new(Tensor::new(&[2], &[1i32, 2]).unwrap());
        unit.consts.insert(id, Arc::clone(&tensor));
        let all = pack_all(&unit, &[id], None).unwrap();
        assert_eq!(all[0].1.as_ptr().cast_const(), tensor.bytes().as_ptr());
        unit.program.buf_mut(id).shape = vec![3];
        assert!(pack_all(&unit, &[id], None).is_err());
    }
}

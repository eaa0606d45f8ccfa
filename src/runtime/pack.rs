//! Constants in memory: in the order and with the border that code wants, made at compile time, unless another program has
//! them already ([`super::shared`]).
//!
//! Where an element lies is defined by [`nestjit_ir::layout`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nestjit_ir::{BufId, Buffer, DType, Role, layout};

use super::pool::Pool;
use super::shared::{Key, Packed};
use crate::error::{Error, Result};
use crate::memory::{ALIGN, Block, Bundle, LARGE, Recycler};
use crate::tensor::Tensor;
use crate::unit::Unit;

/// How much of a constant is packed at once: what is read from a file is still in a cache near the core when it is packed.
const PART_BYTES: usize = 512 << 10;

/// The storage of a constant.
#[derive(Debug)]
pub(super) enum Storage {
    /// The tensor itself: it lies in logical order already.
    Shared(Arc<Tensor>),
    /// A copy in another order, or of what lies elsewhere.
    Packed(Arc<Packed>),
}

impl Storage {
    /// The first byte of the storage. It must not be written.
    ///
    /// # Errors
    /// As [`Tensor::bytes`].
    pub fn as_ptr(&self) -> Result<*mut u8> {
        match self {
            Storage::Shared(tensor) => Ok(tensor.bytes()?.as_ptr().cast_mut()),
            Storage::Packed(packed) => Ok(packed.block().as_ptr()),
        }
    }

    /// The bytes that only programs have: each of those that share them counts its part.
    pub fn own_bytes(&self) -> usize {
        match self {
            Storage::Shared(_) => 0,
            Storage::Packed(packed) => packed.block().size().div_ceil(Arc::strong_count(packed)),
        }
    }
}

/// Brings the constants among `used` into their physical form, several at a time, and takes all constants from the
/// unit: memory of those that are not needed any more serves those that are packed next.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] if a constant has no data, or data of another type or shape;
/// [`crate::ErrorKind::Limit`] if there is not enough memory.
pub(super) fn pack_all(
    unit: &mut Unit,
    used: &[BufId],
    pool: Option<&Pool>,
) -> Result<Vec<(BufId, Storage)>> {
    let mut consts = std::mem::take(&mut unit.consts);
    let mut bundle = Bundle::default();
    let mut tasks = Vec::new();
    for &id in used.iter().filter(|id| unit.program.buf(**id).role == Role::Const) {
        let buffer = unit.program.buf(id);
        tasks.push((id, Mutex::new(task(buffer, consts.remove(&id), &mut bundle)?)));
    }
    // The larger ones first, so that what they leave is large enough for the next.
    tasks.sort_by_key(|(id, _)| std::cmp::Reverse(unit.program.buf(*id).storage_bytes()));
    let memory = Memory::default();
    consts.into_values().for_each(|tensor| memory.recycle(tensor));
    let work = |i: usize| lock(&tasks[i].1).execute(&memory);
    match pool {
        Some(pool) => pool.run(tasks.len(), &|_, task| work(task)),
        None => (0..tasks.len()).for_each(work),
    }
    let done = |task: Mutex<Task<'_>>| match task.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Task::Done(storage) => storage,
        Task::Pack { .. } => Err(Error::internal("a constant was not packed")),
    };
    tasks.into_iter().map(|(id, task)| Ok((id, done(task)?))).collect()
}

/// A constant on its way.
enum Task<'u> {
    /// To be packed, into this memory if it is there already.
    Pack {
        buffer: &'u Buffer,
        tensor: Arc<Tensor>,
        key: Option<Key>,
        block: Option<Block>,
    },
    Done(Result<Storage>),
}

impl Task<'_> {
    fn execute(&mut self, memory: &Memory) {
        let packed = match std::mem::replace(self, Task::Done(Err(Error::internal("packing was given up")))) {
            Task::Pack { buffer, tensor, key, block } => {
                pack(buffer, tensor, block, memory).map(|block| Storage::Packed(Packed::new(key, block)))
            }
            Task::Done(storage) => storage,
        };
        *self = Task::Done(packed);
    }
}

fn task<'u>(buffer: &'u Buffer, tensor: Option<Arc<Tensor>>, bundle: &mut Bundle) -> Result<Task<'u>> {
    let no_data = || Error::internal(format!("the constant %{} has no data", buffer.name));
    let tensor = tensor.ok_or_else(no_data)?;
    if tensor.dtype() != buffer.dtype || tensor.shape() != buffer.shape {
        return Err(Error::internal(format!("the data of the constant %{} does not fit", buffer.name)));
    }
    // What lies elsewhere would keep that, such as an open file, alive. What a caller allocated may not be aligned.
    if is_plain(buffer) && tensor.has_own_memory() && tensor.bytes()?.as_ptr().addr().is_multiple_of(ALIGN) {
        return Ok(Task::Done(Ok(Storage::Shared(tensor))));
    }
    let bytes = buffer.storage_bytes();
    let key = Key::new(buffer, &tensor);
    if let Some(packed) = key.as_ref().and_then(Packed::find) {
        return Ok(Task::Done(Ok(Storage::Packed(packed))));
    }
    let block = if bytes < LARGE { Some(bundle.zeroed(bytes)?) } else { None };
    Ok(Task::Pack { buffer, tensor, key, block })
}

fn pack(buffer: &Buffer, tensor: Arc<Tensor>, block: Option<Block>, memory: &Memory) -> Result<Block> {
    let recycled = || lock(&memory.recycler).take(buffer.storage_bytes());
    let mut block = match block {
        Some(block) => block,
        None => match recycled() {
            Some(mut block) => {
                // Padding is zero.
                if buffer.storage_len() > buffer.len() {
                    block.bytes_mut().fill(0);
                }
                block
            }
            None => Block::zeroed(buffer.storage_bytes())?,
        },
    };
    let to = block.bytes_mut();
    let wrong = |e: layout::SizeError| Error::internal(e.to_string());
    if let Some(computed) = tensor.computed_by() {
        layout::fill_halo(buffer, to).map_err(wrong)?;
        let geometry = layout::Geometry::of(buffer);
        let places: Vec<Vec<usize>> =
            buffer.shape.iter().enumerate().map(|(d, &n)| geometry.places(d, n)).collect();
        computed.write(&places, to)?;
        memory.recycle(tensor);
        return Ok(block);
    }
    let mut along = None;
    let raw = tensor.raw_if(|f| {
        along =
            layout::factor_dimension(buffer, f.run, f.values.len()).filter(|_| buffer.dtype == DType::F32);
        along.is_some()
    })?;
    let factors = along.zip(raw.factors).map(|(along, f)| (along, &*f.values));
    if factors.is_none() && is_plain(buffer) {
        raw.read(to)?;
    } else {
        layout::fill_halo(buffer, to).map_err(wrong)?;
        let size = buffer.dtype.size();
        let mut scratch = lock(&memory.scratch).pop().unwrap_or_default();
        for part in layout::parts(buffer, PART_BYTES / size) {
            let data = raw.part(part.first * size..(part.first + part.len()) * size, &mut scratch)?;
            let packed = match factors {
                Some(factors) => layout::pack_scaled_part_into(buffer, &part, data, factors, to),
                None => layout::pack_part_into(buffer, &part, data, to),
            };
            packed.map_err(wrong)?;
        }
        lock(&memory.scratch).push(scratch);
    }
    memory.recycle(tensor);
    Ok(block)
}

/// Whether elements lie in logical order.
fn is_plain(buffer: &Buffer) -> bool {
    buffer.layout.is_row_major() && buffer.halo.is_empty()
}

/// Memory that serves several constants, one after the other.
#[derive(Default)]
struct Memory {
    recycler: Mutex<Recycler>,
    /// For what is read from files, as many as threads have needed at once.
    scratch: Mutex<Vec<Vec<u8>>>,
}

impl Memory {
    /// Keeps the memory of a tensor that nobody else has.
    fn recycle(&self, tensor: Arc<Tensor>) {
        if let Some(block) = Arc::into_inner(tensor).and_then(Tensor::into_block) {
            lock(&self.recycler).give(block);
        }
    }
}

/// Locks; a panic elsewhere leaves nothing half-done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{Layout, Scalar};

    use super::*;

    fn packed(buffer: Buffer) -> Vec<i32> {
        let values: Vec<i32> = (1..=buffer.len() as i32).collect();
        let tensor = Tensor::new(&buffer.shape, &values).unwrap();
        let mut unit = Unit::default();
        let bytes = buffer.storage_bytes();
        let id = unit.program.add_buffer(buffer);
        unit.consts.insert(id, Arc::new(tensor));
        let pool = Pool::new(2);
        let mut all = pack_all(&mut unit, &[id], Some(&pool)).unwrap();
        let Storage::Packed(packed) = all.remove(0).1 else { panic!("nothing was packed") };
        assert_eq!(packed.block().size(), bytes);
        bytemuck::cast_slice(packed.block().bytes()).to_vec()
    }

    fn buffer(shape: &[usize], order: &[usize], panel: Option<(usize, usize)>) -> Buffer {
        let mut b = Buffer::new("w", DType::I32, shape, Role::Const);
        b.layout = Layout { panel, ..Layout::ordered(order.to_vec()) };
        b
    }

    #[test]
    fn other_orders_are_copied() {
        assert_eq!(packed(buffer(&[2, 3], &[1, 0], None)), [1, 4, 2, 5, 3, 6]);
        // Two blocks of two columns, the second padded.
        assert_eq!(packed(buffer(&[2, 3], &[0, 1], Some((1, 2)))), [1, 2, 4, 5, 3, 0, 6, 0]);
        assert!(packed(buffer(&[2, 0], &[1, 0], None)).is_empty());
        // Groups of two rows in each panel, the last of both padded.
        let mut grouped = buffer(&[3, 3], &[0, 1], Some((1, 2)));
        grouped.layout.interleave = Some((0, 2));
        assert_eq!(packed(grouped), [1, 4, 2, 5, 7, 0, 8, 0, 3, 6, 0, 0, 9, 0, 0, 0]);
        let mut haloed = buffer(&[1, 2], &[0, 1], None);
        (haloed.halo, haloed.halo_fill) = (vec![(1, 0), (1, 1)], Scalar::I32(-7));
        assert_eq!(packed(haloed), [-7, -7, -7, -7, -7, 1, 2, -7]);
    }

    #[test]
    fn logical_order_is_not_copied_and_wrong_data_is_an_error() {
        let mut unit = Unit::default();
        let id = unit.program.add_buffer(buffer(&[2], &[0], None));
        assert!(pack_all(&mut unit, &[id], None).is_err());
        let tensor = Arc::new(Tensor::new(&[2], &[1i32, 2]).unwrap());
        unit.consts.insert(id, Arc::clone(&tensor));
        let all = pack_all(&mut unit, &[id], None).unwrap();
        assert_eq!(all[0].1.as_ptr().unwrap().cast_const(), tensor.bytes().unwrap().as_ptr());
        assert!(unit.consts.is_empty());
        unit.consts.insert(id, tensor);
        unit.program.buf_mut(id).shape = vec![3];
        assert!(pack_all(&mut unit, &[id], None).is_err());
    }
}

//! Elements that are made when somebody looks at them: those that lie somewhere in a file, others times factors, and what is
//! computed of others.
//!
//! Weights are copied into the order that code wants in any case. Whoever does that takes them as they are ([`Raw`]), part
//! by part, so that no copy in between is made, for which fresh memory costs more than the arithmetic.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{process, thread};

use nestjit_ir::layout::scaled;
use nestjit_ir::{DType, bf16, f16, halves};

use super::Tensor;
use super::origin::{FactorBits, Origin};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::Block;

/// Bytes that belong to somebody else, those of a file for one.
pub(crate) trait Foreign: Send + Sync {
    /// How many there are.
    fn size(&self) -> usize;

    /// All of them, if they are in memory.
    fn in_memory(&self) -> Option<&[u8]>;

    /// Copies those from `at` on, which are all there, to `to`.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&self, at: usize, to: &mut [u8]) -> Result<()>;

    /// Where they come from, if others may have the same.
    fn origin(&self) -> Option<Origin> {
        None
    }
}

/// Elements that are computed of others: by whoever wants them, to where they are to lie.
pub(crate) trait Computed: Send + Sync {
    /// The shape of the tensor that they are.
    fn shape(&self) -> &[usize];

    /// Writes every element to the place that its indices add up to: `places` has, for each dimension, what each index
    /// contributes. Places are counted in elements.
    ///
    /// # Errors
    /// If what they are computed of cannot be read, or there is no memory for it.
    fn write(&self, places: &[Vec<usize>], to: &mut [u8]) -> Result<()>;

    /// What they are made of, and how.
    fn origin(&self) -> Origin;
}

/// A factor for each run of so many elements, in row-major order; after the last one it begins again.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    /// Elements that share a factor, at least one.
    pub run: usize,
    /// The factors; at least one.
    pub values: Arc<[f64]>,
}

/// Elements as they are: not aligned, not multiplied yet, and perhaps not read yet.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a> {
    place: Place<'a>,
    /// What the elements, floating-point numbers, are to be multiplied with.
    pub factors: Option<&'a Factors>,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Memory(&'a [u8]),
    Foreign(&'a dyn Foreign),
}

impl<'a> Raw<'a> {
    /// Elements in memory, to be taken as they are.
    pub fn of(bytes: &'a [u8]) -> Raw<'a> {
        Raw { place: Place::Memory(bytes), factors: None }
    }

    /// The number of bytes.
    pub fn size(&self) -> usize {
        match self.place {
            Place::Memory(bytes) => bytes.len(),
            Place::Foreign(foreign) => foreign.size(),
        }
    }

    /// These bytes of the elements, row-major. If they are not in memory, they are read into `scratch`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn part<'s>(&self, range: Range<usize>, scratch: &'s mut Vec<u8>) -> Result<&'s [u8]>
    where
        'a: 's,
    {
        match self.place {
            Place::Memory(bytes) => Ok(&bytes[range]),
            Place::Foreign(foreign) => {
                if let Some(more) = range.len().checked_sub(scratch.len()) {
                    let message = || format!("{} bytes of memory cannot be allocated", range.len());
                    scratch.try_reserve(more).map_err(|_| Error::new(ErrorKind::Limit, message()))?;
                    scratch.resize(range.len(), 0);
                }
                let part = &mut scratch[..range.len()];
                foreign.read(range.start, part)?;
                Ok(part)
            }
        }
    }

    /// Copies all bytes.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(&self, to: &mut [u8]) -> Result<()> {
        match self.place {
            Place::Memory(bytes) => to.copy_from_slice(bytes),
            Place::Foreign(foreign) => foreign.read(0, to)?,
        }
        Ok(())
    }
}

/// Elements that are not made yet.
pub(super) struct Late {
    source: Source,
    factors: Option<Factors>,
    made: OnceLock<Block>,
    /// So that this is done once.
    making: Making,
}

/// A lock over long work that a child of `fork` need not wait for: it knows the process whose thread has it, and takes it
/// from a thread of another process, which the child does not have.
#[derive(Default)]
struct Making {
    /// The process, or 0.
    process: AtomicU32,
}

impl Making {
    fn lock(&self) -> MakingGuard<'_> {
        let own = process::id();
        let mut wait = Duration::from_micros(10);
        loop {
            let owner = self.process.load(Ordering::Relaxed);
            let free = owner != own;
            if free && self.process.compare_exchange(owner, own, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return MakingGuard(self);
            }
            // Files are read behind it: there is time to sleep.
            thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(1));
        }
    }
}

struct MakingGuard<'m>(&'m Making);

impl Drop for MakingGuard<'_> {
    fn drop(&mut self) {
        self.0.process.store(0, Ordering::Release);
    }
}

enum Source {
    Foreign(Arc<dyn Foreign>),
    Tensor(Tensor),
    Computed(Arc<dyn Computed>),
}

impl Late {
    pub fn foreign(bytes: Arc<dyn Foreign>) -> Late {
        Late::of(Source::Foreign(bytes), None)
    }

    /// The elements of a floating-point tensor times these factors.
    pub fn scaled(tensor: Tensor, factors: Factors) -> Late {
        Late::of(Source::Tensor(tensor), Some(factors))
    }

    pub fn computed(by: Arc<dyn Computed>) -> Late {
        Late::of(Source::Computed(by), None)
    }

    fn of(source: Source, factors: Option<Factors>) -> Late {
        Late { source, factors, made: OnceLock::new(), making: Making::default() }
    }

    /// The elements, made if need be.
    ///
    /// # Errors
    /// If they cannot be read, or there is no memory for them.
    pub fn bytes(&self, dtype: DType) -> Result<&[u8]> {
        if let Some(made) = self.made.get() {
            return Ok(made.bytes());
        }
        let _making = self.making.lock();
        if self.made.get().is_none() {
            let block = match &self.source {
                Source::Foreign(_) | Source::Tensor(_) => self.copy(dtype)?,
                Source::Computed(by) => row_major(&**by, dtype)?,
            };
            let _ = self.made.set(block);
        }
        Ok(self.made.get().map_or(&[], Block::bytes))
    }

    /// Whether they need not be read, multiplied or computed.
    pub fn is_in_memory(&self) -> bool {
        let source = || match &self.source {
            Source::Foreign(foreign) => self.factors.is_none() && foreign.in_memory().is_some(),
            Source::Tensor(_) | Source::Computed(_) => false,
        };
        self.made.get().is_some() || source()
    }

    /// Where the elements come from, if others may have the same.
    pub fn origin(&self) -> Option<Origin> {
        let of = match &self.source {
            Source::Foreign(foreign) => foreign.origin()?,
            Source::Tensor(tensor) => tensor.origin(),
            Source::Computed(by) => by.origin(),
        };
        let Some(f) = &self.factors else { return Some(of) };
        Some(Origin::Scaled { of: Box::new(of), run: f.run, factors: FactorBits(Arc::clone(&f.values)) })
    }

    /// Who computes the elements, if nobody has done so yet.
    pub fn computed_by(&self) -> Option<&dyn Computed> {
        match &self.source {
            Source::Computed(by) if self.made.get().is_none() => Some(&**by),
            Source::Computed(_) | Source::Foreign(_) | Source::Tensor(_) => None,
        }
    }

    /// The elements as they are.
    ///
    /// # Errors
    /// As [`Late::bytes`].
    pub fn raw(&self, dtype: DType) -> Result<Raw<'_>> {
        if let Some(made) = self.made.get() {
            return Ok(Raw::of(made.bytes()));
        }
        let factors = self.factors.as_ref();
        match &self.source {
            Source::Foreign(foreign) => {
                let in_memory = foreign.in_memory().map(Place::Memory);
                Ok(Raw { place: in_memory.unwrap_or(Place::Foreign(&**foreign)), factors })
            }
            // What is scaled twice is rounded twice.
            Source::Tensor(tensor) => Ok(Raw { factors, ..tensor.raw_if(|_| false)? }),
            Source::Computed(_) => Ok(Raw::of(self.bytes(dtype)?)),
        }
    }

    /// The memory, if the elements were made.
    pub fn into_block(self) -> Option<Block> {
        self.made.into_inner()
    }

    fn copy(&self, dtype: DType) -> Result<Block> {
        let raw = self.raw(dtype)?;
        let mut block = Block::zeroed(raw.size())?;
        let to = block.bytes_mut();
        raw.read(to)?;
        let Some(factors) = raw.factors else { return Ok(block) };
        match dtype {
            DType::F64 => multiply(factors, to, |v, factor| (f64::from_ne_bytes(v) * factor).to_ne_bytes()),
            DType::F32 => {
                multiply(factors, to, |v, factor| scaled(f32::from_ne_bytes(v), factor).to_ne_bytes())
            }
            DType::F16 => multiply(factors, to, |v, factor| {
                halves::f16_from_f64(f16::from_ne_bytes(v).to_f64() * factor).to_ne_bytes()
            }),
            DType::BF16 => multiply(factors, to, |v, factor| {
                halves::bf16_from_f64(bf16::from_ne_bytes(v).to_f64() * factor).to_ne_bytes()
            }),
            DType::I64
            | DType::I32
            | DType::I16
            | DType::I8
            | DType::U64
            | DType::U32
            | DType::U16
            | DType::U8
            | DType::Bool => unreachable!("only floating-point numbers are scaled"),
        }
        Ok(block)
    }
}

/// Computed elements in logical order.
fn row_major(computed: &dyn Computed, dtype: DType) -> Result<Block> {
    let shape = computed.shape();
    let stride = |d: usize| shape[d + 1..].iter().product::<usize>();
    let places: Vec<Vec<usize>> =
        shape.iter().enumerate().map(|(d, &n)| (0..n).map(|i| i * stride(d)).collect()).collect();
    let mut block = Block::zeroed(shape.iter().product::<usize>() * dtype.size())?;
    computed.write(&places, block.bytes_mut())?;
    Ok(block)
}

/// `element = by(element, factor)` for each element of `N` bytes.
fn multiply<const N: usize>(factors: &Factors, elements: &mut [u8], by: impl Fn([u8; N], f64) -> [u8; N]) {
    let runs = elements.as_chunks_mut::<N>().0.chunks_mut(factors.run);
    for (run, factor) in runs.zip(factors.values.iter().cycle()) {
        run.iter_mut().for_each(|v| *v = by(*v, *factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(tensor: &Tensor) -> Vec<f32> {
        tensor.values().unwrap().to_vec()
    }

    #[test]
    fn factors_are_those_of_their_runs_and_shapes_do_not_matter() {
        let base = Tensor::new(&[2, 2, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        let scaled = base.scaled(Factors { run: 2, values: Arc::new([10.0, 100.0]) });
        let again = scaled.scaled(Factors { run: 4, values: Arc::new([1.0, -1.0]) });
        let reshaped = scaled.reshape(&[8]).unwrap();
        assert_eq!(scaled.raw_if(|_| true).unwrap().factors.map(|f| f.run), Some(2));
        assert_eq!(floats(&again), [10.0, 20.0, 300.0, 400.0, -50.0, -60.0, -700.0, -800.0]);
        assert_eq!(floats(&reshaped), [10.0, 20.0, 300.0, 400.0, 50.0, 60.0, 700.0, 800.0]);
        assert!(scaled.raw_if(|_| true).unwrap().factors.is_none(), "they share what was made");
        let double = Tensor::new(&[2], &[1.5f64, 2.0]).unwrap();
        let double = double.scaled(Factors { run: 1, values: Arc::new([2.0]) });
        assert_eq!(double.values::<f64>().unwrap(), [3.0, 4.0]);
    }

    #[test]
    fn a_lock_of_a_process_that_is_not_this_one_is_free() {
        let making = Making::default();
        making.process.store(process::id().wrapping_add(1), Ordering::Relaxed);
        drop(making.lock());
        let held = making.lock();
        thread::scope(|scope| {
            let other = scope.spawn(|| drop(making.lock()));
            thread::sleep(Duration::from_millis(2));
            assert!(!other.is_finished(), "it waits for this thread");
            drop(held);
        });
    }

    #[test]
    fn products_are_rounded_once() {
        let (a, s) = (1.000_000_1f32, 1.0 / 3.0f64);
        let scaled = Tensor::scalar(a).scaled(Factors { run: 1, values: Arc::new([s]) });
        assert_eq!(floats(&scaled), [(f64::from(a) * s) as f32]);
    }

    #[test]
    fn foreign_bytes_need_no_alignment_and_can_be_changed_in_a_copy() {
        let file: Vec<u8> = [0u8].into_iter().chain([1.0f32, 2.0].map(f32::to_ne_bytes).concat()).collect();
        /// The bytes behind the first, in memory or not.
        struct Part(Vec<u8>, bool);
        impl Foreign for Part {
            fn size(&self) -> usize {
                self.0.len() - 1
            }

            fn in_memory(&self) -> Option<&[u8]> {
                self.1.then_some(&self.0[1..])
            }

            fn read(&self, at: usize, to: &mut [u8]) -> Result<()> {
                to.copy_from_slice(&self.0[1 + at..][..to.len()]);
                Ok(())
            }
        }
        for in_memory in [true, false] {
            let mut tensor =
                Tensor::foreign(DType::F32, &[2], Arc::new(Part(file.clone(), in_memory))).unwrap();
            let mut scratch = Vec::new();
            let raw = tensor.raw_if(|_| true).unwrap();
            assert_eq!(raw.part(4..8, &mut scratch).unwrap(), &file[5..]);
            assert_eq!((raw.size(), scratch.is_empty()), (8, in_memory));
            assert_eq!(floats(&tensor), [1.0, 2.0]);
            let other = tensor.clone();
            tensor.values_mut::<f32>().unwrap()[0] = 7.0;
            assert_eq!((floats(&tensor), floats(&other)), (vec![7.0, 2.0], vec![1.0, 2.0]));
            assert!(Tensor::foreign(DType::F32, &[3], Arc::new(Part(file.clone(), in_memory))).is_err());
        }
    }
}

//! Where a buffer's elements lie: physical addresses from logical indices.
//!
//! All offsets are in elements from the start of the storage, halo, panels and groups included. This module only
//! computes addresses; which layout is good is decided by passes, and nothing here changes what a program
//! means.

use std::fmt;

mod pack;

use smallvec::{SmallVec, smallvec};

use crate::affine::Affine;
use crate::nest::{Buffer, Layout};
use crate::types::{DType, Scalar};
use crate::visit::Extents;

/// The geometry of a buffer's storage: element `i` lies at
/// `sum(stride[d] * (i[d] + before[d]))`, where for a dimension that is cut `stride * x` is replaced by
/// `cut.stride * (x / cut.block) + stride * (x % cut.block)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// For each logical dimension, how far neighbours are apart (within a block, if it is cut).
    pub strides: Dims,
    /// For each logical dimension, how many halo elements come first.
    pub before: Dims,
    /// The dimensions that are cut: the panelled one first, then the interleaved one.
    pub cuts: SmallVec<[Cut; 2]>,
}

/// A number for each dimension.
pub type Dims = SmallVec<[usize; 6]>;

/// A dimension that is cut into blocks: panels or groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The logical dimension.
    pub dim: usize,
    /// How many elements a block holds.
    pub block: usize,
    /// How far neighbouring blocks are apart.
    pub stride: usize,
}

impl Geometry {
    /// The geometry of a buffer that [`crate::verify`] accepts.
    pub fn of(buffer: &Buffer) -> Geometry {
        let rank = buffer.shape.len();
        let Layout { order, panel, interleave } = &buffer.layout;
        let mut strides: Dims = smallvec![1; rank];
        let mut cuts = SmallVec::new();
        let mut step = interleave.map_or(1, |(_, group)| group);
        if let Some((dim, block)) = *panel {
            strides[dim] = step;
            step *= block;
        }
        for &d in order.iter().rev().filter(|&&d| panel.is_none_or(|(p, _)| p != d)) {
            match *interleave {
                Some((dim, group)) if dim == d => {
                    cuts.push(Cut { dim, block: group, stride: step });
                    step *= buffer.padded_extent(d).div_ceil(group);
                }
                _ => {
                    strides[d] = step;
                    step *= buffer.padded_extent(d);
                }
            }
        }
        if let Some((dim, block)) = *panel {
            cuts.insert(0, Cut { dim, block, stride: step });
        }
        let before = (0..rank).map(|d| buffer.halo.get(d).map_or(0, |h| h.0)).collect();
        Geometry { strides, before, cuts }
    }

    /// How a dimension is cut, if it is.
    pub fn cut(&self, dim: usize) -> Option<Cut> {
        self.cuts.iter().copied().find(|c| c.dim == dim)
    }

    /// The offset of a logical index.
    pub fn at(&self, index: &[usize]) -> usize {
        index.iter().enumerate().map(|(d, &i)| self.part(d, i)).sum()
    }

    /// What each of the first `extent` indices of a dimension contributes to the offset.
    pub fn places(&self, dim: usize, extent: usize) -> Vec<usize> {
        (0..extent).map(|i| self.part(dim, i)).collect()
    }

    /// What dimension `d` contributes to the offset.
    fn part(&self, d: usize, i: usize) -> usize {
        let x = i + self.before[d];
        match self.cut(d) {
            Some(cut) => cut.stride * (x / cut.block) + self.strides[d] * (x % cut.block),
            None => self.strides[d] * x,
        }
    }
}

/// The distances between neighbours in each logical dimension; `None` for panelled and interleaved buffers, where
/// they are not constant.
pub fn strides(buffer: &Buffer) -> Option<Dims> {
    let geometry = Geometry::of(buffer);
    geometry.cuts.is_empty().then_some(geometry.strides)
}

/// The offset of an element whose logical index is affine. `None` if the index of a dimension that is cut
/// cannot be split into a block and a place within the block, given the extents of the loops, or if the offset
/// leaves 64 bits.
pub fn offset<'a>(
    buffer: &Buffer,
    index: impl IntoIterator<Item = &'a Affine>,
    extents: &Extents,
) -> Option<Affine> {
    let geometry = Geometry::of(buffer);
    let mut sum = Affine::constant(0);
    for (d, i) in index.into_iter().enumerate() {
        let before = i64::try_from(geometry.before[d]).ok()?;
        let stride = i64::try_from(geometry.strides[d]).ok()?;
        match geometry.cut(d) {
            Some(cut) => {
                let (block, place) = split(&i.plus(before), i64::try_from(cut.block).ok()?, extents)?;
                sum.add_scaled(&block, i64::try_from(cut.stride).ok()?);
                sum.add_scaled(&place, stride);
            }
            None => {
                sum.add_scaled(i, stride);
                sum.add_scaled(&Affine::constant(before), stride);
            }
        }
    }
    (!sum.is_overflow()).then_some(sum)
}

/// `x` as `block * quotient + rest` with `rest` proven to lie in `0..block`.
pub fn split(x: &Affine, block: i64, extents: &Extents) -> Option<(Affine, Affine)> {
    let (mut quotient, mut rest) = (Affine::constant(0), Affine::constant(0));
    for &(v, c) in x.terms() {
        if c % block == 0 {
            quotient.add_term(v, c / block);
        } else {
            rest.add_term(v, c);
        }
    }
    let (lo, hi) = extents.range(&rest)?;
    let blocks = lo.checked_add(x.offset())?.div_euclid(block);
    let place = x.offset().checked_sub(blocks.checked_mul(block)?)?;
    let fits = !x.is_overflow() && hi.checked_add(place)? < block;
    fits.then(|| (quotient.plus(blocks), rest.plus(place)))
}

/// The data given to [`pack`] or [`unpack`] has the wrong size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SizeError {
    /// The buffer's name.
    pub buffer: String,
    /// The bytes needed.
    pub expected: usize,
    /// The bytes given.
    pub found: usize,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{} takes {} bytes, but {} are given", self.buffer, self.expected, self.found)
    }
}

impl std::error::Error for SizeError {}

fn check_size(buffer: &Buffer, expected: usize, found: usize) -> Result<(), SizeError> {
    if expected == found {
        return Ok(());
    }
    Err(SizeError { buffer: buffer.name.clone(), expected, found })
}

/// The storage of a buffer whose elements in logical row-major order are `data`. The halo holds its fill
/// value, and so does what pads the last panel and the last group.
pub fn pack(buffer: &Buffer, data: &[u8]) -> Result<Vec<u8>, SizeError> {
    check_size(buffer, buffer.logical_bytes(), data.len())?;
    let mut storage = vec![0; buffer.storage_bytes()];
    pack_into(buffer, data, &mut storage)?;
    Ok(storage)
}

/// Like [`pack`], into storage that holds zeros.
pub fn pack_into(buffer: &Buffer, data: &[u8], storage: &mut [u8]) -> Result<(), SizeError> {
    fill_halo(buffer, storage)?;
    pack_part_into(buffer, &Part::whole(buffer), data, storage)
}

/// A box of elements of a buffer that follow one another in logical row-major order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The index of the first element.
    pub start: Dims,
    /// How many indices there are in each dimension.
    pub extents: Dims,
    /// How many elements of the buffer come before the first, in logical order.
    pub first: usize,
}

impl Part {
    /// All of a buffer.
    pub fn whole(buffer: &Buffer) -> Part {
        Part { start: smallvec![0; buffer.shape.len()], extents: Dims::from_slice(&buffer.shape), first: 0 }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.extents.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Parts of a buffer, in logical order, that make it up and have at most `most` elements each (at least one); where
/// possible, a whole number of cache lines of neighbours in the outermost dimension that is cut.
pub fn parts(buffer: &Buffer, most: usize) -> impl Iterator<Item = Part> {
    const LINE: usize = 16;
    let shape = Dims::from_slice(&buffer.shape);
    let strides = pack::logical_strides(&shape);
    // The outermost dimension of which several indices may be in one part, and how many.
    let cut = strides.iter().position(|s| *s <= most);
    let rows = cut.map_or(1, |d| (most / strides[d].max(1)).max(1));
    let rows = if rows >= LINE { rows / LINE * LINE } else { rows };
    let len = buffer.len();
    let mut first = 0;
    std::iter::from_fn(move || {
        let mut part = Part { start: smallvec![0; shape.len()], extents: smallvec![1; shape.len()], first };
        match cut {
            _ if first >= len => return None,
            None => {}
            Some(cut) => {
                for d in 0..=cut {
                    part.start[d] = first / strides[d] % shape[d];
                }
                part.extents[cut] = rows.min(shape[cut] - part.start[cut]);
                part.extents[cut + 1..].copy_from_slice(&shape[cut + 1..]);
            }
        }
        first += part.len();
        Some(part)
    })
}

/// Packs a part, whose elements in logical row-major order are `data`, into the storage of a buffer.
pub fn pack_part_into(
    buffer: &Buffer,
    part: &Part,
    data: &[u8],
    storage: &mut [u8],
) -> Result<(), SizeError> {
    check_part(buffer, part, data, storage)?;
    if !part.is_empty() {
        match buffer.dtype {
            DType::I8 | DType::U8 | DType::Bool => pack::copy_bytes::<1>(buffer, part, data, storage),
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => {
                pack::copy_bytes::<2>(buffer, part, data, storage)
            }
            DType::F32 | DType::I32 | DType::U32 => pack::copy_bytes::<4>(buffer, part, data, storage),
            DType::F64 | DType::I64 | DType::U64 => pack::copy_bytes::<8>(buffer, part, data, storage),
        }
    }
    Ok(())
}

/// An element times a factor, rounded once.
pub fn scaled(element: f32, factor: f64) -> f32 {
    (f64::from(element) * factor) as f32
}

/// The dimension along which runs of `run` elements in logical order have one of `count` factors each, in turn.
pub fn factor_dimension(buffer: &Buffer, run: usize, count: usize) -> Option<usize> {
    let strides = pack::logical_strides(&buffer.shape);
    (0..strides.len()).find(|&d| strides[d] == run && buffer.shape[d] == count)
}

/// Like [`pack_part_into`] for `f32`; each element is [`scaled`] by the factor that its index in the dimension `along`
/// selects.
///
/// # Panics
/// If the buffer is not `f32`, or has more indices in the dimension than there are factors.
pub fn pack_scaled_part_into(
    buffer: &Buffer,
    part: &Part,
    data: &[u8],
    (along, factors): (usize, &[f64]),
    storage: &mut [u8],
) -> Result<(), SizeError> {
    assert!(buffer.dtype == DType::F32 && buffer.shape[along] <= factors.len(), "{buffer:?}");
    check_part(buffer, part, data, storage)?;
    if !part.is_empty() {
        let scaled = pack::Scaled(factors);
        pack::copy(buffer, part, Some(along), &scaled, data.as_chunks().0, storage.as_chunks_mut().0);
    }
    Ok(())
}

fn check_part(buffer: &Buffer, part: &Part, data: &[u8], storage: &[u8]) -> Result<(), SizeError> {
    check_size(buffer, part.len() * buffer.dtype.size(), data.len())?;
    check_size(buffer, buffer.storage_bytes(), storage.len())
}

/// Fills storage that holds zeros with the value of the halo, which parts that are packed then overwrite.
pub fn fill_halo(buffer: &Buffer, storage: &mut [u8]) -> Result<(), SizeError> {
    check_size(buffer, buffer.storage_bytes(), storage.len())?;
    let fill = scalar_bytes(buffer.halo_fill);
    if fill.iter().any(|&b| b != 0) {
        let elements = storage.chunks_exact_mut(buffer.dtype.size());
        elements.for_each(|element| element.copy_from_slice(&fill));
    }
    Ok(())
}

/// The elements in logical row-major order of a buffer with this storage.
pub fn unpack(buffer: &Buffer, storage: &[u8]) -> Result<Vec<u8>, SizeError> {
    check_size(buffer, buffer.storage_bytes(), storage.len())?;
    let size = buffer.dtype.size();
    let mut data = vec![0; buffer.logical_bytes()];
    each_run(buffer, |logical, physical, run, step| {
        for (i, element) in data[logical * size..][..run * size].chunks_exact_mut(size).enumerate() {
            element.copy_from_slice(&storage[(physical + i * step) * size..][..size]);
        }
    });
    Ok(data)
}

/// Calls `f(logical, physical, run, step)` for runs of elements that together make up the buffer: `run`
/// elements that are neighbours in logical order from `logical` on lie `step` apart from `physical` on.
fn each_run(buffer: &Buffer, mut f: impl FnMut(usize, usize, usize, usize)) {
    if buffer.is_empty() {
        return;
    }
    let geometry = Geometry::of(buffer);
    let Some((&last, outer)) = buffer.shape.split_last() else { return f(0, 0, 1, 1) };
    let d = outer.len();
    let mut index = vec![0; d];
    let mut logical = 0;
    loop {
        let base = geometry.at(&index);
        match geometry.cut(d) {
            Some(cut) => {
                let mut i = 0;
                while i < last {
                    let run = (cut.block - (i + geometry.before[d]) % cut.block).min(last - i);
                    f(logical + i, base + geometry.part(d, i), run, geometry.strides[d]);
                    i += run;
                }
            }
            None => f(logical, base + geometry.part(d, 0), last, geometry.strides[d]),
        }
        logical += last;
        // The next index in row-major order.
        let Some(k) = (0..d).rev().find(|&k| index[k] + 1 < outer[k]) else { return };
        index[k] += 1;
        index[k + 1..].fill(0);
    }
}

fn scalar_bytes(s: Scalar) -> Vec<u8> {
    match s {
        Scalar::F32(v) => v.to_ne_bytes().to_vec(),
        Scalar::F64(v) => v.to_ne_bytes().to_vec(),
        Scalar::F16(v) => v.to_ne_bytes().to_vec(),
        Scalar::BF16(v) => v.to_ne_bytes().to_vec(),
        Scalar::I64(v) => v.to_ne_bytes().to_vec(),
        Scalar::I32(v) => v.to_ne_bytes().to_vec(),
        Scalar::I8(v) => v.to_ne_bytes().to_vec(),
        Scalar::I16(v) => v.to_ne_bytes().to_vec(),
        Scalar::U16(v) => v.to_ne_bytes().to_vec(),
        Scalar::U32(v) => v.to_ne_bytes().to_vec(),
        Scalar::U64(v) => v.to_ne_bytes().to_vec(),
        Scalar::U8(v) => vec![v],
        Scalar::Bool(v) => vec![u8::from(v)],
    }
}

#[cfg(test)]
mod tests;

//! The copy behind [`super::pack`]: all elements of a buffer from logical to physical order. Weights are packed
//! whenever a model is compiled, so it goes through the storage in order and does no arithmetic per element.

use smallvec::SmallVec;

use super::{Cut, Dims, Geometry, Part, scaled};
use crate::nest::Buffer;

/// A loop of the copy: how often, and how far source, destination and the number of the factor advance.
#[derive(Clone, Copy, Debug)]
struct Dim {
    extent: usize,
    from: usize,
    to: usize,
    factor: usize,
}

/// Where a copy is.
#[derive(Clone, Copy)]
struct At {
    from: usize,
    to: usize,
    factor: usize,
}

impl At {
    fn step(self, dim: &Dim, i: usize) -> At {
        At { from: self.from + i * dim.from, to: self.to + i * dim.to, factor: self.factor + i * dim.factor }
    }
}

/// What becomes of an element of `N` bytes on its way.
pub(super) trait Element<const N: usize> {
    /// Whether factors matter.
    const HAS_FACTORS: bool;

    fn element(&self, from: [u8; N], factor: usize) -> [u8; N];

    /// The same for neighbours that share a factor.
    fn run(&self, from: &[[u8; N]], to: &mut [[u8; N]], factor: usize) {
        from.iter().zip(to).for_each(|(from, to)| *to = self.element(*from, factor));
    }

    /// The same for elements so far apart, each with the next factor.
    fn gather(&self, from: &[[u8; N]], apart: usize, to: &mut [[u8; N]], factor: usize);
}

/// Elements stay what they are.
pub(super) struct Same;

impl<const N: usize> Element<N> for Same {
    const HAS_FACTORS: bool = false;

    fn element(&self, from: [u8; N], _: usize) -> [u8; N] {
        from
    }

    fn run(&self, from: &[[u8; N]], to: &mut [[u8; N]], _: usize) {
        to.copy_from_slice(from);
    }

    fn gather(&self, from: &[[u8; N]], apart: usize, to: &mut [[u8; N]], _: usize) {
        to.iter_mut().zip(from.iter().step_by(apart)).for_each(|(to, from)| *to = *from);
    }
}

/// `f32` elements are multiplied with factors, and rounded once.
pub(super) struct Scaled<'a>(pub &'a [f64]);

impl Element<4> for Scaled<'_> {
    const HAS_FACTORS: bool = true;

    fn element(&self, from: [u8; 4], factor: usize) -> [u8; 4] {
        scale(from, self.0[factor])
    }

    fn gather(&self, from: &[[u8; 4]], apart: usize, to: &mut [[u8; 4]], factor: usize) {
        let elements = to.iter_mut().zip(from.iter().step_by(apart)).zip(&self.0[factor..]);
        elements.for_each(|((to, from), factor)| *to = scale(*from, *factor));
    }
}

fn scale(element: [u8; 4], factor: f64) -> [u8; 4] {
    scaled(f32::from_ne_bytes(element), factor).to_ne_bytes()
}

/// Copies the elements of a buffer, `N` bytes each, as they are.
pub(super) fn copy_bytes<const N: usize>(buffer: &Buffer, part: &Part, from: &[u8], to: &mut [u8]) {
    assert_eq!(N, buffer.dtype.size(), "the size of {}", buffer.dtype);
    copy::<N>(buffer, part, None, &Same, from.as_chunks().0, to.as_chunks_mut().0);
}

/// Copies the elements of a part of a buffer, `N` bytes each, to where they lie in its storage. The index in the
/// dimension `along` is the number of the factor.
pub(super) fn copy<const N: usize>(
    buffer: &Buffer,
    part: &Part,
    along: Option<usize>,
    element: &impl Element<N>,
    from: &[[u8; N]],
    to: &mut [[u8; N]],
) {
    let geometry = Geometry::of(buffer);
    let logical = logical_strides(&part.extents);
    let factor = |d: usize| usize::from(along == Some(d));
    let cut = |d: &usize| geometry.cut(*d);
    let panelled = buffer.layout.panel.map(|p| p.0);
    let order =
        || panelled.into_iter().chain(buffer.layout.order.iter().copied().filter(|d| panelled != Some(*d)));
    let plain = order().filter(|d| cut(d).is_none());
    let start = At {
        from: 0,
        to: plain.map(|d| (geometry.before[d] + part.start[d]) * geometry.strides[d]).sum(),
        factor: along.map_or(0, |d| part.start[d]),
    };
    let pieces: SmallVec<[Vec<Piece>; 2]> = geometry
        .cuts
        .iter()
        .map(|c| pieces(c, part.extents[c.dim], part.start[c.dim] + geometry.before[c.dim]))
        .collect();
    let mut copy = |chosen: &[Piece]| {
        let mut at = start;
        for (cut, piece) in geometry.cuts.iter().zip(chosen) {
            let x = part.start[cut.dim] + piece.first + geometry.before[cut.dim];
            at.from += piece.first * logical[cut.dim];
            at.to += x / cut.block * cut.stride + x % cut.block * geometry.strides[cut.dim];
            at.factor += piece.first * factor(cut.dim);
        }
        let whole = |d: usize| {
            let (from, to, factor) = (logical[d], geometry.strides[d], factor(d));
            match geometry.cuts.iter().zip(chosen).find(|(c, _)| c.dim == d) {
                Some((cut, piece)) => Dim {
                    extent: piece.blocks,
                    from: cut.block * from,
                    to: cut.stride,
                    factor: cut.block * factor,
                },
                None => Dim { extent: part.extents[d], from, to, factor },
            }
        };
        let within = geometry.cuts.iter().zip(chosen).map(|(cut, piece)| {
            let d = cut.dim;
            Dim { extent: piece.run, from: logical[d], to: geometry.strides[d], factor: factor(d) }
        });
        nested(&joined(order().map(whole).chain(within)), element, from, to, at);
    };
    match pieces.as_slice() {
        [] => copy(&[]),
        [all] => all.iter().for_each(|p| copy(&[*p])),
        [all, others @ ..] => {
            let inner = others.iter().flatten();
            all.iter().for_each(|p| inner.clone().for_each(|q| copy(&[*p, *q])));
        }
    }
}

/// Indices of a dimension that is cut: some whole blocks, or a part of one.
#[derive(Clone, Copy)]
struct Piece {
    /// How many indices come before.
    first: usize,
    blocks: usize,
    /// The indices in each block.
    run: usize,
}

/// So many indices, the first of which has this place in the storage: all whole blocks at once, those that the border
/// cuts one by one.
fn pieces(cut: &Cut, extent: usize, start: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut first = 0;
    while first < extent {
        let run = (cut.block - (start + first) % cut.block).min(extent - first);
        let blocks = if run == cut.block { (extent - first) / cut.block } else { 1 };
        pieces.push(Piece { first, blocks, run });
        first += blocks * run;
    }
    pieces
}

/// How far neighbours in each dimension are apart in logical order.
pub(super) fn logical_strides(shape: &[usize]) -> Dims {
    let mut strides: Dims = shape.iter().map(|_| 1).collect();
    for d in (1..strides.len()).rev() {
        strides[d - 1] = strides[d] * shape[d];
    }
    strides
}

/// The same loops, neighbours that advance like one loop made one.
fn joined(dims: impl Iterator<Item = Dim>) -> Vec<Dim> {
    let mut list: Vec<Dim> = Vec::new();
    for dim in dims.filter(|d| d.extent != 1) {
        let continues = |outer: &Dim| {
            outer.from == dim.from * dim.extent
                && outer.to == dim.to * dim.extent
                && outer.factor == dim.factor * dim.extent
        };
        match list.last_mut() {
            Some(outer) if continues(outer) => {
                *outer = Dim { extent: outer.extent * dim.extent, ..dim };
            }
            _ => list.push(dim),
        }
    }
    list
}

/// What the innermost loop must have for a call to be worth it.
const SMALL: usize = 8;

fn nested<const N: usize, E: Element<N>>(
    dims: &[Dim],
    element: &E,
    from: &[[u8; N]],
    to: &mut [[u8; N]],
    at: At,
) {
    match dims {
        [] => to[at.to] = element.element(from[at.from], at.factor),
        [d] if d.extent == 0 => {}
        [Dim { extent, from: 1, to: 1, factor: 0 }] => {
            element.run(&from[at.from..][..*extent], &mut to[at.to..][..*extent], at.factor);
        }
        [d] if d.to == 1 && (d.factor == 1 || !E::HAS_FACTORS) => {
            element.gather(&from[at.from..], d.from, &mut to[at.to..][..d.extent], at.factor);
        }
        [d] => {
            let (from, to) = (&from[at.from..], &mut to[at.to..]);
            for i in 0..d.extent {
                to[i * d.to] = element.element(from[i * d.from], at.factor + i * d.factor);
            }
        }
        // Groups of a few elements: nothing is worth a call.
        [d, group] if group.extent <= SMALL && !E::HAS_FACTORS => {
            let (from, to) = (&from[at.from..], &mut to[at.to..]);
            for i in 0..d.extent {
                for j in 0..group.extent {
                    to[i * d.to + j * group.to] = element.element(from[i * d.from + j * group.from], 0);
                }
            }
        }
        [d, rest @ ..] => {
            for i in 0..d.extent {
                nested(rest, element, from, to, at.step(d, i));
            }
        }
    }
}

//! The copy behind [`super::pack`]: all elements of a buffer from logical to physical order. Weights are packed
//! whenever a model is compiled, so it goes through the storage in order and does no arithmetic per element.

use super::{Dims, Geometry, Part, scaled};
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
    let first_factor = along.map_or(0, |d| part.start[d]);
    let panelled = geometry.panel.map(|p| p.dim);
    let plain = || buffer.layout.order.iter().copied().filter(|d| panelled != Some(*d));
    let start: usize = plain().map(|d| (geometry.before[d] + part.start[d]) * geometry.strides[d]).sum();
    let dims = plain().map(|d| Dim {
        extent: part.extents[d],
        from: logical[d],
        to: geometry.strides[d],
        factor: factor(d),
    });
    let Some(panel) = geometry.panel else {
        return nested(&joined(dims), element, from, to, At { from: 0, to: start, factor: first_factor });
    };
    let (extent, step, factor) = (part.extents[panel.dim], logical[panel.dim], factor(panel.dim));
    let mut i = 0;
    while i < extent {
        // All whole blocks at once; those that the border cuts one by one.
        let at = part.start[panel.dim] + i + geometry.before[panel.dim];
        let run = (panel.block - at % panel.block).min(extent - i);
        let blocks = if run == panel.block { (extent - i) / panel.block } else { 1 };
        let outer =
            Dim { extent: blocks, from: panel.block * step, to: panel.stride, factor: panel.block * factor };
        let inner = Dim { extent: run, from: step, to: 1, factor };
        let all = joined([outer].into_iter().chain(dims.clone()).chain([inner]));
        let to_start = start + at / panel.block * panel.stride + at % panel.block;
        nested(
            &all,
            element,
            from,
            to,
            At { from: i * step, to: to_start, factor: first_factor + i * factor },
        );
        i += blocks * run;
    }
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
        [d, rest @ ..] => {
            for i in 0..d.extent {
                nested(rest, element, from, to, at.step(d, i));
            }
        }
    }
}

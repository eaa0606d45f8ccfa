//! The copy behind [`super::pack`]: all elements of a buffer from logical to physical order. Weights are packed
//! whenever a model is compiled, so it goes through the storage in order and does no arithmetic per element.

use super::Geometry;
use crate::nest::Buffer;

/// A loop of the copy: how often, and how far source and destination advance.
#[derive(Clone, Copy, Debug)]
struct Dim {
    extent: usize,
    from: usize,
    to: usize,
}

/// Copies the elements of a buffer, `N` bytes each, to where they lie in its storage.
pub(super) fn copy<const N: usize>(buffer: &Buffer, from: &[[u8; N]], to: &mut [[u8; N]]) {
    let geometry = Geometry::of(buffer);
    let mut logical = vec![1; buffer.shape.len()];
    for d in (1..logical.len()).rev() {
        logical[d - 1] = logical[d] * buffer.shape[d];
    }
    let panelled = geometry.panel.map(|p| p.dim);
    let plain = || buffer.layout.order.iter().copied().filter(|d| panelled != Some(*d));
    let start: usize = plain().map(|d| geometry.before[d] * geometry.strides[d]).sum();
    let dims = plain().map(|d| Dim { extent: buffer.shape[d], from: logical[d], to: geometry.strides[d] });
    let Some(panel) = geometry.panel else {
        return nested(&joined(dims), from, to, 0, start);
    };
    let (extent, step) = (buffer.shape[panel.dim], logical[panel.dim]);
    let mut i = 0;
    while i < extent {
        // All whole blocks at once; those that the border cuts one by one.
        let at = i + geometry.before[panel.dim];
        let part = (panel.block - at % panel.block).min(extent - i);
        let blocks = if part == panel.block { (extent - i) / panel.block } else { 1 };
        let outer = Dim { extent: blocks, from: panel.block * step, to: panel.stride };
        let inner = Dim { extent: part, from: step, to: 1 };
        let all = joined([outer].into_iter().chain(dims.clone()).chain([inner]));
        nested(&all, from, to, i * step, start + at / panel.block * panel.stride + at % panel.block);
        i += blocks * part;
    }
}

/// The same loops, neighbours that advance like one loop made one.
fn joined(dims: impl Iterator<Item = Dim>) -> Vec<Dim> {
    let mut list: Vec<Dim> = Vec::new();
    for dim in dims.filter(|d| d.extent != 1) {
        match list.last_mut() {
            Some(outer) if outer.from == dim.from * dim.extent && outer.to == dim.to * dim.extent => {
                *outer = Dim { extent: outer.extent * dim.extent, ..dim };
            }
            _ => list.push(dim),
        }
    }
    list
}

fn nested<const N: usize>(dims: &[Dim], from: &[[u8; N]], to: &mut [[u8; N]], source: usize, target: usize) {
    match dims {
        [] => to[target] = from[source],
        [d] if d.extent == 0 => {}
        [Dim { extent, from: 1, to: 1 }] => {
            to[target..][..*extent].copy_from_slice(&from[source..][..*extent]);
        }
        [d] => {
            let (from, to) = (&from[source..], &mut to[target..]);
            for i in 0..d.extent {
                to[i * d.to] = from[i * d.from];
            }
        }
        [d, rest @ ..] => {
            for i in 0..d.extent {
                nested(rest, from, to, source + i * d.from, target + i * d.to);
            }
        }
    }
}

//! Padding. A constant border is an access with `otherwise`; any other is a group of loops per part of the result,
//! each with affine indices.

use nestjit_ir::{Affine, Scalar, Var};

use super::context::Context;
use crate::error::Result;
use crate::graph::PadMode;

pub(super) fn pad(cx: &mut Context<'_, '_>, begin: &[i64], end: &[i64], mode: PadMode) -> Result<()> {
    match mode {
        PadMode::Constant(value) => constant(cx, begin, end, value),
        _ => parts(cx, begin, end, mode),
    }
}

fn constant(cx: &mut Context<'_, '_>, begin: &[i64], end: &[i64], value: f64) -> Result<()> {
    let x = cx.array(0)?;
    let y = cx.result()?;
    let border = begin.iter().chain(end).any(|p| *p > 0);
    let outside = Scalar::from_f64(x.dtype, value);
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| {
        let at = i.iter().zip(begin).map(|(i, begin)| *i - *begin);
        let value = if border { x.at_or(at, outside) } else { x.at(at) };
        y.store(b, i, value);
    });
    b.finish();
    Ok(())
}

/// A stretch of one dimension of the result whose elements come from affine places, or several such stretches that are
/// equally far apart and come from the same places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    /// Where the first stretch begins in the result, and how long each is.
    offset: i64,
    extent: usize,
    /// How many there are, and how far apart.
    count: usize,
    period: i64,
    /// Element `i` of a stretch is element `first + i * step` of the operand.
    first: i64,
    step: i64,
}

impl Part {
    fn one(offset: i64, extent: i64, first: i64, step: i64) -> Part {
        Part { offset, extent: extent.max(0) as usize, count: 1, period: 0, first, step }
    }

    /// The extents of the loops over it: stretches, if there are several, and elements.
    fn loops(&self) -> Vec<usize> {
        if self.count == 1 { vec![self.extent] } else { vec![self.count, self.extent] }
    }

    /// The places in the result and in the operand, from the variables of its loops.
    fn places(&self, vars: &[Var]) -> (Affine, Affine) {
        let (stretches, element) = vars.split_at(vars.len() - 1);
        let within = element[0] + self.offset;
        let to = stretches.iter().fold(within, |to, var| to + *var * self.period);
        (to, element[0] * self.step + self.first)
    }
}

/// Copies of what is kept, endlessly in both directions: copy `j` is the elements from `j * length` on, counted from
/// the first that is kept.
struct Copies {
    /// The place in the operand of the first element that is kept.
    first: i64,
    length: i64,
    /// Whether every other copy runs backwards, from one element further on.
    mirrored: bool,
}

impl Copies {
    /// The part from element `from` of copy `j` on; `begin` is where the first kept element is in the result.
    fn part(&self, begin: i64, j: i64, from: i64, extent: i64) -> Part {
        let backwards = self.mirrored && j.rem_euclid(2) == 1;
        let (first, step) = if backwards { (self.length - from, -1) } else { (from, 1) };
        Part::one(begin + j * self.length + from, extent, self.first + first, step)
    }

    /// The elements `low..high`, counted from the first kept element: the rest of a copy, whole copies of either
    /// direction, the beginning of a copy.
    fn parts(&self, begin: i64, low: i64, high: i64) -> Vec<Part> {
        let n = self.length;
        let (j, last) = (low.div_euclid(n), high.div_euclid(n));
        if j == last {
            return vec![self.part(begin, j, low - j * n, high - low)];
        }
        let whole = if j * n == low { j } else { j + 1 };
        let mut parts = vec![self.part(begin, j, low - j * n, whole * n - low)];
        let directions = if self.mirrored { 2 } else { 1 };
        for first in whole..last.min(whole + directions) {
            let count = (last - first + directions - 1) / directions;
            let part = self.part(begin, first, 0, n);
            parts.push(Part { count: count as usize, period: directions * n, ..part });
        }
        parts.push(self.part(begin, last, 0, high - last * n));
        parts
    }
}

/// The parts of one dimension: border, what is kept, border. Inference has seen to it that there is something to make
/// borders of.
fn parts_of(extent: usize, begin: i64, end: i64, mode: PadMode) -> Vec<Part> {
    let first = (-begin).max(0);
    let kept = extent as i64 + begin.min(0) + end.min(0);
    let (before, after) = (begin.max(0), end.max(0));
    let copies = match mode {
        PadMode::Wrap => Some(Copies { first, length: kept, mirrored: false }),
        PadMode::Reflect if kept > 1 => Some(Copies { first, length: kept - 1, mirrored: true }),
        // One element is its own mirror image.
        PadMode::Reflect | PadMode::Edge | PadMode::Constant(_) => None,
    };
    let border = |from: i64, to: i64, edge: i64| match &copies {
        _ if from == to => Vec::new(),
        Some(copies) => copies.parts(before, from, to),
        None => vec![Part::one(before + from, to - from, edge, 0)],
    };
    let mut parts = border(-before, 0, first);
    parts.push(Part::one(before, kept, first, 1));
    parts.extend(border(kept, kept + after, first + kept - 1));
    parts.into_iter().filter(|p| p.extent > 0).collect()
}

fn parts(cx: &mut Context<'_, '_>, begin: &[i64], end: &[i64], mode: PadMode) -> Result<()> {
    let x = cx.operand(0)?;
    let y = cx.result()?;
    let mut combinations: Vec<Vec<Part>> = vec![Vec::new()];
    for (d, extent) in x.shape().iter().enumerate() {
        let parts = parts_of(*extent, begin[d], end[d], mode);
        let extend = |c: &Vec<Part>| {
            let c = c.clone();
            parts.iter().map(move |p| [c.as_slice(), &[*p]].concat()).collect::<Vec<_>>()
        };
        combinations = combinations.iter().flat_map(extend).collect();
    }
    let mut b = cx.nest("");
    for parts in &combinations {
        let loops: Vec<Vec<usize>> = parts.iter().map(Part::loops).collect();
        b.for_each("i", &loops.concat(), |b, mut vars| {
            let (mut to, mut from) = (Vec::new(), Vec::new());
            for (part, loops) in parts.iter().zip(&loops) {
                let own;
                (own, vars) = vars.split_at(loops.len());
                let (result, operand) = part.places(own);
                to.push(result);
                from.push(operand);
            }
            y.store(b, to, x.at(from));
        });
    }
    b.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element of the result, as the place in the operand that the parts say.
    fn places(extent: usize, begin: i64, end: i64, mode: PadMode) -> Vec<i64> {
        let mut places = vec![None; (extent as i64 + begin + end) as usize];
        for p in parts_of(extent, begin, end, mode) {
            for k in 0..p.count as i64 {
                for i in 0..p.extent as i64 {
                    let to = &mut places[(p.offset + k * p.period + i) as usize];
                    assert_eq!(to.replace(p.first + i * p.step), None, "written twice");
                }
            }
        }
        places.into_iter().map(|p| p.expect("written")).collect()
    }

    #[test]
    fn every_element_is_written_once_from_its_place() {
        for extent in 1..6i64 {
            for begin in -extent..20 {
                for end in -extent - begin.min(0)..20 {
                    let (kept, first) = (extent + begin.min(0) + end.min(0), (-begin).max(0));
                    if kept < 0 || kept == 0 && begin.max(end) > 0 {
                        continue;
                    }
                    let at = |i: i64| i - begin.max(0);
                    let wrap = |i| at(i).rem_euclid(kept) + first;
                    let reflect = |i| {
                        let m = at(i).rem_euclid((2 * (kept - 1)).max(1));
                        if m < kept { m + first } else { 2 * (kept - 1) - m + first }
                    };
                    let edge = |i| at(i).clamp(0, kept - 1) + first;
                    let wanted =
                        |f: &dyn Fn(i64) -> i64| (0..extent + begin + end).map(f).collect::<Vec<_>>();
                    let places = |mode| places(extent as usize, begin, end, mode);
                    assert_eq!(places(PadMode::Wrap), wanted(&wrap), "wrap {extent} {begin} {end}");
                    assert_eq!(places(PadMode::Reflect), wanted(&reflect), "reflect {extent} {begin} {end}");
                    assert_eq!(places(PadMode::Edge), wanted(&edge), "edge {extent} {begin} {end}");
                }
            }
        }
    }

    #[test]
    fn long_borders_are_few_parts() {
        for mode in [PadMode::Wrap, PadMode::Reflect, PadMode::Edge] {
            assert!(parts_of(3, 1_000_000, 1_000_001, mode).len() <= 9);
        }
    }
}

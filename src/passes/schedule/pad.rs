//! Padded copies of what guarded loads read.

use nestjit_ir::access::carried::overwrites;
use nestjit_ir::visit::{Extents, map_loads, work};
use nestjit_ir::{
    Affine, BufId, Buffer, Expr, Index, Load, LoopKind, Program, Role, Scalar, Stmt, Store, Var,
};

use super::border::{fill_of, guarded_loads};
use crate::passes::schedule::chain::looped;

/// A padded copy: how to make it and how to read it.
pub struct Padded {
    /// What is copied and how far it is padded, to find the same copy again.
    key: Key,
    /// The copy.
    buf: BufId,
    /// The dimensions that the copy has; others are fixed by loops around it.
    dims: Vec<usize>,
    /// The statements that fill it.
    pub stmts: Vec<Stmt>,
}

/// A buffer, the part of it that is copied, and what surrounds it.
type Key = (BufId, Region, Scalar);

/// The part of a buffer that a load reads, with a border.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Region(Vec<Side>);

/// The part in one dimension.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Side {
    /// What loops around the copy add to the index: the copy is a window that moves with them, and may leave the buffer.
    outer: Affine,
    /// The first element.
    first: i64,
    size: usize,
    /// How far the load reaches beyond the buffer before and after these elements.
    reach: (usize, usize),
}

impl Side {
    fn moves(&self) -> bool {
        !self.outer.terms().is_empty()
    }

    fn padded(&self) -> usize {
        self.size.saturating_add(self.reach.0).saturating_add(self.reach.1)
    }
}

/// What padded planes are limited by.
#[derive(Clone, Copy, Debug)]
pub struct PlaneLimits {
    /// Bytes of a plane.
    pub bytes: usize,
    /// Elements along its contiguous dimension.
    pub width: usize,
}

/// How many times larger than a buffer its padded copy may be, and how many elements it may have in any case: what
/// reaches further is not read around a border.
const MAX_GROWTH: usize = 64;
const SMALL: usize = 1 << 14;

/// How often the elements of a window that moves must be read at least, to be worth copying each time.
const WINDOW_REUSE: usize = 1;

/// What a load reads in `loops`, with a border as wide as it would read in `rounded` loops, which may be longer; `None` if that
/// is not known, there is no border, or it is too much for a copy.
fn region(program: &Program, loops: &Extents, rounded: &Extents, load: &Load) -> Option<Region> {
    let buffer = program.buf(load.buf);
    let side = |(i, &size): (&Index, &usize)| {
        let (index, size) = (i.as_affine()?, i64::try_from(size).ok()?);
        let ((lo, hi), (least, most)) = (loops.range(index)?, rounded.range(index)?);
        let (first, end) = (lo.clamp(0, size), hi.saturating_add(1).clamp(0, size));
        let beyond = |n: i64| usize::try_from(n).unwrap_or(0);
        let reach = (beyond(first.saturating_sub(least)), beyond(most.saturating_sub(end - 1)));
        Some(Side { outer: Affine::default(), first, size: beyond(end - first), reach })
    };
    let sides: Vec<Side> = load.index.iter().zip(&buffer.shape).map(side).collect::<Option<_>>()?;
    if sides.iter().all(|s| s.reach == (0, 0)) {
        return None;
    }
    let elements = sides.iter().map(Side::padded).fold(1, usize::saturating_mul);
    (elements <= SMALL.max(buffer.len().saturating_mul(MAX_GROWTH))).then_some(Region(sides))
}

/// Whether a load would read other elements of its buffer in `rounded` loops than it does in `loops`.
pub fn reads_beside(program: &Program, loops: &Extents, rounded: &Extents, load: &Load) -> bool {
    let beside = |(i, &size): (&Index, &usize)| {
        let ranges = i.as_affine().and_then(|a| Some((loops.range(a)?, rounded.range(a)?)));
        let last = i64::try_from(size).unwrap_or(i64::MAX) - 1;
        ranges.is_some_and(|((lo, hi), (least, most))| (least < lo && lo > 0) || (most > hi && hi < last))
    };
    load.index.iter().zip(&program.buf(load.buf).shape).any(beside)
}

/// How many elements of its buffer lie between those that a load reads, the border left out.
pub fn elements(program: &Program, extents: &Extents, load: &Load) -> usize {
    match region(program, extents, extents, load) {
        Some(Region(sides)) => sides.iter().map(|s| s.size).product(),
        None => program.buf(load.buf).len(),
    }
}

/// A padded copy of all that a load reads in a temporary of the program. Copies that `made` holds are used again;
/// a new one is added to it.
pub fn whole(
    program: &mut Program,
    (loops, rounded): (&Extents, &Extents),
    load: &Load,
    made: &mut Vec<Padded>,
) -> Option<Padded> {
    let key = key(program, (loops, rounded), load)?;
    let (_, region, fill) = &key;
    let known = made_before(made, &key).map(|p| (p.buf, p.dims.clone()));
    let (buf, dims) =
        match known {
            Some(known) => known,
            None => {
                let dims: Vec<usize> = (0..region.0.len()).collect();
                let buf = padded_buffer(program, load.buf, region, &dims, Role::Temp);
                let index = vec![Affine::default(); dims.len()];
                let stmts = Copy { program, from: load.buf, to: buf, region, dims: &dims, fill: *fill }
                    .level(0, &index, &[]);
                made.push(Padded { key: key.clone(), buf, dims: dims.clone(), stmts });
                (buf, dims)
            }
        };
    Some(Padded { key, buf, dims, stmts: Vec::new() })
}

/// What tells the copy of all that a load reads from others.
fn key(program: &Program, (loops, rounded): (&Extents, &Extents), load: &Load) -> Option<Key> {
    Some((load.buf, region(program, loops, rounded, load)?, fill_of(load)?))
}

/// The copy that there is of all that a load reads.
pub fn known<'m>(program: &Program, loops: &Extents, load: &Load, made: &'m [Padded]) -> Option<&'m Padded> {
    made_before(made, &key(program, (loops, loops), load)?)
}

/// The copy with this key among those that are made.
fn made_before<'m>(made: &'m [Padded], key: &Key) -> Option<&'m Padded> {
    made.iter().find(|p| p.key == *key)
}

/// Padded locals for the planes that the loads of a chain of loops read, before they are made.
pub struct Planes {
    /// The loop of the chain at which they are filled.
    at: usize,
    planes: Vec<Plane>,
}

struct Plane {
    load: Load,
    region: Region,
    dims: Vec<usize>,
    fill: Scalar,
}

impl Planes {
    /// The loads that read windows that move, and how often each element of a window is copied, at most.
    pub fn moving(&self, extents: &Extents) -> Vec<(&Load, f64)> {
        let times = |plane: &Plane| {
            let side = |side: &Side| {
                // The window moves so far in all, in so many steps.
                let steps: f64 = side.outer.vars().filter_map(|v| extents.get(v)).map(|n| n as f64).product();
                let (lo, hi) = extents.range(&side.outer)?;
                let reach = hi.saturating_sub(lo) as f64 + side.size as f64;
                Some(steps * side.size as f64 / reach)
            };
            plane.region.0.iter().filter(|s| s.moves()).filter_map(side).product()
        };
        let moving = self.planes.iter().filter(|p| p.region.0.iter().any(Side::moves));
        moving.map(|p| (&p.load, times(p))).collect()
    }
}

/// Padded locals for the planes that the loads read in the loops of a chain, and at which loop of the chain they
/// are filled: for small planes whose contiguous dimension is guarded, so that vectors would cross the border. Of
/// dimensions that loops around the chain walk along, a plane has the window that the chain reads.
pub fn planes(
    program: &Program,
    extents: &Extents,
    chain: &[(Var, usize)],
    body: &[Stmt],
    limits: PlaneLimits,
) -> Option<Planes> {
    let mut planes = Vec::new();
    let mut at = chain.len();
    let loops = |from: usize| {
        chain[from..].iter().fold(Extents::default(), |mut loops, &(v, n)| {
            loops.set(v, n);
            loops
        })
    };
    // The loops around the chain are not bound here.
    let bound = Extents::of(body).with(&loops(0));
    for load in guarded_loads(body) {
        let fill = fill_of(&load)?;
        let mut region = region(program, extents, extents, &load)?;
        let buffer = program.buf(load.buf);
        let last = *buffer.layout.order.last()?;
        if buffer.role == Role::Local || region.0[last].reach == (0, 0) || buffer.shape[last] > limits.width {
            return None;
        }
        let dims: Vec<usize> = (0..region.0.len()).filter(|&d| region.0[d].reach != (0, 0)).collect();
        for &d in &dims {
            let Index::Affine(a) = &load.index[d] else { return None };
            let mut outer = Affine::default();
            a.terms().iter().filter(|t| bound.get(t.0).is_none()).for_each(|&(v, c)| outer.add_term(v, c));
            if !outer.terms().is_empty() {
                let (lo, hi) = extents.range(&a.add(&outer.scale(-1)))?;
                region.0[d] = Side { outer, first: lo, size: (hi - lo) as usize + 1, reach: (0, 0) };
            }
        }
        let elements = dims.iter().map(|&d| region.0[d].padded()).fold(1, usize::saturating_mul);
        let moves = region.0.iter().any(Side::moves);
        if elements.saturating_mul(buffer.dtype.size()) > limits.bytes || region.0[last].moves() {
            return None;
        }
        let in_plane = |v| dims.iter().any(|&d| load.index[d].as_affine().is_some_and(|a| a.uses(v)));
        let first = chain.iter().position(|l| in_plane(l.0))?;
        let iterations = chain[first..].iter().map(|l| l.1).fold(work(body), usize::saturating_mul);
        if moves && iterations < elements.saturating_mul(WINDOW_REUSE) {
            return None;
        }
        at = at.min(first);
        planes.push(Plane { load, region, dims, fill });
    }
    // What selects the plane must be known outside the plane's loops.
    let inner = Extents::of(body).with(&loops(at));
    let outside = |p: &Plane| {
        p.load
            .index
            .iter()
            .enumerate()
            .filter(|(d, _)| !p.dims.contains(d))
            .all(|(_, i)| i.as_affine().is_some_and(|a| a.vars().all(|v| inner.get(v).is_none())))
    };
    if planes.is_empty() || !planes.iter().all(outside) {
        return None;
    }
    if planes.iter().any(|p| overwrites(extents, body, &p.load)) {
        return None;
    }
    Some(Planes { at, planes })
}

/// Makes the planes: the loop of the chain at which they are filled, and what replaces each load.
pub fn make(program: &mut Program, planes: Planes) -> (usize, Vec<(Load, Padded)>) {
    let padded = planes
        .planes
        .into_iter()
        .map(|Plane { load, region, dims, fill }| {
            let buf = padded_buffer(program, load.buf, &region, &dims, Role::Local);
            let index: Vec<Affine> =
                load.index.iter().map(|i| i.as_affine().cloned().unwrap_or_default()).collect();
            let mut stmts = vec![Stmt::Temp(buf)];
            let mut copy = Copy { program, from: load.buf, to: buf, region: &region, dims: &dims, fill };
            stmts.extend(copy.level(0, &index, &[]));
            (load.clone(), Padded { key: (load.buf, region, fill), buf, dims, stmts })
        })
        .collect();
    (planes.at, padded)
}

fn padded_buffer(program: &mut Program, from: BufId, region: &Region, dims: &[usize], role: Role) -> BufId {
    let source = program.buf(from);
    let shape: Vec<usize> = dims.iter().map(|&d| region.0[d].padded()).collect();
    let dtype = source.dtype;
    let order: Vec<usize> =
        source.layout.order.iter().filter_map(|d| dims.iter().position(|k| k == d)).collect();
    let name = program.unique_buffer_name(&format!("{}.pad", source.name));
    let mut buffer = Buffer::new(name, dtype, &shape, role);
    buffer.layout.order = order;
    program.add_buffer(buffer)
}

/// Writes the statements that fill a padded copy.
struct Copy<'a> {
    program: &'a mut Program,
    from: BufId,
    to: BufId,
    region: &'a Region,
    dims: &'a [usize],
    fill: Scalar,
}

impl Copy<'_> {
    /// The loops from the `level`-th copied dimension inwards. `source` is where to read, `target` where to
    /// write, as far as the outer dimensions say.
    fn level(&mut self, level: usize, source: &[Affine], target: &[Affine]) -> Vec<Stmt> {
        let Some(&d) = self.dims.get(level) else {
            let value = match self.region.0.iter().any(Side::moves) {
                true => Expr::load_or(self.from, source.to_vec(), Expr::Const(self.fill)),
                false => Expr::load(self.from, source.to_vec()),
            };
            return vec![self.store(target, value)];
        };
        let Side { outer, first, size, reach: (before, after) } = self.region.0[d].clone();
        let mut out = Vec::new();
        if before > 0 {
            out.extend(self.border(level, before, 0, target));
        }
        let var = self.program.add_var(format!("p{d}"));
        let mut source = source.to_vec();
        source[d] = outer.add(&Affine::from(var).plus(first));
        let target_here = [target, &[Affine::from(var).plus(before as i64)]].concat();
        let inner = self.level(level + 1, &source, &target_here);
        out.push(looped(var, size, LoopKind::Serial, inner));
        if after > 0 {
            out.extend(self.border(level, after, before + size, target));
        }
        out
    }

    /// Fills `n` border slices from `first` on.
    fn border(&mut self, level: usize, n: usize, first: usize, target: &[Affine]) -> Vec<Stmt> {
        let mut loops = Vec::new();
        let mut target = target.to_vec();
        for (i, &d) in self.dims[level..].iter().enumerate() {
            let (extent, offset) = if i == 0 { (n, first) } else { (self.region.0[d].padded(), 0) };
            if extent == 1 {
                target.push(Affine::constant(offset as i64));
                continue;
            }
            let var = self.program.add_var(format!("p{d}"));
            target.push(Affine::from(var).plus(offset as i64));
            loops.push((var, extent));
        }
        let mut body = vec![self.store(&target, Expr::Const(self.fill))];
        for (var, extent) in loops.into_iter().rev() {
            body = vec![looped(var, extent, LoopKind::Serial, body)];
        }
        body
    }

    fn store(&self, target: &[Affine], value: Expr) -> Stmt {
        Stmt::Store(Store { buf: self.to, index: target.iter().cloned().map(Index::Affine).collect(), value })
    }
}

impl Padded {
    /// The read of the copy that replaces a read of the original.
    pub fn read(&self, load: &Load) -> Load {
        let (_, region, _) = &self.key;
        let index = self.dims.iter().map(|&d| match &load.index[d] {
            Index::Affine(a) => {
                let Side { outer, first, reach, .. } = &region.0[d];
                Index::Affine(a.add(&outer.scale(-1)).plus(reach.0 as i64 - first))
            }
            other => other.clone(),
        });
        Load { buf: self.buf, index: index.collect(), otherwise: None }
    }
}

/// Lets this load read the copy instead.
pub fn redirect(body: &mut [Stmt], load: &Load, padded: &Padded) {
    map_loads(body, &mut |l| (l == load).then(|| Expr::Load(padded.read(l))));
}

//! Padded copies of what guarded loads read.

use nestjit_ir::visit::{Extents, map_loads};
use nestjit_ir::{
    Affine, BufId, Buffer, Expr, For, Index, Load, LoopKind, Program, Role, Scalar, Stmt, Store,
};

use super::{excess, fill_of, guarded_loads};
use crate::passes::loops::looped;

/// A padded copy: how to make it and how to read it.
pub(in crate::passes) struct Padded {
    /// What is copied and how far it is padded, to find the same copy again.
    key: (BufId, Vec<(usize, usize)>, Scalar),
    /// The copy.
    buf: BufId,
    /// The dimensions that the copy has; others are fixed by loops around it.
    dims: Vec<usize>,
    /// The statements that fill it.
    pub(in crate::passes) stmts: Vec<Stmt>,
}

/// What padded planes are limited by.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaneLimits {
    /// Bytes of a plane.
    pub bytes: usize,
    /// Elements along its contiguous dimension.
    pub width: usize,
}

/// How many times larger than a buffer its padded copy may be, and how many elements it may have in any case: what
/// reaches further is not read around a border.
const MAX_GROWTH: usize = 64;
const SMALL: usize = 1 << 14;

/// How far a load reaches beyond each dimension; `None` if that is not known, not at all, or too far for a copy.
fn reach(program: &Program, extents: &Extents, load: &Load) -> Option<Vec<(usize, usize)>> {
    let buffer = program.buf(load.buf);
    let reach: Option<Vec<(usize, usize)>> =
        load.index.iter().zip(&buffer.shape).map(|(i, &s)| excess(extents, i, s)).collect();
    let reach = reach.filter(|r| r.iter().any(|&e| e != (0, 0)))?;
    let padded = |(&s, r): (&usize, &(usize, usize))| s.saturating_add(r.0).saturating_add(r.1);
    let elements = buffer.shape.iter().zip(&reach).map(padded).fold(1, usize::saturating_mul);
    (elements <= SMALL.max(buffer.len().saturating_mul(MAX_GROWTH))).then_some(reach)
}

/// A padded copy of the whole buffer in a temporary of the program. Copies that `made` holds are used again;
/// a new one is added to it.
pub(in crate::passes) fn whole(
    program: &mut Program,
    extents: &Extents,
    load: &Load,
    made: &mut Vec<Padded>,
) -> Option<Padded> {
    let fill = fill_of(load)?;
    let reach = reach(program, extents, load)?;
    let key = (load.buf, reach.clone(), fill);
    let known = made.iter().find(|p| p.key == key).map(|p| (p.buf, p.dims.clone()));
    let (buf, dims) =
        match known {
            Some(known) => known,
            None => {
                let dims: Vec<usize> = (0..reach.len()).collect();
                let buf = padded_buffer(program, load.buf, &reach, &dims, Role::Temp);
                let index = vec![Affine::default(); reach.len()];
                let stmts = Copy { program, from: load.buf, to: buf, reach: &reach, dims: &dims, fill }
                    .level(0, &index, &[]);
                made.push(Padded { key: key.clone(), buf, dims: dims.clone(), stmts });
                (buf, dims)
            }
        };
    Some(Padded { key, buf, dims, stmts: Vec::new() })
}

/// Padded locals for the planes that the loads read in the loops of a chain, and at which loop of the chain they
/// are filled: for small planes whose contiguous dimension is guarded, so that vectors would cross the border.
pub(super) fn planes(
    program: &mut Program,
    extents: &Extents,
    chain: &[For],
    body: &[Stmt],
    limits: PlaneLimits,
) -> Option<(usize, Vec<(Load, Padded)>)> {
    let mut plans = Vec::new();
    let mut at = chain.len();
    for load in guarded_loads(body) {
        let fill = fill_of(&load)?;
        let reach = reach(program, extents, &load)?;
        let buffer = program.buf(load.buf);
        let last = *buffer.layout.order.last()?;
        if buffer.role == Role::Local || reach[last] == (0, 0) || buffer.shape[last] > limits.width {
            return None;
        }
        let dims: Vec<usize> = (0..reach.len()).filter(|&d| reach[d] != (0, 0)).collect();
        let bytes: usize = dims
            .iter()
            .map(|&d| buffer.shape[d] + reach[d].0 + reach[d].1)
            .fold(buffer.dtype.size(), usize::saturating_mul);
        if bytes > limits.bytes {
            return None;
        }
        let in_plane = |v| dims.iter().any(|&d| load.index[d].as_affine().is_some_and(|a| a.uses(v)));
        at = at.min(chain.iter().position(|l| in_plane(l.var))?);
        plans.push((load.clone(), reach, dims, fill));
    }
    // What selects the plane must be known outside the plane's loops.
    let outside = |load: &Load, dims: &[usize]| {
        load.index.iter().enumerate().filter(|(d, _)| !dims.contains(d)).all(|(_, i)| {
            i.as_affine().is_some_and(|a| a.vars().all(|v| chain[..at].iter().any(|l| l.var == v)))
        })
    };
    if plans.is_empty() || !plans.iter().all(|(load, _, dims, _)| outside(load, dims)) {
        return None;
    }
    let written = nestjit_ir::access::writes(body);
    if plans.iter().any(|p| written.contains(&p.0.buf)) {
        return None;
    }
    let padded = plans
        .into_iter()
        .map(|(load, reach, dims, fill)| {
            let buf = padded_buffer(program, load.buf, &reach, &dims, Role::Local);
            let index: Vec<Affine> =
                load.index.iter().map(|i| i.as_affine().cloned().unwrap_or_default()).collect();
            let mut stmts = vec![Stmt::Temp(buf)];
            let mut copy = Copy { program, from: load.buf, to: buf, reach: &reach, dims: &dims, fill };
            stmts.extend(copy.level(0, &index, &[]));
            (load.clone(), Padded { key: (load.buf, reach, fill), buf, dims, stmts })
        })
        .collect();
    Some((at, padded))
}

fn padded_buffer(
    program: &mut Program,
    from: BufId,
    reach: &[(usize, usize)],
    dims: &[usize],
    role: Role,
) -> BufId {
    let source = program.buf(from);
    let shape: Vec<usize> = dims.iter().map(|&d| source.shape[d] + reach[d].0 + reach[d].1).collect();
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
    reach: &'a [(usize, usize)],
    dims: &'a [usize],
    fill: Scalar,
}

impl Copy<'_> {
    /// The loops from the `level`-th copied dimension inwards. `source` is where to read, `target` where to
    /// write, as far as the outer dimensions say.
    fn level(&mut self, level: usize, source: &[Affine], target: &[Affine]) -> Vec<Stmt> {
        let Some(&d) = self.dims.get(level) else {
            let value = Expr::load(self.from, source.to_vec());
            return vec![self.store(target, value)];
        };
        let (size, (before, after)) = (self.program.buf(self.from).shape[d], self.reach[d]);
        let mut out = Vec::new();
        if before > 0 {
            out.extend(self.border(level, before, 0, target));
        }
        let var = self.program.add_var(format!("p{d}"));
        let mut source = source.to_vec();
        source[d] = var.into();
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
            let (extent, offset) = if i == 0 {
                (n, first)
            } else {
                (self.program.buf(self.from).shape[d] + self.reach[d].0 + self.reach[d].1, 0)
            };
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
    pub(in crate::passes) fn read(&self, load: &Load) -> Load {
        let (_, reach, _) = &self.key;
        let index = self.dims.iter().map(|&d| match &load.index[d] {
            Index::Affine(a) => Index::Affine(a.plus(reach[d].0 as i64)),
            other => other.clone(),
        });
        Load { buf: self.buf, index: index.collect(), otherwise: None }
    }
}

/// Lets this load read the copy instead.
pub(super) fn redirect(body: &mut [Stmt], load: &Load, padded: &Padded) {
    map_loads(body, &mut |l| (l == load).then(|| Expr::Load(padded.read(l))));
}

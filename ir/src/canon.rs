//! The canonical form of a program: what is left when numbers and clashing names do not matter.
//!
//! Two programs that differ only in how buffers and variables are numbered have the same canonical form; the
//! textual form ([`crate::print`], [`crate::parse`]) keeps exactly what the canonical form keeps.

use std::collections::{HashMap, HashSet};

use crate::affine::Var;
use crate::nest::{BufId, Expr, Program, Role, Stmt};
use crate::types::Scalar;
use crate::visit;

impl Program {
    /// Renumbers buffers and variables in order of appearance, makes names unique (variables within their
    /// nest) by suffixes `_1`, `_2`, ..., turns variable names into identifiers, and drops variables,
    /// locals and temps that nothing uses.
    ///
    /// The order of appearance: inputs, constants and outputs that no nest touches, then nest by nest those of
    /// [`Program::signature`] and its locals. Inputs keep their order among each other, and so do outputs: that is the
    /// order in which they are given and returned.
    pub fn canonical(&self) -> Program {
        let buffers = self.buffers_by_appearance();
        let buf_map: HashMap<BufId, BufId> =
            buffers.iter().enumerate().map(|(i, &b)| (b, BufId(i as u32))).collect();
        let mut result = Program::default();
        let mut taken = HashSet::new();
        for &id in &buffers {
            let Some(buffer) = self.buffers.get(id.0 as usize) else { continue };
            let mut buffer = buffer.clone();
            buffer.name = unique(&mut taken, &buffer.name);
            if buffer.halo.is_empty() {
                buffer.halo_fill = Scalar::zero(buffer.dtype);
            }
            result.buffers.push(buffer);
        }
        let mut nest_names = HashSet::new();
        for nest in &self.nests {
            let mut nest = nest.clone();
            nest.name = unique(&mut nest_names, &nest.name);
            visit::rename_bufs(&mut nest.body, &mut |b| buf_map.get(&b).copied().unwrap_or(b));
            let (mut var_map, mut names) = (HashMap::new(), HashSet::new());
            for var in vars_by_appearance(&nest.body) {
                let name = self.vars.get(var.0 as usize).map_or("", String::as_str);
                var_map.insert(var, result.add_var(unique(&mut names, &identifier(name))));
            }
            visit::rename_vars(&mut nest.body, &mut |v| var_map.get(&v).copied().unwrap_or(v));
            result.nests.push(nest);
        }
        result
    }

    /// The buffers of the whole program that a nest touches: those it only reads in order of appearance,
    /// then those it writes. Locals are not among them.
    pub fn signature(&self, body: &[Stmt]) -> Vec<BufId> {
        let (mut read, mut written) = (Vec::new(), Vec::new());
        each_buffer(body, &mut |b, is_write| {
            if self.buffers.get(b.0 as usize).is_some_and(|b| b.role != Role::Local) {
                let list = if is_write { &mut written } else { &mut read };
                if !list.contains(&b) {
                    list.push(b);
                }
            }
        });
        read.retain(|b| !written.contains(b));
        read.extend(written);
        read
    }

    fn buffers_by_appearance(&self) -> Vec<BufId> {
        let mut order = Vec::new();
        let mut used = HashSet::new();
        for nest in &self.nests {
            let mut locals = visit::declared_temps(&nest.body);
            // Locals that are used without being declared are kept: dropping them would hide the mistake.
            each_buffer(&nest.body, &mut |b, _| locals.push(b));
            let appearing = self.signature(&nest.body).into_iter().chain(locals);
            order.extend(appearing.filter(|&b| (b.0 as usize) < self.buffers.len() && used.insert(b)));
        }
        let unused = |role| self.buf_ids().filter(move |b| self.buf(*b).role == role);
        let mut all: Vec<BufId> = [Role::In, Role::Const, Role::Out].into_iter().flat_map(unused).collect();
        all.retain(|b| !used.contains(b));
        all.extend(order);
        self.in_order_of_interface(&mut all);
        all
    }

    /// Which buffers nests touch, and whether inputs and outputs are named in their order if those that no nest touches
    /// are named first, then those in the signature of each nest.
    pub(crate) fn listing(&self) -> (Vec<bool>, bool) {
        let mut touched = vec![false; self.buffers.len()];
        let mut listed = Vec::new();
        for nest in &self.nests {
            let mut signature = self.signature(&nest.body);
            self.in_order_of_interface(&mut signature);
            listed.extend(
                signature.into_iter().filter(|b| !std::mem::replace(&mut touched[b.0 as usize], true)),
            );
        }
        let mut all: Vec<BufId> = self.buf_ids().filter(|b| !touched[b.0 as usize]).collect();
        all.append(&mut listed);
        let mut ordered = all.clone();
        self.in_order_of_interface(&mut ordered);
        (touched, all == ordered)
    }

    /// Puts the inputs in a list into the order of the program, in the places that inputs have in the list; so for
    /// outputs.
    pub(crate) fn in_order_of_interface(&self, list: &mut [BufId]) {
        for role in [Role::In, Role::Out] {
            let has_role = |b: &BufId| self.buffers.get(b.0 as usize).is_some_and(|b| b.role == role);
            let mut sorted: Vec<BufId> = list.iter().copied().filter(has_role).collect();
            sorted.sort_unstable();
            for (place, b) in list.iter_mut().filter(|b| has_role(b)).zip(sorted) {
                *place = b;
            }
        }
    }
}

/// Calls `f` for every buffer of every access with whether it is written.
fn each_buffer(body: &[Stmt], f: &mut dyn FnMut(BufId, bool)) {
    let in_expr = |e: &Expr, f: &mut dyn FnMut(BufId, bool)| {
        visit::walk_expr(e, &mut |e| {
            if let Expr::Load(l) = e {
                f(l.buf, false);
            }
        });
    };
    visit::walk_stmts(body, &mut |s| {
        let (buf, value) = match s {
            Stmt::Store(s) => (s.buf, &s.value),
            Stmt::Reduce(r) => (r.buf, &r.value),
            Stmt::Call(c) => {
                c.inputs.iter().for_each(|&b| f(b, false));
                c.outputs.iter().for_each(|&b| f(b, true));
                return;
            }
            Stmt::For(_) | Stmt::Temp(_) => return,
        };
        f(buf, true);
        for i in visit::target_index(s).unwrap_or_default() {
            if let crate::Index::Value(e) = i {
                in_expr(e, f);
            }
        }
        in_expr(value, f);
    });
}

/// The variables of a nest: those bound, outer loops first, then any that are not bound at all.
fn vars_by_appearance(body: &[Stmt]) -> Vec<Var> {
    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    visit::walk_loops(body, &mut |l| {
        if seen.insert(l.var) {
            order.push(l.var);
        }
    });
    visit::walk_affine(body, &mut |a| order.extend(a.vars().filter(|&v| seen.insert(v))));
    order
}

fn unique(taken: &mut HashSet<String>, name: &str) -> String {
    let mut result = name.to_owned();
    let mut suffix = 0;
    while !taken.insert(result.clone()) {
        suffix += 1;
        result = format!("{name}_{suffix}");
    }
    result
}

/// `name` with everything replaced that an identifier may not contain.
fn identifier(name: &str) -> String {
    let mut result: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if result.is_empty() || result.starts_with(|c: char| c.is_ascii_digit()) {
        result.insert(0, 'v');
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, DType, NestBuilder, SCALAR};

    #[test]
    fn numbers_and_names_become_canonical() {
        let mut p = Program::default();
        p.add_var("unused");
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[4], Role::Out));
        p.add_buffer(Buffer::new("gone", DType::F32, &[4], Role::Temp));
        let x = p.add_buffer(Buffer::new("y", DType::F32, &[4], Role::In));
        let idle = p.add_buffer(Buffer::new("idle", DType::F32, &[4], Role::In));
        let mut b = NestBuilder::new(&mut p, "f");
        for _ in 0..2 {
            b.for_("i 1", 4, |b, i| b.store(y, [i], Expr::load(x, [i * -1 + 3])));
        }
        b.finish();
        p.nests.push(p.nests[0].clone());
        let c = p.canonical();
        assert_eq!(c.buffers.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["y", "idle", "y_1"]);
        assert_eq!(p.signature(&p.nests[0].body), [x, y]);
        assert_eq!(c.buf(BufId(1)), p.buf(idle));
        assert_eq!(c.vars[..2], ["i_1", "i_1_1"]);
        assert_eq!((c.nests[0].name.as_str(), c.nests[1].name.as_str()), ("f", "f_1"));
        assert_eq!(c.canonical(), c);
    }

    #[test]
    fn inputs_and_outputs_keep_their_order() {
        let mut p = Program::default();
        let [a, b, c] = ["a", "b", "c"].map(|n| p.add_buffer(Buffer::new(n, DType::F32, &[], Role::In)));
        let at = |b| Expr::load(b, SCALAR);
        let [y, z] = ["y", "z"].map(|n| p.add_buffer(Buffer::new(n, DType::F32, &[], Role::Out)));
        for (name, out, value) in [("f", z, at(c) - at(b)), ("g", y, at(a))] {
            let mut nest = NestBuilder::new(&mut p, name);
            nest.store(out, SCALAR, value);
            nest.finish();
        }
        let names = |p: &Program, role: Role| {
            let of = p.buffers.iter().filter(|b| b.role == role).map(|b| b.name.clone());
            of.collect::<Vec<_>>().concat()
        };
        let canonical = p.canonical();
        assert_eq!((names(&canonical, Role::In), names(&canonical, Role::Out)), ("abc".into(), "yz".into()));
        let text = p.to_string();
        assert!(text.starts_with("buffer in %a: f32\nbuffer in %b: f32\n"), "{text}");
        assert!(text.contains("nest @f(in %b: f32, in %c: f32, out %z: f32)"), "{text}");
        assert_eq!(text.parse::<Program>().unwrap(), canonical);
        // One nest says it by itself.
        p.nests.pop();
        p.nests[0].body.clear();
        let mut nest = NestBuilder::new(&mut p, "h");
        nest.store(y, SCALAR, at(c) - at(a));
        nest.store(z, SCALAR, at(b));
        nest.finish();
        p.nests.remove(0);
        let text = p.to_string();
        assert!(
            text.starts_with("nest @h(in %a: f32, in %b: f32, in %c: f32, out %y: f32, out %z: f32)"),
            "{text}"
        );
        assert_eq!(text.parse::<Program>().unwrap(), p.canonical());
    }
}

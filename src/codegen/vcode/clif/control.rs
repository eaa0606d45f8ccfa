//! Loops with their pointers, and conditional blocks.

use std::collections::BTreeSet;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};

use super::{Emitter, Pattern, order};
use crate::codegen::vcode::{Access, Bound, Counter, Inst, Reg, Terms};

impl<'a> Emitter<'a, '_> {
    pub(super) fn if_any(&mut self, mask: Reg, body: &'a [Inst]) {
        let mask = self.get(mask);
        let any = self.b.ins().vany_true(mask);
        let (yes, join) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(yes);
        self.b.ins().brif(any, yes, &[], join, &[]);
        self.b.switch_to_block(yes);
        self.b.seal_block(yes);
        self.block(body);
        self.b.ins().jump(join, &[]);
        self.b.switch_to_block(join);
        self.b.seal_block(join);
    }

    pub(super) fn for_loop(&mut self, counter: Counter, begin: Bound, end: Bound, body: &'a [Inst]) {
        let bound = |e: &mut Self, bound| match bound {
            Bound::Const(c) => e.b.ins().iconst(types::I64, c),
            Bound::Arg(a) => e.args[a.0 as usize],
        };
        let (begin_value, end_value) = (bound(self, begin), bound(self, end));
        // A loop of constant extent runs at least once; another one is guarded.
        let done = match (begin, end) {
            (Bound::Const(from), Bound::Const(to)) if from < to => None,
            _ => {
                let (run, done) = (self.b.create_block(), self.b.create_block());
                let any = self.b.ins().icmp(IntCC::SignedLessThan, begin_value, end_value);
                self.b.ins().brif(any, run, &[], done, &[]);
                self.b.switch_to_block(run);
                self.b.seal_block(run);
                Some(done)
            }
        };
        let mut patterns = BTreeSet::new();
        self.patterns(body, counter, &mut patterns);
        let mut starts = vec![BlockArg::Value(begin_value)];
        for (base, terms) in &patterns {
            let outer: Terms = terms.iter().copied().filter(|t| t.0 != counter).collect();
            let mut start = self.pointer(&(*base, outer));
            if begin != Bound::Const(0) {
                let moved = self.b.ins().imul_imm_s(begin_value, coefficient(terms, counter));
                start = self.b.ins().iadd(start, moved);
            }
            starts.push(BlockArg::Value(start));
        }
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let at = self.b.append_block_param(head, types::I64);
        let pointers: Vec<Value> =
            patterns.iter().map(|_| self.b.append_block_param(head, types::I64)).collect();
        self.b.ins().jump(head, &starts);
        self.b.switch_to_block(head);
        self.counters[counter.0 as usize] = Some(at);
        for (pattern, pointer) in patterns.iter().zip(&pointers) {
            self.pointers.insert(pattern.clone(), *pointer);
        }
        let outer = self.innermost;
        self.innermost = !body.iter().any(|i| matches!(i, Inst::Loop { .. }));
        match order::by_vector_operand(body) {
            Some(ordered) => ordered.into_iter().for_each(|i| self.inst(i)),
            None => self.block(body),
        }
        self.innermost = outer;
        self.broadcasts.clear();
        let mut nexts = vec![BlockArg::Value(self.b.ins().iadd_imm_s(at, 1))];
        for (pattern, pointer) in patterns.iter().zip(&pointers) {
            let next = self.b.ins().iadd_imm_s(*pointer, coefficient(&pattern.1, counter));
            nexts.push(BlockArg::Value(next));
            self.pointers.remove(pattern);
        }
        self.counters[counter.0 as usize] = None;
        let BlockArg::Value(next) = nexts[0] else { return };
        let again = self.b.ins().icmp(IntCC::SignedLessThan, next, end_value);
        self.b.ins().brif(again, head, &nexts, exit, &[]);
        self.b.seal_block(head);
        self.b.switch_to_block(exit);
        self.b.seal_block(exit);
        if let Some(done) = done {
            self.b.ins().jump(done, &[]);
            self.b.switch_to_block(done);
            self.b.seal_block(done);
        }
    }

    /// The patterns of the accesses in `body` that move with `counter`, cut to the counters known there.
    fn patterns(&self, body: &[Inst], counter: Counter, patterns: &mut BTreeSet<Pattern>) {
        let add = |access: &Access, patterns: &mut BTreeSet<Pattern>| {
            let address = &access.address;
            if address.terms.iter().any(|t| t.0 == counter) {
                let known = |c: Counter| c == counter || self.counters[c.0 as usize].is_some();
                let terms = address.terms.iter().copied().filter(|t| known(t.0)).collect();
                patterns.insert((address.base, terms));
            }
        };
        for inst in body {
            match inst {
                Inst::Load { from, .. }
                | Inst::LoadGuarded { from, .. }
                | Inst::Lookup { table: from, .. }
                | Inst::Gather { from, .. } => add(from, patterns),
                Inst::Store { to, .. } => add(to, patterns),
                Inst::Loop { body, .. } => self.patterns(body, counter, patterns),
                _ => {}
            }
        }
    }

    /// The address of a pattern.
    pub(super) fn pointer(&mut self, pattern: &Pattern) -> Value {
        if let Some(pointer) = self.pointers.get(pattern) {
            return *pointer;
        }
        let mut sum = self.args[pattern.0.0 as usize];
        for &(counter, c) in &*pattern.1 {
            if let Some(at) = self.counters[counter.0 as usize] {
                let term = self.b.ins().imul_imm_s(at, c);
                sum = self.b.ins().iadd(sum, term);
            }
        }
        sum
    }
}

fn coefficient(terms: &[(Counter, i64)], counter: Counter) -> i64 {
    terms.iter().find(|t| t.0 == counter).map_or(0, |t| t.1)
}

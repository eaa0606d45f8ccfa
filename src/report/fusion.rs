//! The fusion report: which kernels a model became, what was merged, and what was not and why.

use std::collections::{BTreeMap, BTreeSet};

use nestjit_ir::visit::{walk_exprs, walk_stmts};
use nestjit_ir::{BufId, Expr, Nest, Program, Role, Stmt};
use serde::Serialize;

use crate::runtime::executable::Executable;
use crate::unit::{Remark, Unit};

use super::flops;
use super::format::{bytes, name, table};

/// What became of a model. Serialised, it is the object that `nestjit report --json` prints.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FusionReport {
    /// The version of the serialised form; it grows when fields change their meaning or go.
    pub schema_version: u32,
    /// The model's name.
    pub model: String,
    /// The vector tier that code was generated for.
    pub isa: String,
    /// The passes that were switched off.
    pub disabled_passes: Vec<String>,
    /// What was compiled, in numbers.
    pub compiled: Totals,
    /// The same without `OpFusion`, if it was compiled for comparison.
    pub unfused: Option<Totals>,
    /// The kernels in execution order.
    pub kernels: Vec<Kernel>,
    /// What passes did and declined to do, in the order in which they considered it.
    pub decisions: Vec<Decision>,
}

/// A program in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Totals {
    /// Nests, each one native function.
    pub kernels: usize,
    /// Buffers between nests.
    pub temporaries: usize,
    /// The bytes that all of these buffers take together.
    pub temporary_bytes: usize,
    /// The size of the arena that they share; buffers that do not live at the same time overlap.
    pub arena_bytes: usize,
}

/// A nest of the compiled program.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// The model's operations that it computes.
    pub operations: Vec<String>,
    /// The runtime functions that it calls: what could not be a loop nest.
    pub calls: Vec<String>,
    /// Floating-point operations of a run.
    pub flops: f64,
    /// The bytes of the buffers that it reads.
    pub read_bytes: usize,
    /// The bytes of the buffers that it writes.
    pub written_bytes: usize,
}

/// Something that a pass did or declined to do.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Decision {
    /// The pass.
    pub pass: String,
    /// Whether it was done.
    pub applied: bool,
    /// The stable reason code.
    pub code: String,
    /// The producer, or the nest that it is about.
    pub producer: String,
    /// The consumer, if there is one.
    pub consumer: Option<String>,
    /// The bytes that it keeps out of memory, or that go through memory because it was not done.
    pub bytes: usize,
    /// A sentence for people.
    pub message: String,
}

impl FusionReport {
    /// The report of a compiled unit.
    pub fn new(
        model: &str,
        isa: &str,
        disabled_passes: &[String],
        unit: &Unit,
        remarks: &[Remark],
    ) -> FusionReport {
        let program = &unit.program;
        FusionReport {
            schema_version: 1,
            model: model.to_owned(),
            isa: isa.to_owned(),
            disabled_passes: disabled_passes.to_vec(),
            compiled: Totals::of(unit),
            unfused: None,
            kernels: program.nests.iter().map(|nest| Kernel::new(program, nest)).collect(),
            decisions: remarks.iter().map(Decision::from).collect(),
        }
    }

    /// The report as text, at most `limit` kernels and `limit` merges of either kind.
    pub fn to_text(&self, limit: usize) -> String {
        let mut text = format!("model {}   isa {}", name(&self.model), self.isa);
        if !self.disabled_passes.is_empty() {
            text += &format!("   without {}", self.disabled_passes.join(", "));
        }
        text += "\n\n";
        let totals = |label: &str, t: &Totals| {
            [
                label.to_owned(),
                t.kernels.to_string(),
                t.temporaries.to_string(),
                bytes(t.temporary_bytes),
                bytes(t.arena_bytes),
            ]
        };
        let mut rows = vec![totals("compiled", &self.compiled)];
        rows.extend(self.unfused.as_ref().map(|t| totals("without fusion", t)));
        text += &table(["", "kernels", "temporaries", "their bytes", "arena"], &[1, 2, 3, 4], rows);
        text += "\nKernels\n";
        text += &table(
            ["kernel", "operations", "MFLOP", "reads", "writes"],
            &[2, 3, 4],
            self.kernels.iter().take(limit).map(Kernel::row),
        );
        text += &omitted(self.kernels.len(), limit);
        let of_fusion = |applied| {
            let found = self.decisions.iter().filter(move |d| d.pass == "OpFusion" && d.applied == applied);
            found.collect::<Vec<_>>()
        };
        text += &section("Merged", "nothing was merged", &of_fusion(true), limit);
        let not_merged = of_fusion(false);
        text += &section("Not merged", "nothing that could have been merged was left", &not_merged, limit);
        text + &reasons(&not_merged)
    }
}

fn section(title: &str, if_empty: &str, decisions: &[&Decision], limit: usize) -> String {
    if decisions.is_empty() {
        return format!("\n{title}: {if_empty}\n");
    }
    let rows = decisions.iter().take(limit).map(|d| d.row());
    let rows = table(["producer", "into", "reason", "bytes", ""], &[3], rows);
    format!("\n{title}\n{rows}{}", omitted(decisions.len(), limit))
}

fn omitted(n: usize, limit: usize) -> String {
    if n > limit { format!(" ... and {} more\n", n - limit) } else { String::new() }
}

/// How often each reason was given, and what it costs.
fn reasons(decisions: &[&Decision]) -> String {
    let mut by_code: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for d in decisions {
        let entry = by_code.entry(&d.code).or_default();
        *entry = (entry.0 + 1, entry.1.saturating_add(d.bytes));
    }
    if by_code.is_empty() {
        return String::new();
    }
    let rows = by_code.iter().map(|(code, (n, cost))| [(*code).to_owned(), n.to_string(), bytes(*cost)]);
    format!("\nReasons\n{}", table(["reason", "merges", "bytes"], &[1, 2], rows))
}

impl Executable {
    /// What the model became: its kernels, what was merged, and what was not and why.
    pub fn fusion_report(&self) -> FusionReport {
        let disabled = &self.options().disabled_passes;
        FusionReport::new(self.model(), self.isa().name(), disabled, self.unit(), self.remarks())
    }
}

impl Totals {
    /// The numbers of a unit. Buffers that no nest touches any more do not count.
    pub fn of(unit: &Unit) -> Totals {
        let program = &unit.program;
        let touched: BTreeSet<BufId> = program
            .nests
            .iter()
            .map(Accesses::of)
            .flat_map(|accesses| accesses.read.into_iter().chain(accesses.written))
            .filter(|id| program.buf(*id).role == Role::Temp)
            .collect();
        let temporary_bytes = touched.iter().map(|id| program.buf(*id).storage_bytes()).sum();
        Totals {
            kernels: program.nests.len(),
            temporaries: touched.len(),
            temporary_bytes,
            arena_bytes: unit.plan.as_ref().map_or(temporary_bytes, |plan| plan.bytes),
        }
    }
}

/// What a nest touches.
#[derive(Default)]
struct Accesses {
    read: BTreeSet<BufId>,
    written: BTreeSet<BufId>,
    calls: Vec<String>,
}

impl Accesses {
    fn of(nest: &Nest) -> Accesses {
        let mut found = Accesses::default();
        walk_exprs(&nest.body, &mut |e| {
            if let Expr::Load(l) = e {
                found.read.insert(l.buf);
            }
        });
        walk_stmts(&nest.body, &mut |s| match s {
            Stmt::Store(s) => drop(found.written.insert(s.buf)),
            Stmt::Reduce(r) => drop(found.written.insert(r.buf)),
            Stmt::Call(c) => {
                found.read.extend(c.inputs.iter().copied());
                found.written.extend(c.outputs.iter().copied());
                found.calls.push(c.function.clone());
            }
            Stmt::For(_) | Stmt::Temp(_) => {}
        });
        found
    }
}

impl Kernel {
    fn new(program: &Program, nest: &Nest) -> Kernel {
        let Accesses { read, written, calls } = Accesses::of(nest);
        let sum = |bufs: BTreeSet<BufId>| {
            let outside = bufs.into_iter().map(|b| program.buf(b)).filter(|b| b.role != Role::Local);
            outside.map(|b| b.storage_bytes()).sum()
        };
        Kernel {
            name: nest.name.clone(),
            operations: nest.ops.clone(),
            calls,
            flops: flops::count_nest(program, nest),
            read_bytes: sum(read),
            written_bytes: sum(written),
        }
    }

    fn row(&self) -> [String; 5] {
        let mut operations = name(&self.operations.join(" + "));
        if !self.calls.is_empty() {
            operations += &format!(" (calls {})", self.calls.join(", "));
        }
        [
            name(&self.name),
            operations,
            format!("{:.3}", self.flops / 1e6),
            bytes(self.read_bytes),
            bytes(self.written_bytes),
        ]
    }
}

impl Decision {
    fn row(&self) -> [String; 5] {
        let consumer = self.consumer.as_deref().unwrap_or("");
        [name(&self.producer), name(consumer), self.code.clone(), bytes(self.bytes), name(&self.message)]
    }
}

impl From<&Remark> for Decision {
    fn from(remark: &Remark) -> Decision {
        Decision {
            pass: remark.pass.to_owned(),
            applied: remark.applied,
            code: remark.code.to_owned(),
            producer: remark.producer.clone(),
            consumer: remark.consumer.clone(),
            bytes: remark.bytes,
            message: remark.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{Buffer, DType, NestBuilder};

    use super::*;

    /// Two nests with a temporary between them, and two decisions.
    fn report() -> FusionReport {
        let mut unit = Unit::default();
        let p = &mut unit.program;
        let ids = [("x", Role::In), ("t", Role::Temp), ("y", Role::Out)]
            .map(|(name, role)| p.add_buffer(Buffer::new(name, DType::F32, &[256], role)));
        for (nest, from, to) in [("a\n", ids[0], ids[1]), ("b", ids[1], ids[2])] {
            let mut b = NestBuilder::new(p, nest);
            b.op(format!("{nest}/Relu"));
            b.for_("i", 256, |b, i| b.store(to, [i], Expr::load(from, [i]).relu()));
            b.finish();
        }
        let remark = |code, applied| Remark {
            pass: "OpFusion",
            code,
            producer: "a\n".to_owned(),
            consumer: Some("b".to_owned()),
            bytes: 1024,
            applied,
            message: "two consumers".to_owned(),
        };
        let remarks = [remark("recompute", false), remark("fused-epilogue", true)];
        FusionReport::new("m", "simd128", &["Tile".to_owned()], &unit, &remarks)
    }

    #[test]
    fn text_says_what_was_merged_and_what_was_not() {
        let text = report().to_text(usize::MAX);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in\n{text}"));
        assert!(at("\nMerged") < at("fused-epilogue") && at("fused-epilogue") < at("\nNot merged"), "{text}");
        assert!(at("\nNot merged") < at("recompute") && at("recompute") < at("\nReasons"), "{text}");
        at("model m   isa simd128   without Tile");
        at("a\\n/Relu");
        assert!(!text.contains("more\n"));
        assert!(report().to_text(1).contains(" ... and 1 more\n"));
    }

    #[test]
    fn numbers_are_those_of_the_program() {
        let report = report();
        let totals = Totals { kernels: 2, temporaries: 1, temporary_bytes: 1024, arena_bytes: 1024 };
        assert_eq!(report.compiled, totals);
        let kernel = &report.kernels[1];
        assert_eq!((kernel.read_bytes, kernel.written_bytes, kernel.flops), (1024, 1024, 256.0));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["decisions"][0]["code"], "recompute");
        assert_eq!(json["kernels"][1]["operations"][0], "b/Relu");
    }
}

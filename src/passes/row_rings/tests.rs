//! Rings compute what their nests compute, bit by bit, for every way over the rows; nests that are no stages stay.

use nestjit_ir::interp::{Mode, Value};
use nestjit_ir::verify::{Stage as IrStage, verify};

use super::plan::RingPart;
use super::*;
use crate::machine::{Isa, MachineModel};
use crate::passes::testing::{self, unit};

fn target() -> MachineModel {
    MachineModel::plain(Isa::Avx512, [32 << 10, 1 << 20, 32 << 20], 2)
}

/// An inverted residual: a product for each pixel, a window for each channel, and a product again.
#[derive(Clone, Copy, Debug)]
struct Block {
    batch: usize,
    size: (usize, usize),
    /// Channels outside and between.
    channels: (usize, usize),
    kernel: usize,
    stride: usize,
    pad: usize,
    residual: bool,
    /// What the window's padding is, and whether it is a maximum instead of a sum.
    pool: bool,
}

const BLOCK: Block = Block {
    batch: 1,
    size: (11, 5),
    channels: (3, 6),
    kernel: 3,
    stride: 1,
    pad: 1,
    residual: false,
    pool: false,
};

impl Block {
    fn rows(&self) -> usize {
        (self.size.0 + 2 * self.pad - self.kernel) / self.stride + 1
    }

    fn text(&self) -> String {
        let Block { batch, size: (h, w), channels: (few, many), kernel, stride, pad, residual, pool } = *self;
        let (oh, ow) = (self.rows(), (w + 2 * pad - kernel) / stride + 1);
        let at = |v: &str, k: &str| {
            let first = if stride == 1 { v.to_owned() } else { format!("{stride}*{v}") };
            if pad == 0 { format!("{first}+{k}") } else { format!("{first}+{k}-{pad}") }
        };
        let (row, column) = (at("oh", "kh"), at("ow", "kw"));
        let fill = if pool { "-inf" } else { "0.0" };
        let read = format!("(%h[n,c,{row},{column}] else {fill})");
        let (start, step) = match pool {
            true => ("-inf".to_owned(), format!("%b max= {read}")),
            false => ("0.0".to_owned(), format!("%b += {read} * %v[c,0,kh,kw]")),
        };
        let more = if residual { " + %x[n,m,oh,ow]" } else { "" };
        let weights = if pool { "" } else { &format!(", const %v: f32[{many},1,{kernel},{kernel}]") };
        format!(
            "nest @expand(in %x: f32[{batch},{few},{h},{w}], const %u: f32[{many},{few}], const %s: f32[{many}],
                          temp %h: f32[{batch},{many},{h},{w}] layout(0,2,3,1)) ops(\"Conv a\") {{
               for n < {batch} {{ for co < {many} {{ for i < {h} {{ for j < {w} {{
                 temp %a: f32
                 %a = 0.0
                 for ci < {few} {{ %a += %x[n,ci,i,j] * %u[co,ci] }}
                 %h[n,co,i,j] = max(%a + %s[co], 0.1)
               }} }} }} }}
             }}
             nest @window(temp %h: f32[{batch},{many},{h},{w}] layout(0,2,3,1){weights}, temp %d: f32[{batch},{many},{oh},{ow}]) ops(\"Conv b\") {{
               for n < {batch} {{ for c < {many} {{ for oh < {oh} {{ for ow < {ow} {{
                 temp %b: f32
                 %b = {start}
                 for kh < {kernel} {{ for kw < {kernel} {{ {step} }} }}
                 %d[n,c,oh,ow] = %b
               }} }} }} }}
             }}
             nest @project(temp %d: f32[{batch},{many},{oh},{ow}], const %z: f32[{few},{many}], in %x: f32[{batch},{few},{h},{w}],
                           out %y: f32[{batch},{few},{oh},{ow}]) ops(\"Conv c\") {{
               for n < {batch} {{ for m < {few} {{ for oh < {oh} {{ for ow < {ow} {{
                 temp %e: f32
                 %e = 0.0
                 for k < {many} {{ %e += %d[n,k,oh,ow] * %z[m,k] }}
                 %y[n,m,oh,ow] = %e{more}
               }} }} }} }}
             }}"
        )
    }
}

/// The results, by name.
fn results(unit: &Unit) -> Vec<(String, Vec<u32>)> {
    let (program, out) = (&unit.program, testing::results(unit, Mode::Exact));
    let bits = |v: &Value| (0..v.len()).map(|i| (v.data.get(i).unwrap().as_f64() as f32).to_bits()).collect();
    let mut all: Vec<_> = out.iter().map(|(b, v)| (program.buf(*b).name.clone(), bits(v))).collect();
    all.sort();
    all
}

fn ring_of(unit: &Unit) -> Option<Ring> {
    let uses = Uses::of(&unit.program);
    (0..unit.program.nests.len()).find_map(|consumer| {
        let mut found = uses.windows(&unit.program, consumer).into_iter();
        found.find_map(|(producer, buf)| find(&unit.program, &uses, producer, consumer, buf))
    })
}

/// Ways over this many rows: whole, in blocks, in strips, in steps, in all of them, and with remainders.
fn ways(rows: usize) -> Vec<Vec<RingPart>> {
    let mut ways = Vec::new();
    for strips in 1..=3usize.min(rows) {
        for size in 1..=(rows / strips).min(4) {
            for steps in 1..=(rows / strips / size).min(3) {
                for blocks in 1..=rows / strips / size / steps {
                    let mut parts = vec![RingPart { first: 0, strips, blocks, steps, rows: size }];
                    let first = strips * blocks * steps * size;
                    if first < rows {
                        parts.push(RingPart { first, strips: 1, blocks: 1, steps: 1, rows: rows - first });
                    }
                    ways.push(parts);
                }
            }
        }
    }
    ways
}

#[test]
fn every_way_over_the_rows_computes_the_same() {
    let blocks = [
        BLOCK,
        Block { residual: true, batch: 2, ..BLOCK },
        Block { stride: 2, size: (12, 7), ..BLOCK },
        Block { stride: 2, kernel: 5, pad: 2, size: (13, 6), batch: 2, ..BLOCK },
        Block { kernel: 5, pad: 2, size: (9, 5), ..BLOCK },
        Block { kernel: 3, pad: 0, size: (10, 5), ..BLOCK },
        Block { kernel: 2, stride: 2, pad: 0, size: (12, 6), pool: true, ..BLOCK },
        Block { kernel: 3, stride: 2, pool: true, size: (9, 8), ..BLOCK },
        Block { kernel: 2, stride: 3, pad: 0, size: (11, 8), pool: true, ..BLOCK },
    ];
    for block in blocks {
        let before = unit(&block.text());
        let expected = results(&before);
        for parts in ways(block.rows()) {
            let mut after = before.clone();
            let ring = ring_of(&after).unwrap_or_else(|| panic!("{block:?}"));
            assert_eq!((ring.stages.len(), ring.batch_extent()), (3, block.batch), "{block:?}");
            if parts.iter().any(|p| plan::rows_of(&ring.links, *p).is_none()) {
                continue;
            }
            let plan = RingPlan { parts, bytes: 0, cycles: 0.0, apart: 0.0 };
            make(&mut after, ring, &plan).unwrap();
            assert_eq!(after.program.nests.len(), 1);
            assert_eq!(after.program.nests[0].ops.len(), 3);
            let errors = verify(&after.program, IrStage::Fused);
            assert!(errors.is_empty(), "{}\n{}", errors[0], after.program);
            assert!(results(&after) == expected, "{block:?}\n{:?}\n{}", plan.parts, after.program);
        }
    }
}

#[test]
fn sums_over_all_rows_are_kept_per_strip() {
    let text = BLOCK.text();
    let (head, _) = text.split_once("nest @project").unwrap();
    let text =
        head.replace("temp %d", "out %d").replace(") ops(\"Conv b\")", ", out %y: f32[6]) ops(\"Conv b\")");
    // The loop over channels goes around both.
    let text = text.replace("for n < 1 { for c < 6 { for oh", "for c < 6 { for oh").replace("[n,c,", "[0,c,");
    let sum = "temp %q: f32 %q = -inf for i < 11 { for j < 5 { %q max= %d[0,c,i,j] } } %y[c] = %q * 2.0";
    let text = text.replacen(
        "%d[0,c,oh,ow] = %b\n               } } } }",
        &format!("%d[0,c,oh,ow] = %b }} }} {sum} }}"),
        1,
    );
    let before = unit(&text);
    let expected = results(&before);
    assert_eq!(expected.len(), 2);
    for parts in ways(11) {
        let mut after = before.clone();
        let ring = ring_of(&after).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((ring.stages.len(), ring.tail.1.len()), (2, 1));
        if parts.iter().any(|p| plan::rows_of(&ring.links, *p).is_none()) {
            continue;
        }
        let plan = RingPlan { parts, bytes: 0, cycles: 0.0, apart: 0.0 };
        make(&mut after, ring, &plan).unwrap();
        let errors = verify(&after.program, IrStage::Fused);
        assert!(errors.is_empty(), "{}\n{}", errors[0], after.program);
        assert!(results(&after) == expected, "{:?}\n{}", plan.parts, after.program);
        let parts = after.program.buffers.iter().any(|b| b.name == "q.parts");
        assert_eq!(parts, plan.parts.iter().any(RingPart::is_loop));
    }
}

#[test]
fn only_private_windows_make_rings() {
    let text = BLOCK.text();
    let found = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        ring_of(&unit(&text.replace(from, to))).map(|r| r.stages.len())
    };
    assert_eq!(found("oh+kh", "oh+kh"), Some(3));
    // What others see must exist as a whole.
    assert_eq!(found("temp %h", "out %h"), None);
    assert_eq!(found("temp %d", "out %d"), Some(2));
    // Rows that do not move with those of the result, and windows that are no constants.
    assert_eq!(found("oh+kh-1", "oh+ow+kh-1"), None);
    assert_eq!(found("else 0.0", "else %v[c,0,0,0]"), None);
    // A producer whose rows depend on each other.
    assert_eq!(found("%a + %s[co]", "%a + %h[n,co,i,0]"), None);
}

#[test]
fn the_option_and_the_estimate_decide() {
    // 4.8 MB lie between the nests, or 1 kB.
    let large = Block { size: (112, 112), channels: (24, 96), stride: 2, ..BLOCK }.text();
    for (text, rings, code) in [
        (&large, RowRings::Auto, Some("ring")),
        (&BLOCK.text(), RowRings::Auto, Some("ring-cost")),
        (&BLOCK.text(), RowRings::On, Some("ring")),
        (&large, RowRings::Off, None),
    ] {
        let target = target();
        let ctx = PassContext::new(
            &crate::options::Options { row_rings: rings, ..crate::options::Options::default() },
            &target,
            2,
        );
        let (mut unit, mut remarks) = (unit(text), Vec::new());
        let changed = run(&mut unit, &ctx, &mut remarks).unwrap();
        assert_eq!(remarks.first().map(Remark::code), code, "{remarks:?}");
        assert_eq!(changed, code == Some("ring"));
        assert_eq!(unit.program.nests.len(), if changed { 1 } else { 3 });
    }
}

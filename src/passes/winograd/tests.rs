//! Rewritten convolutions mean what they meant, for both algorithms, every number of rows at a time and ragged
//! shapes; what is not a 3x3 convolution with stride 1 stays.

use nestjit_ir::interp::Mode;
use nestjit_ir::verify::{Stage, verify};

use super::*;
use crate::machine::{Isa, MachineModel};
use crate::passes::testing::{self, unit};

fn conv(h: usize, w: usize, ci: usize, co: usize, pad: usize) -> String {
    let (oh, ow) = (h + 2 * pad - 2, w + 2 * pad - 2);
    let at = |v: &str, k: &str| match pad {
        0 => format!("{v}+{k}"),
        pad => format!("{v}+{k}-{pad}"),
    };
    let (row, column) = (at("oh", "kh"), at("ow", "kw"));
    let x = match pad {
        0 => format!("%x[n,{row},{column},ci]"),
        _ => format!("(%x[n,{row},{column},ci] else 0.0)"),
    };
    format!(
        "nest @conv(in %x: f32[2,{h},{w},{ci}], const %w: f32[{co},{ci},3,3], const %b: f32[{co}], \
         in %r: f32[2,{oh},{ow},{co}], out %y: f32[2,{oh},{ow},{co}]) {{
          for n < 2 {{ for oh < {oh} {{ for ow < {ow} {{ for co < {co} {{
            temp %acc: f32
            %acc = 0.0
            for ci < {ci} {{ for kh < 3 {{ for kw < 3 {{ %acc += {x} * %w[co,ci,kh,kw] }} }} }}
            temp %t: f32
            %t = %acc + %b[co]
            %y[n,oh,ow,co] = max(%t + %r[n,oh,ow,co], 0.0)
          }} }} }} }}
        }}"
    )
}

/// The same convolution with the channels of its input outermost, or those of its output and residual input.
fn channels_first(text: &str, [h, w, ci, co, pad]: [usize; 5], input: bool, output: bool) -> String {
    let (oh, ow) = (h + 2 * pad - 2, w + 2 * pad - 2);
    let mut text = text.to_owned();
    if input {
        let shape = (format!("%x: f32[2,{h},{w},{ci}]"), format!("%x: f32[2,{ci},{h},{w}]"));
        let (from, to) = (text.find("%x[n,").unwrap() + 5, text.find(",ci]").unwrap());
        let pixel = text[from..to].to_owned();
        text = text.replace(&format!("{pixel},ci]"), &format!("ci,{pixel}]")).replace(&shape.0, &shape.1);
    }
    if output {
        text = text.replace(&format!("%y: f32[2,{oh},{ow},{co}]"), &format!("%y: f32[2,{co},{oh},{ow}]"));
        text = text.replace(&format!("%r: f32[2,{oh},{ow},{co}]"), &format!("%r: f32[2,{co},{oh},{ow}]"));
        text = text.replace("y[n,oh,ow,co]", "y[n,co,oh,ow]").replace("r[n,oh,ow,co]", "r[n,co,oh,ow]");
    }
    text
}

fn results(unit: &Unit) -> Vec<f64> {
    let mut out = testing::results(unit, Mode::F64);
    assert_eq!(out.len(), 1);
    let (_, value) = out.drain().next().unwrap();
    (0..value.len()).map(|i| value.data.get(i).unwrap().as_f64()).collect()
}

/// Rewrites.
fn rewritten(unit: &mut Unit, conv: Convolution, plan: FilteringPlan) -> Vec<Stmt> {
    let mut known = Known::default();
    rewrite(unit, conv, plan, &mut known).unwrap()
}

fn found(unit: &Unit) -> Option<std::result::Result<Convolution, NotFiltered>> {
    let [Stmt::For(l)] = unit.program.nests[0].body.as_slice() else { panic!("one loop") };
    find(&unit.program, l)
}

/// Checks every way to rewrite a convolution.
fn check_meaning(text: &str, [h, _, _, _, pad]: [usize; 5], exchanged: (bool, bool)) {
    let before = results(&unit(text));
    let scale = before.iter().fold(0f64, |m, v| m.max(v.abs()));
    for filtering in [Filtering::F2, Filtering::F4] {
        let high = (h + 2 * pad - 2).div_ceil(filtering.outputs());
        for rows in 1..=high {
            let mut unit = unit(text);
            let Some(Ok(conv)) = found(&unit) else { panic!("{text}") };
            assert_eq!((conv.gathered, conv.scattered), exchanged, "{text}");
            let plan = FilteringPlan { filtering, rows, cycles: 0.0, direct: 1.0 };
            let body = rewritten(&mut unit, conv, plan);
            unit.program.nests[0].body = body;
            let errors = verify(&unit.program, Stage::Fused);
            assert!(errors.is_empty(), "{}\n{}", errors[0], unit.program);
            // The filters are rounded to f32 after their transform.
            for (a, b) in before.iter().zip(results(&unit)) {
                assert!((a - b).abs() <= 2e-6 * scale, "{a} became {b}: {filtering:?}, {rows} rows\n{text}");
            }
        }
    }
}

#[test]
fn the_meaning_stays() {
    for shape in [[6, 6, 3, 5, 1], [9, 7, 2, 4, 1], [8, 12, 4, 3, 0], [5, 3, 2, 2, 1], [11, 6, 3, 2, 2]] {
        let [h, w, ci, co, pad] = shape;
        let text = conv(h, w, ci, co, pad);
        for (input, output) in [(false, false), (true, false), (false, true), (true, true)] {
            let text = channels_first(&text, shape, input, output);
            check_meaning(&text, shape, (input, output));
        }
    }
}

#[test]
fn other_sums_of_the_block_are_computed_aside() {
    let text = conv(9, 10, 3, 5, 1)
        .replace("in %r", "const %v: f32[5,3], in %r")
        .replace(
            "temp %t: f32",
            "temp %p: f32 %p = 0.0 for k < 3 { %p += %x[n,oh,ow,k] * %v[co,k] } temp %t: f32",
        )
        .replace("%acc + %b[co]", "%acc + %b[co] - %p");
    let before = results(&unit(&text));
    let mut unit = unit(&text);
    let Some(Ok(conv)) = found(&unit) else { panic!("{text}") };
    assert_eq!(conv.aside.len(), 1);
    let plan = FilteringPlan { filtering: Filtering::F4, rows: 2, cycles: 0.0, direct: 1.0 };
    let body = rewritten(&mut unit, conv, plan);
    unit.program.nests[0].body = body;
    let errors = verify(&unit.program, Stage::Fused);
    assert!(errors.is_empty(), "{}\n{}", errors[0], unit.program);
    for (a, b) in before.iter().zip(results(&unit)) {
        assert!((a - b).abs() <= 2e-5, "{a} became {b}");
    }
}

#[test]
fn only_what_pays_is_rewritten() {
    let target = MachineModel::plain(Isa::Avx512, [32 << 10, 1 << 20, 32 << 20], 2);
    let ctx = PassContext::new(&crate::options::Options::default(), &target, 2);
    for (text, expected) in [(conv(56, 56, 64, 64, 1), "winograd"), (conv(7, 7, 512, 512, 1), "no-gain")] {
        let mut unit = unit(&text);
        let mut remarks = Vec::new();
        let changed = run(&mut unit, &ctx, &mut remarks).unwrap();
        assert_eq!((remarks[0].code(), remarks.len()), (expected, 1), "{:?}", remarks[0]);
        assert_eq!(changed, expected == "winograd");
        assert_eq!(unit.program.buffers.iter().any(|b| b.name == "w.winograd"), changed);
    }
}

#[test]
fn other_convolutions_stay() {
    let text = conv(8, 8, 16, 16, 1);
    let obstacle = |from: &[&str], to: &[&str]| {
        let mut text = text.clone();
        for (from, to) in from.iter().zip(to) {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        found(&unit(&text)).map(|f| f.map(|_| ()))
    };
    assert_eq!(obstacle(&[], &[]), Some(Ok(())));
    assert_eq!(obstacle(&["const %w"], &["in %w"]), Some(Err(NotFiltered::DynamicWeights)));
    // Neither channels nor columns lie side by side, or what is read with the results does not.
    let last = ["%x: f32[2,8,8,16]", "%x[n,oh+kh-1,ow+kw-1,ci]"];
    assert_eq!(
        obstacle(&last, &["%x: f32[2,8,8,16,2]", "%x[n,oh+kh-1,ow+kw-1,ci,0]"]),
        Some(Err(NotFiltered::Layout))
    );
    let residual = ["%r: f32[2,8,8,16]", "%r[n,oh,ow,co]"];
    assert_eq!(obstacle(&residual, &["%r: f32[2,16,8,8]", "%r[n,co,ow,oh]"]), Some(Err(NotFiltered::Layout)));
    // Strides, dilations, other windows, and a channel for itself.
    assert_eq!(obstacle(&["oh+kh-1"], &["2*oh+kh-1"]), None);
    assert_eq!(obstacle(&["ow+kw-1"], &["ow+2*kw-1"]), None);
    assert_eq!(obstacle(&["kh < 3", "3,3]"], &["kh < 5", "5,3]"]), None);
    assert_eq!(obstacle(&["ow+kw-1,ci]"], &["ow+kw-1,co]"]), None);
    // What is added up over the image is more than an epilogue.
    assert_eq!(
        obstacle(&["%y[n,oh,ow,co] = max", "%y: f32[2,8,8,16]"], &["%y[n,co] += max", "%y: f32[2,16]"]),
        Some(Err(NotFiltered::Dependence))
    );
}

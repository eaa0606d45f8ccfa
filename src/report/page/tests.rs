//! Pages and graphs of small models: complete, self-contained, laid out without overlaps, whatever names are.

use super::graph::{Edge, Node};
use super::layout::{Layout, layout};
use super::*;
use crate::graph::Weights;
use crate::{Activation, Compiler, Sequential};

fn executable() -> Executable {
    let model = Sequential::new(&[8, 64]).dense(64, Activation::Relu).dense(10, Activation::Softmax).build();
    Compiler::new().keep_code(true).keep_programs(true).compile(&model.unwrap()).unwrap()
}

fn drawing(nodes: usize, edges: &[(usize, usize)]) -> Drawing {
    let node = |at| Node { group: Some(at), lines: vec![format!("node {at}")], name: String::new() };
    Drawing {
        nodes: (0..nodes).map(node).collect(),
        edges: edges.iter().map(|(from, to)| Edge { from: *from, to: *to, bytes: 4 }).collect(),
    }
}

#[track_caller]
fn assert_sound(drawing: &Drawing, layout: &Layout) {
    for (i, a) in layout.boxes.iter().enumerate() {
        assert!(a.x >= 0.0 && a.y >= 0.0 && a.x + a.width <= layout.width && a.y + a.height <= layout.height);
        for b in &layout.boxes[i + 1..] {
            let apart_x = a.x + a.width <= b.x || b.x + b.width <= a.x;
            let apart_y = a.y + a.height <= b.y || b.y + b.height <= a.y;
            assert!(apart_x || apart_y, "{a:?} and {b:?} overlap");
        }
    }
    for (edge, path) in drawing.edges.iter().zip(&layout.paths) {
        let (from, to) = (layout.boxes[edge.from], layout.boxes[edge.to]);
        assert_eq!(path.first().unwrap().1, from.y + from.height);
        assert_eq!(path.last().unwrap().1, to.y);
        assert!(path.is_sorted_by(|a, b| a.1 <= b.1), "edges run downwards: {path:?}");
    }
}

#[test]
fn boxes_do_not_overlap_and_edges_run_downwards() {
    for drawing in [
        drawing(0, &[]),
        drawing(1, &[]),
        drawing(3, &[]),
        drawing(4, &[(0, 1), (1, 2), (2, 3), (0, 3), (0, 2)]),
        // Everything feeds everything behind it.
        drawing(12, &(0..12).flat_map(|i| (i + 1..12).map(move |j| (i, j))).collect::<Vec<_>>()),
        // A second input far down.
        drawing(5, &[(0, 1), (1, 2), (2, 4), (3, 4)]),
    ] {
        assert_sound(&drawing, &layout(&drawing));
    }
    let chain: Vec<(usize, usize)> = (0..999).map(|i| (i, i + 1)).collect();
    let residual = chain.iter().copied().chain((0..996).step_by(4).map(|i| (i, i + 4)));
    let large = drawing(1000, &residual.collect::<Vec<_>>());
    let laid = layout(&large);
    assert_sound(&large, &laid);
    assert!(laid.width < 400.0, "a chain stays narrow: {}", laid.width);
}

#[test]
fn the_page_is_complete_and_fetches_nothing() {
    let executable = executable();
    let report = executable.fusion_report();
    let page = html(&report, &executable);
    for part in ["<!DOCTYPE html>", "id=\"before-", "id=\"after-", "Machine code", "MatMul_BiasAdd_Relu"] {
        assert!(page.contains(part), "no {part}");
    }
    assert!(page.ends_with("</html>\n"));
    for reference in ["src=", "href=", "@import", "fetch(", "XMLHttpRequest", "innerHTML"] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert_eq!(
        page.matches("http").count(),
        page.matches("http-equiv").count() + 2,
        "name spaces of two SVGs"
    );
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let groups = data["groups"].as_array().unwrap();
    assert_eq!(groups.len(), report.nests);
    for group in groups {
        assert!(group["texts"][0][1].as_str().unwrap().starts_with("nest @"), "{group}");
        let code = data["codes"][group["code"].as_u64().unwrap() as usize].as_str().unwrap();
        assert!(code.lines().count() > 10, "{code}");
    }
    // Every group is in both graphs.
    for at in 0..report.nests {
        assert!(page.matches(&format!("data-group=\"{at}\"")).count() >= 2, "group {at}");
    }
}

#[test]
fn markup_in_names_stays_text() {
    let evil = "</script><img src=x onerror='a'>\"\\";
    let mut g = crate::GraphBuilder::new(evil);
    let x = g.input(&format!("in{evil}"), crate::DType::F32, &[4, 4]);
    let weight = Weights::new(1).uniform(&[4, 4], 0.0, 1.0).unwrap();
    let w = g.constant(&format!("w{evil}"), weight);
    let y = g.named(&format!("op{evil}")).matmul(x, w);
    g.output(&format!("out{evil}"), y);
    let model = g.build().unwrap().into();
    let executable = Compiler::new().keep_code(true).keep_programs(true).compile(&model).unwrap();
    let report = executable.fusion_report();
    let page = html(&report, &executable);
    assert!(!page.contains("<img"), "{page}");
    assert_eq!(page.matches("</script>").count(), 2);
    let dot = dot(&report, &executable);
    assert!(dot.contains(r#"onerror='a'>\"\\""#), "{dot}");
    // Quotes that are not escaped come in pairs on every line.
    for line in dot.lines() {
        let open = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert_eq!(open % 2, 0, "{line}");
    }
}

#[test]
fn long_texts_keep_both_ends() {
    assert_eq!(short("layer1.conv", 30), "layer1.conv");
    assert_eq!(short(&("a".repeat(50) + &"z".repeat(50)), 11), "aaaaa\u{2026}zzzzz");
    assert_eq!(short("a\nb", 30), "a\\nb");
}

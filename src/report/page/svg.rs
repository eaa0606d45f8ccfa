//! Graphs as SVG. Boxes of a group carry its number, by which the script finds them.

use std::fmt::{self, Write};

use super::escape::html as esc;
use super::graph::Drawing;
use super::layout::{LINE, Layout, layout};

/// Colours that groups take in turns; the style says what they are.
const HUES: usize = 8;

/// Draws a graph.
pub(super) fn write(page: &mut String, id: &str, title: &str, drawing: &Drawing) -> fmt::Result {
    let layout = layout(drawing);
    writeln!(
        page,
        "<svg role=\"listbox\" aria-label=\"{title}: graph\" tabindex=\"0\" data-graph=\"{id}\" width=\"{w:.0}\" \
         height=\"{h:.0}\" viewBox=\"0 0 {w:.0} {h:.0}\" xmlns=\"http://www.w3.org/2000/svg\">\
         <defs><marker id=\"{id}-arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
         markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\"/></marker></defs>",
        w = layout.width,
        h = layout.height
    )?;
    edges(page, id, drawing, &layout)?;
    for (at, (node, area)) in drawing.nodes.iter().zip(&layout.boxes).enumerate() {
        let name = esc(&node.name);
        match node.group {
            Some(group) => write!(
                page,
                "<g class=\"node h{}\" data-group=\"{group}\" id=\"{id}-{at}\" role=\"option\" \
                 aria-selected=\"false\" aria-label=\"{name}\">",
                group % HUES
            )?,
            None => write!(page, "<g class=\"end\" role=\"presentation\">")?,
        }
        let round = if node.group.is_some() { 5.0 } else { area.height / 2.0 };
        write!(
            page,
            "<title>{name}</title><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{round:.1}\"/>",
            area.x, area.y, area.width, area.height
        )?;
        let middle = area.x + area.width / 2.0;
        for (i, line) in node.lines.iter().enumerate() {
            let class = if i == 0 { "first" } else { "more" };
            let y = area.y + LINE * (i as f64 + 1.0);
            write!(page, "<text class=\"{class}\" x=\"{middle:.1}\" y=\"{y:.1}\">{}</text>", esc(line))?;
        }
        writeln!(page, "</g>")?;
    }
    writeln!(page, "</svg>")
}

fn edges(page: &mut String, id: &str, drawing: &Drawing, layout: &Layout) -> fmt::Result {
    for (edge, points) in drawing.edges.iter().zip(&layout.paths) {
        let mut path = String::new();
        let mut last = (0.0, 0.0);
        for (i, &(x, y)) in points.iter().enumerate() {
            if i == 0 {
                write!(path, "M{x:.1} {y:.1}")?;
            } else if i % 2 == 0 {
                // Down a lane.
                write!(path, "L{x:.1} {y:.1}")?;
            } else {
                let middle = f64::midpoint(last.1, y);
                write!(path, "C{:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {y:.1}", last.0)?;
            }
            last = (x, y);
        }
        writeln!(
            page,
            "<path class=\"edge\" d=\"{path}\" marker-end=\"url(#{id}-arrow)\"><title>{}</title></path>",
            esc(&edge.title(drawing))
        )?;
    }
    Ok(())
}

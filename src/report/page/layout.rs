//! Layered layout: every node in a row below all that it depends on, rows ordered so that few edges cross, nodes
//! placed close to their neighbours, long edges led round the boxes between.

use super::graph::Drawing;

/// The space between boxes of a row, and what a passing edge takes.
const GAP: f64 = 18.0;
const LANE: f64 = 10.0;
/// The space between rows.
const ROW_GAP: f64 = 26.0;
const MARGIN: f64 = 16.0;
/// Lanes of an edge that are less than this apart are one.
const STRAIGHT: f64 = 4.0;
/// Sweeps over all rows to reduce crossings, and to move nodes to their neighbours.
const ORDER_SWEEPS: usize = 6;
const PLACE_SWEEPS: usize = 8;
/// Places at which edges pass a row, in all; beyond them, long edges are drawn straight.
const MAX_LANES: usize = 40_000;

/// The size of a line of text, and the space around it.
pub(super) const LINE: f64 = 15.0;
const CHARACTER: f64 = 6.6;
const BOLD_CHARACTER: f64 = 7.9;
const PADDING: f64 = 9.0;

/// Where everything is.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Layout {
    /// The size of the whole.
    pub width: f64,
    pub height: f64,
    /// For each node its box.
    pub boxes: Vec<Box>,
    /// For each edge its points, from the producer to the consumer.
    pub paths: Vec<Vec<(f64, f64)>>,
}

/// A rectangle.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Box {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// A node, or a place where an edge passes a row.
#[derive(Clone, Debug, Default)]
struct Place {
    row: usize,
    width: f64,
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays a graph out. Edges run from earlier nodes to later ones, or are ignored.
pub(super) fn layout(drawing: &Drawing) -> Layout {
    let rows = rows(drawing);
    let size = |at: usize| {
        let lines = &drawing.nodes[at].lines;
        let width = |(i, line): (usize, &String)| {
            line.chars().count() as f64 * if i == 0 { BOLD_CHARACTER } else { CHARACTER }
        };
        let widest = lines.iter().enumerate().map(width).fold(0.0, f64::max);
        (widest + 2.0 * PADDING, lines.len() as f64 * LINE + PADDING)
    };
    let mut places: Vec<Place> = (0..drawing.nodes.len())
        .map(|at| Place { row: rows[at], width: size(at).0, ..Place::default() })
        .collect();
    let lanes = lanes(drawing, &mut places);
    let mut order = vec![Vec::new(); rows.iter().max().map_or(0, |last| last + 1)];
    for (at, place) in places.iter().enumerate() {
        order[place.row].push(at);
    }
    reduce_crossings(&places, &mut order);
    place(&mut places, &order);

    let left = places.iter().map(|p| p.x - p.width / 2.0).fold(f64::INFINITY, f64::min);
    let left = if left.is_finite() { left } else { 0.0 };
    let (mut tops, mut heights, mut y) = (Vec::new(), Vec::new(), MARGIN);
    for row in &order {
        let boxes = row.iter().filter(|at| **at < drawing.nodes.len());
        let height = boxes.map(|at| size(*at).1).fold(0.0, f64::max);
        tops.push(y);
        heights.push(height);
        y += height + ROW_GAP;
    }
    let center = |at: usize| places[at].x - left + MARGIN;
    let boxes: Vec<Box> = (0..drawing.nodes.len())
        .map(|at| {
            let (width, height) = size(at);
            let y = tops[rows[at]] + (heights[rows[at]] - height) / 2.0;
            Box { x: center(at) - width / 2.0, y, width, height }
        })
        .collect();
    let paths = drawing.edges.iter().zip(&lanes).map(|(edge, lanes)| {
        let (from, to) = (boxes[edge.from], boxes[edge.to]);
        let mut points = vec![(from.x + from.width / 2.0, from.y + from.height)];
        for (passed, at) in lanes.iter().enumerate() {
            let (x, row) = (center(*at), places[*at].row);
            let bottom = tops[row] + heights[row];
            match points.last_mut() {
                // Straight on.
                Some(last) if passed > 0 && (last.0 - x).abs() < STRAIGHT => last.1 = bottom,
                _ => points.extend([(x, tops[row]), (x, bottom)]),
            }
        }
        points.push((to.x + to.width / 2.0, to.y));
        points
    });
    let width = places.iter().map(|p| p.x + p.width / 2.0 - left).fold(0.0, f64::max) + 2.0 * MARGIN;
    Layout { width, height: y - ROW_GAP + MARGIN, paths: paths.collect(), boxes }
}

/// The row of each node: below all producers; what has none stands right above its first reader.
fn rows(drawing: &Drawing) -> Vec<usize> {
    let mut rows = vec![0; drawing.nodes.len()];
    let mut edges: Vec<(usize, usize)> = drawing.edges.iter().map(|e| (e.from, e.to)).collect();
    edges.sort_by_key(|e| e.1);
    for &(from, to) in edges.iter().filter(|(from, to)| from < to) {
        rows[to] = rows[to].max(rows[from] + 1);
    }
    let mut fed = vec![false; drawing.nodes.len()];
    let mut first_reader = vec![usize::MAX; drawing.nodes.len()];
    for &(from, to) in &edges {
        fed[to] = true;
        first_reader[from] = first_reader[from].min(rows[to]);
    }
    for at in 0..rows.len() {
        if !fed[at] && first_reader[at] != usize::MAX {
            rows[at] = first_reader[at].saturating_sub(1);
        }
    }
    rows
}

/// Adds the places where edges pass rows, and connects everything. Returns the places of each edge.
fn lanes(drawing: &Drawing, places: &mut Vec<Place>) -> Vec<Vec<usize>> {
    let span = |e: &super::graph::Edge| places[e.to].row.saturating_sub(places[e.from].row + 1);
    let straight = drawing.edges.iter().map(span).sum::<usize>() > MAX_LANES;
    let mut lanes = Vec::with_capacity(drawing.edges.len());
    for edge in &drawing.edges {
        let mut own = Vec::new();
        let mut last = edge.from;
        if !straight {
            for row in places[edge.from].row + 1..places[edge.to].row {
                let at = places.len();
                places.push(Place { row, width: LANE, ..Place::default() });
                connect(places, last, at);
                own.push(at);
                last = at;
            }
        }
        connect(places, last, edge.to);
        lanes.push(own);
    }
    lanes
}

fn connect(places: &mut [Place], above: usize, below: usize) {
    places[above].below.push(below);
    places[below].above.push(above);
}

/// Sorts each row by the mean position of its neighbours in the row above, then below, in turns.
fn reduce_crossings(places: &[Place], order: &mut [Vec<usize>]) {
    let mut position = vec![0.0; places.len()];
    let number = |row: &[usize], position: &mut [f64]| {
        for (i, at) in row.iter().enumerate() {
            position[*at] = i as f64 / row.len() as f64;
        }
    };
    order.iter().for_each(|row| number(row, &mut position));
    for sweep in 0..ORDER_SWEEPS {
        let down = sweep % 2 == 0;
        for step in 0..order.len() {
            let row = if down { step } else { order.len() - 1 - step };
            let key = |at: usize| {
                let neighbours = if down { &places[at].above } else { &places[at].below };
                mean(neighbours.iter().map(|n| position[*n])).unwrap_or(position[at])
            };
            let mut keyed: Vec<(f64, usize)> = order[row].iter().map(|at| (key(*at), *at)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            order[row] = keyed.into_iter().map(|(_, at)| at).collect();
            number(&order[row], &mut position);
        }
    }
}

/// Moves the nodes of each row to the mean of their neighbours, as far as the others of the row permit.
fn place(places: &mut [Place], order: &[Vec<usize>]) {
    for row in order {
        let mut x = 0.0;
        for &at in row {
            places[at].x = x + places[at].width / 2.0;
            x += places[at].width + GAP;
        }
        let half = (x - GAP) / 2.0;
        row.iter().for_each(|at| places[*at].x -= half);
    }
    for sweep in 0..PLACE_SWEEPS {
        let down = sweep % 2 == 0;
        for step in 0..order.len() {
            let row = &order[if down { step } else { order.len() - 1 - step }];
            let wanted: Vec<f64> = row
                .iter()
                .map(|at| {
                    let neighbours = if down { &places[*at].above } else { &places[*at].below };
                    mean(neighbours.iter().map(|n| places[*n].x)).unwrap_or(places[*at].x)
                })
                .collect();
            let apart = |i: usize| {
                let (a, b) = (&places[row[i - 1]], &places[row[i]]);
                (a.width + b.width) / 2.0 + if a.width.min(b.width) > LANE { GAP } else { GAP / 2.0 }
            };
            // The mean of pushing everybody right and everybody left keeps the distances.
            let mut right = wanted.clone();
            let mut left = wanted;
            for i in 1..row.len() {
                right[i] = right[i].max(right[i - 1] + apart(i));
            }
            for i in (1..row.len()).rev() {
                left[i - 1] = left[i - 1].min(left[i] - apart(i));
            }
            for (i, at) in row.iter().enumerate() {
                places[*at].x = f64::midpoint(right[i], left[i]);
            }
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

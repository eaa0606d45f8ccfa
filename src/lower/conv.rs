//! Convolution, directly as its definition: loops over the result, and inside them over the input channels of
//! the group and the window.

use nestjit_ir::{Affine, ReduceOp, Scalar, Var};

use super::context::{Context, Loop, accumulate, loops};
use super::contraction::factor;
use super::image::{ImageLoops, image_index, spatial_dims, spatial_loops, window_index, windows_inside};
use crate::error::Result;
use crate::graph::{Format, Window};

/// How output channels, input channels and weights belong together.
#[derive(Clone, Copy, PartialEq)]
enum Grouping {
    /// Every output channel sees every input channel.
    None,
    /// Every input channel is a group of its own, with this many output channels.
    Depthwise { multiplier: usize },
    /// Anything in between: output and input channels per group.
    Groups { co: usize, ci: usize },
}

impl Grouping {
    fn of(groups: usize, filters: usize, channels: usize) -> Grouping {
        let (co, ci) = (filters / groups, channels / groups);
        match (groups, ci) {
            (1, _) => Grouping::None,
            (_, 1) => Grouping::Depthwise { multiplier: co },
            _ => Grouping::Groups { co, ci },
        }
    }

    /// The loops over the output channels.
    fn output_loops(self, groups: usize, filters: usize) -> Vec<Loop> {
        match self {
            Grouping::None => vec![("co".into(), filters)],
            Grouping::Depthwise { multiplier: 1 } => vec![("c".into(), groups)],
            Grouping::Depthwise { multiplier } => vec![("c".into(), groups), ("m".into(), multiplier)],
            Grouping::Groups { co, .. } => vec![("g".into(), groups), ("co".into(), co)],
        }
    }

    /// The loop over the input channels, if there is more than one by construction.
    fn input_loop(self, channels: usize) -> Option<Loop> {
        match self {
            Grouping::None => Some(("ci".into(), channels)),
            Grouping::Depthwise { .. } => None,
            Grouping::Groups { ci, .. } => Some(("ci".into(), ci)),
        }
    }

    /// The output channel that the loops' variables stand for.
    fn output_channel(self, vars: &[Var]) -> Affine {
        match (self, vars) {
            (Grouping::Groups { co: per_group, .. }, [g, c])
            | (Grouping::Depthwise { multiplier: per_group }, [g, c]) => *g * per_group as i64 + *c,
            _ => vars[0].into(),
        }
    }

    /// The input channel, given the output loops' variables and the input loop's.
    fn input_channel(self, vars: &[Var], ci: Option<Var>) -> Affine {
        match (self, ci) {
            (Grouping::Groups { ci: per_group, .. }, Some(c)) => vars[0] * per_group as i64 + c,
            (_, Some(c)) => c.into(),
            (_, None) => vars[0].into(),
        }
    }
}

pub(super) fn conv(
    cx: &mut Context<'_, '_>,
    window: &Window,
    groups: usize,
    format: Format,
    pad_value: i16,
) -> Result<()> {
    let y = cx.result()?;
    let (x, weight, bias) = (cx.factor(0)?, cx.factor(1)?, cx.optional(2)?);
    let rank = x.shape.len();
    let dims = spatial_dims(format, rank);
    let (input, output) = (&x.shape[dims.clone()], &y.shape[dims]);
    let (filters, channels) = (weight.shape[0], x.shape[format.channel_axis(rank)]);
    let grouping = Grouping::of(groups, filters, channels);
    let padded = !windows_inside(window, input, output);

    let outer = ImageLoops::new(
        format,
        y.shape[0],
        grouping.output_loops(groups, filters),
        spatial_loops("o", output),
    );
    let input_loop = grouping.input_loop(channels);
    let has_input_loop = input_loop.is_some();
    let reduced: Vec<Loop> = input_loop.into_iter().chain(spatial_loops("k", &window.kernel)).collect();

    let pad = Scalar::from_f64(x.dtype, f64::from(pad_value));
    let acc = cx.name("acc");
    let mut b = cx.nest("");
    loops(&mut b, &outer.loops, |b, vars| {
        let (c, o) = (outer.channels(vars), outer.spatial(vars));
        let co = grouping.output_channel(c);
        let sum = accumulate(b, &acc, ReduceOp::Add, y.dtype, &reduced, |inner| {
            let (ci, k) = if has_input_loop { (Some(inner[0]), &inner[1..]) } else { (None, inner) };
            let at = image_index(format, vars[0], grouping.input_channel(c, ci), window_index(window, o, k));
            let element = if padded { x.at_or(at, pad) } else { x.at(at) };
            let mut at = vec![co.clone(), ci.map_or(Affine::constant(0), Affine::var)];
            at.extend(k.iter().map(|k| Affine::var(*k)));
            factor(&x, element, &y) * factor(&weight, weight.at(at), &y)
        });
        let value = match &bias {
            Some(bias) => sum + bias.at([co.clone()]),
            None => sum,
        };
        y.store(b, image_index(format, vars[0], co, o.iter().map(|o| Affine::var(*o))), value);
    });
    b.finish();
    Ok(())
}

//! Which neighbours an element of a resampled dimension has, and what they weigh.

/// How elements between elements are computed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Mode {
    Nearest(Nearest),
    Linear { antialias: bool },
    Cubic { antialias: bool, a: f64 },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// Where in the operand an element of the result is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// Half a pixel after where it is by scale: of the versions 11 and 12 only.
    TfHalfPixelForNn,
    /// Within a region, as fractions of the extent.
    CropAndResize,
}

pub(super) struct Resampling {
    pub mode: Mode,
    pub coordinates: Coordinates,
    pub exclude_outside: bool,
    pub extrapolation: f64,
}

/// Neighbours and weights for each element along a dimension.
pub(super) struct Taps {
    /// Per neighbour, the position for each element of the result.
    pub positions: Vec<Vec<i64>>,
    pub weights: Vec<Vec<f64>>,
    /// Elements that are outside the operand altogether.
    pub outside: Vec<bool>,
}

/// The position of element `i` of the result in the operand.
fn coordinate(
    coordinates: Coordinates,
    i: usize,
    scale: f64,
    input: usize,
    size: usize,
    region: Option<(f64, f64)>,
) -> f64 {
    let (i, input) = (i as f64, input as f64);
    let length = scale * input;
    match coordinates {
        Coordinates::HalfPixel => (i + 0.5) / scale - 0.5,
        Coordinates::HalfPixelSymmetric => {
            // `input / 2 * (1 - size / length)`, exact where the quotients are.
            let offset = (length - size as f64) / (2.0 * scale);
            offset + (i + 0.5) / scale - 0.5
        }
        Coordinates::PytorchHalfPixel if length <= 1.0 => 0.0,
        Coordinates::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
        Coordinates::AlignCorners if length == 1.0 => 0.0,
        Coordinates::AlignCorners => i * (input - 1.0) / (length - 1.0),
        Coordinates::Asymmetric => i / scale,
        Coordinates::TfHalfPixelForNn => (i + 0.5) / scale,
        Coordinates::CropAndResize => {
            let (start, end) = region.unwrap_or((0.0, 1.0));
            let within = match length == 1.0 {
                true => (end - start) * (input - 1.0) / 2.0,
                false => i * (end - start) * (input - 1.0) / (length - 1.0),
            };
            within + start * (input - 1.0)
        }
    }
}

/// Weights of the neighbours of a point that is `ratio`, in `(0, 1]`, after the element before it.
fn weights(mode: Mode, ratio: f64, scale: f64) -> Vec<f64> {
    // Shrinking widens the window.
    let shrink = scale.min(1.0);
    let normalised = |weights: Vec<f64>| {
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect()
    };
    match mode {
        Mode::Nearest(nearest) => {
            let after = ratio == 1.0
                || match nearest {
                    Nearest::RoundPreferFloor => ratio > 0.5,
                    Nearest::RoundPreferCeil => ratio >= 0.5,
                    Nearest::Floor => false,
                    Nearest::Ceil => true,
                };
            if after { vec![0.0, 1.0] } else { vec![1.0, 0.0] }
        }
        Mode::Linear { antialias: false } => vec![1.0 - ratio, ratio],
        Mode::Linear { antialias: true } => {
            let start = (-1.0 / shrink).floor() as i64 + 1;
            let window = start..start + (2 - 2 * start);
            normalised(window.map(|i| (1.0 - ((i as f64 - ratio) * shrink).abs()).clamp(0.0, 1.0)).collect())
        }
        Mode::Cubic { antialias, a } => {
            let cubic = |x: f64| {
                let x = x.abs();
                if x <= 1.0 {
                    ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
                } else {
                    0.0
                }
            };
            if !antialias {
                return [ratio + 1.0, ratio, 1.0 - ratio, 2.0 - ratio].map(cubic).to_vec();
            }
            let start = (-2.0 / shrink).floor() as i64 + 1;
            normalised((start..2 - start).map(|i| cubic(shrink * (i as f64 - ratio))).collect())
        }
    }
}

/// Neighbours and weights of all elements of the result.
pub(super) fn taps(
    resampling: &Resampling,
    scale: f64,
    input: usize,
    size: usize,
    region: Option<(f64, f64)>,
) -> Taps {
    let mut taps = Taps { positions: Vec::new(), weights: Vec::new(), outside: Vec::with_capacity(size) };
    for i in 0..size {
        let x = coordinate(resampling.coordinates, i, scale, input, size, region);
        let crop = resampling.coordinates == Coordinates::CropAndResize;
        taps.outside.push(crop && (x < 0.0 || x > input as f64 - 1.0));
        let whole = x.floor();
        let ratio = if x == whole { 1.0 } else { x - whole };
        let mut weights = weights(resampling.mode, ratio, scale);
        let n = weights.len() as i64;
        // The `n` elements nearest to the point; of two as near, the one before.
        let start = match (n % 2 == 0, x - whole) {
            (true, 0.0) => -(n / 2),
            (true, _) => -(n / 2) + 1,
            (false, rest) if rest <= 0.5 => -((n - 1) / 2),
            (false, _) => -((n - 1) / 2) + 1,
        };
        let first = whole as i64 + start;
        if resampling.exclude_outside {
            for (k, weight) in weights.iter_mut().enumerate() {
                if !(0..input as i64).contains(&(first + k as i64)) {
                    *weight = 0.0;
                }
            }
            let sum: f64 = weights.iter().sum();
            let sum = if sum == 0.0 { 1.0 } else { sum };
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        taps.positions.resize(weights.len(), Vec::new());
        taps.weights.resize(weights.len(), Vec::new());
        for (k, weight) in weights.into_iter().enumerate() {
            taps.positions[k].push((first + k as i64).clamp(0, input as i64 - 1));
            taps.weights[k].push(weight);
        }
    }
    taps
}

//! Detections: [`suppress`] keeps the best of overlapping boxes.

use nestjit_ir::DType;

use super::{int, order, zeros};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The boxes that are left when those which overlap better ones are dropped. `boxes [N, B, 4]`, `scores [N, C, B]`; the limits are how many boxes are kept per batch and class, which overlap
/// is too much, and which score is too low. The result is `[K, 3]`: batch, class and box.
pub(crate) fn suppress(
    boxes: &Tensor,
    scores: &Tensor,
    limits: [Option<&Tensor>; 3],
    center_point_box: bool,
) -> Result<Tensor> {
    let ([batches, count, 4], [n, classes, m]) = (boxes.shape(), scores.shape()) else {
        return Err(Error::shape(format!(
            "boxes of shape {:?} and scores of shape {:?} do not fit",
            boxes.shape(),
            scores.shape()
        )));
    };
    if (n, m) != (batches, count) {
        return Err(Error::shape(format!(
            "boxes of shape {:?} and scores of shape {:?} do not fit",
            boxes.shape(),
            scores.shape()
        )));
    }
    let [most, overlap, threshold] = limits;
    let most = most.map_or(Ok(0), |most| int(most, "the number of boxes"))?;
    let float = |limit: Option<&Tensor>| match limit {
        None => Ok(None),
        Some(t) if t.len() == 1 => Ok(Some(t.values::<f32>()?[0])),
        Some(t) => Err(Error::shape(format!("a threshold must be one number, not {:?}", t.shape()))),
    };
    let (overlap, threshold) = (float(overlap)?.unwrap_or(0.0), float(threshold)?);
    if !(0.0..=1.0).contains(&overlap) {
        return Err(Error::invalid(format!("iou_threshold is {overlap}, but must be in 0..=1")));
    }
    let most = usize::try_from(most).unwrap_or(0).min(*count);
    let corners: Vec<[f32; 4]> =
        boxes.values::<f32>()?.chunks_exact(4).map(|b| corners(b, center_point_box)).collect();
    let mut found: Vec<i64> = Vec::new();
    if most > 0 && !scores.is_empty() {
        // Best first.
        let (_, ranked) = order::top_k(scores, -1, *count as i64, true)?;
        let ranked = ranked.values::<i64>()?.chunks_exact(*count);
        for (line, (ranked, scores)) in ranked.zip(scores.values::<f32>()?.chunks_exact(*count)).enumerate() {
            let (batch, class) = (line / classes, line % classes);
            let here = &corners[batch * count..(batch + 1) * count];
            let mut kept: Vec<usize> = Vec::new();
            let good = |i: &usize| threshold.is_none_or(|threshold| scores[*i] > threshold);
            for candidate in ranked.iter().map(|i| *i as usize).filter(good) {
                if kept.len() == most {
                    break;
                }
                if kept.iter().all(|k| shared(&here[*k], &here[candidate]) <= overlap) {
                    kept.push(candidate);
                }
            }
            found.extend(kept.iter().flat_map(|k| [batch as i64, class as i64, *k as i64]));
        }
    }
    let mut result = zeros(DType::I64, &[found.len() / 3, 3])?;
    result.values_mut::<i64>()?.copy_from_slice(&found);
    Ok(result)
}

/// Lower and upper corner, whatever way the box is given.
fn corners(b: &[f32], center_point_box: bool) -> [f32; 4] {
    if center_point_box {
        let (w, h) = (b[2] / 2.0, b[3] / 2.0);
        return [b[0] - w, b[1] - h, b[0] + w, b[1] + h];
    }
    [b[0].min(b[2]), b[1].min(b[3]), b[0].max(b[2]), b[1].max(b[3])]
}

/// The area that two boxes share, divided by the area that they cover.
fn shared(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let (w, h) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    if w <= 0.0 || h <= 0.0 || area(a) <= 0.0 || area(b) <= 0.0 {
        return 0.0;
    }
    w * h / (area(a) + area(b) - w * h)
}

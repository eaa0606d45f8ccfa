//! The attributes of the operator Scan.

use super::attributes::Attributes;
use super::node::{extent, missing};
use crate::error::{Error, Result};

/// What a scan runs along; one entry per scanned operand, or result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// The dimensions of operands, counted from the end if negative, and whether they run backwards.
    pub inputs: Vec<(i64, bool)>,
    /// The dimensions of results.
    pub outputs: Vec<(i64, bool)>,
    /// Whether the first operand is a list of lengths, and operands and results have a batch dimension before all
    /// others, as in the operator's first version.
    pub batched: bool,
}

impl Scan {
    /// Of a node with so many operands, lists of lengths not counted, and so many results.
    ///
    /// # Errors
    /// The attributes contradict each other, or these.
    pub(super) fn of(
        attributes: &Attributes<'_>,
        operands: usize,
        results: usize,
        batched: bool,
    ) -> Result<Scan> {
        let scanned = attributes.int("num_scan_inputs")?.ok_or_else(|| missing("num_scan_inputs"))?;
        let scanned = extent(scanned, "num_scan_inputs")?;
        let Some(carried) = operands.checked_sub(scanned).filter(|_| scanned > 0) else {
            return Err(Error::invalid(format!(
                "{scanned} inputs are to be scanned, but there are {operands}"
            )));
        };
        let list = |name: &'static str, count: usize| -> Result<Vec<i64>> {
            let list = attributes.ints(name)?.map_or_else(|| vec![0; count], <[i64]>::to_vec);
            match list.len() == count {
                true => Ok(list),
                false => Err(Error::invalid(format!("'{name}' has {} entries, not {count}", list.len()))),
            }
        };
        let along = |axes: &'static str, directions: &'static str, count: usize| -> Result<_> {
            let backwards = list(directions, count)?.into_iter().map(|direction| direction != 0);
            Ok(list(axes, count)?.into_iter().zip(backwards).collect())
        };
        let directions = if batched { "directions" } else { "scan_input_directions" };
        Ok(Scan {
            inputs: along("scan_input_axes", directions, scanned)?,
            outputs: along("scan_output_axes", "scan_output_directions", results.saturating_sub(carried))?,
            batched,
        })
    }
}

//! The table of `nestjit check`: what was compared with what, how far they are apart, and what fails.

use nestjit::report::format::name;
use nestjit::report::text::table::table;
use nestjit::{Result, Tensor};

use super::Outcome;
use super::compare::{Allowed, Limits, difference, limits};

/// The lines of the table, and how many of them are failures.
#[derive(Default)]
pub(crate) struct Verdicts {
    rows: Vec<[String; 7]>,
    failures: usize,
}

impl Verdicts {
    /// An output must be within limits of another one: those that the user allows, or else `limits`. The names are what is
    /// compared, with what, and the output.
    pub(crate) fn near(
        &mut self,
        names: [&str; 3],
        value: &Tensor,
        reference: &Tensor,
        of: Limits<'_>,
        allowed: Allowed,
    ) -> Result<()> {
        let d = difference(value, reference, &limits(allowed, of, reference)?)?;
        let numbers =
            [format!("{:.2e}", d.max_abs), format!("{:.2e}", d.relative), format!("{:.2}", d.share)];
        let mut rule = allowed.rule(value.dtype(), of.floor);
        if d.undecided > 0 {
            rule += &format!(", {} undecided", d.undecided);
        }
        self.add(names, numbers, &rule, d.share <= 1.0);
        Ok(())
    }

    /// How far an output is from another one; if it is farther than `limits` say, rounding decided something before.
    pub(crate) fn compare(
        &mut self,
        names: [&str; 3],
        value: &Tensor,
        reference: &Tensor,
        of: Limits<'_>,
    ) -> Result<()> {
        let given = Allowed::default();
        let d = difference(value, reference, &limits(given, of, reference)?)?;
        let numbers =
            [format!("{:.2e}", d.max_abs), format!("{:.2e}", d.relative), format!("{:.2}", d.share)];
        let rule = if d.share <= 1.0 { given.rule(value.dtype(), of.floor) } else { "nothing".to_owned() };
        self.add(names, numbers, &rule, true);
        Ok(())
    }

    /// Two outputs must be the same, bit for bit.
    pub(crate) fn same(&mut self, names: [&str; 3], value: &Tensor, reference: &Tensor) {
        self.add(names, Default::default(), "same bits", value == reference);
    }

    /// An output that must be there is not.
    pub(crate) fn missing(&mut self, names: [&str; 3]) {
        self.add(names, Default::default(), "an output of this name", false);
    }

    fn add(&mut self, [what, against, output]: [&str; 3], numbers: [String; 3], rule: &str, holds: bool) {
        let verdict = if holds { rule.to_owned() } else { format!("{rule} FAILED") };
        self.failures += usize::from(!holds);
        let [max_abs, relative, share] = numbers;
        self.rows.push([
            what.to_owned(),
            against.to_owned(),
            name(output),
            max_abs,
            relative,
            share,
            verdict,
        ]);
    }

    /// The table, and whether all is well.
    pub(crate) fn outcome(self, model: &str) -> Outcome {
        let checks = self.rows.len();
        let header = ["", "against", "output", "max abs", "max rel", "of limit", "required"];
        let mut text = format!("model {}\n", name(model));
        text += &table(header, &[3, 4, 5], self.rows);
        text += "max rel: the largest difference divided by the largest magnitude of the output\n\
                 rounding: each element within what rounding explains of it; of limit: the largest share of that\n";
        text += &match self.failures {
            0 => format!("PASSED: {checks} comparisons\n"),
            n => format!("FAILED: {n} of {checks} comparisons\n"),
        };
        Outcome { text, passed: self.failures == 0 }
    }
}

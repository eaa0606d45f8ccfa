//! The table of `nestjit check`: what was compared with what, how far they are apart, and what fails.

use nestjit::report::format::name;
use nestjit::report::text::table::table;
use nestjit::{Result, Tensor};

use super::Outcome;
use super::compare::{Allowed, Difference, Limits, difference, limits};

/// The lines of the table, and how many of them are failures.
#[derive(Default)]
pub(crate) struct Verdicts {
    rows: Vec<[String; 7]>,
    failures: usize,
    /// How many could not fail.
    empty: usize,
    /// Whether there were elements that nothing is known of.
    undecided: bool,
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
        let (d, rule) = self.judged(value, reference, of, allowed)?;
        self.empty += usize::from(d.decides_nothing(value.len()));
        self.add(names, numbers(&d), if d.share <= 1.0 { Ok(rule) } else { Err(rule) });
        Ok(())
    }

    /// The same, of an output and what the user expects: that nothing can be said is a failure.
    pub(crate) fn expected(
        &mut self,
        names: [&str; 3],
        value: &Tensor,
        expected: &Tensor,
        of: Limits<'_>,
        allowed: Allowed,
    ) -> Result<()> {
        let (d, mut rule) = self.judged(value, expected, of, allowed)?;
        let nothing = d.decides_nothing(value.len());
        if nothing {
            rule += " (--tolerance or --absolute compare)";
        }
        self.add(names, numbers(&d), if d.share <= 1.0 && !nothing { Ok(rule) } else { Err(rule) });
        Ok(())
    }

    /// How far an output is from another one, and what is required, and of how many elements it cannot be.
    fn judged(
        &mut self,
        value: &Tensor,
        reference: &Tensor,
        of: Limits<'_>,
        allowed: Allowed,
    ) -> Result<(Difference, String)> {
        let d = difference(value, reference, &limits(allowed, of, reference)?)?;
        self.undecided |= d.undecided > 0;
        let rule = allowed.rule(value.dtype(), of.floor);
        Ok(match d.undecided {
            0 => (d, rule),
            undecided => (d, format!("{rule}, {undecided} of {} undecided", value.len())),
        })
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
        let rule = if d.share <= 1.0 { given.rule(value.dtype(), of.floor) } else { "nothing".to_owned() };
        self.add(names, numbers(&d), Ok(rule));
        Ok(())
    }

    /// Two outputs must be the same, bit for bit.
    pub(crate) fn same(&mut self, names: [&str; 3], value: &Tensor, reference: &Tensor) {
        let rule = "same bits".to_owned();
        self.add(names, Default::default(), if value == reference { Ok(rule) } else { Err(rule) });
    }

    /// An output that must be there is not.
    pub(crate) fn missing(&mut self, names: [&str; 3]) {
        self.add(names, Default::default(), Err("an output of this name".to_owned()));
    }

    /// A line: the rule holds, or it does not.
    fn add(
        &mut self,
        [what, against, output]: [&str; 3],
        [max_abs, relative, share]: [String; 3],
        rule: std::result::Result<String, String>,
    ) {
        self.failures += usize::from(rule.is_err());
        let verdict = rule.unwrap_or_else(|rule| format!("{rule} FAILED"));
        let (what, against) = (what.to_owned(), against.to_owned());
        self.rows.push([what, against, name(output), max_abs, relative, share, verdict]);
    }

    /// The table, and whether all is well.
    pub(crate) fn outcome(self, model: &str) -> Outcome {
        let checks = self.rows.len();
        let header = ["", "against", "output", "max abs", "max rel", "of limit", "required"];
        let mut text = format!("model {}\n", name(model));
        text += &table(header, &[3, 4, 5], self.rows);
        text += "max rel: the largest difference divided by the largest magnitude of the output\n\
                 rounding: each element within what rounding explains of it; of limit: the largest share of that\n";
        if self.undecided {
            text += "undecided: elements of which rounding decides everything (a choice, a step, whether it is a number); they \
                     are in the differences, and held against no limit\n";
        }
        text += &match self.failures {
            0 if self.empty > 0 => {
                format!("PASSED: {checks} comparisons, {} of them of undecided elements only\n", self.empty)
            }
            0 => format!("PASSED: {checks} comparisons\n"),
            n => format!("FAILED: {n} of {checks} comparisons\n"),
        };
        Outcome { text, passed: self.failures == 0 }
    }
}

/// What the table shows of a difference.
fn numbers(d: &Difference) -> [String; 3] {
    [format!("{:.2e}", d.max_abs), format!("{:.2e}", d.relative), format!("{:.2}", d.share)]
}

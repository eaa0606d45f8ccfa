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
        let mut rule = allowed.rule(value.dtype(), of.floor);
        if d.undecided > 0 {
            rule += &format!(", {} undecided", d.undecided);
        }
        self.add(names, numbers(&d), if d.share <= 1.0 { Ok(rule) } else { Err(rule) });
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
        text += &match self.failures {
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

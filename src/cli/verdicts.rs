//! The table of `nestjit check`: what was compared with what, how far they are apart, and what fails.

use nestjit::report::format::name;
use nestjit::report::text::table::table;
use nestjit::{Error, Result, Tensor};
use serde::Serialize;

use super::Outcome;
use super::compare::{Allowed, Difference, Limits, difference, limits};

/// The lines of the table, and how many of them are failures.
#[derive(Default)]
pub(crate) struct Verdicts {
    comparisons: Vec<Comparison>,
    /// How many could not fail.
    empty: usize,
    /// Whether there were elements that nothing is known of.
    undecided: bool,
}

/// A line of the table; serialised, a part of what `--json` prints.
#[derive(Serialize)]
struct Comparison {
    what: String,
    against: String,
    output: String,
    /// How far they are apart; absent if bits were compared, or there was nothing to compare.
    difference: Option<Numbers>,
    /// What must hold.
    required: String,
    passed: bool,
}

/// Differences; what is not finite is absent in JSON.
#[derive(Serialize)]
struct Numbers {
    max_abs: f64,
    /// By the largest magnitude of the output.
    max_rel: f64,
    /// The largest share of what is allowed of an element.
    of_limit: f64,
}

impl From<&Difference> for Numbers {
    fn from(d: &Difference) -> Numbers {
        Numbers { max_abs: d.max_abs, max_rel: d.relative, of_limit: d.share }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict<'v> {
    model: &'v str,
    passed: bool,
    comparisons: &'v [Comparison],
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
        self.add(names, Some((&d).into()), if d.share <= 1.0 { Ok(rule) } else { Err(rule) });
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
        self.add(names, Some((&d).into()), if d.share <= 1.0 && !nothing { Ok(rule) } else { Err(rule) });
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
        self.add(names, Some((&d).into()), Ok(rule));
        Ok(())
    }

    /// Two outputs must be the same, bit for bit.
    pub(crate) fn same(&mut self, names: [&str; 3], value: &Tensor, reference: &Tensor) {
        let rule = "same bits".to_owned();
        self.add(names, None, if value == reference { Ok(rule) } else { Err(rule) });
    }

    /// An output that must be there is not.
    pub(crate) fn missing(&mut self, names: [&str; 3]) {
        self.add(names, None, Err("an output of this name".to_owned()));
    }

    /// A line: the rule holds, or it does not.
    fn add(
        &mut self,
        [what, against, output]: [&str; 3],
        difference: Option<Numbers>,
        rule: std::result::Result<String, String>,
    ) {
        let passed = rule.is_ok();
        let (Ok(required) | Err(required)) = rule;
        let [what, against, output] = [what, against, output].map(str::to_owned);
        self.comparisons.push(Comparison { what, against, output, difference, required, passed });
    }

    /// What was found, as text or as a JSON object, and whether all is well.
    ///
    /// # Errors
    /// None but internal ones.
    pub(crate) fn outcome(self, model: &str, json: bool) -> Result<Outcome> {
        let failures = self.comparisons.iter().filter(|c| !c.passed).count();
        let passed = failures == 0;
        let text = match json {
            true => {
                let verdict = Verdict { model, passed, comparisons: &self.comparisons };
                serde_json::to_string(&verdict).map_err(|e| Error::internal(e.to_string()))? + "\n"
            }
            false => self.to_text(model, failures),
        };
        Ok(Outcome { text, passed })
    }

    /// The table, and the verdict on all of it.
    fn to_text(&self, model: &str, failures: usize) -> String {
        let checks = self.comparisons.len();
        let header = ["", "against", "output", "max abs", "max rel", "of limit", "required"];
        let mut text = format!("model {}\n", name(model));
        text += &table(header, &[3, 4, 5], self.comparisons.iter().map(Comparison::row));
        text += "max rel: the largest difference divided by the largest magnitude of the output\n\
                 rounding: each element within what rounding explains of it; of limit: the largest share of that\n";
        if self.undecided {
            text += "undecided: elements of which rounding decides everything (a choice, a step, whether it is a number); they \
                     are in the differences, and held against no limit\n";
        }
        text + &match failures {
            0 if self.empty > 0 => {
                format!("PASSED: {checks} comparisons, {} of them of undecided elements only\n", self.empty)
            }
            0 => format!("PASSED: {checks} comparisons\n"),
            n => format!("FAILED: {n} of {checks} comparisons\n"),
        }
    }
}

impl Comparison {
    fn row(&self) -> [String; 7] {
        let [max_abs, max_rel, of_limit] = match &self.difference {
            Some(d) => {
                [format!("{:.2e}", d.max_abs), format!("{:.2e}", d.max_rel), format!("{:.2}", d.of_limit)]
            }
            None => Default::default(),
        };
        let (what, against, output) = (self.what.clone(), self.against.clone(), name(&self.output));
        let failed = if self.passed { "" } else { " FAILED" };
        [what, against, output, max_abs, max_rel, of_limit, format!("{}{failed}", self.required)]
    }
}

//! The texts of nests: as fusion leaves them, as they are scheduled, and as machine code.

use std::collections::HashMap;
use std::fmt::Write as _;

use nestjit_ir::parse::parse;
use serde_json::{Value, json};

use crate::runtime::executable::Executable;

/// The pass after which nests read best: merged, and not yet scheduled.
const FUSED: &str = "ContractTemps";

/// Longer texts are cut, so that pages of large models stay usable.
const MAX_LINES: usize = 3000;

/// For each nest its texts, each with a title.
pub(super) fn texts(executable: &Executable) -> Vec<Value> {
    let program = executable.program();
    let fused = executable.program_after(FUSED).ok().and_then(|text| parse(text).ok());
    let mut by_name: HashMap<&str, String> = HashMap::new();
    if let Some(fused) = &fused {
        for nest in &fused.nests {
            by_name.insert(&nest.name, fused.show_nest(nest).to_string());
        }
    }
    program
        .nests
        .iter()
        .map(|nest| {
            let scheduled = program.show_nest(nest).to_string();
            let mut texts = Vec::new();
            if let Some(fused) = by_name.get(nest.name.as_str()).filter(|fused| **fused != scheduled) {
                texts.push(json!(["Loop nest", cut(fused)]));
                texts.push(json!(["Scheduled", cut(&scheduled)]));
            } else {
                texts.push(json!(["Loop nest", cut(&scheduled)]));
            }
            json!(texts)
        })
        .collect()
}

/// Machine code, if there is any.
pub(super) fn listing(code: &str) -> Option<String> {
    (!code.trim().is_empty()).then(|| cut(code))
}

fn cut(text: &str) -> String {
    let lines = text.lines().count();
    let mut kept: String = text.lines().take(MAX_LINES).collect::<Vec<_>>().join("\n");
    if lines > MAX_LINES {
        // Writing to a `String` cannot fail.
        let _ = write!(kept, "\n... and {} more lines", lines - MAX_LINES);
    }
    kept
}

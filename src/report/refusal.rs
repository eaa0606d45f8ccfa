//! What was not fused: every pair of nests of which one reads what the other writes, with the reason that was
//! given when they were looked at.

use std::collections::BTreeMap;

use nestjit_ir::{BufId, Program, Role};

use super::fusion::Refusal;
use super::sentence;
use super::traffic::{self, Traffic};
use crate::remark::{Apart, Reason, Remark};

/// The pass whose reasons these are.
const FUSION: &str = "OpFusion";

/// Every reason code, and what it means. Codes are stable: scripts may rely on them.
pub const CODES: &[(&str, &str)] = &[
    ("breaks-tile", "a contraction would lose loops that its tile needs, or read its weights once per row"),
    ("call", "one of them is a function of the runtime, not a loop nest"),
    ("cycle", "another nest comes between them"),
    ("dependence", "elements would be used before they are computed"),
    ("epilogue-only", "OpFusion was told to fuse elementwise operations only"),
    ("fusion-off", "OpFusion was switched off"),
    ("gather", "elements are picked by indices that are computed at run time"),
    ("multi-consumer", "others read the result too"),
    ("outer-extent-1", "they have no loop in common"),
    ("padding", "the consumer reads outside of what the producer computes"),
    ("parallelism", "too few independent iterations would be left for the threads"),
    ("recompute", "elements would be computed more than once"),
    ("reshape", "elements are counted differently on both sides"),
    ("ring-cost", "a ring of rows between them is estimated not to pay"),
    ("row-too-large", "what lies between them would not fit the second-level cache"),
    ("scalar", "one of them computes what vector lanes cannot, and the other would lose its vector loops"),
    ("schedule", "one of the nests was made after OpFusion, by a pass that schedules"),
    ("scheduled", "one of them came with a schedule"),
    ("second-contraction", "the consumer would read its weights once per row of the producer"),
    ("shape-mismatch", "their loops do not match"),
    ("stride", "the loop along contiguous elements would become an outer one"),
    ("too-large", "the nest would have too many statements"),
    ("window", "the consumer reads a window of several iterations of the producer"),
];

/// Every pair of nests that hands something over through memory, in execution order.
pub(super) fn list(
    program: &Program,
    traffic: &[Traffic],
    remarks: &[Remark],
    disabled: &[String],
) -> Vec<Refusal> {
    let mut readers: BTreeMap<BufId, usize> = BTreeMap::new();
    for id in traffic.iter().flat_map(|t| t.read.keys()) {
        *readers.entry(*id).or_default() += 1;
    }
    let mut refusals = Vec::new();
    for (to, reading) in traffic.iter().enumerate() {
        let mut producers: BTreeMap<usize, Vec<BufId>> = BTreeMap::new();
        for id in reading.read.keys() {
            let writes = |t: &Traffic| t.written.contains_key(id);
            for from in (0..to).filter(|from| writes(&traffic[*from])) {
                producers.entry(from).or_default().push(*id);
            }
        }
        for (from, buffers) in producers {
            let bytes = buffers
                .iter()
                .map(|id| {
                    // Writing it is saved only if nobody else needs it in memory.
                    let needed = readers[id] > 1 || program.buf(*id).role == Role::Out;
                    let written = traffic[from].written[id];
                    reading.read[id].min(written) + if needed { 0 } else { written }
                })
                .sum();
            let names = [&program.nests[from].name, &program.nests[to].name];
            let (code, message) = reason(program, &buffers, names, remarks, disabled).unwrap_or_else(|| {
                let called = [from, to].iter().any(|n| !traffic::calls(&program.nests[*n]).is_empty());
                explain(if called { "call" } else { "schedule" })
            });
            refusals.push(Refusal {
                producer: names[0].clone(),
                consumer: names[1].clone(),
                code,
                bytes,
                message,
            });
        }
    }
    refusals
}

/// The reason that OpFusion gave for these nests: for the buffers between them, if it says so.
fn reason(
    program: &Program,
    buffers: &[BufId],
    [producer, consumer]: [&String; 2],
    remarks: &[Remark],
    disabled: &[String],
) -> Option<(String, String)> {
    if disabled.iter().any(|pass| pass == FUSION) {
        return Some(explain("fusion-off"));
    }
    let mut of_pair: Vec<(&Remark, String)> = remarks
        .iter()
        .filter(|r| r.producer(program) == *producer && r.consumer.as_deref() == Some(consumer))
        .filter_map(|r| Some((r, sentence::not_fused(program, &r.reason)?)))
        .collect();
    // The last word counts: rings of rows are considered after merges.
    of_pair.sort_by_key(|r| !matches!(r.0.reason, Reason::Ring(_)));
    // That others read a buffer, too, is no reason as long as there is another.
    let exact = of_pair.iter().find(|r| match &r.0.reason {
        Reason::Apart { why: Apart::OtherReaders, .. } => false,
        Reason::Apart { buf, .. } => buffers.contains(buf),
        Reason::Ring(ring) => ring.bufs.first().is_some_and(|buf| buffers.contains(buf)),
        _ => false,
    });
    let (remark, message) = exact.or_else(|| of_pair.iter().max_by_key(|r| r.0.bytes))?;
    Some((remark.code().to_owned(), message.clone()))
}

fn explain(code: &str) -> (String, String) {
    let meaning = CODES.iter().find(|c| c.0 == code).map_or("", |c| c.1);
    (code.to_owned(), meaning.to_owned())
}

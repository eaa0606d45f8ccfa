//! Traces in the format of Chrome's `about:tracing` and of Perfetto: one JSON object with an array of events.

use serde_json::{Value, json};

use super::fusion::FusionReport;
use crate::runtime::trace::{Span, Trace};

/// Microseconds, as the format wants them.
fn us(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The runs as a trace. Each thread has a row; on the caller's, the parts of a nest lie below the whole nest.
pub fn chrome(report: &FusionReport, trace: &Trace) -> String {
    let threads = trace.parts.iter().map(|span| span.thread).max().unwrap_or(0) + 1;
    let mut events: Vec<Value> = Vec::new();
    let named = |name: &str, tid: usize, value: &str| json!({"name": name, "ph": "M", "pid": 1, "tid": tid, "args": {"name": value}});
    events.push(named("process_name", 0, &format!("nestjit {}", report.model)));
    for thread in 0..threads {
        let name = if thread == 0 { "caller".to_owned() } else { format!("worker {thread}") };
        events.push(named("thread_name", thread, &name));
    }
    let event = |span: &Span, category: &str, args: Value| {
        let name = trace.nests.get(span.nest).map_or("", String::as_str);
        json!({
            "name": name, "cat": category, "ph": "X", "pid": 1, "tid": span.thread,
            "ts": us(span.start), "dur": us(span.time), "args": args,
        })
    };
    for span in &trace.whole {
        let args = report.groups.get(span.nest).map_or(Value::Null, |g| {
            let ops: Vec<String> = g.ops.iter().map(|op| format!("{} {}", op.op, op.name)).collect();
            let bytes = g.read_bytes + g.written_bytes;
            json!({"pattern": g.pattern, "ops": ops, "flops": g.flops, "bytes": bytes, "weights": g.weight_bytes})
        });
        events.push(event(span, "nest", args));
    }
    events.extend(trace.parts.iter().map(|span| event(span, "part", json!({}))));
    json!({"displayTimeUnit": "ms", "traceEvents": events}).to_string() + "\n"
}

//! Machines by name, and files of machines: JSON, as `nestjit machine --json` prints it. A file may say `"like": NAME`
//! and give only what differs from that machine of the table.

use std::path::Path;

use serde_json::Value;

use super::{Isa, MachineModel, table};
use crate::error::{Error, Result};
use crate::files;

/// The most cores of a machine.
const MOST_CORES: usize = 4096;

impl MachineModel {
    /// The machine of the table with that name, or that of a file; with vectors of no more than a tier.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if there is none, the file is no machine or contradicts itself, or the machine does not
    /// have the tier; [`crate::ErrorKind::Io`] if the file cannot be read.
    pub fn named(name: &str, cap: Option<Isa>) -> Result<MachineModel> {
        let machine = match table::find(name) {
            Some(known) => known.model(),
            None if name.contains(['/', '\\', '.']) || Path::new(name).exists() => {
                let text = files::read_text(Path::new(name))?;
                MachineModel::from_json(&text)
                    .map_err(|why| Error::usage(format!("{}: {why}", name.escape_debug())))?
            }
            None => {
                let names = table::KNOWN.iter().map(|known| known.name);
                return Err(Error::unknown_name("machine", name, "known are", names));
            }
        };
        let only = format!("the machine {} only has", machine.name.escape_debug());
        machine.limited(cap, &only)
    }

    /// The machine that a file's text describes; otherwise what is wrong with it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn from_json(text: &str) -> std::result::Result<MachineModel, String> {
        let mut json: Value = serde_json::from_str(text).map_err(|e| format!("no JSON: {e}"))?;
        let object = json.as_object_mut().ok_or("no JSON object")?;
        if object.contains_key("peak_gflops") || object.contains_key("models") {
            return Err("these are rates for `nestjit report --rates`, and no machine".to_owned());
        }
        if let Some(like) = object.remove("like") {
            let name = like.as_str().ok_or("'like' is no name of a machine")?;
            let known =
                table::find(name).ok_or_else(|| format!("there is no machine '{}'", name.escape_debug()))?;
            let mut base = serde_json::to_value(known.model()).map_err(|e| e.to_string())?;
            if !object.is_empty() {
                base["name"] = Value::from(format!("{name}, changed"));
            }
            for (key, value) in base.as_object().into_iter().flatten() {
                object.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let machine: MachineModel = serde_json::from_value(json).map_err(|e| e.to_string())?;
        machine.check()?;
        Ok(machine)
    }

    /// What contradicts itself or cannot be.
    ///
    /// # Errors
    /// The first of it.
    fn check(&self) -> std::result::Result<(), String> {
        let positive = |name: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(format!("{name} is {value}, which is no positive number")),
        };
        positive("ghz", self.ghz)?;
        positive("vector_ops", self.vector_ops)?;
        positive("vector_loads", self.vector_loads)?;
        positive("fma_latency", self.fma_latency)?;
        positive("memory.core_gbytes", self.memory.core_gbytes)?;
        positive("memory.all_gbytes", self.memory.all_gbytes)?;
        positive("wake_ns", self.wake_ns)?;
        positive("hand_over_ns", self.hand_over_ns)?;
        if !(1..=MOST_CORES).contains(&self.cores) {
            return Err(format!("{} cores: the number must be in 1..={MOST_CORES}", self.cores));
        }
        for (level, cache) in (1..).zip(&self.caches) {
            let at = |what: &str| format!("the cache of level {level} {what}");
            positive(&format!("the rate of the cache of level {level}"), cache.rate)?;
            if !cache.line.is_power_of_two() || !(16..=4096).contains(&cache.line) {
                return Err(at(&format!("has lines of {} bytes", cache.line)));
            }
            if cache.ways == 0 || cache.line.checked_mul(cache.ways).is_none_or(|set| set > cache.bytes) {
                return Err(at(&format!(
                    "has {} ways of {} bytes, but {} bytes",
                    cache.ways, cache.line, cache.bytes
                )));
            }
            if cache.bytes > 1 << 40 {
                return Err(at(&format!("has {} bytes", cache.bytes)));
            }
            if cache.sharers == 0 || cache.sharers > MOST_CORES {
                return Err(at(&format!("has {} sharers", cache.sharers)));
            }
        }
        for (level, pair) in (1..).zip(self.caches.windows(2)) {
            if pair[1].bytes < pair[0].bytes {
                return Err(format!(
                    "the cache of level {} is smaller than that of level {level}",
                    level + 1
                ));
            }
            if pair[1].rate > pair[0].rate {
                return Err(format!("the cache of level {} is faster than that of level {level}", level + 1));
            }
        }
        if self.memory.all_gbytes < self.memory.core_gbytes {
            return Err("all cores together read less from memory than one".to_owned());
        }
        if self.wake_ns < self.hand_over_ns {
            return Err("a thread that sleeps is at work sooner than one that watches".to_owned());
        }
        let needs = [
            (self.isa >= Isa::Avx2 && !self.fma, "avx2 without fma"),
            (self.vnni && self.isa < Isa::Avx2, "vnni without avx2"),
            (self.bf16 && self.isa < Isa::Avx512, "bf16 without avx512"),
            (self.amx && !(self.vnni && self.isa == Isa::Avx512), "amx without avx512 and vnni"),
            (self.amx_bf16 && !self.amx, "amx_bf16 without amx"),
        ];
        match needs.into_iter().find(|need| need.0) {
            Some((_, what)) => Err(format!("it has {what}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(key: &str, value: &str) -> String {
        let text = format!("{{\"like\": \"zen5\", \"{key}\": {value}}}");
        MachineModel::from_json(&text).unwrap_err()
    }

    #[test]
    fn every_machine_of_the_table_is_sound_and_comes_back_from_json() {
        for known in table::KNOWN {
            let machine = known.model();
            assert_eq!(machine.check(), Ok(()), "{}", known.name);
            let text = serde_json::to_string(&machine).unwrap();
            assert_eq!(MachineModel::from_json(&text).unwrap(), machine);
            assert_eq!(MachineModel::named(known.name, None).unwrap(), machine);
            assert!(!known.summary.is_empty() && !known.source.is_empty());
        }
    }

    #[test]
    fn a_file_may_say_only_what_differs() {
        let machine = MachineModel::from_json(r#"{"like": "zen5", "name": "half", "cores": 32}"#).unwrap();
        let zen5 = MachineModel::named("zen5", None).unwrap();
        assert_eq!(machine, MachineModel { name: "half".to_owned(), cores: 32, ..zen5 });
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (key, value, expected) in [
            ("ghz", "0", "ghz is 0, which is no positive number"),
            ("ghz", "-1.5", "ghz is -1.5, which is no positive number"),
            ("ghz", "\"4\"", "invalid type: string \"4\", expected f64"),
            ("cores", "0", "0 cores: the number must be in 1..=4096"),
            ("cores", "1000000", "1000000 cores: the number must be in 1..=4096"),
            ("cores", "1.5", "invalid type: floating point `1.5`, expected usize"),
            ("speed", "1", "unknown field `speed`"),
            ("isa", "\"avx1024\"", "unknown variant `avx1024`"),
            ("isa", "\"avx2\"", "it has bf16 without avx512"),
            ("fma", "false", "it has avx2 without fma"),
            ("amx_bf16", "true", "it has amx_bf16 without amx"),
            ("vnni", "false, \"amx\": true", "it has amx without avx512 and vnni"),
            (
                "memory",
                r#"{"core_gbytes": 50, "all_gbytes": 40}"#,
                "all cores together read less from memory than one",
            ),
            ("hand_over_ns", "6000", "a thread that sleeps is at work sooner than one that watches"),
            ("like", "\"zen9\"", "there is no machine 'zen9'"),
        ] {
            let found = wrong(key, value);
            assert!(found.starts_with(expected), "{key} {value}: {found}");
        }
        let cache = |l2: &str| {
            let l1 = r#"{"bytes": 32768, "line": 64, "ways": 8, "sharers": 1, "rate": 64}"#;
            let l3 = r#"{"bytes": 33554432, "line": 64, "ways": 16, "sharers": 8, "rate": 20}"#;
            wrong("caches", &format!("[{l1}, {l2}, {l3}]"))
        };
        for (l2, expected) in [
            (
                r#"{"bytes": 16384, "line": 64, "ways": 8, "sharers": 1, "rate": 32}"#,
                "the cache of level 2 is smaller than that of level 1",
            ),
            (
                r#"{"bytes": 65536, "line": 64, "ways": 8, "sharers": 1, "rate": 10}"#,
                "the cache of level 3 is faster than that of level 2",
            ),
            (
                r#"{"bytes": 65536, "line": 48, "ways": 8, "sharers": 1, "rate": 32}"#,
                "the cache of level 2 has lines of 48 bytes",
            ),
            (
                r#"{"bytes": 65536, "line": 64, "ways": 2000, "sharers": 1, "rate": 32}"#,
                "the cache of level 2 has 2000 ways of 64 bytes, but 65536 bytes",
            ),
            (
                r#"{"bytes": 65536, "line": 64, "ways": 8, "sharers": 0, "rate": 32}"#,
                "the cache of level 2 has 0 sharers",
            ),
        ] {
            assert_eq!(cache(l2), expected);
        }
        assert_eq!(MachineModel::from_json("[]").unwrap_err(), "no JSON object");
        assert!(MachineModel::from_json("{").unwrap_err().starts_with("no JSON: "));
        assert!(MachineModel::from_json(r#"{"like": "zen5", "cores": 8, "cores": "x"}"#).is_err());
    }
}

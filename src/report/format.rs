//! Numbers and names as people read them.

/// A number of bytes with a binary unit.
pub fn bytes(n: usize) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ if value < 10.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// Milliseconds with a precision that suits them: four significant digits down to microseconds.
pub fn ms(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        v if v >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// A name that comes from a model: without control characters, in one line.
pub fn name(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Bytes that may be negative: what a nest saves.
pub fn signed_bytes(n: i64) -> String {
    let text = bytes(usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX));
    if n < 0 { format!("-{text}") } else { text }
}

/// A count with a decimal unit: `118 M`.
pub fn count(n: f64) -> String {
    const UNITS: [&str; 5] = ["", " k", " M", " G", " T"];
    let mut value = n;
    let mut unit = 0;
    while value.abs() >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{value:.0}"),
        _ if value.abs() < 10.0 => format!("{value:.2}{}", UNITS[unit]),
        _ if value.abs() < 100.0 => format!("{value:.1}{}", UNITS[unit]),
        _ => format!("{value:.0}{}", UNITS[unit]),
    }
}

/// A share as people read it.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (20480, "20 KiB"), (5 << 20, "5.0 MiB")];
        for (n, text) in cases {
            assert_eq!(bytes(n), text);
        }
        assert!(bytes(usize::MAX).ends_with("TiB"));
    }

    #[test]
    fn counts_have_three_digits() {
        let cases = [(0.0, "0"), (999.0, "999"), (1234.0, "1.23 k"), (118e6, "118 M"), (41.25e9, "41.2 G")];
        for (n, text) in cases {
            assert_eq!(count(n), text);
        }
        assert_eq!((signed_bytes(-2048), signed_bytes(7)), ("-2.0 KiB".to_owned(), "7 B".to_owned()));
    }

    #[test]
    fn milliseconds_keep_four_digits() {
        let cases =
            [(0.0, "0.0000"), (0.01234, "0.0123"), (1.23456, "1.235"), (12.3456, "12.35"), (1234.5, "1234")];
        for (value, text) in cases {
            assert_eq!(ms(value), text);
        }
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        assert_eq!(name("a\u{1b}[31m\n'b'"), "a\\u{1b}[31m\\n'b'");
    }
}

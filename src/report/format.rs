//! Numbers and names as people read them.

use comfy_table::{CellAlignment, Table, presets};

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

/// A table without lines, its columns two spaces apart; `right` lists the columns to align to the right.
pub fn table<const N: usize>(
    header: [&str; N],
    right: &[usize],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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

    #[test]
    fn tables_are_aligned() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcd".to_owned(), "100".to_owned()]];
        assert_eq!(table(["name", "n"], &[1], rows), " name    n\n a       1\n bcd   100\n");
    }
}

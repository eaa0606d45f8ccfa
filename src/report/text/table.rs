//! Tables without lines, for terminals.

use comfy_table::{CellAlignment, Table, presets};

/// A table without lines, its columns two spaces apart; `right` lists the columns to align to the right.
pub fn table<const N: usize>(
    header: [&str; N],
    right: &[usize],
    table: impl IntoIterator<Item = [String; N]>,
) -> String {
    rows(&header, right, table.into_iter().map(Vec::from))
}

/// Like [`table`], for a number of columns that is not known beforehand.
pub fn rows(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
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
    fn tables_are_aligned() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcd".to_owned(), "100".to_owned()]];
        assert_eq!(table(["name", "n"], &[1], rows), " name    n\n a       1\n bcd   100\n");
    }
}

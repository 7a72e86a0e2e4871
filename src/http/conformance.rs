#![doc = include_str!("conformance.md")]

use super::check::read;

mod table;

use table::rows;

#[test]
fn each_row_whole() {
    let rows = rows();
    assert!(rows.len() > 350, "the table was not found: {} rows", rows.len());
    for row in rows {
        let said = read([&row.input[..]]);
        let agree = said.len() == row.answers.len()
            && said
                .iter()
                .zip(&row.answers)
                .all(|(said, asked)| asked.iter().all(|word| said.contains(word)));
        assert!(agree, "{}\nsaid: {:.2000}", row.text, format!("{said:?}"));
    }
}

#[test]
fn each_row_split_anywhere() {
    for row in rows() {
        let whole = read([&row.input[..]]);
        let step = row.input.len().div_ceil(400).max(1);
        for at in (0..=row.input.len()).step_by(step) {
            let (a, b) = row.input.split_at(at);
            assert!(read([a, b]) == whole, "split at {at}: {}", row.text);
        }
        assert!(read(row.input.chunks(1)) == whole, "byte by byte: {}", row.text);
    }
}

//! Sections as one HTML page that needs nothing else, and as Markdown.

use std::fmt::Write;

use super::svg::escape;

/// A part of the page.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) heading: String,
    pub(super) blocks: Vec<Block>,
}

/// What a section is made of.
#[derive(Clone, Debug)]
pub(super) enum Block {
    /// Plain words.
    Text(String),
    /// Words that are to be seen.
    Caution(String),
    Table(Table),
    /// A drawing, with its figures as a table beside it.
    Figure {
        svg: String,
        caption: String,
        table: Table,
    },
}

/// A table; the first cell of a row is its head.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The page's own style. Colours are variables: one set in light, one in dark, each with at least 4.5:1 for text (WCAG
/// 2.2, 1.4.3) and 3:1 for lines (1.4.11) against its background.
const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2430;--soft:#576273;--rule:#d9dee6;--card:#f6f7f9;--band:#dfe4ec;
--c0:#0b62c4;--c1:#b3441c;--c2:#19703f;--c3:#8a3fb0;--c4:#8a6400;--c5:#a81e5b;--good:#19703f;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--fg:#e6eaf0;--soft:#a3afbf;--rule:#333c49;--card:#1a2028;--band:#2c3644;
--c0:#6cb2ff;--c1:#ff9a6b;--c2:#66d19a;--c3:#d3a1f5;--c4:#e6c15a;--c5:#ff8ab8;--good:#66d19a;--bad:#ff8a80}}
body{margin:0;padding:1.5rem 1rem 4rem;background:var(--bg);color:var(--fg);font:16px/1.55 system-ui,sans-serif}
main{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,60rem) minmax(0,1fr)}main>*{grid-column:2;min-width:0}main>p{margin:.5rem 0}
h1{font-size:1.7rem;line-height:1.25}h2{font-size:1.25rem;margin-top:2.6rem;border-bottom:1px solid var(--rule);padding-bottom:.3rem}
figure{margin:1.2rem 0;padding:1rem;background:var(--card);border:1px solid var(--rule);border-radius:8px;overflow-x:auto}
figure svg{width:100%;min-width:34rem;height:auto;display:block}
figcaption{color:var(--soft);font-size:.9rem;margin:.5rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:.8rem 0}
main>.wide{grid-column:1/-1;justify-self:center;max-width:100%}.wide td:not(.long){white-space:nowrap}
.wide td.long,.wide th.long{min-width:13rem;max-width:30rem}.wide .sentence{min-width:20rem}
caption{text-align:left;color:var(--soft);padding-bottom:.3rem}
th,td{padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}
thead th{color:var(--soft);font-weight:600}tbody th{font-weight:500}
summary{cursor:pointer;color:var(--soft);font-size:.9rem}code{font-size:.85em;overflow-wrap:anywhere}
.caution{border-left:4px solid var(--bad);padding:.1rem 0 .1rem .8rem}
.met{color:var(--good);font-weight:600}.missed{color:var(--bad);font-weight:600}
nav ul{padding-left:1.2rem}a{color:var(--c0)}
svg text{fill:var(--soft);font:12.5px system-ui,sans-serif}svg .grid{stroke:var(--rule);stroke-width:1}
svg .axis{stroke:var(--soft);stroke-width:1.2;fill:none}svg .line{fill:none;stroke-width:2;stroke-linejoin:round}
svg .curve{stroke-width:1.8}svg .curve.s1{stroke-dasharray:7 4}svg .curve.s2{stroke-dasharray:2 3}svg .curve.s3{stroke-dasharray:11 3 2 3}svg .curve.s4{stroke-dasharray:14 5}svg .curve.s5{stroke-dasharray:5 2}svg .band{fill:var(--band)}
svg .whisker{stroke:var(--fg);stroke-width:1.5;fill:none}
svg .s0{stroke:var(--c0)}svg .s1{stroke:var(--c1)}svg .s2{stroke:var(--c2)}svg .s3{stroke:var(--c3)}svg .s4{stroke:var(--c4)}svg .s5{stroke:var(--c5)}
svg .m0{fill:var(--c0)}svg .m1{fill:var(--c1)}svg .m2{fill:var(--c2)}svg .m3{fill:var(--c3)}svg .m4{fill:var(--c4)}svg .m5{fill:var(--c5)}
svg .bar{opacity:.85}
";

/// Columns from which a table takes as much of the window as it needs.
const WIDE_COLUMNS: usize = 5;
/// Characters from which a cell is words rather than a figure.
const LONG_CELL: usize = 28;
const SENTENCE: usize = 70;

fn anchor(index: usize) -> String {
    format!("part-{index}")
}

/// The whole page.
pub(super) fn html(title: &str, sections: &[Section]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{0}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n<nav aria-label=\"Contents\"><ul>\n",
        escape(title)
    );
    for (index, section) in sections.iter().enumerate() {
        let _ = writeln!(
            out,
            "<li><a href=\"#{}\">{}</a></li>",
            anchor(index),
            escape(&section.heading)
        );
    }
    out.push_str("</ul></nav>\n");
    for (index, section) in sections.iter().enumerate() {
        let _ = writeln!(out, "<h2 id=\"{}\">{}</h2>", anchor(index), escape(&section.heading));
        for block in &section.blocks {
            match block {
                Block::Text(text) => {
                    let _ = writeln!(out, "<p>{}</p>", inline(text));
                }
                Block::Caution(text) => {
                    let _ = writeln!(out, "<p class=\"caution\">{}</p>", inline(text));
                }
                Block::Table(table) => out.push_str(&html_table(table)),
                Block::Figure { svg, caption, table } => {
                    let _ = writeln!(
                        out,
                        "<figure>\n{svg}\n<figcaption>{}</figcaption>\n<details><summary>The figures as a table</summary>\n{}</details>\n</figure>",
                        inline(caption),
                        html_table(table)
                    );
                }
            }
        }
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// Text with `code` in it.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(out, "<code>{}</code>", escape(part));
        } else {
            out.push_str(&escape(part));
        }
    }
    out
}

fn html_table(table: &Table) -> String {
    // With this many columns it may leave the column of the text.
    let wide = if table.head.len() >= WIDE_COLUMNS { " wide" } else { "" };
    let mut out = format!("<div class=\"scroll{wide}\" tabindex=\"0\"><table>");
    if !table.caption.is_empty() {
        let _ = write!(out, "<caption>{}</caption>", inline(&table.caption));
    }
    out.push_str("<thead><tr>");
    for name in &table.head {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let text = inline(cell);
            // Words keep a width to be read in, whatever room figures leave them.
            let long = match cell.chars().count() {
                0..LONG_CELL => "",
                LONG_CELL..SENTENCE => " class=\"long\"",
                _ => " class=\"long sentence\"",
            };
            let _ = match (index, cell.as_str()) {
                (0, _) => write!(out, "<th scope=\"row\"{long}>{text}</th>"),
                (_, "met" | "met narrowly") => write!(out, "<td class=\"met\">{text}</td>"),
                (_, "missed" | "missed narrowly") => write!(out, "<td class=\"missed\">{text}</td>"),
                _ => write!(out, "<td{long}>{text}</td>"),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

/// The same without drawings: what they show stands in their tables.
pub(super) fn markdown(title: &str, sections: &[Section]) -> String {
    let mut out = format!("# {title}\n");
    for section in sections {
        let _ = write!(out, "\n## {}\n", section.heading);
        for block in &section.blocks {
            let _ = match block {
                Block::Text(text) => write!(out, "\n{text}\n"),
                Block::Caution(text) => write!(out, "\n> **Caution.** {text}\n"),
                Block::Table(table) => write!(out, "\n{}", markdown_table(table)),
                Block::Figure { caption, table, .. } => write!(out, "\n{caption}\n\n{}", markdown_table(table)),
            };
        }
    }
    out
}

fn markdown_table(table: &Table) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = String::new();
    if !table.caption.is_empty() {
        let _ = write!(out, "{}\n\n", table.caption);
    }
    out.push_str(&line(table.head.iter().map(|name| cell(name)).collect()));
    out.push_str(&line(table.head.iter().map(|_| "---".to_owned()).collect()));
    for row in &table.rows {
        out.push_str(&line(row.iter().map(|text| cell(text)).collect()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_cannot_become_markup() {
        let table = Table {
            caption: String::new(),
            head: vec!["what", "outcome"],
            rows: vec![
                vec!["<script>".into(), "missed narrowly".into()],
                vec!["code".into(), "`a<b`".into()],
                vec!["a|b".into(), "met".into()],
            ],
        };
        let sections = [Section {
            heading: "A & B".into(),
            blocks: vec![Block::Text("1 < 2".into()), Block::Table(table)],
        }];
        let page = html("T", &sections);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
        assert!(page.contains("A &amp; B") && page.contains("1 &lt; 2") && page.contains("<code>a&lt;b</code>"));
        assert!(page.contains("<td class=\"missed\">") && page.contains("<td class=\"met\">"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
        let text = markdown("T", &sections);
        assert!(text.contains("| a\\|b | met |") && text.contains("## A & B"));
    }
}

//! How a run is told of where it is kept: its command line, and its folder.

use std::path::{Path, PathBuf};

/// The command line as it was typed, but for the program's path.
pub(crate) fn typed() -> String {
    let rest: Vec<_> = std::env::args().skip(1).collect();
    format!("roadtrip-bench {}", line(&rest))
}

/// Words as a shell takes them.
pub(crate) fn line(words: &[String]) -> String {
    words.iter().map(|one| word(one)).collect::<Vec<_>>().join(" ")
}

/// A path as a word of a shell.
pub(crate) fn quoted(path: &Path) -> String {
    word(&path.display().to_string())
}

fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=:/.,%+@".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Makes a folder for a run below `folder`: DATE-WHAT, or DATE-WHAT-2 and so on, as a second run of a day keeps the first.
///
/// # Errors
/// It cannot be made.
pub(crate) fn dated(folder: &Path, begun: &str, what: &str) -> Result<PathBuf, String> {
    let date = begun.split('T').next().unwrap_or_default();
    let name = |n: u32| if n == 1 { String::new() } else { format!("-{n}") };
    let folder = (1..u32::MAX)
        .map(|n| folder.join(format!("{date}-{what}{}", name(n))))
        .find(|folder| !folder.exists())
        .ok_or("all names of folders are taken")?;
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_a_shell_reads_it_as() {
        let words = ["printf", "%s|", "", "a b", "it's", "$HOME", "{port}", "x=/y:1,2"].map(str::to_owned);
        let told = std::process::Command::new("sh")
            .args(["-c", &line(&words)])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(told.stdout).unwrap(),
            "|a b|it's|$HOME|{port}|x=/y:1,2|"
        );
    }
}

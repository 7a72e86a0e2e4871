//! Every static limit of the server, with its reason. Relations between them are asserted at compile time.
//!
//! Units stand last in a name. What an operator may change at run time is in `config`; these are its defaults
//! and its bounds.

pub mod backend;
pub mod balance;
pub mod cache;
pub mod compression;
pub mod connection;
pub mod drain;
pub mod health;
pub mod http;
pub mod http2;
pub mod life;
pub mod listen;
pub mod memory;
pub mod overload;
pub mod postgres;
pub mod proxy;
pub mod redis;
pub mod runtime;
pub mod server;
pub mod store;
pub mod story;
pub mod tls;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The text of every source file below a folder but those of limits.
    fn sources(dir: &Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let is_limits = path.ends_with("src/limits") || path.ends_with("src/limits.rs");
            if path.is_dir() && !is_limits {
                sources(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") && !is_limits {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_limit_is_kept_to_somewhere() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut text = String::new();
        sources(&src, &mut text);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(src.join("limits")).unwrap() {
            let path = entry.unwrap().path();
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let item = line.strip_prefix("pub const ");
                let item = item.map(|rest| rest.strip_prefix("fn ").unwrap_or(rest));
                if let Some((name, value)) = item.and_then(|rest| rest.split_once([':', '('])) {
                    names.push((path.clone(), name.to_owned()));
                    // What another limit is made of is kept to with that one; what is only compared is not.
                    text.push_str(value);
                } else if line.starts_with("    ") && !line.trim_start().starts_with("//") {
                    text.push_str(line);
                }
            }
        }
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let words: std::collections::HashSet<&str> = text.split(|character| !is_word(character)).collect();
        let unread: Vec<_> = names
            .iter()
            .filter(|(_, name)| !words.contains(name.as_str()))
            .collect();
        assert!(unread.is_empty(), "nobody reads {unread:?}");
        assert!(names.len() > 200, "{} limits were seen", names.len());
    }
}

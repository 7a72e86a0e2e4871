//! ENV_FILE: variables in a file, one `NAME=value` a line, as `docker --env-file`, systemd's EnvironmentFile= and a shell's
//! `export` have them.
//!
//! What the file says wins over the environment, as with systemd: the environment of a process cannot be changed any
//! more, the file can. Blank lines and lines that begin with `#` say nothing; `export ` in front is allowed; a value may
//! stand in single quotes (taken as it is) or in double quotes (`\"`, `\\`, `\n` and `\$` stand for one character each).
//! Nothing is expanded. Any other line is a fault: a slip must not be silence.

use super::parse::{ConfigError, ConfigErrors};
use crate::limits::life::ENV_FILE_BYTES_MAX;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;

/// The variable that names the file.
const NAME: &str = super::variables::ENV_FILE.name;

/// The environment of this process, and behind it what the file adds.
///
/// # Errors
/// The file cannot be read, or has a line that is none.
pub(super) fn environment() -> Result<Vec<(OsString, OsString)>, ConfigErrors> {
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let path = variables.iter().find(|(name, value)| name == NAME && !value.is_empty());
    if let Some((_, path)) = path {
        let path = Path::new(path);
        let added = read(path).and_then(|text| parse(&text)).map_err(|problem| {
            let problem = format!("is {}, but {problem}", path.display());
            ConfigErrors(vec![ConfigError {
                variable: NAME,
                problem,
            }])
        })?;
        variables.extend(added.into_iter().map(|(name, value)| (name.into(), value.into())));
    }
    Ok(variables)
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    file.take(ENV_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    if text.len() as u64 > ENV_FILE_BYTES_MAX {
        return Err(format!("it is larger than {ENV_FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// The variables of a file's text, in its order.
fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        // The line itself is not repeated: it may hold a secret.
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("its line {number} is not NAME=value"));
        };
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err(format!("its line {number} does not begin with a variable's name"));
        }
        if name == NAME {
            return Err(format!("its line {number} names another {NAME}: there is one"));
        }
        let value = unquoted(value.trim()).ok_or_else(|| format!("the quotes of its line {number} do not match"))?;
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

fn unquoted(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        let inner = rest.strip_suffix('\'')?;
        return (!inner.contains('\'')).then(|| inner.to_owned());
    }
    let Some(rest) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut text = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                known @ ('"' | '\\' | '$') => text.push(known),
                other => text.extend(['\\', other]),
            },
            plain => text.push(plain),
        }
    }
    chars.next().is_none().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_as_they_are_written_elsewhere() {
        let text = "# a comment\n\n LOG_LEVEL=debug \nexport PORT=1\nA='it is $HOME'\nB=\"say \\\"x\\\" \\\\ \\d\"\r\nC=\nD=a=b # c\n";
        let pairs = parse(text).unwrap();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("LOG_LEVEL", "debug"),
                ("PORT", "1"),
                ("A", "it is $HOME"),
                ("B", "say \"x\" \\ \\d"),
                ("C", ""),
                ("D", "a=b # c"),
            ]
        );
    }

    #[test]
    fn a_slip_is_a_fault_with_its_line_and_without_its_text() {
        for (text, line) in [
            ("A=1\nsecret", 2),
            ("A=1\n\nB b=secret", 3),
            ("9A=secret", 1),
            ("=secret", 1),
            ("A='secret", 1),
            ("A=\"secret", 1),
            ("A=\"secret\"x", 1),
            ("A='se'cret'", 1),
            ("ENV_FILE=secret", 1),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(&format!("line {line} ")), "{text:?}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("x")).unwrap_err().contains("cannot be opened"));
        assert!(read(folder.path()).unwrap_err().contains("cannot be read"));
        let file = folder.path().join("large");
        std::fs::write(&file, vec![b'#'; ENV_FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read(&file).unwrap_err().contains("larger"));
    }

    proptest! {
        #[test]
        fn any_text_is_variables_or_a_fault(text in any::<String>()) {
            if let Ok(pairs) = parse(&text) {
                prop_assert!(pairs.iter().all(|(name, _)| !name.is_empty() && !name.contains('=')));
            }
        }

        #[test]
        fn what_is_quoted_comes_back(value in "[^\\n\\r]*") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            let line = format!("X=\"{escaped}\"");
            prop_assert_eq!(parse(&line).unwrap(), [("X".to_owned(), value)]);
        }
    }
}

//! The other form of a connection string: `key=value` pairs with blanks between (PostgreSQL documentation, section
//! 34.1.1.1).

use super::parameters::is_name;
use super::{SettingsError, wrong};

/// The pairs in their order. A value may be quoted by `'`; a backslash takes the next character as it is, in quotes and
/// without. Blanks may stand around `=`.
///
/// # Errors
/// What is no pair. Nothing of it is repeated but a name: it may be the end of a password.
pub(super) fn read(text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, behind)) = rest
            .split_once('=')
            .map(|(name, behind)| (name.trim_end(), behind.trim_start()))
            .filter(|(name, _)| is_name(name))
        else {
            return wrong(
                "has something that is not of the form key=value (a value with blanks, quotes or backslashes in it is written 'in quotes', with a backslash before each ' and \\)",
            );
        };
        let (value, behind) = value(behind)
            .ok_or_else(|| SettingsError(format!("has a value of {name} whose quotes or escapes do not end")))?;
        // A blank that was escaped, a quote too many: the next pairs are in this value, and messages name users and hosts.
        if name != "password" && value.contains("password") {
            return wrong(format!(
                "has a value of {name} with the word password in it: a quote or a backslash is out of place"
            ));
        }
        pairs.push((name.to_owned(), value));
        rest = behind.trim_start();
    }
    Ok(pairs)
}

/// A value, and what stands behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('\'');
    let text = inside.unwrap_or(text);
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?.1),
            '\'' if inside.is_some() => {
                let behind = text.get(at + 1..)?;
                // What follows a closing quote at once would be taken for another pair by libpq; a password with a quote
                // in it is likelier.
                let ends = behind.chars().next().is_none_or(char::is_whitespace);
                return ends.then_some((value, behind));
            }
            c if c.is_whitespace() && inside.is_none() => return Some((value, text.get(at..)?)),
            c => value.push(c),
        }
    }
    inside.is_none().then_some((value, ""))
}

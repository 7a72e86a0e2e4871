//! Values that must not reach a log, an error message or a crash dump's text.

use std::fmt;

/// A URL that may carry a password. `Debug` and `Display` show it without; [`SecretUrl::expose`] is the one way out.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    pub(super) fn new(url: String) -> Self {
        Self(url)
    }

    /// One that did not come from the environment.
    #[cfg(test)]
    pub(crate) fn for_test(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// The whole URL, password included: for the client that connects, and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

/// Scheme, user, host, port and path; password, query and fragment replaced. Where the shape is unclear it hides more.
fn redacted(url: &str) -> String {
    // Pairs such as `password=a://b` are no URL.
    let is_scheme = |scheme: &str| scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return "***".to_owned();
    };
    // The last '@' of all: passwords are often pasted unencoded, with '@', '/' or '?' in them.
    let (user_info, location) = match rest.rsplit_once('@') {
        Some((user_info, location)) => (Some(user_info), location),
        None => (None, rest),
    };
    let user = match user_info.map(|info| info.split_once(':')) {
        None => "",
        // With one of these in it, it is more than a user: a query whose last '@' looked like the end of one.
        Some(Some((user, _))) if !user.is_empty() && !user.contains(['/', '?', '#', '&', '=', '@']) => {
            &format!("{user}:***@")
        }
        Some(_) => "***@",
    };
    let (location, tail) = match location.find(['?', '#']) {
        Some(at) => (location.get(..at).unwrap_or_default(), "?***"),
        None => (location, ""),
    };
    let (authority, path) = match location.find('/') {
        Some(at) => location.split_at(at),
        None => (location, ""),
    };
    // "user:password" without a host would read as host and port: a port is digits, anything else is hidden.
    let authority = match authority.rsplit_once(':') {
        Some((host, port)) if !port.bytes().all(|b| b.is_ascii_digit()) && !authority.ends_with(']') => {
            &format!("{host}:***")
        }
        _ => authority,
    };
    format!("{scheme}://{user}{authority}{path}{tail}")
}

/// A token that a caller must present. Never printed; compared in a time that does not tell how much of it was right.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretToken(String);

impl SecretToken {
    pub(super) fn new(token: String) -> Self {
        Self(token)
    }

    /// Whether `candidate` is the token. The time depends on the length of `candidate` only.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let token = self.0.as_bytes();
        let mut difference = u8::from(token.len() != candidate.len());
        for (at, byte) in candidate.iter().enumerate() {
            // Past the token's end the byte is compared with itself inverted: never equal.
            difference |= byte ^ token.get(at).copied().unwrap_or(!byte);
        }
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Display for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_password_never_shows() {
        for (url, shown) in [
            (
                "postgresql://u:secret@db:5432/trips",
                "postgresql://u:***@db:5432/trips",
            ),
            (
                "postgresql://u:se/cr@et?@db/trips?password=secret",
                "postgresql://u:***@db/trips?***",
            ),
            ("redis://:secret@cache:6379/0", "redis://***@cache:6379/0"),
            ("redis://secret@cache", "redis://***@cache"),
            ("redis://cache:6379/0#secret", "redis://cache:6379/0?***"),
            ("redis://u:secret", "redis://u:***"),
            ("redis://[::1]:6379/1", "redis://[::1]:6379/1"),
            ("secret", "***"),
            ("host=db password=a://secret", "***"),
            ("postgres://u@db/x?password=secret&a=:@", "postgres://***@"),
        ] {
            let url = SecretUrl::new(url.to_owned());
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"), "{url:?}");
        }
    }

    proptest! {
        #[test]
        fn no_password_of_any_shape_shows(password in "[!-~]{4,20}") {
            // "@db" is appended, so that only what stands before the last '@' is the password.
            let url = SecretUrl::new(format!("postgres://user:Q{password}Q@db/x"));
            prop_assert_eq!(url.to_string(), "postgres://user:***@db/x");
        }

        #[test]
        fn a_token_matches_itself_only(token in "[!-~]{1,40}", other in "[!-~]{0,40}") {
            let secret = SecretToken::new(token.clone());
            prop_assert!(secret.matches(token.as_bytes()));
            prop_assert_eq!(secret.matches(other.as_bytes()), token == other);
        }
    }
}

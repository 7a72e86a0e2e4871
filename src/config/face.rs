//! How the HTTP face looks to browsers and proxies: CORS, HSTS, the Server field, compression.

use super::parse::Reader;
use super::variables as var;
use crate::limits::server as limits;
use std::time::Duration;

/// How the HTTP face looks. The default is what holds where no variable is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    /// Whether pages of other origins may read answers; none: no.
    pub cors: Option<Cors>,
    /// What browsers are told to keep to TLS for, on connections that are TLS; zero: nothing.
    pub hsts_max_age: Duration,
    /// The Server field; none: left out.
    pub server: Option<String>,
    /// Whether answers are compressed for clients that take it.
    pub compression: bool,
}

/// Who may read answers from another origin (Fetch, "CORS protocol").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// From where.
    pub origins: Origins,
    /// Also with cookies, client certificates and Authorization. Never together with [`Origins::Any`].
    pub credentials: bool,
    /// How long a browser may remember what a preflight said.
    pub max_age: Duration,
}

/// Origins (RFC 6454 section 6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// These, in lower case, without the port that is their scheme's own: as browsers write them.
    These(Vec<String>),
}

impl Default for Face {
    fn default() -> Face {
        Face {
            cors: None,
            hsts_max_age: Duration::ZERO,
            server: Some(SERVER.to_owned()),
            compression: true,
        }
    }
}

/// The Server field where SERVER_HEADER is not set. No version: that would only help who looks for old ones.
pub(super) const SERVER: &str = "roadtrip";

pub(super) fn read(r: &mut Reader) -> Face {
    let origins = r.given(&var::CORS_ORIGINS, parse_origins, |origins| match origins {
        Origins::Any => "*".to_owned(),
        Origins::These(all) => all.join(","),
    });
    let credentials = r.word(&var::CORS_CREDENTIALS) == "true";
    let max_age = Duration::from_millis(r.number(&var::CORS_MAX_AGE));
    if credentials && origins == Some(Origins::Any) {
        r.fault(
            &var::CORS_CREDENTIALS,
            "is true, but CORS_ORIGINS is *: any page could act with its visitor's credentials, and browsers refuse it. \
             Name the origins"
                .to_owned(),
        );
    }
    if origins.is_none() && credentials && r.raw(var::CORS_ORIGINS.name).is_none() {
        r.warnings
            .push("CORS_CREDENTIALS has no effect without CORS_ORIGINS".to_owned());
    }
    let server = r.given(&var::SERVER_HEADER, parse_product, |product| {
        product.clone().unwrap_or_else(|| "off".to_owned())
    });
    Face {
        cors: origins.map(|origins| Cors {
            origins,
            credentials,
            max_age,
        }),
        hsts_max_age: Duration::from_millis(r.number(&var::HSTS_MAX_AGE)),
        server: server.unwrap_or_else(|| Some(SERVER.to_owned())),
        compression: r.word(&var::COMPRESSION) == "on",
    }
}

/// `*`, or a list of origins.
pub(super) fn parse_origins(text: &str) -> Option<Origins> {
    if text == "*" {
        return Some(Origins::Any);
    }
    let mut all = Vec::new();
    for origin in text.split(',').map(str::trim).filter(|origin| !origin.is_empty()) {
        let origin = parse_origin(origin)?;
        if !all.contains(&origin) {
            all.push(origin);
        }
    }
    (!all.is_empty() && all.len() <= limits::CORS_ORIGINS_MAX).then_some(Origins::These(all))
}

/// `scheme://host[:port]` as a browser writes it. Not `null`: every sandboxed frame has that one.
fn parse_origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    // The port is behind the last colon, unless that stands within an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    if !is_scheme || !is_host {
        return None;
    }
    Some(match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

/// A product as the Server field has it (RFC 9110 section 10.1.5), or `off`.
#[expect(clippy::option_option, reason = "no product, and no value, are two things")]
pub(super) fn parse_product(text: &str) -> Option<Option<String>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let (name, version) = match text.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let fits = text.len() <= limits::SERVER_HEADER_CHARS_MAX && is_token(name) && version.is_none_or(is_token);
    fits.then(|| Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, crate::config::ConfigErrors> {
        let home = [("HOME", "/home/ada")];
        Config::read(
            home.iter()
                .chain(pairs)
                .map(|(name, value)| ((*name).into(), (*value).into())),
        )
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(read(&[]).unwrap().face, Face::default());
    }

    #[test]
    fn origins_as_browsers_write_them() {
        for (text, expected) in [
            ("https://app.example", &["https://app.example"][..]),
            (" HTTPS://App.Example:443 ,", &["https://app.example"]),
            ("http://a:80,http://a,http://a:8080", &["http://a", "http://a:8080"]),
            (
                "https://[2001:db8::1]:8443, http://[::1]",
                &["https://[2001:db8::1]:8443", "http://[::1]"],
            ),
            ("capacitor://localhost", &["capacitor://localhost"]),
        ] {
            let expected = expected.iter().map(|origin| (*origin).to_owned()).collect();
            assert_eq!(parse_origins(text.trim()), Some(Origins::These(expected)), "{text}");
        }
        assert_eq!(parse_origins("*"), Some(Origins::Any));
        for bad in [
            "null",
            ",",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://*.example",
            "https://u@app.example",
            "https://app.example:x",
            "https://app.example:70000",
            "https://app.example, *",
            "https://a b",
            "https://[::1",
            "https://äpp.example",
            "://a",
            "1x://a",
        ] {
            assert_eq!(parse_origins(bad), None, "{bad}");
        }
        let many = |count: usize| {
            (0..count)
                .map(|n| format!("https://a{n}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert!(parse_origins(&many(limits::CORS_ORIGINS_MAX)).is_some());
        assert!(parse_origins(&many(limits::CORS_ORIGINS_MAX + 1)).is_none());
    }

    #[test]
    fn credentials_for_everybody_are_refused() {
        let errors = read(&[("CORS_ORIGINS", "*"), ("CORS_CREDENTIALS", "true")]).unwrap_err();
        assert_eq!(errors.0.len(), 1);
        assert_eq!(errors.0[0].variable, "CORS_CREDENTIALS");
        let warned = read(&[("CORS_CREDENTIALS", "true")]).unwrap();
        assert_eq!(warned.warnings.len(), 1);
        let cors = read(&[
            ("CORS_ORIGINS", "https://a"),
            ("CORS_CREDENTIALS", "true"),
            ("CORS_MAX_AGE", "5"),
        ]);
        let expected = Cors {
            origins: Origins::These(vec!["https://a".into()]),
            credentials: true,
            max_age: Duration::from_secs(5),
        };
        assert_eq!(cors.unwrap().face.cors, Some(expected));
    }

    #[test]
    fn the_server_field_is_a_product_or_off() {
        assert_eq!(parse_product("OFF"), Some(None));
        for good in ["a", "trip/2.1", "x-y_z"] {
            assert_eq!(parse_product(good), Some(Some(good.to_owned())));
        }
        for bad in ["", "a b", "a/", "/1", "a/1/2", "a\r\nb", "ä", &"x".repeat(65)] {
            assert_eq!(parse_product(bad), None, "{bad:?}");
        }
    }
}

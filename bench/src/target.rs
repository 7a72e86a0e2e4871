//! What is asked of the server: an `http://` URL, a method, headers and a body, made once into request bytes.

use std::net::{SocketAddr, ToSocketAddrs};

use clap::Args;

/// The request of a measurement, as the command line gives it.
#[derive(Args, Clone, Debug)]
pub(crate) struct RequestArgs {
    /// Request method
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// Request body; Content-Type is application/json unless a --header says otherwise
    #[arg(long, conflicts_with = "body_file")]
    pub(crate) body: Option<String>,
    /// File to read the request body from
    #[arg(long, value_name = "FILE")]
    pub(crate) body_file: Option<std::path::PathBuf>,
    /// Request header "Name: value"; may be repeated
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
}

impl RequestArgs {
    /// The body's bytes, if there is one.
    ///
    /// # Errors
    /// The body file cannot be read.
    pub(crate) fn body_bytes(&self) -> Result<Option<Vec<u8>>, String> {
        match (&self.body, &self.body_file) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(path)) => std::fs::read(path)
                .map(Some)
                .map_err(|e| format!("cannot read the body file {}: {e}", path.display())),
            (None, None) => Ok(None),
        }
    }

    /// Name and value of each header, with the Content-Type that a body gets where none is given.
    ///
    /// # Errors
    /// A header without a colon, or with a line break in it.
    pub(crate) fn header_pairs(&self) -> Result<Vec<(String, String)>, String> {
        let mut pairs = Vec::new();
        for line in &self.headers {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("header {line:?} is not \"Name: value\""))?;
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() || line.contains(['\r', '\n']) {
                return Err(format!("header {line:?} is not \"Name: value\" on one line"));
            }
            pairs.push((name.to_owned(), value.to_owned()));
        }
        let has_body = self.body.is_some() || self.body_file.is_some();
        if has_body && !pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            pairs.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        Ok(pairs)
    }
}

/// An `http://` URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Value of the Host header, brackets and port as the URL has them.
    pub(crate) authority: String,
    /// Path and query, starting with `/`.
    pub(crate) path: String,
    /// `https://`.
    pub(crate) tls: bool,
}

impl Target {
    /// Takes an `http://host[:port]/path?query` URL apart; an IPv6 host stands in brackets (RFC 3986 section 3.2.2).
    ///
    /// # Errors
    /// A sentence that says what the URL lacks.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let target = Self::parse_any(url)?;
        if target.tls {
            return Err(format!("{url:?} is not an http:// URL (TLS is not spoken here)"));
        }
        Ok(target)
    }

    /// The same, and `https://` as well.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) fn parse_any(url: &str) -> Result<Self, String> {
        let (tls, rest) = url
            .strip_prefix("http://")
            .map(|rest| (false, rest))
            .or_else(|| url.strip_prefix("https://").map(|rest| (true, rest)))
            .ok_or_else(|| format!("{url:?} is not an http:// or https:// URL"))?;
        let cut = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(cut);
        let path = path.split('#').next().unwrap_or("");
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("{url:?} has white space in it"));
        }
        if authority.contains('@') {
            return Err(format!("{url:?}: user names in a URL are not supported"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6
                    .split_once(']')
                    .ok_or_else(|| format!("{url:?}: the bracket of the IPv6 host is open"))?;
                let port = match after {
                    "" => None,
                    _ => Some(
                        after
                            .strip_prefix(':')
                            .ok_or_else(|| format!("{url:?}: no port after the bracket"))?,
                    ),
                };
                (host, port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(format!("{url:?} names no host"));
        }
        let port = match port {
            Some(text) => text.parse().map_err(|_| format!("{url:?}: {text:?} is not a port"))?,
            None if tls => 443,
            None => 80,
        };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            path,
        })
    }

    /// The first address the host resolves to.
    ///
    /// # Errors
    /// The name does not resolve.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|e| format!("cannot resolve {}: {e}", self.host))?
            .next()
            .ok_or_else(|| format!("{} resolves to no address", self.host))
    }

    /// The bytes of the request, ready to be sent any number of times on a keep-alive connection.
    ///
    /// # Errors
    /// What [`RequestArgs`] says of its headers and body, or a method that is no token (RFC 9110 section 9.1).
    pub(crate) fn request_bytes(&self, request: &RequestArgs) -> Result<Vec<u8>, String> {
        let method = &request.method;
        if method.is_empty()
            || !method
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        {
            return Err(format!("{method:?} is not a request method"));
        }
        let body = request.body_bytes()?;
        let mut head = format!("{method} {} HTTP/1.1\r\n", self.path);
        let pairs = request.header_pairs()?;
        if !pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.authority));
        }
        for (name, value) in &pairs {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(body.unwrap_or_default());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get() -> RequestArgs {
        RequestArgs {
            method: "GET".into(),
            body: None,
            body_file: None,
            headers: vec![],
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let t = Target::parse("http://127.0.0.1:8080/health?x=1#frag").unwrap();
        assert_eq!(
            (t.host.as_str(), t.port, t.path.as_str()),
            ("127.0.0.1", 8080, "/health?x=1")
        );
        assert_eq!(Target::parse("http://example").unwrap().path, "/");
        assert_eq!(Target::parse("http://example?q").unwrap().path, "/?q");
        let v6 = Target::parse("http://[::1]:9/x").unwrap();
        assert_eq!(
            (v6.host.as_str(), v6.port, v6.authority.as_str()),
            ("::1", 9, "[::1]:9")
        );
        assert!(v6.address().unwrap().is_ipv6());
        assert_eq!(Target::parse("http://[::1]/").unwrap().port, 80);
    }

    #[test]
    fn bad_urls_are_refused() {
        for url in [
            "https://a/",
            "a",
            "http://",
            "http://:80/",
            "http://a:b/",
            "http://a:70000/",
            "http://[::1/",
            "http://[::1]x/",
            "http://u@h/",
            "http://a/b c",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn request_bytes_carry_host_length_and_type() {
        let t = Target::parse("http://h:1/p").unwrap();
        assert_eq!(
            t.request_bytes(&get()).unwrap(),
            b"GET /p HTTP/1.1\r\nHost: h:1\r\n\r\n"
        );
        let mut post = get();
        post.method = "POST".into();
        post.body = Some("{}".into());
        let text = String::from_utf8(t.request_bytes(&post).unwrap()).unwrap();
        assert!(text.contains("Content-Type: application/json\r\n") && text.contains("Content-Length: 2\r\n"));
        assert!(text.ends_with("\r\n\r\n{}"));
        post.headers = vec!["content-type: text/plain".into(), "Host: other".into()];
        let text = String::from_utf8(t.request_bytes(&post).unwrap()).unwrap();
        assert!(!text.contains("application/json") && !text.contains("h:1"));
    }

    #[test]
    fn requests_that_would_break_the_framing_are_refused() {
        let t = Target::parse("http://h/").unwrap();
        for bad in ["NoColon", ": v", "A: b\r\nC: d"] {
            let mut r = get();
            r.headers = vec![bad.into()];
            assert!(t.request_bytes(&r).is_err(), "{bad}");
        }
        let mut r = get();
        r.method = "GE T".into();
        assert!(t.request_bytes(&r).is_err());
    }
}

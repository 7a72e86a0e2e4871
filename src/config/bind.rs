//! Where to listen: BIND, or HOST and PORT.

use super::parse::{Reader, parse_address};
use super::variables as var;
use crate::limits::listen::{ADDRESSES_MAX, UNIX_PATH_BYTES_MAX};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// What an address says of how to speak on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing.
    Default,
    /// `http://`: in the clear, whatever else is configured.
    Http,
    /// `https://`: TLS.
    Https,
}

/// A listening address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// How to speak.
    pub scheme: Scheme,
    /// Where.
    pub at: At,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// TCP.
    Tcp(Listen),
    /// A Unix socket with a file.
    Unix(PathBuf),
    /// A Unix socket of the abstract namespace (unix(7)): without a file, open to whoever is in the network namespace.
    Abstract(String),
}

/// A TCP address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// None: every address of IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// 0: any free port.
    pub port: u16,
    /// An IPv6 socket leaves IPv4 alone: another address of BIND has it on this port.
    pub v6only: bool,
}

impl Listen {
    /// What to bind, in order; the second is for systems without IPv6.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self.address {
            Some(address) => vec![SocketAddr::new(address, self.port)],
            None => vec![
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), self.port),
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), self.port),
            ],
        }
    }

    /// Whether it takes connections that the other does, too.
    fn meets(&self, other: &Listen) -> bool {
        let is_v4 = |address: Option<IpAddr>| address.is_none_or(|address| address.is_ipv4());
        let is_v6 = |address: Option<IpAddr>| address.is_none_or(|address| address.is_ipv6());
        let is_any = |address: Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
        let (a, b) = (self.address, other.address);
        let share_family = is_v4(a) && is_v4(b) || is_v6(a) && is_v6(b);
        self.port == other.port && self.port != 0 && share_family && (a == b || is_any(a) || is_any(b))
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Default => {}
            Scheme::Http => f.write_str("http://")?,
            Scheme::Https => f.write_str("https://")?,
        }
        match &self.at {
            At::Tcp(Listen {
                address: Some(address),
                port,
                ..
            }) => SocketAddr::new(*address, *port).fmt(f),
            At::Tcp(Listen { port, .. }) => write!(f, ":{port}"),
            At::Unix(path) => write!(f, "unix:{}", path.display()),
            At::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

impl Bind {
    /// Whether TLS is spoken on it. Where the address does not say, TCP speaks it if there is a certificate; a Unix
    /// socket, which no network leads to, does not.
    pub fn is_tls(&self, has_certificate: bool) -> bool {
        match self.scheme {
            Scheme::Http => false,
            Scheme::Https => true,
            Scheme::Default => has_certificate && matches!(self.at, At::Tcp(_)),
        }
    }
}

/// `https://` needs a certificate, and a certificate wants an address.
pub(super) fn check_schemes(r: &mut Reader, binds: &[Bind], has_certificate: bool) {
    if !has_certificate && let Some(bind) = binds.iter().find(|bind| bind.scheme == Scheme::Https) {
        r.fault(
            &var::BIND,
            format!("has {bind}, but TLS needs TLS_CERT and TLS_KEY: set them, or leave https:// away"),
        );
    }
    if has_certificate && !binds.iter().any(|bind| bind.is_tls(true)) {
        r.warnings
            .push("TLS_CERT is set, but no address of BIND speaks TLS".to_owned());
    }
}

/// Reads BIND, HOST and PORT: the first wins over the others.
pub(super) fn read(r: &mut Reader) -> Vec<Bind> {
    let port_given = r.number_given(&var::PORT).and_then(|port| u16::try_from(port).ok());
    let port = port_given.unwrap_or(crate::limits::server::PORT_DEFAULT as u16);
    let host = r.given(&var::HOST, parse_address, |address| match address {
        Some(address) => address.to_string(),
        None => var::HOST.preset_text(),
    });
    let listed = |binds: &Vec<Bind>| binds.iter().map(Bind::to_string).collect::<Vec<_>>().join(",");
    let Some(binds) = r.given_or_why(&var::BIND, |text| parse(text, port), listed) else {
        return vec![Bind {
            scheme: Scheme::Default,
            at: At::Tcp(Listen {
                address: host.flatten(),
                port,
                v6only: false,
            }),
        }];
    };
    let tcp = || {
        binds.iter().filter_map(|bind| match bind.at {
            At::Tcp(listen) => Some(listen),
            _ => None,
        })
    };
    if let Some(port) = port_given
        && !tcp().any(|listen| listen.port == port)
    {
        r.warnings.push(format!("BIND wins over PORT={port}"));
    }
    if let Some(host) = host
        && !tcp().any(|listen| listen.address == host)
    {
        let shown = host.map_or("*".to_owned(), |host| host.to_string());
        r.warnings.push(format!("BIND wins over HOST={shown}"));
    }
    binds
}

/// The addresses of BIND. `port`: of those that name none.
pub(super) fn parse(text: &str, port: u16) -> Result<Vec<Bind>, String> {
    let mut binds: Vec<Bind> = Vec::new();
    for element in text.split(',').map(str::trim) {
        if binds.len() >= ADDRESSES_MAX {
            return Err(format!("has more than {ADDRESSES_MAX} addresses"));
        }
        let bind = one(element, port).map_err(|why| format!("has {:?}, {why}", shortened(element)))?;
        binds.push(bind);
    }
    keep_apart(&mut binds)?;
    Ok(binds)
}

fn shortened(text: &str) -> String {
    text.chars().take(UNIX_PATH_BYTES_MAX + 20).collect()
}

/// One address, or what is wrong with it in words that follow it.
fn one(element: &str, port: u16) -> Result<Bind, String> {
    if element.is_empty() {
        return Err("an empty address: two commas in a row, or one at an end".into());
    }
    let (scheme, rest) = match element.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("unix") => (Scheme::Default, element),
        Some(_) => return Err("whose scheme is neither http nor https (nor unix)".into()),
        None => (Scheme::Default, element),
    };
    let at = match rest.split_at_checked(5) {
        Some((unix, path)) if unix.eq_ignore_ascii_case("unix:") => unix_at(path)?,
        _ if rest.get(..3).is_some_and(|fd| fd.eq_ignore_ascii_case("fd:")) => {
            return Err("but this version takes no sockets from its parent".into());
        }
        _ => At::Tcp(tcp_at(rest.strip_suffix('/').unwrap_or(rest), port)?),
    };
    Ok(Bind { scheme, at })
}

fn unix_at(path: &str) -> Result<At, String> {
    // `unix:///run/api.sock` is a URL, its host is empty.
    let (path, is_url) = path.strip_prefix("//").map_or((path, false), |path| (path, true));
    let (what, bytes) = match path.strip_prefix('@') {
        Some(name) => ("name", name.len()),
        None => ("path", path.len()),
    };
    // One slash names the root as well as many do, and stays apart from a URL's.
    let path = match path.strip_prefix("//") {
        Some(rest) => &path[path.len() - rest.trim_start_matches('/').len() - 1..],
        None => path,
    };
    if bytes == 0 {
        return Err(format!("which has no {what} behind unix:"));
    }
    if bytes > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "whose {what} has {bytes} bytes; the system allows {UNIX_PATH_BYTES_MAX} (a shorter folder helps)"
        ));
    }
    if path.contains('\0') {
        return Err("which holds a zero byte".into());
    }
    if is_url && !path.starts_with(['/', '@']) {
        return Err("whose path must begin with / behind unix://".into());
    }
    if path.ends_with('/') {
        return Err("which is a folder; the socket needs a name in it".into());
    }
    Ok(match path.strip_prefix('@') {
        Some(name) => At::Abstract(name.to_owned()),
        None => At::Unix(path.into()),
    })
}

fn tcp_at(text: &str, default_port: u16) -> Result<Listen, String> {
    const FORMS: &str = "which is none of 127.0.0.1:8080, [::1]:8080, localhost:8080, :8080, unix:/run/api.sock";
    if text.contains('%') {
        return Err("with a zone, which this version does not take: listen on [::]".into());
    }
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, rest))) => {
            let host: Ipv6Addr = host.parse().map_err(|_| FORMS.to_owned())?;
            let port = match rest {
                "" => None,
                _ => Some(rest.strip_prefix(':').ok_or(FORMS)?),
            };
            (Some(IpAddr::from(host)), port)
        }
        Some(None) => return Err(FORMS.into()),
        None => {
            let (host, port) = match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => {
                    return Err("which needs brackets around an IPv6 address: [::1]:8080".into());
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let host = match host {
                "" if port.is_some() => None,
                "*" => None,
                _ if host.eq_ignore_ascii_case("localhost") => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
                _ => Some(IpAddr::from(host.parse::<Ipv4Addr>().map_err(|_| FORMS.to_owned())?)),
            };
            (host, port)
        }
    };
    let port = match port {
        None => default_port,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map_err(|_| "whose port is above 65535".to_owned())?
        }
        Some(_) => return Err(FORMS.into()),
    };
    Ok(Listen {
        address: host,
        port,
        v6only: false,
    })
}

/// Refuses what would be one address twice, and parts IPv6 from IPv4 where a port is given for each.
fn keep_apart(binds: &mut [Bind]) -> Result<(), String> {
    for (at, bind) in binds.iter().enumerate() {
        for before in binds.iter().take(at) {
            let clash = match (&before.at, &bind.at) {
                (At::Tcp(a), At::Tcp(b)) => a.meets(b),
                (At::Unix(a), At::Unix(b)) => a == b,
                (At::Abstract(a), At::Abstract(b)) => a == b,
                _ => false,
            };
            if clash {
                return Err(if before.at == bind.at {
                    format!("has {bind} twice")
                } else {
                    format!("has {before} and {bind}, and one takes the connections of the other")
                });
            }
        }
    }
    let v4_ports: Vec<u16> = binds
        .iter()
        .filter_map(|bind| match bind.at {
            At::Tcp(listen) if listen.address.is_some_and(|address| address.is_ipv4()) => Some(listen.port),
            _ => None,
        })
        .collect();
    for bind in binds {
        if let At::Tcp(listen) = &mut bind.at {
            let is_v6 = listen.address.is_some_and(|address| address.is_ipv6());
            listen.v6only = is_v6 && listen.port != 0 && v4_ports.contains(&listen.port);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        match parse(text, 8080) {
            Ok(binds) => binds.iter().map(Bind::to_string).collect::<Vec<_>>().join(" "),
            Err(why) => format!("BIND {why}"),
        }
    }

    #[test]
    fn every_form() {
        for (text, means) in [
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("[::]:80", "[::]:80"),
            (":9000", ":9000"),
            ("*:9000", ":9000"),
            ("*", ":8080"),
            ("127.0.0.1", "127.0.0.1:8080"),
            ("[::1]", "[::1]:8080"),
            ("localhost:0", "127.0.0.1:0"),
            ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
            ("unix:/run/api.sock", "unix:/run/api.sock"),
            ("UNIX:/run/api.sock", "unix:/run/api.sock"),
            ("unix:///run/api.sock", "unix:/run/api.sock"),
            ("http://unix:/run/api.sock", "http://unix:/run/api.sock"),
            ("unix:run/api.sock", "unix:run/api.sock"),
            ("unix:@api", "unix:@api"),
            (" 127.0.0.1:1 , unix:@a,:2 ", "127.0.0.1:1 unix:@a :2"),
            (":0,:0", ":0 :0"),
        ] {
            assert_eq!(read(text), means, "{text}");
            assert_eq!(
                read(&means.replace(' ', ",")),
                means,
                "what it says of itself is what it is"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        let many = (1..=17).map(|port| format!(":{port}")).collect::<Vec<_>>().join(",");
        for (text, why) in [
            ("8080", "none of"),
            ("api.example:80", "none of"),
            ("::1", "brackets"),
            ("::1:8080", "brackets"),
            ("[::1", "none of"),
            ("[::1]8080", "none of"),
            ("[127.0.0.1]:80", "none of"),
            ("127.0.0.1:", "none of"),
            ("127.0.0.1:+80", "none of"),
            ("127.0.0.1:65536", "above 65535"),
            ("[fe80::1%eth0]:80", "zone"),
            ("fd://3", "scheme"),
            ("fd:3", "from its parent"),
            ("ftp://127.0.0.1:1", "scheme"),
            ("unix:", "no path"),
            ("unix:@", "no name"),
            ("unix://run/api.sock", "begin with /"),
            ("unix:/run/", "folder"),
            (&long, "has 108 bytes; the system allows 107"),
            (",", "empty"),
            (":1,", "empty"),
            (&many, "more than 16"),
            (":1,:1", "has :1 twice"),
            (":1,127.0.0.1:1", "one takes the connections"),
            ("0.0.0.0:1,127.0.0.1:1", "one takes the connections"),
            ("[::1]:1,[::]:1", "one takes the connections"),
            ("http://127.0.0.1:1,127.0.0.1:1", "twice"),
            ("unix:/a,unix:///a", "twice"),
            ("unix:@a,unix:@a", "twice"),
        ] {
            let said = read(text);
            assert!(said.starts_with("BIND has ") && said.contains(why), "{text}: {said}");
        }
        let fits = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX - 1));
        assert_eq!(read(&fits), fits);
    }

    #[test]
    fn a_port_for_each_family_is_two_sockets() {
        let v6only = |text| {
            let apart = |bind: &Bind| matches!(bind.at, At::Tcp(Listen { v6only: true, .. }));
            parse(text, 8080).unwrap().iter().map(apart).collect::<Vec<_>>()
        };
        assert_eq!(v6only("0.0.0.0:80,[::]:80"), [false, true]);
        assert_eq!(v6only("[::]:80,127.0.0.1:80"), [true, false]);
        assert_eq!(v6only("[::]:80,127.0.0.1:81"), [false, false]);
        assert_eq!(v6only("[::]:80"), [false]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "([a-z]{0,5}:(//)?)?[]\\[0-9a-f.:,@/%* ]{0,40}") {
            if let Ok(binds) = parse(&text, 8080) {
                let said = binds.iter().map(Bind::to_string).collect::<Vec<_>>().join(",");
                prop_assert_eq!(parse(&said, 8080), Ok(binds));
            }
        }
    }
}

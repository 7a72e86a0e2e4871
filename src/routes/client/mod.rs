//! Who asks, where proxies stand between: the client's address and scheme, by the word of trusted proxies only.
//!
//! Each proxy appends, on the right, where its own connection came from: in X-Forwarded-For, or in Forwarded (RFC 7239). So
//! the walk begins at the connection's other end and goes from right to left for as long as the hop that said so is
//! trusted; the first that is not is the client. Whatever a client itself sent stands further left, and is not looked at;
//! nor is the header that was not chosen ([`ForwardedBy`]), which a proxy that does not know it passes on as it came.
//!
//! Asked for by who needs it (the access log, the admin routes, limits per client): a request that does not ask pays
//! nothing. Sans-IO and total: [`find`] takes any fields. Deliberately absent: names in place of addresses, and X-Real-IP.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
mod nodes;
#[cfg(test)]
mod tests;

use crate::limits::proxy::{FIELD_LINES_MAX, HOPS_MAX};
use crate::server::{Origin, TrustedProxies};
use nodes::Said;
use std::net::IpAddr;
use std::sync::Arc;

/// The header by which trusted proxies tell of a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedBy {
    /// X-Forwarded-For, and X-Forwarded-Proto.
    #[default]
    XForwardedFor,
    /// Forwarded (RFC 7239).
    Forwarded,
}

/// Whose word is taken, and by which header.
#[derive(Debug, Clone, Default)]
pub struct Forwarding {
    /// Whose.
    pub trusted: Arc<TrustedProxies>,
    /// By which.
    pub by: ForwardedBy,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address of the furthest hop that can be told; IPv4 in IPv6's clothes is IPv4. None where there is none to tell:
    /// a Unix socket, or a proxy that says `unknown`.
    pub addr: Option<IpAddr>,
    /// The client's own scheme is https.
    pub https: bool,
    /// Words of trusted proxies that were taken.
    pub hops: usize,
    /// The client and every hop are on this machine's loopback (or a Unix socket): nobody else can have asked, if the proxies
    /// are what they are trusted to be. A loopback address that another machine tells of is that machine's own.
    pub is_local: bool,
}

/// Finds the client of a request with these fields, in their order, over a connection from `origin`, which is TLS if
/// `secure`.
pub fn find<'b>(
    origin: Origin,
    secure: bool,
    fields: impl Iterator<Item = (&'b str, &'b [u8])> + Clone,
    forwarding: &Forwarding,
) -> Client {
    let trusted = &*forwarding.trusted;
    let (mut addr, mut on_machine, mut is_trusted) = match origin {
        Origin::Addr(peer) => {
            let addr = peer.ip().to_canonical();
            (Some(addr), addr.is_loopback(), trusted.contains(addr))
        }
        Origin::Unix => (None, true, trusted.contains_unix()),
        Origin::Unknown => (None, false, false),
    };
    let mut https = None;
    let mut hops = 0;
    if is_trusted {
        let lines = Lines::of(fields.clone(), forwarding.by.name());
        for said in lines.newest_first().flat_map(|line| forwarding.by.newest_first(line)) {
            if !is_trusted || hops == HOPS_MAX {
                break;
            }
            hops += 1;
            addr = said.addr;
            https = said.https;
            on_machine &= addr.is_some_and(|addr| addr.is_loopback());
            is_trusted = addr.is_some_and(|addr| trusted.contains(addr));
        }
        if is_trusted && hops > 0 && (hops == HOPS_MAX || lines.are_cut()) {
            // The end of the chain may lie behind what was looked at.
            (addr, on_machine) = (None, false);
        }
        if forwarding.by == ForwardedBy::XForwardedFor {
            https = scheme(&Lines::of(fields, "x-forwarded-proto"), hops);
        }
    }
    Client {
        addr,
        https: https.unwrap_or(secure),
        hops,
        is_local: on_machine && addr.is_some(),
    }
}

/// The scheme that the hop said which told of the client. Proxies that set the field, and do not append to it, leave one
/// element for all.
fn scheme(lines: &Lines<'_>, hops: usize) -> Option<bool> {
    let mut elements = lines.newest_first().flat_map(nodes::elements);
    let mut last = elements.next()?;
    for element in elements.take(hops.saturating_sub(1)) {
        last = element;
    }
    nodes::is_https(last)
}

impl ForwardedBy {
    /// The field's name.
    fn name(self) -> &'static str {
        match self {
            ForwardedBy::XForwardedFor => "x-forwarded-for",
            ForwardedBy::Forwarded => "forwarded",
        }
    }

    /// What the elements of a line say, from right to left.
    fn newest_first(self, line: &[u8]) -> impl Iterator<Item = Said> {
        let quoted = self == ForwardedBy::Forwarded;
        let elements = nodes::Elements::of(line, quoted);
        elements.map(move |element| {
            if quoted {
                nodes::forwarded(element)
            } else {
                Said {
                    addr: nodes::node(element),
                    https: None,
                }
            }
        })
    }
}

/// The last lines of a field.
struct Lines<'b> {
    /// A ring: line `n` stands at `n % FIELD_LINES_MAX`.
    ring: [&'b [u8]; FIELD_LINES_MAX],
    count: usize,
}

impl<'b> Lines<'b> {
    fn of(fields: impl Iterator<Item = (&'b str, &'b [u8])>, name: &str) -> Lines<'b> {
        let mut lines = Lines {
            ring: [b""; FIELD_LINES_MAX],
            count: 0,
        };
        for (_, value) in fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)) {
            if let Some(slot) = lines.ring.get_mut(lines.count % FIELD_LINES_MAX) {
                *slot = value;
            }
            lines.count += 1;
        }
        lines
    }

    /// There were more.
    fn are_cut(&self) -> bool {
        self.count > FIELD_LINES_MAX
    }

    fn newest_first(&self) -> impl Iterator<Item = &'b [u8]> + '_ {
        let oldest = self.count.saturating_sub(FIELD_LINES_MAX);
        (oldest..self.count)
            .rev()
            .filter_map(|at| self.ring.get(at % FIELD_LINES_MAX).copied())
    }
}

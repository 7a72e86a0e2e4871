//! What must hold of any forwarding fields; see `http/check.rs`. Not in a server.
#![allow(clippy::unwrap_used)] // Reason: a property that fails is a panic.

use super::{Client, ForwardedBy, Forwarding, find};
use crate::server::{Origin, TrustedProxies};
use std::sync::Arc;

/// An untrusted peer tells nothing, and what stands left of the hop that decided changes nothing. Each line of `text` is
/// a line of the field; the first byte chooses which field.
pub(crate) fn forwarding(text: &[u8]) {
    let Some((choice, text)) = text.split_first() else {
        return;
    };
    let by = if choice % 2 == 0 {
        ForwardedBy::XForwardedFor
    } else {
        ForwardedBy::Forwarded
    };
    let (name, forged) = match by {
        ForwardedBy::XForwardedFor => ("X-Forwarded-For", &b"10.9.9.9, 127.0.0.1"[..]),
        ForwardedBy::Forwarded => ("Forwarded", &b"for=10.9.9.9;proto=https, for=127.0.0.1"[..]),
    };
    let trusted = Arc::new(TrustedProxies::parse("10.0.0.0/8, loopback").unwrap());
    let forwarding = Forwarding { trusted, by };
    let lines = || text.split(|byte| *byte == b'\n').map(|line| (name, line));
    let peer = |addr: &str| Origin::Addr(addr.parse().unwrap());

    let stranger = find(peer("203.0.113.5:1"), true, lines(), &forwarding);
    let itself = Client {
        addr: "203.0.113.5".parse().ok(),
        https: true,
        hops: 0,
        is_local: false,
    };
    assert_eq!(stranger, itself);

    let told = find(peer("10.0.0.1:1"), false, lines(), &forwarding);
    assert!(!told.is_local, "the proxy is on another machine");
    if let Some(addr) = told.addr
        && !forwarding.trusted.contains(addr)
    {
        let more = std::iter::once((name, forged)).chain(lines());
        assert_eq!(find(peer("10.0.0.1:1"), false, more, &forwarding), told);
    }
}

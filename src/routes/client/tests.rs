use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, SocketAddr};

fn forwarding(trusted: &str, by: ForwardedBy) -> Forwarding {
    Forwarding {
        trusted: Arc::new(TrustedProxies::parse(trusted).unwrap()),
        by,
    }
}

fn peer(addr: &str) -> Origin {
    match addr {
        "unix" => Origin::Unix,
        "?" => Origin::Unknown,
        _ => Origin::Addr(SocketAddr::new(addr.parse().unwrap(), 4000)),
    }
}

fn fields<'b>(lines: &'b [(&'b str, &'b str)]) -> impl Iterator<Item = (&'b str, &'b [u8])> + Clone {
    lines.iter().map(|(name, value)| (*name, value.as_bytes()))
}

/// Address (or `-`), `s` for https, number of hops, `L` for local.
fn said(client: Client) -> String {
    let addr = client.addr.map_or("-".to_owned(), |addr| addr.to_string());
    let marks = [(client.https, "s"), (client.is_local, "L")];
    let marks: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
    format!("{addr} {} {marks}", client.hops).trim_end().to_owned()
}

#[test]
fn x_forwarded_for() {
    const FOR: &str = "X-Forwarded-For";
    for (trusted, from, lines, is) in [
        // Nobody is trusted, or not this one.
        ("10.0.0.9", "10.0.0.1", vec![(FOR, "1.1.1.1")], "10.0.0.1 0"),
        ("10.0.0.1", "?", vec![(FOR, "1.1.1.1")], "- 0"),
        ("10.0.0.1", "unix", vec![(FOR, "1.1.1.1")], "- 0"),
        // One hop, two, and a client's forgery.
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "1.1.1.1")], "1.1.1.1 1"),
        (
            "10.0.0.1",
            "::ffff:10.0.0.1",
            vec![(FOR, "::ffff:1.1.1.1")],
            "1.1.1.1 1",
        ),
        (
            "10.0.0.1",
            "10.0.0.1",
            vec![("x-FORWARDED-for", "9.9.9.9, 1.1.1.1")],
            "1.1.1.1 1",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.1",
            vec![(FOR, "9.9.9.9, 1.1.1.1, 10.0.0.2")],
            "1.1.1.1 2",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.1",
            vec![(FOR, "9.9.9.9"), (FOR, "1.1.1.1"), (FOR, "10.0.0.2")],
            "1.1.1.1 2",
        ),
        ("unix", "unix", vec![(FOR, "1.1.1.1")], "1.1.1.1 1"),
        // All are trusted: the furthest.
        (
            "10.0.0.0/8",
            "10.0.0.1",
            vec![(FOR, "10.0.0.3, 10.0.0.2")],
            "10.0.0.3 2",
        ),
        ("10.0.0.1", "10.0.0.1", vec![], "10.0.0.1 0"),
        // Other forms.
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "1.1.1.1:4000")], "1.1.1.1 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "2001:db8::1")], "2001:db8::1 1"),
        (
            "10.0.0.1",
            "10.0.0.1",
            vec![(FOR, "[2001:db8::1]:4000")],
            "2001:db8::1 1",
        ),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "[2001:db8::1]")], "2001:db8::1 1"),
        // What says nothing hides the client; it does not give the word to who stands further left.
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "9.9.9.9, unknown")], "- 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "9.9.9.9,")], "- 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "9.9.9.9"), (FOR, "")], "- 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "9.9.9.9, unix:")], "- 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "1.1.1.1:65536")], "- 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "1.1.1.1:+1")], "- 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "fe80::1%eth0")], "- 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "01.1.1.1")], "- 1"),
        ("10.0.0.1", "10.0.0.1", vec![(FOR, "[2001:db8::1]x")], "- 1"),
        // The header that was not chosen.
        ("10.0.0.1", "10.0.0.1", vec![("Forwarded", "for=1.1.1.1")], "10.0.0.1 0"),
        // The scheme is that of the hop that told of the client.
        (
            "10.0.0.1",
            "10.0.0.1",
            vec![(FOR, "1.1.1.1"), ("X-Forwarded-Proto", "https")],
            "1.1.1.1 1 s",
        ),
        (
            "10.0.0.1",
            "10.0.0.1",
            vec![(FOR, "1.1.1.1"), ("X-Forwarded-Proto", "https, http")],
            "1.1.1.1 1",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.1",
            vec![
                (FOR, "9.9.9.9, 1.1.1.1, 10.0.0.2"),
                ("X-Forwarded-Proto", "http, https, http"),
            ],
            "1.1.1.1 2 s",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.1",
            vec![(FOR, "1.1.1.1, 10.0.0.2"), ("X-Forwarded-Proto", "HTTPS")],
            "1.1.1.1 2 s",
        ),
        (
            "10.0.0.1",
            "10.0.0.1",
            vec![("X-Forwarded-Proto", "https")],
            "10.0.0.1 0 s",
        ),
        (
            "10.0.0.1",
            "10.0.0.2",
            vec![("X-Forwarded-Proto", "https")],
            "10.0.0.2 0",
        ),
        (
            "10.0.0.1",
            "10.0.0.1",
            vec![("X-Forwarded-Proto", "gopher")],
            "10.0.0.1 0",
        ),
        // Local is who is local all the way.
        ("loopback", "127.0.0.1", vec![], "127.0.0.1 0 L"),
        ("10.0.0.1", "::1", vec![], "::1 0 L"),
        ("loopback", "127.0.0.1", vec![(FOR, "127.0.0.1")], "127.0.0.1 1 L"),
        ("unix", "unix", vec![(FOR, "127.0.0.1")], "127.0.0.1 1 L"),
        ("unix", "unix", vec![], "- 0"),
        ("loopback", "127.0.0.1", vec![(FOR, "127.0.0.1, 1.1.1.1")], "1.1.1.1 1"),
        ("loopback,10.0.0.1", "10.0.0.1", vec![(FOR, "127.0.0.1")], "127.0.0.1 1"),
        (
            "loopback,10.0.0.1",
            "127.0.0.1",
            vec![(FOR, "127.0.0.1, 10.0.0.1")],
            "127.0.0.1 2",
        ),
    ] {
        let by = forwarding(trusted, ForwardedBy::XForwardedFor);
        assert_eq!(
            said(find(peer(from), false, fields(&lines), &by)),
            is,
            "{trusted} {from} {lines:?}"
        );
    }
}

#[test]
fn forwarded() {
    for (line, is) in [
        ("for=1.1.1.1", "1.1.1.1 1"),
        ("For=1.1.1.1;proto=https;by=10.0.0.1", "1.1.1.1 1 s"),
        ("proto=http; for=1.1.1.1 ;host=\"a,b;c\"", "1.1.1.1 1"),
        ("for=\"1.1.1.1:4000\"", "1.1.1.1 1"),
        ("for=\"[2001:db8::1]:4000\"", "2001:db8::1 1"),
        ("for=\"[2001:db8::1]:_hidden\"", "2001:db8::1 1"),
        ("for=1.1.1.1:4000", "1.1.1.1 1"),
        ("for=[2001:db8::1]", "2001:db8::1 1"),
        (";;for=1.1.1.1;", "1.1.1.1 1"),
        ("for=9.9.9.9, for=1.1.1.1", "1.1.1.1 1"),
        ("for=1.1.1.1;proto=https, for=10.0.0.2;proto=http", "1.1.1.1 2 s"),
        ("for=9.9.9.9, for=unknown", "- 1"),
        ("for=9.9.9.9, for=_gazonk", "- 1"),
        ("for=9.9.9.9, proto=https", "- 1 s"),
        ("for=9.9.9.9,", "- 1"),
        ("for=9.9.9.9, for=1.1.1.1;for=2.2.2.2", "- 1"),
        ("for=1.1.1.1;proto=http;proto=https", "- 1"),
        ("for=\"1.1.1.1", "- 1"),
        ("for=\"1.1.1.1\"x", "- 1"),
        ("for = 1.1.1.1", "- 1"),
        ("for=\"1.1.1\\.1\"", "- 1"),
        ("1.1.1.1", "- 1"),
        // A client that leaves a quote open, in the hope to swallow what the proxy appends.
        ("for=9.9.9.9;x=\", for=1.1.1.1", "1.1.1.1 1"),
        ("for=9.9.9.9;x=\", for=\"1.1.1.1\"", "1.1.1.1 1"),
        ("for=9.9.9.9;x=\"\\, for=\"1.1.1.1\"", "1.1.1.1 1"),
        ("for=9.9.9.9;x=\"\\\", for=\"1.1.1.1:1\";by=\"a\\\"b\\\\\"", "1.1.1.1 1"),
        ("for=9.9.9.9;x=\", for=1.1.1.1, for=10.0.0.2;by=\",\"", "1.1.1.1 2"),
    ] {
        let by = forwarding("10.0.0.0/8", ForwardedBy::Forwarded);
        let lines = [
            ("X-Forwarded-For", "8.8.8.8"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", line),
        ];
        assert_eq!(said(find(peer("10.0.0.1"), false, fields(&lines), &by)), is, "{line}");
    }
}

#[test]
fn chains_without_an_end_hide_the_client() {
    let by = forwarding("10.0.0.0/8", ForwardedBy::XForwardedFor);
    let chain = |hops: usize| vec!["10.0.0.2"; hops].join(",");
    let last = format!("1.1.1.1,{}", chain(HOPS_MAX - 1));
    let behind = format!("1.1.1.1,{}", chain(HOPS_MAX));
    for (line, addr) in [
        (last, Some("1.1.1.1")),
        (behind, None),
        (chain(2), Some("10.0.0.2")),
        (chain(4000), None),
    ] {
        let client = find(peer("10.0.0.1"), false, fields(&[("x-forwarded-for", &line)]), &by);
        assert_eq!(client.addr, addr.map(|addr| addr.parse().unwrap()), "{line}");
        assert!(client.hops <= HOPS_MAX);
    }
    // More lines than are kept: the newest count.
    let mut lines = vec![("x-forwarded-for", "9.9.9.9"); 2 * FIELD_LINES_MAX];
    lines.push(("x-forwarded-for", "1.1.1.1"));
    assert_eq!(said(find(peer("10.0.0.1"), false, fields(&lines), &by)), "1.1.1.1 1");
}

/// Bytes as a head may hold them in a value, those of the grammar more often than others.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "for=", "proto=https", "\"", "\\", ";", ",", ", ", "=", " ", "1.2.3.4", "10.0.0.2", "[::1]", "127.0.0.1",
            "unknown", "_x", ":80", "for=\"[2001:db8::1]:80\"", "10.0.0.1:99", "https",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>().prop_filter("of a head", |b| !matches!(b, b'\r' | b'\n' | 0)), 0..6),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn any_lines() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let name = prop::sample::select(vec!["x-forwarded-for", "Forwarded", "X-Forwarded-Proto", "via"]);
    prop::collection::vec((name, value()), 0..20)
}

fn borrowed<'b>(lines: &'b [(&'static str, Vec<u8>)]) -> impl Iterator<Item = (&'b str, &'b [u8])> + Clone {
    lines.iter().map(|(name, value)| (*name, value.as_slice()))
}

const BOTH: [ForwardedBy; 2] = [ForwardedBy::XForwardedFor, ForwardedBy::Forwarded];

proptest! {
    /// Whatever it sends, a peer that is not trusted is who it is.
    #[test]
    fn an_untrusted_peer_is_itself(lines in any_lines(), addr: u32, port: u16, secure: bool) {
        prop_assume!(addr >> 24 != 10);
        let addr = Ipv4Addr::from(addr);
        for by in BOTH {
            let by = forwarding("10.0.0.0/8,unix", by);
            let client = find(Origin::Addr(SocketAddr::new(addr.into(), port)), secure, borrowed(&lines), &by);
            let itself = Client { addr: Some(addr.into()), https: secure, hops: 0, is_local: addr.is_loopback() };
            prop_assert_eq!(client, itself);
            prop_assert_eq!(find(Origin::Unknown, secure, borrowed(&lines), &by).addr, None);
        }
    }

    /// Whatever a client sent before, what the trusted hop appended holds: as an element of the same line, or as a line
    /// of its own.
    #[test]
    fn what_a_trusted_hop_appended_wins(mut lines in any_lines(), addr: u32, port: u16, form in 0..3, own_line: bool) {
        let client = Ipv4Addr::from(addr);
        prop_assume!(addr >> 24 != 10);
        for by in BOTH {
            let said = match (by, form) {
                (ForwardedBy::XForwardedFor, 0) => format!("{client}"),
                (ForwardedBy::XForwardedFor, _) => format!("{client}:{port}"),
                (ForwardedBy::Forwarded, 0) => format!("for={client}"),
                (ForwardedBy::Forwarded, 1) => format!("for=\"{client}:{port}\";proto=https"),
                (ForwardedBy::Forwarded, _) => format!("by=\"a\\\"\\\\,;\";for=\"{client}\""),
            };
            let last = lines.iter_mut().rev().find(|(name, _)| name.eq_ignore_ascii_case(by.name()));
            match last {
                Some((_, line)) if !own_line => line.extend(format!(", {said}").bytes()),
                _ => lines.push((by.name(), said.into_bytes())),
            }
            let found = find(peer("10.0.0.1"), false, borrowed(&lines), &forwarding("10.0.0.0/8", by));
            prop_assert_eq!((found.addr, found.hops), (Some(client.into()), 1), "{:?}", lines);
            prop_assert!(!found.is_local);
        }
    }

    /// A loopback address that came by another machine is not this one's.
    #[test]
    fn nobody_elsewhere_is_local(lines in any_lines()) {
        for by in BOTH {
            let found = find(peer("10.0.0.1"), false, borrowed(&lines), &forwarding("*", by));
            prop_assert!(!found.is_local && found.hops <= HOPS_MAX);
        }
    }
}

proptest! {
    #[test]
    fn any_fields_keep_the_promises(text in "[01]([0-9.]{7,12}|for=|, |;|\"|proto=https|10\\.0\\.0\\.1|[ -~]|\n){0,20}") {
        super::check::forwarding(text.as_bytes());
    }
}

use super::*;
use crate::http::parse_head;
use proptest::prelude::*;

const METRICS: MediaType = MediaType {
    kind: "text",
    subtype: "plain",
    parameters: &[("version", "0.0.4")],
};

fn weight(lines: &[&str], media: &MediaType) -> Weight {
    acceptance(lines.iter().map(|line| line.as_bytes()), media).weight
}

fn codings(lines: &[&str]) -> Codings {
    Codings::of(lines.iter().map(|line| line.as_bytes()))
}

/// What is chosen where all are on offer, br first.
fn chosen(line: &str) -> Result<&'static str, NotAcceptable> {
    let best = codings(&[line]).choose(&[Coding::Br, Coding::Zstd, Coding::Gzip])?;
    Ok(best.map_or("identity", Coding::as_str))
}

#[test]
fn the_most_specific_range_decides() {
    // The example of RFC 9110 section 12.5.1.
    let example = "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5";
    let flowed = MediaType {
        parameters: &[("format", "flowed")],
        ..MediaType::plain("text", "plain")
    };
    let fixed = MediaType {
        parameters: &[("format", "fixed")],
        ..flowed
    };
    for (media, expected) in [
        (flowed, 1000),
        (fixed, 400),
        (MediaType::plain("text", "plain"), 700),
        (MediaType::HTML, 300),
        (MediaType::plain("image", "jpeg"), 500),
    ] {
        assert_eq!(weight(&[example], &media), expected, "{media:?}");
    }
}

#[test]
fn accept_row_by_row() {
    let json = MediaType::JSON;
    for (line, expected) in [
        ("application/json", 1000),
        ("APPLICATION/JSON", 1000),
        ("*/*", 1000),
        ("application/*", 1000),
        ("text/html", 0),
        ("text/html, */*;q=0.1", 100),
        ("application/json;q=0", 0),
        ("application/json;q=0, */*", 0),
        ("*/*, application/json;q=0", 0),
        ("application/*;q=0, */*;q=0.5", 0),
        ("application/json;q=0.001", 1),
        ("application/json; q=0.5", 500),
        ("application/json ; Q=0.5", 500),
        ("application/json;charset=utf-8", 1000),
        ("application/json;charset=\"UTF-8\";q=0.4", 400),
        ("application/json;charset=latin1", 0),
        ("application/json;version=2", 0),
        // The weight counts wherever it stands.
        ("application/json;q=0.5;charset=utf-8", 500),
        ("application/json;q=0.2, application/json;q=0.7", 700),
        // Empty members are nothing.
        (", ,application/json,,", 1000),
        ("text/html,", 0),
        // What cannot be read is skipped; where nothing can, nothing was asked.
        ("", 1000),
        ("json", 1000),
        ("*/json", 1000),
        ("application/json;q=2", 1000),
        ("application/json;q=2, text/html", 0),
        ("application/json;q=0.5;q=0.6, text/html", 0),
        ("application/json;q, text/html", 0),
        ("application/json;q=, text/html", 0),
        ("application/json;q=0.1234, text/html", 0),
        ("application/json;q=1.001, text/html", 0),
        ("application/json;q=.5, text/html", 0),
        ("application/json;q =0.5, text/html", 0),
        ("application/json x, text/html", 0),
        ("application /json, text/html", 0),
        ("application/, text/html", 0),
        ("application/json;a=\"b, text/html", 1000),
        // A comma, a semicolon and a quote within quotes part nothing.
        ("text/html;a=\", application/json;q=1, \\\"\", text/css", 0),
        ("application/json;;q=0.3;", 300),
        ("application/json;q=1.000", 1000),
        ("application/json;q=1.", 1000),
        ("application/json;q=0.", 0),
    ] {
        assert_eq!(weight(&[line], &json), expected, "{line}");
    }
}

#[test]
fn lines_are_one_list_and_none_is_anything() {
    assert_eq!(weight(&[], &MediaType::JSON), 1000);
    assert_eq!(weight(&["text/html", "application/json;q=0.3"], &MediaType::JSON), 300);
    assert_eq!(weight(&["text/html", "text/css"], &MediaType::JSON), 0);
    let codings = codings(&["gzip;q=0.2", "br"]);
    assert_eq!(codings.choose(&[Coding::Gzip, Coding::Br]), Ok(Some(Coding::Br)));
}

#[test]
fn a_scraper_gets_the_metrics() {
    for (line, expected) in [
        // Prometheus 2 and 3, and vmagent.
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            300,
        ),
        ("text/plain;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4", 400),
        ("text/plain;version=0.0.4;charset=utf-8;q=1", 1000),
        ("text/plain", 1000),
        ("text/plain;version=1.0.0", 0),
        ("application/openmetrics-text", 0),
    ] {
        assert_eq!(weight(&[line], &METRICS), expected, "{line}");
    }
}

#[test]
fn accept_encoding_row_by_row() {
    for (line, expected) in [
        ("", Ok("identity")),
        ("gzip", Ok("gzip")),
        ("x-gzip", Ok("gzip")),
        ("GZip", Ok("gzip")),
        ("gzip, deflate, br, zstd", Ok("br")),
        ("deflate, gzip", Ok("gzip")),
        ("zstd, gzip", Ok("zstd")),
        ("deflate", Ok("identity")),
        ("gzip;q=1.0, br;q=0.9", Ok("gzip")),
        ("gzip;q=0.5, identity;q=0.9", Ok("identity")),
        ("gzip;q=0.5, identity;q=0.5", Ok("gzip")),
        ("identity", Ok("identity")),
        ("identity, gzip", Ok("gzip")),
        ("*", Ok("br")),
        ("*;q=0.5, zstd", Ok("zstd")),
        ("br;q=0, *", Ok("zstd")),
        ("gzip;q=0", Ok("identity")),
        ("identity;q=0, gzip", Ok("gzip")),
        ("identity;q=0", Err(NotAcceptable)),
        ("*;q=0", Err(NotAcceptable)),
        ("*;q=0, identity", Ok("identity")),
        ("*;q=0, gzip", Ok("gzip")),
        ("identity;q=0, *;q=0.1", Ok("br")),
        ("identity;q=0, deflate", Err(NotAcceptable)),
        // Skipped.
        ("gzip;q=7, zstd", Ok("zstd")),
        ("gzip;level=9, zstd", Ok("zstd")),
        ("gzip;q=1;x=y, zstd", Ok("zstd")),
        ("gz ip, zstd", Ok("zstd")),
        ("gzip;q=x", Ok("identity")),
        (" gzip ;\tq=0.3 , br ; q=0.2", Ok("gzip")),
        ("gzip;q=0.1, gzip;q=0.9, br;q=0.5", Ok("gzip")),
    ] {
        assert_eq!(chosen(line), expected, "{line}");
    }
    assert_eq!(codings(&[]).choose(&Coding::ALL), Ok(None));
    assert_eq!(codings(&["gzip"]).choose(&[]), Ok(None));
    assert_eq!(codings(&["gzip, identity;q=0"]).choose(&[]), Err(NotAcceptable));
    assert!(codings(&["gzip"]).accepts(None) && !codings(&["gzip"]).accepts(Some(Coding::Br)));
}

#[test]
fn content_types() {
    let read = |text: &'static str| SentType::read(text.as_bytes());
    for (text, json, utf8) in [
        ("application/json", true, true),
        ("Application/JSON", true, true),
        ("application/json; charset=utf-8", true, true),
        ("application/json;charset=\"UTF-8\"", true, true),
        ("application/json;charset=utf8", true, true),
        ("application/json; charset=iso-8859-1", true, false),
        ("application/json; charset=utf-8; charset=utf-16", true, false),
        ("application/json; profile=\"a;charset=x\"", true, true),
        ("application/ld+json", true, true),
        ("application/problem+JSON", true, true),
        ("application/jsonp", false, true),
        ("application/+json", true, true),
        ("text/json", false, true),
        ("text/plain", false, true),
        ("multipart/form-data; boundary=x", false, true),
    ] {
        let sent = read(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((sent.is_json(), sent.is_utf8()), (json, utf8), "{text}");
    }
    for text in [
        "",
        "json",
        "application",
        "application/",
        "/json",
        "application/json charset=utf-8",
        "application/json; charset",
        "application/json; charset=",
        "application/json, text/plain",
        "application/json; charset=utf 8",
        "application/json; charset=\"utf-8",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn the_head_gives_all_lines_and_only_theirs() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: a/b\r\nX: y\r\nACCEPT: c/d\r\nAccept-Encoding: gzip\r\n\r\n";
    let (head, _) = parse_head(head).unwrap().unwrap();
    assert!(head.accept().eq([&b"a/b"[..], b"c/d"]));
    assert!(head.accept_encoding().eq([&b"gzip"[..]]));
    assert_eq!(head.content_encoding().count(), 0);
    assert!(!head.is_conditional());
}

proptest! {
    #[test]
    fn any_bytes_have_a_meaning(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4)) {
        let lines = || lines.iter().map(Vec::as_slice);
        for media in [MediaType::JSON, MediaType::HTML, MediaType::EVENTS, METRICS] {
            prop_assert!(acceptance(lines(), &media).weight <= FULL);
        }
        let _ = Codings::of(lines()).choose(&Coding::ALL);
        lines().for_each(|line| _ = SentType::read(line));
    }

    #[test]
    fn order_does_not_matter(
        mut ranges in prop::collection::vec(("(\\*/\\*|text/\\*|text/html|application/json|image/png)", 0u16..=1000), 0..6),
    ) {
        let line = |ranges: &[(String, u16)]| {
            let member = |(name, q): &(String, u16)| format!("{name};q={}.{:03}", q / 1000, q % 1000);
            ranges.iter().map(member).collect::<Vec<_>>().join(", ")
        };
        let forth = line(&ranges);
        ranges.reverse();
        let back = line(&ranges);
        for media in [MediaType::JSON, MediaType::HTML] {
            prop_assert_eq!(weight(&[&forth], &media), weight(&[&back], &media), "{} | {}", forth, back);
        }
    }

    #[test]
    fn a_choice_is_one_that_is_accepted(
        members in prop::collection::vec(("(gzip|br|zstd|identity|deflate|\\*)", 0u16..=3), 0..6), offered in 0usize..=3,
    ) {
        let line = members.iter().map(|(name, q)| format!("{name};q=0.{q}")).collect::<Vec<_>>().join(",");
        let codings = codings(&[&line]);
        let offer = &Coding::ALL[..offered];
        if codings.is_plain() {
            prop_assert_eq!(codings.choose(offer), Ok(None));
        }
        match codings.choose(offer) {
            Ok(coding) => {
                prop_assert!(codings.accepts(coding), "{}", line);
                prop_assert!(coding.is_none_or(|coding| offer.contains(&coding)));
            }
            Err(NotAcceptable) => {
                prop_assert!(!codings.accepts(None) && offer.iter().all(|coding| !codings.accepts(Some(*coding))));
            }
        }
    }
}

proptest! {
    #[test]
    fn any_wishes_keep_the_promises(text in "(gzip|br|zstd|identity|\\*|/|;q=0|;q=1|;q=0\\.5|, |application|json|[ -~]|\n){0,20}") {
        super::check::wishes(text.as_bytes());
    }
}

/// Found by the fuzz target: the checker took a plain name for the last word, though a range with a parameter that fits is
/// the more specific one.
#[test]
fn a_range_with_a_charset_outweighs_a_plain_name() {
    let line = "text/html; charset=utf-8;q=0.9, */*;q=0.1";
    assert_eq!(weight(&[line], &MediaType::HTML), 900);
    assert_eq!(weight(&[line, "text/html"], &MediaType::HTML), 900);
    super::check::wishes(line.as_bytes());
}

use super::*;
use crate::http::parse_head;
use proptest::prelude::*;

/// The date of the representation of these tests, and a second around it.
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const KNOWN: Validators<'static> = Validators {
    opaque: b"abc",
    modified_s: Some(784_111_777),
};

fn judge(fields: &str, codings: &str, selected: Option<Coding>) -> Verdict {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let (head, _) = parse_head(head.as_bytes()).unwrap().unwrap();
    assert_eq!(head.is_conditional(), !fields.is_empty());
    Conditions::of(head.headers).judge(KNOWN, &Codings::of([codings.as_bytes()]), selected)
}

#[test]
fn each_condition_alone() {
    use Verdict::{Failed, NotModified, Proceed};
    let same = NotModified(None);
    for (fields, verdict) in [
        ("", Proceed),
        ("If-None-Match: \"abc\"\r\n", same),
        ("If-None-Match: W/\"abc\"\r\n", same),
        ("If-None-Match: \"x\", \"abc\"\r\n", same),
        ("If-None-Match: \"x,\"  ,,\t \"abc\" ,\r\n", same),
        ("If-None-Match: \"x\"\r\nIf-None-Match: \"abc\"\r\n", same),
        ("If-None-Match: *\r\n", same),
        ("If-None-Match: \"x\"\r\n", Proceed),
        ("If-None-Match: \"ABC\"\r\n", Proceed),
        // Damaged: read on behind the next comma.
        ("If-None-Match: \"x, \"abc\"\r\n", same),
        ("If-None-Match: w/\"abc\"\r\n", Proceed),
        ("If-None-Match: abc\r\n", Proceed),
        ("If-None-Match: \"abc\r\n", Proceed),
        ("If-None-Match: \"abc\"x\r\n", Proceed),
        ("If-None-Match: \"x\", *\r\n", Proceed),
        ("If-None-Match: *, *\r\n", Proceed),
        ("If-None-Match:\r\n", Proceed),
        // The tag of a coding that this request does not take is no answer to it.
        ("If-None-Match: \"abc-gzip\"\r\n", Proceed),
        ("If-None-Match: \"abc-rot13\"\r\n", Proceed),
        ("If-Match: \"abc\"\r\n", Proceed),
        ("If-Match: \"x\", \"abc\"\r\n", Proceed),
        ("If-Match: \"a,b\", \"abc\"\r\n", Proceed),
        ("If-Match: *\r\n", Proceed),
        // Of another coding, and of the same story all the same.
        ("If-Match: \"abc-br\"\r\n", Proceed),
        ("If-Match: W/\"abc\"\r\n", Failed),
        ("If-Match: \"x\"\r\n", Failed),
        ("If-Match: \"abc-\"\r\n", Failed),
        ("If-Match:\r\n", Failed),
        ("If-Match: abc\r\n", Failed),
    ] {
        assert_eq!(judge(fields, "", None), verdict, "{fields}");
    }
    for (date, since, unmodified) in [
        (BEFORE, Proceed, Failed),
        (THEN, same, Proceed),
        (AFTER, same, Proceed),
        ("yesterday", Proceed, Proceed),
    ] {
        assert_eq!(
            judge(&format!("If-Modified-Since: {date}\r\n"), "", None),
            since,
            "{date}"
        );
        assert_eq!(
            judge(&format!("If-Unmodified-Since: {date}\r\n"), "", None),
            unmodified,
            "{date}"
        );
    }
    let twice = format!("If-Modified-Since: {AFTER}\r\nIf-Modified-Since: {AFTER}\r\n");
    assert_eq!(judge(&twice, "", None), Proceed);
}

#[test]
fn conditions_in_the_order_of_the_rfc() {
    use Verdict::{Failed, NotModified, Proceed};
    for (fields, verdict) in [
        // If-Match is there: If-Unmodified-Since does not count.
        (
            format!("If-Match: \"abc\"\r\nIf-Unmodified-Since: {BEFORE}\r\n"),
            Proceed,
        ),
        (format!("If-Match: \"x\"\r\nIf-Unmodified-Since: {AFTER}\r\n"), Failed),
        // If-None-Match is there: If-Modified-Since does not count.
        (
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {AFTER}\r\n"),
            Proceed,
        ),
        (
            format!("If-None-Match: \"abc\"\r\nIf-Modified-Since: {BEFORE}\r\n"),
            NotModified(None),
        ),
        // What fails comes before what is not modified.
        ("If-None-Match: \"abc\"\r\nIf-Match: \"x\"\r\n".into(), Failed),
        (
            "If-Match: \"abc\"\r\nIf-None-Match: \"abc\"\r\n".into(),
            NotModified(None),
        ),
        (
            format!("If-Unmodified-Since: {BEFORE}\r\nIf-None-Match: \"abc\"\r\n"),
            Failed,
        ),
        (
            format!("If-Unmodified-Since: {THEN}\r\nIf-Modified-Since: {THEN}\r\n"),
            NotModified(None),
        ),
    ] {
        assert_eq!(judge(&fields, "", None), verdict, "{fields}");
    }
}

#[test]
fn a_cache_is_told_which_of_its_forms_is_good() {
    use Verdict::{NotModified, Proceed};
    let (br, gzip) = (Some(Coding::Br), Some(Coding::Gzip));
    for (sent, codings, selected, verdict) in [
        ("\"abc-br\"", "br", br, NotModified(br)),
        // Both are held and the better one is named.
        ("\"abc-gzip\", \"abc-br\"", "gzip, br", br, NotModified(br)),
        ("\"abc-gzip\"", "gzip, br", br, NotModified(gzip)),
        ("\"abc\"", "gzip, br", br, NotModified(None)),
        ("\"abc\"", "br, identity;q=0", br, Proceed),
        ("\"abc-gzip\"", "br", br, Proceed),
        ("\"abc-gzip\"", "", None, Proceed),
        ("W/\"abc-gzip\"", "gzip", gzip, NotModified(gzip)),
        ("*", "br", br, NotModified(br)),
    ] {
        let fields = format!("If-None-Match: {sent}\r\n");
        assert_eq!(judge(&fields, codings, selected), verdict, "{sent} {codings}");
    }
    assert_eq!(entity_tag(b"abc", None), b"\"abc\"");
    assert_eq!(entity_tag(b"abc", br), b"\"abc-br\"");
}

#[test]
fn without_a_date_dates_do_not_count() {
    let known = Validators {
        modified_s: None,
        ..KNOWN
    };
    let head =
        format!("GET / HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: {AFTER}\r\nIf-Unmodified-Since: {BEFORE}\r\n\r\n");
    let (head, _) = parse_head(head.as_bytes()).unwrap().unwrap();
    let verdict = Conditions::of(head.headers).judge(known, &Codings::IDENTITY, None);
    assert_eq!(verdict, Verdict::Proceed);
}

proptest! {
    #[test]
    fn any_list_is_read_to_its_end(list in "[\",W/* \\ta-]{0,60}") {
        prop_assert!(tags(list.as_bytes()).count() <= list.len() / 2);
    }

    #[test]
    fn a_list_of_tags_gives_its_tags(sent in prop::collection::vec((any::<bool>(), "[!#-~]{0,12}"), 0..8)) {
        let text = |(weak, opaque): &(bool, String)| format!("{}\"{opaque}\"", if *weak { "W/" } else { "" });
        let list = sent.iter().map(text).collect::<Vec<_>>().join(" ,  ");
        let read: Vec<_> = tags(list.as_bytes())
            .map(|tag| (tag.is_weak, String::from_utf8(tag.opaque.to_vec()).unwrap()))
            .collect();
        prop_assert_eq!(read, sent);
    }
}

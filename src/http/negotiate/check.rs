//! What must hold of any Accept and Accept-Encoding; see `http/check.rs`. Not in a server.

use super::{Coding, Codings, FULL, MediaType, SentType, acceptance};

/// A refused coding is never chosen, case changes nothing but what parameters say, and neither does an empty line more.
/// Each line of `text` is a line of the field.
pub(crate) fn wishes(text: &[u8]) {
    let lines = || text.split(|byte| *byte == b'\n');
    let more = || lines().chain(std::iter::once(&b" , "[..]));
    let loud: Vec<Vec<u8>> = lines().map(<[u8]>::to_ascii_uppercase).collect();

    let codings = Codings::of(lines());
    assert_eq!(Codings::of(more()), codings);
    assert_eq!(Codings::of(loud.iter().map(Vec::as_slice)), codings);
    match codings.choose(&Coding::ALL) {
        Ok(choice) => assert!(codings.accepts(choice), "{choice:?} of {codings:?}"),
        Err(_) => assert!(!codings.accepts(None) && !Coding::ALL.iter().any(|coding| codings.accepts(Some(*coding)))),
    }
    if codings.is_plain() {
        assert_eq!(codings.choose(&Coding::ALL), Ok(None));
    }

    for media in [MediaType::JSON, MediaType::EVENTS, MediaType::HTML] {
        let found = acceptance(lines(), &media);
        assert!(found.weight <= FULL);
        assert_eq!(acceptance(more(), &media), found);
        // Named without a weight it is fully welcome, unless a range that says more of it, `text/html;charset=utf-8;q=0.9`,
        // decides: only one with parameters does.
        let named = format!("{}/{}", media.kind, media.subtype);
        let invited = acceptance(lines().chain([named.as_bytes()]), &media);
        assert!(invited.is_named);
        if invited.weight != FULL {
            assert_eq!(invited, found);
            assert!(text.contains(&b';'));
        }
    }
    if let Some(sent) = SentType::read(text) {
        let _ = (sent.is_json(), sent.is_utf8());
    }
}

//! RESP2 and RESP3 on the wire, without I/O: commands out, answers in.
//!
//! Why not the `redis` crate's: its connection wants a `Send` stream and three channels and five allocations a command,
//! its reader recurses over what the peer sends and has no bound on it, and a caller who gives up cannot say so. This
//! reader is total: any bytes give an answer, "need more" or [`Garbage`]; nested answers are counted, not recursed into;
//! every length has a bound. (The crate's parser is the yardstick in the tests.)
//!
//! Sources: the Redis serialization protocol specification; for RESP3 antirez' RESP3 document.

use crate::limits::redis as limits;

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// A status ("OK", "PONG") or another scalar as text.
    Text(Vec<u8>),
    /// A value.
    Bulk(Vec<u8>),
    /// A number, or a boolean.
    Int(i64),
    /// Nothing there.
    Nil,
    /// An error; its first word alone, since the rest may repeat what was sent.
    Error(String),
    /// A list or a map, nested ones too: its scalars in order.
    Many(Vec<Reply>),
    /// A value longer than any of ours; so many bytes of it follow, and must be skipped.
    TooLong(u64),
    /// Said without being asked.
    Push,
}

/// What came is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbage;

/// Appends a command.
pub(super) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    number(out, b'*', words.len());
    for word in words {
        number(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn number(out: &mut Vec<u8>, mark: u8, number: usize) {
    use std::io::Write;
    out.push(mark);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}\r\n");
}

/// The first answer in `bytes` and how many bytes it has; `None`: more must come.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Garbage> {
    let Some((item, mut at)) = item(bytes, true)? else {
        return Ok(None);
    };
    let (mut left, push) = match item {
        Item::Scalar(reply) => return Ok(Some((reply, at))),
        Item::List { items, push } => (items, push),
        // Facts about the answer that follows; nobody asked for them.
        Item::Attribute { items } => (items, true),
    };
    let mut scalars = Vec::new();
    let mut seen = left;
    while left > 0 {
        let Some((next, bytes_used)) = self::item(bytes.get(at..).unwrap_or_default(), false)? else {
            return Ok(None);
        };
        at += bytes_used;
        match next {
            Item::Scalar(reply) => {
                left -= 1;
                scalars.push(reply);
            }
            Item::List { items, .. } => {
                left = left - 1 + items;
                seen += items;
            }
            Item::Attribute { items } => {
                left += items;
                seen += items;
            }
        }
        if seen > limits::ITEMS_MAX {
            return Err(Garbage);
        }
    }
    Ok(Some((if push { Reply::Push } else { Reply::Many(scalars) }, at)))
}

enum Item {
    Scalar(Reply),
    /// So many items follow.
    List {
        items: usize,
        push: bool,
    },
    Attribute {
        items: usize,
    },
}

/// One scalar with its end, or the head of a list.
fn item(bytes: &[u8], outermost: bool) -> Result<Option<(Item, usize)>, Garbage> {
    let Some((line, after)) = line(bytes)? else {
        return Ok(None);
    };
    let (mark, rest) = line.split_first().ok_or(Garbage)?;
    let scalar = |reply| Ok(Some((Item::Scalar(reply), after)));
    match mark {
        b'+' | b',' | b'(' => scalar(Reply::Text(rest.to_vec())),
        b'-' => scalar(Reply::Error(first_word(rest))),
        b':' => scalar(Reply::Int(integer(rest)?)),
        b'#' => match rest {
            b"t" => scalar(Reply::Int(1)),
            b"f" => scalar(Reply::Int(0)),
            _ => Err(Garbage),
        },
        b'_' if rest.is_empty() => scalar(Reply::Nil),
        b'$' | b'=' | b'!' => {
            if rest == b"-1" && *mark == b'$' {
                return scalar(Reply::Nil);
            }
            let length = u64::try_from(integer(rest)?).map_err(|_| Garbage)?;
            if length > limits::BULK_BYTES_BOUND {
                return Err(Garbage);
            }
            let fits = usize::try_from(length)
                .ok()
                .filter(|length| *length <= limits::VALUE_BYTES_MAX);
            let Some(length) = fits else {
                // In a list it would have to be skipped in the middle of it: none of our answers has that.
                return if outermost {
                    scalar(Reply::TooLong(length + 2))
                } else {
                    Err(Garbage)
                };
            };
            let end = after + length;
            let (Some(value), Some(tail)) = (bytes.get(after..end), bytes.get(end..end + 2)) else {
                return Ok(None);
            };
            if tail != b"\r\n" {
                return Err(Garbage);
            }
            let reply = match mark {
                b'!' => Reply::Error(first_word(value)),
                // A verbatim string begins with its kind: "txt:".
                b'=' => Reply::Text(value.get(4..).ok_or(Garbage)?.to_vec()),
                _ => Reply::Bulk(value.to_vec()),
            };
            Ok(Some((Item::Scalar(reply), end + 2)))
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            if rest == b"-1" && *mark == b'*' {
                return scalar(Reply::Nil);
            }
            let count = usize::try_from(integer(rest)?).map_err(|_| Garbage)?;
            let items = if matches!(mark, b'%' | b'|') {
                count.saturating_mul(2)
            } else {
                count
            };
            if items > limits::ITEMS_MAX {
                return Err(Garbage);
            }
            let item = match mark {
                b'|' => Item::Attribute { items },
                _ => Item::List {
                    items,
                    push: *mark == b'>',
                },
            };
            Ok(Some((item, after)))
        }
        _ => Err(Garbage),
    }
}

/// The first line without its end, and where the next begins.
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Garbage> {
    // A line that cannot be one is refused by its first byte, not after kilobytes of it.
    if bytes.first().is_some_and(|mark| !b"+-:$*_#,(!=%~>|".contains(mark)) {
        return Err(Garbage);
    }
    let window = bytes.get(..limits::LINE_BYTES_MAX).unwrap_or(bytes);
    match memchr::memchr(b'\r', window) {
        Some(end) => match bytes.get(end + 1) {
            Some(b'\n') => Ok(Some((bytes.get(..end).unwrap_or_default(), end + 2))),
            Some(_) => Err(Garbage),
            None => Ok(None),
        },
        None if bytes.len() >= limits::LINE_BYTES_MAX => Err(Garbage),
        None => Ok(None),
    }
}

fn integer(digits: &[u8]) -> Result<i64, Garbage> {
    let text = std::str::from_utf8(digits).map_err(|_| Garbage)?;
    text.parse().map_err(|_| Garbage)
}

/// The code of an error: capitals as Redis writes them. Anything else might repeat what was sent.
fn first_word(text: &[u8]) -> String {
    let word = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let is_code = !word.is_empty() && word.len() <= 32 && word.iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
    match std::str::from_utf8(word) {
        Ok(word) if is_code => word.to_owned(),
        _ => "ERR".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Reply {
        let (reply, used) = read(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        for end in 0..bytes.len() {
            assert_eq!(
                read(&bytes[..end]),
                Ok(None),
                "{end} bytes of {:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        reply
    }

    #[test]
    fn a_command_is_a_list_of_bulk_strings() {
        let mut out = Vec::new();
        command(&mut out, &[b"GET", b"a\r\nb"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
    }

    #[test]
    fn answers_of_every_kind() {
        assert_eq!(whole(b"+OK\r\n"), Reply::Text(b"OK".to_vec()));
        assert_eq!(whole(b"-READONLY You can't write\r\n"), Reply::Error("READONLY".into()));
        assert_eq!(
            whole(b"!21\r\nSYNTAX invalid syntax\r\n"),
            Reply::Error("SYNTAX".into())
        );
        assert_eq!(whole(b":-42\r\n"), Reply::Int(-42));
        assert_eq!(whole(b"#t\r\n"), Reply::Int(1));
        assert_eq!(whole(b"$5\r\na\r\nbc\r\n"), Reply::Bulk(b"a\r\nbc".to_vec()));
        assert_eq!(whole(b"$0\r\n\r\n"), Reply::Bulk(Vec::new()));
        for nil in [&b"$-1\r\n"[..], b"*-1\r\n", b"_\r\n"] {
            assert_eq!(whole(nil), Reply::Nil);
        }
        assert_eq!(whole(b"=6\r\ntxt:ab\r\n"), Reply::Text(b"ab".to_vec()));
        assert_eq!(whole(b">2\r\n+invalidate\r\n*1\r\n+k\r\n"), Reply::Push);
        assert_eq!(
            whole(b"|1\r\n+ttl\r\n:3\r\n"),
            Reply::Push,
            "an attribute is passed over"
        );
        let map = whole(b"%2\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n+modules\r\n*1\r\n*2\r\n:1\r\n_\r\n");
        let Reply::Many(items) = map else { panic!("{map:?}") };
        assert_eq!(items.len(), 5);
        assert_eq!(items[1], Reply::Bulk(b"standalone".to_vec()));
    }

    #[test]
    fn an_error_repeats_nothing_that_was_sent() {
        let echo = b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'secret'\r\n";
        assert_eq!(whole(echo), Reply::Error("ERR".into()));
        assert_eq!(whole(b"-secret is no code\r\n"), Reply::Error("ERR".into()));
    }

    #[test]
    fn a_value_of_somebody_else_may_be_skipped() {
        assert_eq!(read(b"$100000000\r\nab"), Ok(Some((Reply::TooLong(100_000_002), 12))));
        assert_eq!(read(b"$536870913\r\n"), Err(Garbage));
    }

    #[test]
    fn garbage_is_seen_at_once() {
        for garbage in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\x15\x03\x03\x00\x02",
            b"$x\r\n",
            b"$-2\r\n",
            b":\r\n",
            b"*99999999999\r\n",
            b"%9223372036854775807\r\n",
            b"$1\r\nabc",
            b"+a\rb",
            b"=2\r\nab\r\n",
        ] {
            assert_eq!(read(garbage), Err(Garbage), "{:?}", String::from_utf8_lossy(garbage));
        }
        let mut long = b"+".to_vec();
        long.resize(limits::LINE_BYTES_MAX, b'a');
        assert_eq!(read(&long), Err(Garbage));
        // A thousand nested lists are counted, not recursed into.
        assert_eq!(read(&b"*1\r\n".repeat(limits::ITEMS_MAX * 2)), Err(Garbage));
    }

    /// What the `redis` crate makes of an answer, in our words.
    fn yardstick(bytes: &[u8]) -> Option<Reply> {
        fn flat(value: redis::Value, out: &mut Vec<Reply>) {
            use redis::Value;
            match value {
                Value::Nil => out.push(Reply::Nil),
                Value::Int(n) => out.push(Reply::Int(n)),
                Value::Boolean(b) => out.push(Reply::Int(i64::from(b))),
                Value::BulkString(bytes) => out.push(Reply::Bulk(bytes)),
                Value::SimpleString(text) => out.push(Reply::Text(text.into_bytes())),
                Value::Okay => out.push(Reply::Text(b"OK".to_vec())),
                Value::Array(items) | Value::Set(items) => items.into_iter().for_each(|item| flat(item, out)),
                Value::Map(pairs) => pairs.into_iter().for_each(|(key, value)| {
                    flat(key, out);
                    flat(value, out);
                }),
                other => panic!("not made here: {other:?}"),
            }
        }
        let value = redis::parse_redis_value(bytes).ok()?;
        let list = matches!(
            value,
            redis::Value::Array(_) | redis::Value::Set(_) | redis::Value::Map(_)
        );
        let mut out = Vec::new();
        flat(value, &mut out);
        if list { Some(Reply::Many(out)) } else { out.pop() }
    }

    /// Answers as a server may write them.
    fn answer() -> impl Strategy<Value = Vec<u8>> {
        let scalar = prop_oneof![
            "[a-zA-Z ]{0,9}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
            any::<i64>().prop_map(|n| format!(":{n}\r\n").into_bytes()),
            Just(b"$-1\r\n".to_vec()),
            Just(b"_\r\n".to_vec()),
            Just(b"#f\r\n".to_vec()),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
                let mut out = format!("${}\r\n", bytes.len()).into_bytes();
                out.extend_from_slice(&bytes);
                out.extend_from_slice(b"\r\n");
                out
            }),
        ];
        scalar.prop_recursive(3, 24, 6, |inner| {
            (
                prop::collection::vec(inner, 0..6),
                prop::sample::select(vec!['*', '~', '%']),
            )
                .prop_map(|(items, mark)| {
                    let items = if mark == '%' {
                        &items[..items.len() / 2 * 2]
                    } else {
                        &items[..]
                    };
                    let count = if mark == '%' { items.len() / 2 } else { items.len() };
                    let mut out = format!("{mark}{count}\r\n").into_bytes();
                    items.iter().for_each(|item| out.extend_from_slice(item));
                    out
                })
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_refused_or_waited_on(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Some((_, used))) = read(&bytes) {
                prop_assert!(used <= bytes.len() && used > 0);
            }
        }

        #[test]
        fn what_the_redis_crate_reads_is_read_alike(mut bytes in answer(), tail in any::<[u8; 3]>()) {
            let length = bytes.len();
            let expected = yardstick(&bytes).unwrap();
            for end in 0..length {
                prop_assert_eq!(read(&bytes[..end]), Ok(None));
            }
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(read(&bytes), Ok(Some((expected, length))));
        }
    }
}

//! GET /api/v1/stories/{id}, /api/v1/stories, /api/v1/styles.

use super::generate::problem_of;
use super::problem::{FieldError, Problem};
use super::{Call, JSON};
use crate::http::{Status, field, query};
use crate::limits::story as limits;
use crate::server::{Outbox, Outcome, ReplyBody, Request};
use crate::store::{Cursor, Filter, Page};
use crate::story::key::location_key;
use crate::story::types::{Language, Length, Style};
use std::rc::Rc;
use std::sync::OnceLock;
use uuid::Uuid;

/// A kept story never changes: a client may keep it for a day without asking.
const CACHE_FOR: &str = "public, max-age=86400, immutable";

pub(super) fn story(call: &Call<'_>, request: &Request<'_>, id: &str, outbox: Outbox<'_>) -> Outcome {
    let Ok(id) = Uuid::try_parse(id) else {
        return call.problem(outbox, &Problem::new(Status::NOT_FOUND, "this is no story id"));
    };
    let known: Option<Vec<u8>> = request.head.if_none_match().map(<[u8]>::to_vec);
    if let Some(story) = call.worker.service.cached_by_id(id) {
        call.worker.metrics.cache_hit();
        let fields = [
            (field::ETAG, story.etag()),
            (field::CACHE_CONTROL, CACHE_FOR.as_bytes()),
        ];
        return if known.is_some_and(|known| matches(&known, story.etag())) {
            call.answer(outbox, Status::NOT_MODIFIED, JSON, &fields, &[])
        } else {
            call.answer(outbox, Status::OK, JSON, &fields, story.body())
        };
    }
    call.worker.metrics.cache_missed();
    let service = Rc::clone(&call.worker.service);
    call.later(|mut call| async move {
        match service.by_id(id).await {
            Ok(Some(story)) => {
                let fields = vec![
                    (field::ETAG, story.etag().to_vec()),
                    (field::CACHE_CONTROL, CACHE_FOR.as_bytes().to_vec()),
                ];
                let same = known.is_some_and(|known| matches(&known, story.etag()));
                let (status, body) = if same {
                    (Status::NOT_MODIFIED, ReplyBody::Bytes(Vec::new()))
                } else {
                    (Status::OK, ReplyBody::Shared(Rc::clone(&story) as Rc<dyn AsRef<[u8]>>))
                };
                call.end(status, JSON, fields, body)
            }
            Ok(None) => call.problem(&Problem::new(Status::NOT_FOUND, "no story has this id")),
            Err(error) => call.problem(&problem_of(&error, &call.id)),
        }
    })
}

/// If-None-Match compares weakly: `W/` is ignored (RFC 9110 section 13.1.2).
fn matches(sent: &[u8], etag: &[u8]) -> bool {
    sent.split(|byte| *byte == b',').any(|tag| {
        let tag = tag.trim_ascii();
        tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag
    })
}

pub(super) struct ListQuery {
    pub(super) filter: Filter,
    pub(super) cursor: Option<Cursor>,
    pub(super) limit: usize,
}

pub(super) fn read_query(text: &str) -> Result<ListQuery, Problem> {
    let mut wish = ListQuery {
        filter: Filter::default(),
        cursor: None,
        limit: limits::PAGE_DEFAULT,
    };
    let mut faults: Vec<FieldError> = Vec::new();
    let mut fault = |field, message: String| faults.push(FieldError { field, message });
    for pair in query::pairs(text) {
        let Ok((name, value)) = pair else {
            return Err(Problem::new(
                Status::BAD_REQUEST,
                "the query has an invalid percent escape",
            ));
        };
        match &*name {
            "location" if value.trim().is_empty() => {}
            "location" if value.len() > limits::LOCATION_BYTES_MAX => {
                fault("location", format!("at most {} bytes", limits::LOCATION_BYTES_MAX));
            }
            "location" => wish.filter.location = Some(location_key(&value)),
            "style" if value.is_empty() => {}
            "style" => match value.parse::<Style>() {
                Ok(style) => wish.filter.style = Some(style),
                Err(unknown) => fault("style", unknown.to_string()),
            },
            "limit" => match value.parse::<usize>() {
                Ok(limit) if (1..=limits::PAGE_MAX).contains(&limit) => wish.limit = limit,
                _ => fault("limit", format!("a number from 1 to {}", limits::PAGE_MAX)),
            },
            "cursor" if value.is_empty() => {}
            "cursor" => match value.parse::<Cursor>() {
                Ok(cursor) => wish.cursor = Some(cursor),
                Err(error) => fault("cursor", error.to_string()),
            },
            // Unknown parameters are ignored, as the service before this one did.
            _ => {}
        }
    }
    if faults.is_empty() {
        Ok(wish)
    } else {
        Err(Problem::invalid(faults))
    }
}

pub(super) fn list(call: &Call<'_>, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
    let wish = match read_query(request.head.query.unwrap_or_default()) {
        Ok(wish) => wish,
        Err(problem) => return call.problem(outbox, &problem),
    };
    let service = Rc::clone(&call.worker.service);
    call.later(|mut call| async move {
        match service.list(wish.filter, wish.cursor, wish.limit).await {
            Ok(page) => {
                let body = ReplyBody::Bytes(page_json(&page));
                call.end(
                    Status::OK,
                    JSON,
                    vec![(field::CACHE_CONTROL, b"no-cache".to_vec())],
                    body,
                )
            }
            Err(error) => call.problem(&problem_of(&error, &call.id)),
        }
    })
}

/// `{"stories":[...],"next_cursor":"..."}`, the stories as kept, byte for byte.
fn page_json(page: &Page) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + page.items.iter().map(|kept| kept.json.len() + 1).sum::<usize>());
    out.extend_from_slice(b"{\"stories\":[");
    for (index, kept) in page.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&kept.json);
    }
    out.extend_from_slice(b"],\"next_cursor\":");
    match &page.next {
        // A cursor's text is letters and digits: nothing to escape.
        Some(cursor) => out.extend_from_slice(format!("\"{cursor}\"").as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    out
}

/// What can be asked for.
pub(super) fn styles() -> &'static [u8] {
    static BODY: OnceLock<Vec<u8>> = OnceLock::new();
    BODY.get_or_init(|| {
        let lengths: Vec<_> = Length::ALL.iter().map(|length| (length.as_str(), length.about_seconds())).collect();
        let list = |words: Vec<&str>| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(",");
        let lengths = lengths
            .iter()
            .map(|(name, seconds)| format!("{{\"name\":\"{name}\",\"about_seconds\":{seconds}}}"))
            .collect::<Vec<_>>()
            .join(",");
        format!(
            "{{\"styles\":[{}],\"lengths\":[{lengths}],\"languages\":[{}],\"defaults\":{{\"style\":\"{}\",\"length\":\"{}\",\"language\":\"{}\"}}}}",
            list(Style::ALL.iter().map(|style| style.as_str()).collect()),
            list(Language::ALL.iter().map(|language| language.as_str()).collect()),
            Style::default(),
            Length::default(),
            Language::default(),
        )
        .into_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_knows_lists_weak_tags_and_the_star() {
        let etag = b"\"abc\"";
        for yes in [&b"\"abc\""[..], b"W/\"abc\"", b"\"x\", \"abc\"", b"*"] {
            assert!(matches(yes, etag));
        }
        for no in [&b""[..], b"abc", b"\"abcd\"", b"\"x\",W/\"y\""] {
            assert!(!matches(no, etag));
        }
    }

    #[test]
    fn a_query_is_read_and_its_faults_come_together() {
        let wish = read_query("location=S%C3%A3o+Paulo&style=mystery&limit=7&other=1")
            .ok()
            .unwrap();
        assert_eq!(wish.filter.location.as_deref(), Some("são paulo"));
        assert_eq!((wish.filter.style, wish.limit), (Some(Style::Mystery), 7));
        let problem = read_query("limit=0&style=opera&cursor=%21").err().unwrap();
        assert_eq!(problem.status, Status::UNPROCESSABLE_CONTENT);
        assert_eq!(
            problem.errors.iter().map(|e| e.field).collect::<Vec<_>>(),
            ["limit", "style", "cursor"]
        );
        assert_eq!(read_query("a=%zz").err().unwrap().status, Status::BAD_REQUEST);
    }

    #[test]
    fn the_styles_are_json() {
        let value: sonic_rs::Value = sonic_rs::from_slice(styles()).unwrap();
        use sonic_rs::{JsonContainerTrait, JsonValueTrait};
        assert_eq!(value["styles"].as_array().unwrap().len(), Style::ALL.len());
        assert_eq!(value["defaults"]["style"].as_str(), Some("adventure"));
    }
}

//! GET /api/v1/stories/{id}, /api/v1/stories, /api/v1/styles.

use super::dress::CACHE_FOR;
use super::fixed::Fixed;
use super::generate::Shared;
use super::problem::{FieldError, Problem};
use super::{Call, JSON, LaterCall, Vary, Worker, forms};
use crate::cache::story::CachedStory;
use crate::http::conditional::{Conditions, Verdict};
use crate::http::encode::Effort;
use crate::http::negotiate::{Codings, MediaType};
use crate::http::{Status, field, query};
use crate::limits::story as limits;
use crate::server::{Outbox, Outcome, Reply, ReplyBody, Request};
use crate::store::{Cursor, Filter, Page};
use crate::story::key::location_key;
use crate::story::types::{Language, Length, Style};
use std::rc::Rc;
use std::sync::OnceLock;
use uuid::Uuid;

pub(super) fn story(call: &Call<'_>, id: &str, outbox: Outbox<'_>) -> Outcome {
    let Ok(id) = Uuid::try_parse(id) else {
        return call.problem(outbox, &Problem::new(Status::NOT_FOUND, "this is no story id"));
    };
    if !call.takes(&MediaType::JSON) {
        return call.refuse_kind(outbox, JSON);
    }
    let codings = call.codings();
    if call.worker.pick(&codings, Effort::Kept, usize::MAX).is_err() {
        return call.refuse_codings(outbox);
    }
    let conditions = call.head.is_conditional().then(|| Conditions::of(call.head.headers));
    if let Some(story) = call.worker.service.cached_by_id(id) {
        call.worker.metrics.cache_hit();
        let verdict = judge(call.worker, &story, &codings, conditions.as_ref());
        match verdict {
            Verdict::Failed => return call.problem(outbox, &Problem::precondition_failed()),
            Verdict::NotModified(held) => {
                let tag = story.etag(held);
                let fields = [(field::ETAG, &tag[..]), (field::CACHE_CONTROL, CACHE_FOR.as_bytes())];
                return call.answer(outbox, Status::NOT_MODIFIED, JSON, Vary::Coding, &fields, &[]);
            }
            Verdict::Proceed => {}
        }
        if let Some(form) = forms::at_once(call, None, &story, &codings) {
            let stamp = &call.worker.dress.stamps(call.secure).kept;
            return call.answer_stamped(outbox, Status::OK, stamp, form.lines_at_home(), form.body());
        }
        return call.later(|mut call| async move { kept(&mut call, story, &codings, None).await });
    }
    call.worker.metrics.cache_missed();
    let service = Rc::clone(&call.worker.service);
    call.later(|mut call| async move {
        match service.by_id(id).await {
            Ok(Some(story)) => kept(&mut call, story, &codings, conditions).await,
            Ok(None) => call.problem(&Problem::new(Status::NOT_FOUND, "no story has this id")),
            Err(error) => call.failed(&error),
        }
    })
}

fn judge(worker: &Worker, story: &CachedStory, codings: &Codings, conditions: Option<&Conditions>) -> Verdict {
    conditions.map_or(Verdict::Proceed, |conditions| {
        // That no coding will do was answered before.
        let selected = worker.pick(codings, Effort::Kept, story.body().len()).ok().flatten();
        conditions.judge(story.validators(), codings, selected)
    })
}

/// A story at its own place, or what its conditions make of it (RFC 9110 section 13.2.2).
async fn kept(call: &mut LaterCall, story: Shared, codings: &Codings, conditions: Option<Conditions>) -> Reply {
    let verdict = judge(&call.worker, &story, codings, conditions.as_ref());
    let cache_control = (field::CACHE_CONTROL, CACHE_FOR.into());
    match verdict {
        Verdict::Failed => call.problem(&Problem::precondition_failed()),
        Verdict::NotModified(held) => {
            let fields = vec![(field::ETAG, story.etag(held)), cache_control];
            let body = ReplyBody::Bytes(Vec::new());
            call.end(Status::NOT_MODIFIED, JSON, Vary::Coding, fields, body)
        }
        Verdict::Proceed => match forms::anyhow(&call.worker, None, story, codings).await {
            Some((story, coding)) => {
                let mut fields = forms::fields(&story, coding, false);
                fields.push(cache_control);
                forms::reply(call, &story, coding, Vary::Coding, fields)
            }
            None => call.too_busy(),
        },
    }
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
    if !call.takes(&MediaType::JSON) {
        return call.refuse_kind(outbox, JSON);
    }
    let codings = call.codings();
    let service = Rc::clone(&call.worker.service);
    if service.admission().refuses() {
        return call.shed(outbox);
    }
    call.later(|mut call| async move {
        match service.list(wish.filter, wish.cursor, wish.limit).await {
            Ok(page) => {
                let fields = vec![(field::CACHE_CONTROL, b"no-cache".to_vec())];
                let body = page_json(&page);
                call.end_coded(Status::OK, JSON, fields, &codings, body).await
            }
            Err(error) => call.failed(&error),
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

/// The answer of /api/v1/styles.
pub(super) static STYLES: Fixed = Fixed::new(MediaType::JSON, JSON, styles, Vec::new);

/// What can be asked for.
fn styles() -> &'static [u8] {
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

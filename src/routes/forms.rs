//! A story in the coding that a request shall have: from the cache, or made now and kept there, so that no later request
//! pays for it again.

use super::generate::Shared;
use super::{Call, JSON, LaterCall, Vary, Worker};
use crate::cache::story::{CachedStory, Form};
use crate::http::encode::Effort;
use crate::http::negotiate::{Coding, Codings};
use crate::http::{FieldName, Status, field};
use crate::limits::compression::WORKER_BYTES_MAX;
use crate::server::{Reply, ReplyBody};
use std::rc::Rc;

/// The form to send, where it is at hand or quickly made; `None` where it must be waited for. `request` is what the
/// story was found by, `None` where by its id.
#[inline]
pub(super) fn at_once(call: &Call<'_>, request: Option<&[u8]>, story: &Shared, codings: &Codings) -> Option<Rc<Form>> {
    let coding = call.worker.pick(codings, Effort::Kept, story.body().len()).ok()?;
    if let Some(form) = story.form(coding) {
        return Some(Rc::clone(form));
    }
    if story.body().len() > WORKER_BYTES_MAX {
        return None;
    }
    make(call.worker, request, story, coding?)
}

#[cold]
fn make(worker: &Worker, request: Option<&[u8]>, story: &Shared, coding: Coding) -> Option<Rc<Form>> {
    let body = worker.encode(coding, Effort::Kept, story.body())?;
    let story = worker.service.keep_form(request, story, coding, body);
    story.form(Some(coding)).map(Rc::clone)
}

/// The story with the form to send, waited for if need be; `None` where there is none that the client takes.
pub(super) async fn anyhow(
    worker: &Worker,
    request: Option<&[u8]>,
    story: Shared,
    codings: &Codings,
) -> Option<(Shared, Option<Coding>)> {
    let coding = worker.pick(codings, Effort::Kept, story.body().len()).ok()?;
    if story.form(coding).is_some() {
        return Some((story, coding));
    }
    let made = match coding {
        Some(coding) => worker.encode_anywhere(coding, Effort::Kept, story.body()).await,
        None => None,
    };
    match (coding, made) {
        (Some(made_in), Some(body)) => Some((worker.service.keep_form(request, &story, made_in, body), coding)),
        _ if codings.accepts(None) => Some((story, None)),
        _ => None,
    }
}

/// The fields that name a story in that coding; `elsewhere` than at its own place it says where that is.
pub(super) fn fields(story: &CachedStory, coding: Option<Coding>, elsewhere: bool) -> Vec<(FieldName, Vec<u8>)> {
    let mut fields = vec![(field::ETAG, story.etag(coding))];
    fields.extend(coding.map(|coding| (field::CONTENT_ENCODING, coding.as_str().into())));
    if elsewhere {
        fields.push((field::CONTENT_LOCATION, story.location().into_bytes()));
    } else if let Some(date) = story.last_modified() {
        fields.push((field::LAST_MODIFIED, date.to_vec()));
    }
    fields
}

/// The story as an answer by value.
pub(super) fn reply(
    call: &mut LaterCall,
    story: &CachedStory,
    coding: Option<Coding>,
    vary: Vary,
    fields: Vec<(FieldName, Vec<u8>)>,
) -> Reply {
    let body = match story.form(coding) {
        Some(form) => ReplyBody::Shared(Rc::clone(form) as Rc<dyn AsRef<[u8]>>),
        // Unreachable: the caller has made sure of it.
        None => return call.too_busy(),
    };
    call.end(Status::OK, JSON, vary, fields, body)
}

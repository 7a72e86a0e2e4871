//! Answers that never change while the process lives: the description, the page, the vocabularies. Each coding is made
//! once for all workers, by the helper thread, when it is first asked for.

use super::problem::Problem;
use super::{Call, Vary};
use crate::cache::story::opaque_of;
use crate::http::conditional::{Conditions, Validators, Verdict, entity_tag};
use crate::http::encode::Effort;
use crate::http::negotiate::{Coding, MediaType};
use crate::http::{FieldName, Status, field};
use crate::server::{Outbox, Outcome, ReplyBody};
use std::rc::Rc;
use std::sync::OnceLock;

/// One of them.
pub(super) struct Fixed {
    /// What it is.
    pub(super) media: MediaType,
    /// The same as Content-Type has it.
    pub(super) content_type: &'static str,
    /// Its bytes.
    pub(super) body: fn() -> &'static [u8],
    /// Fields of its own.
    pub(super) fields: fn() -> Vec<(FieldName, &'static [u8])>,
    opaque: OnceLock<[u8; 32]>,
    coded: [OnceLock<Box<[u8]>>; 3],
}

/// It may be kept, and is asked about each time: a new version of the server has a new one.
const CACHE_CONTROL: &[u8] = b"no-cache";

impl Fixed {
    pub(super) const fn new(
        media: MediaType,
        content_type: &'static str,
        body: fn() -> &'static [u8],
        fields: fn() -> Vec<(FieldName, &'static [u8])>,
    ) -> Fixed {
        Fixed {
            media,
            content_type,
            body,
            fields,
            opaque: OnceLock::new(),
            coded: [const { OnceLock::new() }; 3],
        }
    }

    fn form(&'static self, coding: Option<Coding>) -> Option<&'static [u8]> {
        match coding {
            None => Some((self.body)()),
            Some(coding) => Some(self.coded.get(coding.index())?.get()?),
        }
    }
}

/// Bytes that live as long as the process, to be sent later.
struct Forever(&'static [u8]);

impl AsRef<[u8]> for Forever {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

pub(super) fn answer(call: &Call<'_>, outbox: Outbox<'_>, fixed: &'static Fixed) -> Outcome {
    if !call.takes(&fixed.media) {
        return call.refuse_kind(outbox, fixed.content_type);
    }
    let codings = call.codings();
    let plain = (fixed.body)();
    let Ok(coding) = call.worker.pick(&codings, Effort::Fixed, plain.len()) else {
        return call.refuse_codings(outbox);
    };
    let opaque = fixed.opaque.get_or_init(|| opaque_of(plain));
    if call.head.is_conditional() {
        let validators = Validators {
            opaque,
            modified_s: None,
        };
        match Conditions::of(call.head.headers).judge(validators, &codings, coding) {
            Verdict::Proceed => {}
            Verdict::Failed => return call.problem(outbox, &Problem::precondition_failed()),
            Verdict::NotModified(held) => {
                let tag = entity_tag(opaque, held);
                let fields = [(field::ETAG, &tag[..]), (field::CACHE_CONTROL, CACHE_CONTROL)];
                return call.answer(
                    outbox,
                    Status::NOT_MODIFIED,
                    fixed.content_type,
                    Vary::Coding,
                    &fields,
                    &[],
                );
            }
        }
    }
    let mut own = (fixed.fields)();
    own.push((field::CACHE_CONTROL, CACHE_CONTROL));
    let fields_of = move |coding: Option<Coding>| {
        let mut fields: Vec<(FieldName, Vec<u8>)> = own.iter().map(|(name, value)| (*name, value.to_vec())).collect();
        fields.push((field::ETAG, entity_tag(opaque, coding)));
        fields.extend(coding.map(|coding| (field::CONTENT_ENCODING, coding.as_str().into())));
        fields
    };
    if let Some(body) = fixed.form(coding) {
        let fields = fields_of(coding);
        let fields: Vec<(FieldName, &[u8])> = fields.iter().map(|(name, value)| (*name, &value[..])).collect();
        return call.answer(outbox, Status::OK, fixed.content_type, Vary::Coding, &fields, body);
    }
    call.later(move |mut call| async move {
        let mut ready = None;
        if let Some(coding) = coding
            && let Some(made) = call.worker.encode_anywhere(coding, Effort::Fixed, plain).await
            && let Some(place) = fixed.coded.get(coding.index())
        {
            ready = Some((Some(coding), &**place.get_or_init(|| made.into())));
        }
        if ready.is_none() && !codings.accepts(None) {
            return call.too_busy();
        }
        let (coding, body) = ready.unwrap_or((None, plain));
        let body = ReplyBody::Shared(Rc::new(Forever(body)));
        call.end(Status::OK, fixed.content_type, Vary::Coding, fields_of(coding), body)
    })
}

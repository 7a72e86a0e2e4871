//! Errors as RFC 9457 problem details.

use crate::http::Status;
use serde::Serialize;

/// Media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FieldError {
    /// The field, as the API calls it.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Its status.
    pub status: Status,
    /// One sentence for whoever reads it.
    pub detail: String,
    /// Faults by field; may be empty.
    pub errors: Vec<FieldError>,
    /// Seconds for Retry-After, where trying again helps.
    pub retry_after_s: Option<u32>,
}

impl Problem {
    /// With a sentence.
    pub(super) fn new(status: Status, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    /// 412.
    pub(super) fn precondition_failed() -> Problem {
        Problem::new(
            Status::PRECONDITION_FAILED,
            "what is here is not what If-Match or If-Unmodified-Since asks for",
        )
    }

    /// 422 for faults by field.
    pub(super) fn invalid(errors: Vec<FieldError>) -> Problem {
        Problem {
            errors,
            ..Problem::new(
                Status::UNPROCESSABLE_CONTENT,
                "the request is well formed but asks for what cannot be",
            )
        }
    }

    /// The body, with the trace where it is known.
    pub(super) fn to_json(&self, request_id: &str, trace_id: Option<&str>) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'p> {
            r#type: &'static str,
            title: &'static str,
            status: u16,
            detail: &'p str,
            request_id: &'p str,
            #[serde(skip_serializing_if = "Option::is_none")]
            trace_id: Option<&'p str>,
            #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
            errors: &'p [FieldError],
        }
        let body = Body {
            r#type: "about:blank",
            title: self.status.reason(),
            status: self.status.code(),
            detail: &self.detail,
            request_id,
            trace_id,
            errors: &self.errors,
        };
        sonic_rs::to_vec(&body).unwrap_or_default()
    }
}

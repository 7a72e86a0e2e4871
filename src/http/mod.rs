//! Sans-IO HTTP/1.1 (RFC 9110, RFC 9112): bytes in, requests out; responses in, bytes out.
//!
//! For `server/`, which owns the sockets, and for `routes/`, which reads heads and writes responses. Total: any byte
//! string gives a request, "need more", or a [`Reject`] with the status to send. No recursion, no heap on the way of
//! a request (query decoding aside), every length bounded by `limits::http`.
//!
//! In: [`HeadScanner::parse`] (or [`parse_head`]) gives a [`RequestHead`]; [`BodyDecoder`] takes the body apart.
//! Out: [`Response`] writes a head and a body, or a [`BodyStream`], to the end of a `Vec<u8>`.
//! Between the two, what a request wishes of its answer: [`negotiate`] (media type, coding), [`conditional`] (entity
//! tags, dates); and [`encode`], which is where bytes get a content coding.
//!
//! Heads are read twice over: `head.rs` has a fast reader which only says yes, and `scanner.rs` a careful one which
//! decides everything else: what is missing, what is refused, and why. So a refusal is the same however the bytes
//! were split, and speed costs no clarity.
//!
//! Deliberately absent: the frames of HTTP/2 (`server::http2` writes its requests down for this reader), trailers
//! given on, transfer codings but chunked, CONNECT and Upgrade, obs-fold, and any leniency in framing: where two readers
//! could take a message two ways, it is refused. Ranges: the whole is sent, which RFC 9110 section 14.2 allows.
//!
//! What answers what, row by row with its RFC section, stands in `conformance.md`; the tests run each row of it.

mod body;
mod bytes;
pub mod conditional;
mod date;
pub mod encode;
mod fields;
mod head;
mod heard;
pub mod negotiate;
pub mod query;
mod response;
mod scanner;
mod target;
mod types;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod check;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, Decoded};
pub use date::{DateCache, imf_fixdate};
pub use fields::BodyFraming;
pub use head::{HeaderIter, Headers, RequestHead, parse_head};
pub use heard::heard;
pub use response::{BodyStream, CONTINUE_100, Exchange, FieldLines, FieldName, FieldPart, Response, field};
pub use scanner::HeadScanner;
pub use types::{Method, Reject, Status, Version};

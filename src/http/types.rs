//! The small words of HTTP: method, version, status, refusal.

use std::fmt;

/// A request method this server knows (RFC 9110 section 9.3, RFC 5789). Any other token is refused with 501, and so
/// is CONNECT: it asks for a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    Get,
    /// HEAD: as GET, the answer's body left out.
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS, the only method that may ask for `*`.
    Options,
    /// PATCH
    Patch,
    /// TRACE
    Trace,
    /// QUERY (draft-ietf-httpbis-safe-method-w-body): known, so that a path which does not take it says which methods it
    /// takes.
    Query,
}

impl Method {
    /// The method as it stands on the wire. Methods are case-sensitive.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Query => "QUERY",
        }
    }

    pub(super) fn from_token(token: &[u8]) -> Result<Method, Reject> {
        match token {
            b"GET" => Ok(Method::Get),
            b"HEAD" => Ok(Method::Head),
            b"POST" => Ok(Method::Post),
            b"PUT" => Ok(Method::Put),
            b"DELETE" => Ok(Method::Delete),
            b"OPTIONS" => Ok(Method::Options),
            b"PATCH" => Ok(Method::Patch),
            b"TRACE" => Ok(Method::Trace),
            b"QUERY" => Ok(Method::Query),
            b"CONNECT" => Err(Reject::new(
                Status::NOT_IMPLEMENTED,
                "CONNECT asks for a proxy, which this is not",
            )),
            // RFC 9113 section 3.4: the preface of HTTP/2 looks like a request so that HTTP/1 servers refuse it. Where a
            // connection begins with all of it, `server` speaks HTTP/2 instead of sending this.
            b"PRI" => Err(Reject::new(
                Status::HTTP_VERSION_NOT_SUPPORTED,
                "HTTP/2 begins with its whole preface, and at the begin of a connection",
            )),
            _ => Err(Reject::new(Status::NOT_IMPLEMENTED, "unknown method")),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The versions spoken; on the wire of HTTP/1, any but its two is refused with 505.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, closes unless asked to stay.
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2. No reader of this module gives it: `server` sets it on a request that came in frames, so that its answer
    /// has no field that belongs to a connection (RFC 9113 section 8.2.2).
    Http2,
}

/// Why bytes are refused. The framing is in doubt from here on, so the connection closes after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {detail}")]
pub struct Reject {
    /// The status to answer with.
    pub status: Status,
    /// One sentence for the client; holds nothing that the client sent.
    pub detail: &'static str,
}

impl Reject {
    /// A refusal with `status`.
    pub const fn new(status: Status, detail: &'static str) -> Reject {
        Reject { status, detail }
    }

    pub(super) const fn bad(detail: &'static str) -> Reject {
        Reject::new(Status::BAD_REQUEST, detail)
    }
}

/// A status code out of those this server can send; each has its line ready.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u16);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        impl Status {
            $(
                #[doc = concat!($code, " ", $reason)]
                $(#[$doc])*
                pub const $name: Status = Status($code);
            )*

            /// The status with this code, where the server can send it.
            pub const fn from_code(code: u16) -> Option<Status> {
                match code {
                    $($code => Some(Status($code)),)*
                    _ => None,
                }
            }

            /// The reason phrase (RFC 9110 section 15).
            pub const fn reason(self) -> &'static str {
                match self.0 {
                    $($code => $reason,)*
                    // Unreachable: the field is private and every constructor is in this macro.
                    _ => "Unknown",
                }
            }

            /// Status line and the name of the Date field: every head begins so.
            pub(super) const fn opening(self) -> &'static [u8] {
                match self.0 {
                    $($code => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\nDate: ").as_bytes(),)*
                    _ => b"HTTP/1.1 500 Unknown\r\nDate: ",
                }
            }
        }

        #[cfg(any(test, feature = "fuzzing"))]
        pub(super) const STATUSES: &[Status] = &[$(Status($code)),*];
    };
}

statuses! {
    OK = 200, "OK";
    CREATED = 201, "Created";
    ACCEPTED = 202, "Accepted";
    NO_CONTENT = 204, "No Content";
    PARTIAL_CONTENT = 206, "Partial Content";
    MOVED_PERMANENTLY = 301, "Moved Permanently";
    FOUND = 302, "Found";
    SEE_OTHER = 303, "See Other";
    NOT_MODIFIED = 304, "Not Modified";
    TEMPORARY_REDIRECT = 307, "Temporary Redirect";
    PERMANENT_REDIRECT = 308, "Permanent Redirect";
    BAD_REQUEST = 400, "Bad Request";
    UNAUTHORIZED = 401, "Unauthorized";
    FORBIDDEN = 403, "Forbidden";
    NOT_FOUND = 404, "Not Found";
    METHOD_NOT_ALLOWED = 405, "Method Not Allowed";
    NOT_ACCEPTABLE = 406, "Not Acceptable";
    REQUEST_TIMEOUT = 408, "Request Timeout";
    CONFLICT = 409, "Conflict";
    GONE = 410, "Gone";
    LENGTH_REQUIRED = 411, "Length Required";
    PRECONDITION_FAILED = 412, "Precondition Failed";
    CONTENT_TOO_LARGE = 413, "Content Too Large";
    URI_TOO_LONG = 414, "URI Too Long";
    UNSUPPORTED_MEDIA_TYPE = 415, "Unsupported Media Type";
    RANGE_NOT_SATISFIABLE = 416, "Range Not Satisfiable";
    EXPECTATION_FAILED = 417, "Expectation Failed";
    MISDIRECTED_REQUEST = 421, "Misdirected Request";
    UNPROCESSABLE_CONTENT = 422, "Unprocessable Content";
    TOO_EARLY = 425, "Too Early";
    UPGRADE_REQUIRED = 426, "Upgrade Required";
    PRECONDITION_REQUIRED = 428, "Precondition Required";
    TOO_MANY_REQUESTS = 429, "Too Many Requests";
    REQUEST_HEADER_FIELDS_TOO_LARGE = 431, "Request Header Fields Too Large";
    INTERNAL_SERVER_ERROR = 500, "Internal Server Error";
    NOT_IMPLEMENTED = 501, "Not Implemented";
    BAD_GATEWAY = 502, "Bad Gateway";
    SERVICE_UNAVAILABLE = 503, "Service Unavailable";
    GATEWAY_TIMEOUT = 504, "Gateway Timeout";
    HTTP_VERSION_NOT_SUPPORTED = 505, "HTTP Version Not Supported";
    INSUFFICIENT_STORAGE = 507, "Insufficient Storage";
}

impl Status {
    /// The three digits.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Whether answers with this status never carry a body (RFC 9110 sections 15.3.5, 15.4.5).
    pub const fn is_bodiless(self) -> bool {
        matches!(self.0, 204 | 304)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

//! The two handlers on may_minihttp.
//!
//! Its answers take header lines of static text only, so that an id cannot be echoed, and a made one is drawn from lines
//! that are written at start: less work than that of the others. It writes `Server: M` and Date by itself.

use std::io::{self, BufRead};

use may_minihttp::{HttpServer, HttpService, Request, Response};
use peer_common::{Field, REFUSAL, RequestId, service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lines of ids to draw from: a power of two.
const IDS: usize = 4096;

#[derive(Clone, Copy)]
struct Handlers {
    live: &'static [&'static str],
    story: &'static [&'static str],
    ids: &'static [&'static str],
}

impl Handlers {
    fn read() -> Handlers {
        let made = |fields: &[Field]| -> &'static [&'static str] {
            let others = fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("server"));
            let line = |(name, value): &Field| -> &'static str { format!("{name}: {value}").leak() };
            others.map(line).collect::<Vec<_>>().leak()
        };
        let id = |_| -> &'static str {
            let id = RequestId::of(None);
            format!("X-Request-ID: {}", String::from_utf8_lossy(id.as_bytes())).leak()
        };
        Handlers {
            live: made(&service().live_fields),
            story: service().any().map(|story| made(&story.fields)).unwrap_or_default(),
            ids: (0..IDS).map(id).collect::<Vec<_>>().leak(),
        }
    }
}

fn dress(response: &mut Response<'_>, lines: &[&'static str]) {
    for line in lines {
        response.header(line);
    }
}

impl HttpService for Handlers {
    fn call(&mut self, request: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        response.header(self.ids[fastrand::usize(..IDS)]);
        match (request.method(), request.path()) {
            ("GET", "/health/v2/live") => {
                dress(response, self.live);
                let mut body = Vec::with_capacity(96);
                service().live(&mut body);
                response.body_vec(body);
            }
            ("POST", "/api/v1/stories/generate") => {
                let mut body = request.body();
                // One request in one segment: its body is there. Else it is read in pieces.
                let first = body.fill_buf()?;
                let found = match service().story(first) {
                    Err(_) => {
                        let mut whole = Vec::new();
                        io::Read::read_to_end(&mut body, &mut whole)?;
                        service().story(&whole)
                    }
                    found => found,
                };
                match found {
                    Ok(story) => {
                        dress(response, self.story);
                        response.body(story.json);
                    }
                    Err(refused) => {
                        response.status_code(usize::from(refused.0), "Refused");
                        response.body(REFUSAL);
                    }
                }
            }
            _ => {
                response.status_code(404, "Not Found");
                response.body(REFUSAL);
            }
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let handlers = Handlers::read();
    may::config().set_workers(1);
    let server = HttpServer(handlers).start(peer_common::address())?;
    server
        .join()
        .map_err(|_| io::Error::other("the server's coroutine panicked"))
}

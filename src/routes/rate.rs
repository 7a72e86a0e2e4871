//! Rate limits on the HTTP face: who asks, what answers say of it, the 429, and the route to see and set the limits.

use super::problem::Problem;
use super::{Call, JSON, Vary, Worker};
use crate::http::{FieldName, Response, Status, field};
use crate::resilience::rate::{ClientKey, Limit, Rate, Rules, Scope, Settings, Standing, Turnstile, Verdict, Who};
use crate::runtime::context;
use crate::server::{Origin, Outbox, Outcome, Request};
use serde::{Deserialize, Serialize};

/// Lets a request pass, with its client's standing where that has a limit.
pub(super) fn pass(call: &Call<'_>) -> Result<Option<Standing>, Refusal> {
    let who = |rules: &Rules| who(call, rules);
    match call.worker.turnstile.pass(context::now_ns(), who) {
        Verdict::Pass(standing) => Ok(standing),
        Verdict::Refused(scope, standing) => Err(Refusal { scope, standing }),
    }
}

/// Who asks: the holder of the key that the operator named, else the address, by the word of trusted proxies.
fn who(call: &Call<'_>, rules: &Rules) -> Who {
    let request = call.request;
    let origin = request.peer.remembered_origin();
    let client = super::client::find(
        origin,
        call.secure,
        request.head.headers.iter(),
        &call.worker.forwarding,
    );
    let is_unix = origin == Origin::Unix && client.addr.is_none() && client.hops == 0;
    let exempt = match client.addr {
        Some(addr) => rules.exempt.contains(addr),
        None => is_unix && rules.exempt.contains_unix(),
    };
    if exempt {
        return Who::Exempt;
    }
    if let Some(name) = &rules.key {
        let mut values = request.head.headers.get_all(name);
        // Two of them: whoever checks them may have looked at the other.
        if let (Some(value), None) = (values.next(), values.next())
            && !value.is_empty()
        {
            return Who::Client(ClientKey::of_key(value));
        }
    }
    match client.addr {
        Some(addr) => Who::Client(ClientKey::of_addr(addr)),
        // Everybody behind a proxy on this machine that says nothing of them: no more one client than none.
        None if is_unix => Who::Anybody,
        None => Who::Client(ClientKey::UNKNOWN),
    }
}

/// A request that came too early.
pub(super) struct Refusal {
    scope: Scope,
    standing: Standing,
}

impl Refusal {
    pub(super) fn answer(self, call: &Call<'_>, outbox: Outbox<'_>) -> Outcome {
        let detail = match self.scope {
            Scope::Client => "too many requests of this client; Retry-After says when the next may come",
            Scope::Pod => "too many requests at once, of all clients together; Retry-After says when to try again",
        };
        let mut problem = Problem::new(Status::TOO_MANY_REQUESTS, detail);
        // A second at least: RFC 9110 section 10.2.3 knows no less.
        problem.retry_after_s = Some(self.standing.reset_s.max(1));
        let fields = fields(&call.worker.turnstile, self.scope, self.standing);
        call.problem_owned(outbox, &problem, &fields)
    }
}

/// The item of RateLimit: what is left, and in how many seconds there is all of it again.
struct Line {
    bytes: [u8; 48],
    len: usize,
}

impl Line {
    fn new(scope: Scope, standing: Standing) -> Line {
        let mut line = Line { bytes: [0; 48], len: 0 };
        line.push(match scope {
            Scope::Client => b"\"client\";r=",
            Scope::Pod => b"\"pod\";r=",
        });
        line.number(standing.left);
        line.push(b";t=");
        line.number(standing.reset_s);
        line
    }

    fn push(&mut self, bytes: &[u8]) {
        // Ten digits twice and fifteen bytes more: there is always room.
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn number(&mut self, mut number: u32) {
        let mut digits = [b'0'; 10];
        let mut used = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            used += 1;
            if number == 0 {
                break;
            }
        }
        self.push(digits.get(digits.len() - used..).unwrap_or_default());
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Says in an answer what the limits are and how the client stands.
#[cold]
pub(super) fn tell<'o>(
    turnstile: &Turnstile,
    response: Response<'o>,
    scope: Scope,
    standing: Standing,
) -> Response<'o> {
    let response = turnstile.with_policy(|policy| response.header(field::RATE_LIMIT_POLICY, policy));
    response.header(field::RATE_LIMIT, Line::new(scope, standing).as_bytes())
}

/// The same by value.
pub(super) fn fields(turnstile: &Turnstile, scope: Scope, standing: Standing) -> [(FieldName, Vec<u8>); 2] {
    let policy = turnstile.with_policy(|policy| policy.as_bytes().to_vec());
    [
        (field::RATE_LIMIT_POLICY, policy),
        (field::RATE_LIMIT, Line::new(scope, standing).as_bytes().to_vec()),
    ]
}

/// Whether limits hold within this pod alone, though other pods should know of them: Redis is away.
fn is_open(worker: &Worker) -> bool {
    let limiter = worker.turnstile.limiter();
    let away = worker
        .service
        .redis()
        .is_some_and(|redis| redis.figures().trouble.is_some());
    limiter.is_on() && worker.service.redis().is_some() && (limiter.is_alone() || away)
}

/// Tells the metrics.
pub(super) fn tell_state(worker: &Worker) {
    worker.metrics.rate_state(worker.turnstile.is_on(), is_open(worker));
}

/// The part of the status page, and the answer of the route.
#[derive(Debug, Serialize)]
pub(super) struct State {
    /// Never worse than degraded: nothing is wrong with the answers.
    pub(super) status: &'static str,
    enabled: bool,
    /// Where limits hold: "pod", "all pods", or "pod (Redis is away)".
    scope: &'static str,
    client: Option<Told>,
    pod: Option<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exempt: Option<String>,
}

#[derive(Debug, Serialize)]
struct Told {
    rate: String,
    burst: u32,
}

impl State {
    pub(super) fn of(worker: &Worker) -> State {
        let settings = worker.turnstile.limiter().settings();
        let told = |limit: Option<Limit>| {
            limit.map(|limit| Told {
                rate: limit.rate.to_string(),
                burst: limit.burst,
            })
        };
        let open = is_open(worker);
        State {
            status: if open { "degraded" } else { "healthy" },
            enabled: settings.enabled,
            scope: match (worker.service.redis(), open) {
                (None, _) => "pod",
                (Some(_), false) => "all pods",
                (Some(_), true) => "pod (Redis is away)",
            },
            client: told(settings.client),
            pod: told(settings.pod),
            key: settings.key,
            exempt: (!settings.exempt.is_none()).then(|| settings.exempt.to_string()),
        }
    }
}

/// What a PUT changes; what it does not name stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "named")]
    client: Option<Option<WishedLimit>>,
    #[serde(default, deserialize_with = "named")]
    pod: Option<Option<WishedLimit>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WishedLimit {
    rate: String,
    burst: Option<u32>,
}

/// null is named as well: it switches a limit off.
fn named<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<WishedLimit>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl Wish {
    fn applied(self, mut settings: Settings) -> Result<Settings, Problem> {
        let invalid = |detail: &str| Problem::new(Status::UNPROCESSABLE_CONTENT, detail);
        let read = |wish: Option<WishedLimit>| -> Result<Option<Limit>, Problem> {
            let Some(wish) = wish else { return Ok(None) };
            let rate =
                Rate::parse(&wish.rate).ok_or_else(|| invalid("rate: 50/s, 600/m or 1000/h, from 1 to 1000000"))?;
            let limit = Limit::new(rate, wish.burst.unwrap_or(rate.count()));
            limit
                .map(Some)
                .ok_or_else(|| invalid("burst: 1 to 1000000, and no more than comes back within a day"))
        };
        if let Some(enabled) = self.enabled {
            settings.enabled = enabled;
        }
        if let Some(wish) = self.client {
            settings.client = read(wish)?;
        }
        if let Some(wish) = self.pod {
            settings.pod = read(wish)?;
        }
        Ok(settings)
    }
}

/// GET and PUT /admin/rate-limit: of this pod, until it ends or is told to read its settings anew.
pub(super) fn admin(call: &Call<'_>, request: &Request<'_>, outbox: Outbox<'_>) -> Outcome {
    if let Err(problem) = super::health::administers(call, request) {
        return call.problem(outbox, &problem);
    }
    let worker = call.worker;
    if call.method == crate::http::Method::Put {
        let limiter = worker.turnstile.limiter();
        let wish = sonic_rs::from_slice::<Wish>(request.body);
        let wish = wish.map_err(|_| {
            let shape =
                r#"send JSON as {"enabled":true,"client":{"rate":"50/s","burst":100},"pod":null}, or parts of it"#;
            Problem::new(Status::BAD_REQUEST, shape)
        });
        match wish.and_then(|wish| wish.applied(limiter.settings())) {
            Ok(settings) => limiter.apply(settings),
            Err(problem) => return call.problem(outbox, &problem),
        }
        tell_state(worker);
        let now = limiter.settings();
        let shown = |limit: Option<Limit>| limit.map(|limit| format!("{} burst {}", limit.rate, limit.burst));
        tracing::warn!(
            request_id = call.id.as_str(),
            trace_id = call.trace().trace_id(),
            span_id = call.trace().span_id(),
            worker_id = worker.id,
            enabled = now.enabled,
            client = shown(now.client),
            pod = shown(now.pod),
            "the rate limits of this pod were set"
        );
    }
    let state = State::of(worker);
    let write = |out: &mut Vec<u8>| {
        let _ = sonic_rs::to_writer(out, &state);
    };
    let fields: &[(FieldName, &[u8])] = &[(field::CACHE_CONTROL, super::NO_STORE.as_bytes())];
    call.written(write, |body| {
        call.answer(outbox, Status::OK, JSON, Vary::Nothing, fields, body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_item_of_a_structured_list() {
        let line = |scope, left, reset_s| {
            let line = Line::new(scope, Standing { left, reset_s });
            String::from_utf8(line.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(line(Scope::Client, 0, 7), "\"client\";r=0;t=7");
        assert_eq!(
            line(Scope::Client, u32::MAX, u32::MAX),
            "\"client\";r=4294967295;t=4294967295"
        );
        assert_eq!(line(Scope::Pod, 120, 1), "\"pod\";r=120;t=1");
    }

    #[test]
    fn a_wish_changes_what_it_names_and_nothing_else() {
        let limit = |rate, burst| Limit::new(Rate::parse(rate).unwrap(), burst);
        let before = Settings {
            enabled: true,
            client: limit("50/s", 100),
            pod: limit("3000/s", 3000),
            ..Settings::default()
        };
        let apply = |json: &str| {
            let wish: Result<Wish, _> = sonic_rs::from_str(json);
            wish.map(|wish| wish.applied(before.clone()))
        };
        assert_eq!(apply("{}").unwrap().unwrap(), before);
        let off = apply(r#"{"enabled":false,"pod":null}"#).unwrap().unwrap();
        assert_eq!((off.enabled, off.client, off.pod), (false, before.client, None));
        let other = apply(r#"{"client":{"rate":"600/m"},"pod":{"rate":"9/s","burst":2}}"#);
        let other = other.unwrap().unwrap();
        assert_eq!((other.client, other.pod), (limit("600/m", 600), limit("9/s", 2)));
        for bad in [
            r#"{"client":{"rate":"0/s"}}"#,
            r#"{"client":{"rate":"1/h","burst":99}}"#,
        ] {
            assert!(apply(bad).unwrap().is_err(), "{bad}");
        }
        for bad in [
            "",
            "[]",
            r#"{"enabled":1}"#,
            r#"{"clients":null}"#,
            r#"{"client":{"burst":1}}"#,
        ] {
            assert!(apply(bad).is_err(), "{bad}");
        }
    }
}

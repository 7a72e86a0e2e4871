//! Who is compared: one row a peer.

use super::Scenario;

/// How a peer comes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The service once more: the A/A run.
    Itself,
    /// `roadtrip-bench floor`.
    Floor,
    /// A package of bench/peers/handlers, and the crate that its version is quoted of.
    Handlers {
        package: &'static str,
        crate_name: &'static str,
    },
    /// nginx, with a configuration written here.
    Nginx,
    /// h2o, likewise.
    H2o,
    /// bench/peers/fastapi in an environment of its own, with a Redis.
    FastApi,
    /// A command of the caller's.
    Command(String),
}

/// A peer.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) what: &'static str,
    /// What it does less, or otherwise.
    pub(super) fairness: &'static str,
    /// Requests a second of the open loop: the guide's, where it can do them.
    pub(super) rate: f64,
    /// Whether a quick run has it.
    pub(super) quick: bool,
}

/// The guide's rate for a pod.
const RATE: f64 = 3000.0;
/// A third of what FastAPI does on one core.
const RATE_OF_FASTAPI: f64 = 500.0;
/// What holds for all that are built from bench/peers/handlers.
const HANDLERS: &str = "the same JSON reader, key, id, counter, fields and bytes; no miss, no log, no histogram, no \
                        limits, no content negotiation";

impl Peer {
    fn new(name: &str, kind: Kind, what: &'static str, fairness: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            what,
            fairness,
            rate: RATE,
            quick: false,
        }
    }

    fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    /// A command that somebody gave by --peer.
    pub(super) fn command(name: &str, command: &str) -> Self {
        Self::new(
            name,
            Kind::Command(command.to_owned()),
            "a command given by --peer",
            "nothing is known of it but that it answers alike",
        )
        .quick()
    }

    /// Method and path that it is asked; not the service's, where it cannot answer that.
    pub(super) fn method(&self, scenario: Scenario) -> &'static str {
        match (&self.kind, scenario) {
            // Its file handler takes no POST.
            (Kind::H2o, _) | (_, Scenario::Live) => "GET",
            (_, Scenario::Story) => "POST",
        }
    }

    /// All of them, in the order in which they are measured.
    pub(super) fn all() -> Vec<Self> {
        let handlers = |name: &str, package, crate_name, what, fairness| {
            Self::new(name, Kind::Handlers { package, crate_name }, what, fairness)
        };
        vec![
            Self::new(
                "aa",
                Kind::Itself,
                "the service against itself: what it differs by is noise",
                "the same program",
            )
            .quick(),
            Self::new(
                "floor",
                Kind::Floor,
                "raw io_uring, fixed bytes, nothing read: what the kernel and the ring cost",
                "reads nothing: no server can do less",
            )
            .quick(),
            handlers(
                "monoio",
                "peer-monoio",
                "monoio",
                "our own http/ on monoio (SINGLE_ISSUER, DEFER_TASKRUN)",
                HANDLERS,
            ),
            handlers(
                "glommio",
                "peer-glommio",
                "glommio",
                "our own http/ on glommio",
                HANDLERS,
            ),
            handlers(
                "axum",
                "peer-axum",
                "axum",
                "axum over hyper's HTTP/1.1 on one current-thread tokio",
                HANDLERS,
            )
            .quick(),
            handlers(
                "actix-web",
                "peer-actix",
                "actix-web",
                "actix-web, one worker",
                HANDLERS,
            ),
            handlers(
                "ntex",
                "peer-ntex",
                "ntex",
                "ntex on its own io_uring runtime, one worker",
                HANDLERS,
            ),
            handlers(
                "may_minihttp",
                "peer-may",
                "may_minihttp",
                "may_minihttp, one worker",
                "as the others, but for the id: header lines are static text there, so none is echoed, and one is drawn \
                 from 4096 made ahead",
            ),
            Self::new(
                "nginx",
                Kind::Nginx,
                "nginx `return 200`, one process",
                "reads no JSON and looks nothing up: the body stands in its configuration",
            )
            .quick(),
            Self::new(
                "h2o",
                Kind::H2o,
                "h2o with static files, one thread",
                "reads no JSON and makes no id; its file handler takes no POST, so the story is asked for by GET, and \
                 the probe has a fixed time",
            ),
            Self {
                rate: RATE_OF_FASTAPI,
                ..Self::new(
                    "fastapi",
                    Kind::FastApi,
                    "the guide's service: FastAPI, gunicorn, one uvicorn worker (uvloop, httptools), story from Redis",
                    "reads the story from Redis on the load's CPU; Redis' own CPU time is not counted against it",
                )
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_the_noise_is_measured_first() {
        let peers = Peer::all();
        let mut names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names.first(), Some(&"aa"));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), peers.len());
        assert!(peers.iter().any(|peer| peer.quick && peer.kind == Kind::Floor));
    }
}

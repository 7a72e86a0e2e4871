//! Path and method to route.

use crate::http::Method;

macro_rules! routes {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $allow:literal, [$($method:ident),+];)+) => {
        /// What is asked for, by path. The name is the path's template: the label in metrics and logs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Route {
            $($(#[$doc])* $id),+
        }

        impl Route {
            /// The templates, in the order of the enum: the closed set of metric labels.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The path's template.
            pub const fn name(self) -> &'static str {
                match self { $(Route::$id => $name),+ }
            }

            /// The value of Allow (RFC 9110 section 10.2.1).
            pub const fn allow(self) -> &'static str {
                match self { $(Route::$id => $allow),+ }
            }

            /// Whether the route takes the method (OPTIONS aside, which every route takes).
            pub const fn takes(self, method: Method) -> bool {
                match self { $(Route::$id => matches!(method, $(Method::$method)|+)),+ }
            }
        }
    };
}

routes! {
    /// A story, told or remembered.
    Generate = "/api/v1/stories/generate", "POST, OPTIONS", [Post];
    /// One story by id.
    Story = "/api/v1/stories/{id}", "GET, HEAD, OPTIONS", [Get, Head];
    /// Stories, newest first.
    Stories = "/api/v1/stories", "GET, HEAD, OPTIONS", [Get, Head];
    /// What can be asked for.
    Styles = "/api/v1/styles", "GET, HEAD, OPTIONS", [Get, Head];
    /// Cheap yes, for a balancer.
    Health = "/health", "GET, HEAD, OPTIONS", [Get, Head];
    /// Liveness probe.
    Live = "/health/v2/live", "GET, HEAD, OPTIONS", [Get, Head];
    /// Readiness probe.
    Ready = "/health/v2/ready", "GET, HEAD, OPTIONS", [Get, Head];
    /// Everything about the pod.
    Status = "/health/v2/status", "GET, HEAD, OPTIONS", [Get, Head];
    /// The worker that answers.
    Worker = "/health/v2/worker", "GET, HEAD, OPTIONS", [Get, Head];
    /// Metrics by worker.
    WorkerMetrics = "/health/v2/metrics/worker", "GET, HEAD, OPTIONS", [Get, Head];
    /// The rate limits, seen and set.
    RateLimit = "/admin/rate-limit", "GET, HEAD, PUT, OPTIONS", [Get, Head, Put];
    /// Begins the graceful end.
    Shutdown = "/health/v2/shutdown/graceful", "POST, OPTIONS", [Post];
    /// All metrics.
    Metrics = "/metrics", "GET, HEAD, OPTIONS", [Get, Head];
    /// The API described.
    OpenApi = "/openapi.json", "GET, HEAD, OPTIONS", [Get, Head];
    /// A page to read and try it.
    Docs = "/docs", "GET, HEAD, OPTIONS", [Get, Head];
    /// No such path.
    Unknown = "unknown", "", [Get, Head];
}

impl Route {
    /// Whether requests for it count against rate limits: all but what orchestrators, balancers and scrapers ask, and what an
    /// administrator does about the limits.
    #[inline]
    pub(super) const fn is_limited(self) -> bool {
        match self {
            Route::Generate | Route::Story | Route::Stories | Route::Styles => true,
            Route::OpenApi | Route::Docs | Route::Unknown => true,
            Route::Health | Route::Live | Route::Ready | Route::Status | Route::Worker => false,
            Route::WorkerMetrics | Route::Metrics | Route::Shutdown | Route::RateLimit => false,
        }
    }

    /// The request fields that the route reads and that a script of another origin may send only where a preflight says
    /// so (Fetch, "CORS-safelisted request-header").
    pub(super) const fn reads(self) -> &'static str {
        match self {
            Route::Generate => "Content-Type, X-Request-ID, traceparent",
            Route::Story | Route::Styles | Route::OpenApi | Route::Docs => {
                "If-Match, If-Modified-Since, If-None-Match, If-Unmodified-Since, X-Request-ID, traceparent"
            }
            Route::Shutdown => "Authorization, X-Request-ID, traceparent",
            Route::RateLimit => "Authorization, Content-Type, X-Request-ID, traceparent",
            _ => "X-Request-ID, traceparent",
        }
    }

    /// The route of a path, and the `{id}` in it, as sent.
    pub fn of(path: &str) -> (Route, &str) {
        let route = match path {
            "/api/v1/stories/generate" => Route::Generate,
            "/health/v2/live" => Route::Live,
            "/health/v2/ready" => Route::Ready,
            "/health" | "/health/" => Route::Health,
            "/health/v2/status" => Route::Status,
            "/health/v2/worker" => Route::Worker,
            "/health/v2/metrics/worker" => Route::WorkerMetrics,
            "/health/v2/shutdown/graceful" => Route::Shutdown,
            "/metrics" => Route::Metrics,
            "/admin/rate-limit" => Route::RateLimit,
            "/api/v1/stories" | "/api/v1/stories/" => Route::Stories,
            "/api/v1/styles" => Route::Styles,
            "/openapi.json" => Route::OpenApi,
            "/docs" | "/docs/" => Route::Docs,
            _ => match path.strip_prefix("/api/v1/stories/") {
                Some(id) if !id.contains('/') => return (Route::Story, id),
                _ => Route::Unknown,
            },
        };
        (route, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_leads_to_its_own_route() {
        for (index, name) in Route::NAMES.iter().enumerate().filter(|(_, name)| **name != "unknown") {
            let path = name.replace("{id}", "018f0000-0000-7000-8000-000000000000");
            let (route, id) = Route::of(&path);
            assert_eq!(route as usize, index, "{name}");
            assert_eq!(route.name(), *name);
            assert_eq!(id.is_empty(), !name.contains("{id}"));
            for method in [Method::Get, Method::Head, Method::Post, Method::Put, Method::Delete] {
                let named = route.allow().split(", ").any(|allowed| allowed == method.as_str());
                assert_eq!(named, route.takes(method), "{name} {method}");
            }
        }
        for path in ["/", "", "/health/v2", "/api/v1/stories/a/b", "/HEALTH", "*"] {
            assert_eq!(Route::of(path).0, Route::Unknown, "{path}");
        }
    }
}

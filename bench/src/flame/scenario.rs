//! What is drawn.

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// h2load with these arguments before the URL.
    H2load(&'static [&'static str]),
    /// Clients that send so many requests at once, and then read the answers. (h2load does not pipeline.)
    Pipelined(usize),
    /// Clients that ask for another story each time.
    Anew,
    /// Clients that ask in turn for stories that are kept already.
    Kept,
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// Name of its files.
    pub(super) name: &'static str,
    /// Title of its drawing.
    pub(super) title: &'static str,
    pub(super) path: &'static str,
    /// The request's body; GET without.
    pub(super) body: Option<&'static str>,
    pub(super) load: Load,
    pub(super) tls: bool,
    pub(super) postgres: bool,
}

const GENERATE: &str = "/api/v1/stories/generate";
const BODY: &str = r#"{"location":"San Francisco","style":"adventure"}"#;

const LIVE: Scenario = Scenario {
    name: "live",
    title: "GET /health/v2/live, 64 connections",
    path: "/health/v2/live",
    body: None,
    load: Load::H2load(&["--h1", "-c64", "-m1"]),
    tls: false,
    postgres: false,
};

const STORY: Scenario = Scenario {
    name: "story",
    title: "a cached story, 64 connections",
    path: GENERATE,
    body: Some(BODY),
    ..LIVE
};

/// Every scenario.
pub(super) const ALL: [Scenario; 7] = [
    LIVE,
    STORY,
    Scenario {
        name: "story-pipelined",
        title: "a cached story, 32 connections, 16 requests pipelined on each",
        load: Load::Pipelined(16),
        ..STORY
    },
    Scenario {
        name: "story-tls",
        title: "a cached story over TLS 1.3, 64 connections",
        tls: true,
        ..STORY
    },
    Scenario {
        name: "story-http2",
        title: "a cached story over HTTP/2, 10 connections of 10 streams",
        load: Load::H2load(&["-c10", "-m10"]),
        ..STORY
    },
    Scenario {
        name: "told",
        title: "stories told anew and kept in the embedded store, 32 clients",
        load: Load::Anew,
        ..STORY
    },
    Scenario {
        name: "postgres",
        title: "stories looked up in PostgreSQL, 32 clients, no cache",
        load: Load::Kept,
        postgres: true,
        ..STORY
    },
];

/// The scenarios of those names, or all where there are none.
///
/// # Errors
/// A name that there is not.
pub(super) fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, String> {
    let known = || ALL.iter().map(|scenario| scenario.name);
    if let Some(unknown) = names.iter().find(|name| !known().any(|one| one == name.as_str())) {
        return Err(format!(
            "there is no scenario {unknown:?}, but {}",
            known().collect::<Vec<_>>().join(", ")
        ));
    }
    let is_chosen = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(ALL.iter().filter(is_chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose() {
        assert_eq!(chosen(&[]).unwrap().len(), ALL.len());
        assert_eq!(chosen(&["told".to_owned()]).unwrap()[0].load, Load::Anew);
        assert!(chosen(&["nothing".to_owned()]).is_err_and(|e| e.contains("story-tls")));
    }
}

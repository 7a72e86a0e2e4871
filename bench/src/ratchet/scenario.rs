//! What is asked: the hot requests, as bytes.

use std::fmt::Write;

/// A request whose instructions are counted.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// Its name in the ratchet file.
    pub(super) name: &'static str,
    /// Asked once each, before anything is counted: what the request needs to find.
    pub(super) before: Vec<Vec<u8>>,
    /// The bytes of one write: a request, or several, pipelined.
    pub(super) request: Vec<u8>,
    /// Answers to one write.
    pub(super) answers: u32,
    /// What the last answer's head must contain, so that what is counted is what was meant.
    pub(super) marks: &'static [&'static str],
}

const BODY: &str = r#"{"location":"San Francisco","style":"adventure"}"#;
const HIT: &str = "Cache-Status: roadtrip-api; hit";
/// Pipelined requests in one write: the depth that benchmarks use.
const PIPELINED: u32 = 16;
/// Stories that a list page shows.
const LISTED: u32 = 20;

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

fn story(body: &str, fields: &str) -> Vec<u8> {
    format!(
        "POST /api/v1/stories/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What a browser behind two proxies sends: with Host, twenty fields.
fn twenty_fields() -> String {
    let mut fields = String::from(
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n\
         Accept: application/json, text/plain;q=0.9, */*;q=0.8\r\n\
         Accept-Language: en-GB,en;q=0.9,de;q=0.5\r\n\
         Cache-Control: no-cache\r\n\
         Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
         Origin: https://roadtrip.example\r\n\
         Referer: https://roadtrip.example/plan\r\n\
         Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n\
         X-Forwarded-For: 203.0.113.7, 198.51.100.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: roadtrip.example\r\n",
    );
    for number in 1..=6 {
        // Writing to a String cannot fail.
        let _ = write!(fields, "X-Hop-{number}: of no interest to anybody here\r\n");
    }
    fields
}

/// Every scenario.
pub(super) fn all() -> Vec<Scenario> {
    let plain = |name, request, marks| Scenario {
        name,
        before: vec![],
        request,
        answers: 1,
        marks,
    };
    let listed = (0..LISTED).map(|variation| {
        let body = format!(r#"{{"location":"Lisbon","variation":{variation}}}"#);
        story(&body, "")
    });
    vec![
        plain("live", get("/health/v2/live", ""), &["200 OK"]),
        plain("live_20_fields", get("/health/v2/live", &twenty_fields()), &["200 OK"]),
        plain("story", story(BODY, ""), &["200 OK", HIT]),
        plain(
            "story_gzip",
            story(BODY, "Accept-Encoding: gzip\r\n"),
            &[HIT, "Content-Encoding: gzip"],
        ),
        plain(
            "story_br",
            story(BODY, "Accept-Encoding: gzip, deflate, br\r\n"),
            &[HIT, "Content-Encoding: br"],
        ),
        Scenario {
            answers: PIPELINED,
            ..plain(
                "story_pipelined",
                story(BODY, "").repeat(PIPELINED as usize),
                &["200 OK", HIT],
            )
        },
        Scenario {
            before: listed.collect(),
            ..plain("list", get("/api/v1/stories?limit=20", ""), &["200 OK"])
        },
    ]
}

/// The scenarios of those names, or all where there are none.
///
/// # Errors
/// A name that there is not.
pub(super) fn chosen(names: &[String]) -> Result<Vec<Scenario>, String> {
    let all = all();
    let known: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no scenario {unknown:?}, but {}", known.join(", ")));
    }
    let is_chosen = |scenario: &Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_whole_and_have_as_many_fields_as_they_say() {
        for scenario in all() {
            let mut left: &[u8] = &scenario.request;
            let mut requests = 0;
            while !left.is_empty() {
                let mut headers = [httparse::EMPTY_HEADER; 64];
                let mut request = httparse::Request::new(&mut headers);
                let head = request.parse(left).unwrap().unwrap();
                let length = request.headers.iter().find(|field| field.name == "Content-Length");
                let body = length.map_or(0, |field| std::str::from_utf8(field.value).unwrap().parse().unwrap());
                if scenario.name == "live_20_fields" {
                    assert_eq!(request.headers.len(), 20);
                }
                left = left.get(head + body..).unwrap();
                requests += 1;
            }
            assert_eq!(requests, scenario.answers, "{}", scenario.name);
        }
    }

    #[test]
    fn names_choose() {
        assert_eq!(chosen(&[]).unwrap().len(), all().len());
        assert_eq!(chosen(&["story".to_owned()]).unwrap().len(), 1);
        assert!(chosen(&["nothing".to_owned()]).is_err_and(|e| e.contains("story_gzip")));
    }
}

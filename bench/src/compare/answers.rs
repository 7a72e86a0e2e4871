//! What the service answers, which every peer has to answer alike: asked once, kept as files that peers read, and held
//! against each peer's answer before it is measured.

use std::fs;
use std::path::Path;

use sonic_rs::{JsonValueTrait, Value};

use super::Scenario;
use crate::floor;
use crate::target::{RequestArgs, Target};

/// The wish of the guide's Locust file.
pub(super) const WISH: &str = r#"{"location":"San Francisco","style":"adventure"}"#;
/// Fields that each answer has anew, or that belong to the framing.
const OWN: [&str; 5] = ["date", "x-request-id", "content-length", "connection", "keep-alive"];

/// One answer, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// As it came.
    pub(super) bytes: Vec<u8>,
    pub(super) status: u16,
    /// All that a peer has to send alike: without those that are anew each time.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    fn read(bytes: Vec<u8>) -> Result<Self, String> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(head)) = response.parse(&bytes) else {
            return Err("an answer's head cannot be read".to_owned());
        };
        let fields = response.headers.iter().map(|one| {
            let value = String::from_utf8_lossy(one.value).into_owned();
            (one.name.to_owned(), value)
        });
        let body = bytes.get(head..).unwrap_or_default().to_vec();
        Ok(Self {
            status: response.code.unwrap_or(0),
            fields: fields
                .filter(|(name, _)| !OWN.iter().any(|own| name.eq_ignore_ascii_case(own)))
                .collect(),
            body: String::from_utf8(body).map_err(|_| "an answer is no text".to_owned())?,
            bytes,
        })
    }

    /// The fields as lines, for a file.
    fn lines(&self) -> String {
        let line = |(name, value): &(String, String)| format!("{name}: {value}\n");
        self.fields.iter().map(line).collect()
    }
}

/// The service's answers.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    pub(super) live: Answer,
    pub(super) story: Answer,
}

impl Answers {
    /// What `ask` gets of the service; the story the second time, when it comes from the cache.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn of(ask: impl Fn(Scenario) -> Result<Answer, String>) -> Result<Self, String> {
        ask(Scenario::Story)?;
        Ok(Self {
            story: ask(Scenario::Story)?,
            live: ask(Scenario::Live)?,
        })
    }

    /// That of a scenario.
    pub(super) fn of_scenario(&self, scenario: Scenario) -> &Answer {
        match scenario {
            Scenario::Live => &self.live,
            Scenario::Story => &self.story,
        }
    }

    /// The files that peers read.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
        };
        put("request.json", WISH.as_bytes())?;
        for (name, answer) in [("live", &self.live), ("story", &self.story)] {
            put(&format!("{name}.answer"), &answer.bytes)?;
            put(&format!("{name}.json"), answer.body.as_bytes())?;
            put(&format!("{name}.fields"), answer.lines().as_bytes())?;
        }
        Ok(())
    }

    /// The probe's body with other text in place of the time.
    pub(super) fn live_body_with_time(&self, time: &str) -> String {
        match timestamp(&self.live.body) {
            Some(found) => self.live.body.replace(&found, time),
            None => self.live.body.clone(),
        }
    }

    /// Whether a peer answers alike.
    ///
    /// # Errors
    /// The first difference, in words.
    pub(super) fn alike(&self, scenario: Scenario, heard: &Answer) -> Result<(), String> {
        let expected = self.of_scenario(scenario);
        if heard.status != expected.status {
            return Err(format!("it answers {} and not {}", heard.status, expected.status));
        }
        let same = heard.body == expected.body;
        // A probe has the time in it: all else must be the same, and the time must be one.
        let but_for_time = || {
            let time = timestamp(&heard.body).filter(|time| time.len() >= 20 && time.contains('T'))?;
            Some(heard.body.replace(&time, "@") == self.live_body_with_time("@"))
        };
        if same || (scenario == Scenario::Live && but_for_time() == Some(true)) {
            return Ok(());
        }
        let start = |text: &str| text.chars().take(120).collect::<String>();
        Err(format!(
            "its body is not the same: {} bytes, {:?}, and not {} bytes, {:?}",
            heard.body.len(),
            start(&heard.body),
            expected.body.len(),
            start(&expected.body)
        ))
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        let answer = |body: &str| {
            let head =
                "HTTP/1.1 200 OK\r\nDate: now\r\nServer: s\r\nX-Worker-ID: w\r\nContent-Type: application/json\r\n";
            let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            Answer::read(text.into_bytes()).unwrap_or_else(|e| unreachable!("{e}"))
        };
        Self {
            live: answer(r#"{"status":"alive","worker_id":"w","timestamp":"2026-01-01T00:00:00.000Z"}"#),
            story: answer(r#"{"story":"once"}"#),
        }
    }
}

fn timestamp(body: &str) -> Option<String> {
    let value: Value = sonic_rs::from_str(body).ok()?;
    Some(value.get("timestamp")?.as_str()?.to_owned())
}

/// The request of a scenario by the method that the peer takes.
pub(super) fn request(scenario: Scenario, method: &str) -> RequestArgs {
    RequestArgs {
        method: method.to_owned(),
        body: (scenario == Scenario::Story && method == "POST").then(|| WISH.to_owned()),
        body_file: None,
        headers: Vec::new(),
    }
}

/// Asks once.
///
/// # Errors
/// No whole answer, or one without success.
pub(super) fn ask(target: &Target, request: &RequestArgs) -> Result<Answer, String> {
    Answer::read(floor::fetch(target, request)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(answer: &Answer, from: &str, to: &str) -> Answer {
        Answer {
            body: answer.body.replace(from, to),
            ..answer.clone()
        }
    }

    #[test]
    fn a_probe_may_differ_in_its_time_and_a_story_in_nothing() {
        let answers = Answers::example();
        let (live, story) = (&answers.live, &answers.story);
        answers.alike(Scenario::Live, live).unwrap();
        answers.alike(Scenario::Story, story).unwrap();
        let later = changed(live, "2026-01-01T00:00:00.000Z", "2027-05-01T00:00:00+00:00");
        answers.alike(Scenario::Live, &later).unwrap();
        for (from, to) in [
            ("alive", "healthy"),
            ("2026-01-01T00:00:00.000Z", "now"),
            ("timestamp", "time"),
        ] {
            assert!(
                answers.alike(Scenario::Live, &changed(live, from, to)).is_err(),
                "{from}"
            );
        }
        assert!(
            answers
                .alike(Scenario::Story, &changed(story, "once", "twice"))
                .is_err()
        );
        let refused = Answer {
            status: 404,
            ..story.clone()
        };
        assert!(
            answers
                .alike(Scenario::Story, &refused)
                .is_err_and(|e| e.contains("404"))
        );
    }

    #[test]
    fn fields_that_are_anew_each_time_are_not_kept() {
        let answers = Answers::example();
        let lines = answers.story.lines();
        assert_eq!(lines, "Server: s\nX-Worker-ID: w\nContent-Type: application/json\n");
    }
}

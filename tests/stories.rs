//! The main job from outside: a story asked for, told, kept, found again. On each driver.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::tools::{curl, run};
use common::{Setup, on_each_driver};
use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
use std::collections::BTreeSet;
use tempfile::TempDir;

/// The line that the README shows, word for word.
const README_LINE: &str =
    r#"curl -s --json '{"location":"San Francisco","style":"adventure"}' localhost:8080/api/v1/stories/generate"#;

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field}: {value:?}"))
}

#[test]
fn the_line_of_the_readme_tells_of_san_francisco() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let line = README_LINE.replace("8080", &server.port.to_string());
        let story: Value = sonic_rs::from_slice(&run("sh", &["-c", &line]).expect(0).stdout).unwrap();
        assert_eq!(text(&story["location"], "name"), "San Francisco");
        assert_eq!(text(&story["location"], "country"), "United States");
        assert!((story["location"]["lat"].as_f64().unwrap() - 37.77).abs() < 0.1);
        assert!((story["location"]["lng"].as_f64().unwrap() + 122.42).abs() < 0.1);
        assert_eq!(
            (text(&story, "style"), text(&story, "length"), text(&story, "language")),
            ("adventure", "medium", "en")
        );
        assert!(text(&story, "story").contains("San Francisco") && text(&story, "story").contains("California"));
        assert!(!text(&story, "title").is_empty() && text(&story, "created_at").ends_with('Z'));
        assert_eq!(text(&story, "generated_by"), "narrator/1");
        let id = uuid::Uuid::try_parse(text(&story, "id")).unwrap();
        assert_eq!(id.get_version_num(), 7);
    });
}

#[test]
fn the_readme_shows_that_line() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("a README.md");
    assert!(
        readme.contains(README_LINE),
        "the README's curl line is not the tested one"
    );
}

#[test]
fn every_style_at_every_length_is_told_once_and_found_again() {
    on_each_driver(|driver| {
        let folder = TempDir::new().unwrap();
        // One worker, so that what was told is in the cache of whoever is asked again.
        let start = || {
            Setup::new()
                .driver(driver)
                .data(folder.path())
                .env("WORKERS", "1")
                .start()
        };
        let mut server = start();
        let offer = server.json("/api/v1/styles");
        let words = |list: &str| -> Vec<String> {
            let names = offer[list].as_array().unwrap().iter();
            names
                .map(|entry| entry.as_str().or(entry["name"].as_str()).unwrap().to_owned())
                .collect()
        };
        let (styles, lengths) = (words("styles"), words("lengths"));
        assert!(styles.len() >= 8 && lengths == ["short", "medium", "long"], "{offer:?}");
        let mut told = Vec::new();
        let mut stream = server.connect();
        for style in &styles {
            let mut seconds = 0;
            for length in &lengths {
                let asked = format!(r#"{{"location":"Lisbon","style":"{style}","length":"{length}"}}"#);
                let first = stream.tell(&asked).expect(200);
                assert_eq!(first.field("content-type"), Some("application/json"));
                assert_eq!(
                    first.field("cache-status"),
                    Some("roadtrip-api; fwd=miss; stored"),
                    "{asked}"
                );
                let again = stream.tell(&asked).expect(200);
                assert_eq!(again.field("cache-status"), Some("roadtrip-api; hit"));
                assert_eq!(first.body, again.body);
                let story = first.json();
                assert_eq!(
                    (text(&story, "style"), text(&story, "length")),
                    (style.as_str(), length.as_str())
                );
                assert_eq!(text(&story["location"], "country"), "Portugal");
                let longer = story["duration_seconds"].as_u64().unwrap();
                assert!(longer > seconds, "{style} {length}: {longer} s after {seconds} s");
                seconds = longer;
                told.push((asked, first.body));
            }
        }
        let distinct: BTreeSet<_> = told.iter().map(|(_, body)| body.clone()).collect();
        assert_eq!(distinct.len(), told.len());
        drop(stream);
        server.stop();

        let server = start();
        let mut stream = server.connect();
        for (asked, body) in &told {
            let kept = stream.tell(asked).expect(200);
            assert_eq!(
                kept.field("cache-status"),
                Some("roadtrip-api; fwd=miss; detail=store"),
                "{asked}"
            );
            assert!(kept.body == *body, "another story after a restart: {asked}");
            assert_eq!(
                stream.tell(asked).expect(200).field("cache-status"),
                Some("roadtrip-api; hit")
            );
        }
    });
}

#[test]
fn a_story_is_found_by_its_id_and_not_sent_twice() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let told = server.tell(r#"{"location":"Kyoto","style":"nature"}"#).expect(200);
        let path = format!("/api/v1/stories/{}", text(&told.json(), "id"));
        // On a fresh connection each, so that both workers are likely asked: one has it cached, one asks the store.
        for _ in 0..8 {
            let found = server.get(&path).expect(200);
            assert_eq!(found.body, told.body);
            let etag = found.field("etag").unwrap().to_owned();
            assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 4, "{etag}");
            for sent in [
                etag.clone(),
                format!("W/{etag}"),
                format!("\"other\", {etag}"),
                "*".into(),
            ] {
                let mut stream = server.connect();
                let same = stream
                    .get_with(&path, &format!("If-None-Match: {sent}\r\n"))
                    .expect(304);
                assert!(same.body.is_empty() && same.field("etag") == Some(etag.as_str()));
                // The connection is in step afterwards.
                stream.get("/health").expect(200);
            }
            let other = server.connect().get_with(&path, "If-None-Match: \"other\"\r\n");
            assert_eq!(other.expect(200).body, told.body);
        }
        let unknown = "/api/v1/stories/018f0000-0000-7000-8000-000000000000";
        for path in [unknown, "/api/v1/stories/no-id", "/api/v1/stories/%00"] {
            let problem = server.get(path).expect(404);
            assert_eq!(problem.field("content-type"), Some("application/problem+json"));
        }
        // And through curl's own ETag handling.
        let folder = TempDir::new().unwrap();
        let (tag, body) = (folder.path().join("tag"), folder.path().join("body"));
        let (tag, body) = (tag.to_str().unwrap(), body.to_str().unwrap());
        curl(&["--etag-save", tag, "-o", body, &server.url(&path)]);
        let code = curl(&[
            "--etag-compare",
            tag,
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &server.url(&path),
        ]);
        assert_eq!(String::from_utf8(code).unwrap(), "304");
        assert_eq!(std::fs::read(body).unwrap(), told.body);
    });
}

#[test]
fn lists_have_every_story_once_newest_first_in_pages() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let mut stream = server.connect();
        let mut ids = Vec::new();
        for (place, style) in [
            ("Paris", "history"),
            ("Oslo", "history"),
            ("Paris", "comedy"),
            ("Lima", "history"),
            ("Paris", "science"),
            ("Oslo", "mystery"),
            ("Hanoi", "romance"),
        ] {
            let told = stream
                .tell(&format!(r#"{{"location":"{place}","style":"{style}"}}"#))
                .expect(200);
            ids.push((text(&told.json(), "id").to_owned(), place, style, told.body));
        }
        ids.reverse();
        let mut listed = |query: &str, limit: usize| -> Vec<String> {
            let (mut all, mut cursor) = (Vec::new(), String::new());
            for _ in 0..20 {
                let page = stream
                    .get(&format!("/api/v1/stories?limit={limit}{query}{cursor}"))
                    .expect(200)
                    .json();
                let stories = page["stories"].as_array().unwrap();
                assert!(stories.len() <= limit);
                all.extend(stories.iter().map(|story| text(story, "id").to_owned()));
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => return all,
                }
            }
            panic!("pages without end");
        };
        let of = |fits: &dyn Fn(&str, &str) -> bool| -> Vec<String> {
            let fitting = ids.iter().filter(|(_, place, style, _)| fits(place, style));
            fitting.map(|(id, ..)| id.clone()).collect()
        };
        for limit in [1, 2, 3, 7, 100] {
            assert_eq!(listed("", limit), of(&|_, _| true), "pages of {limit}");
            assert_eq!(listed("&location=Paris", limit), of(&|place, _| place == "Paris"));
            assert_eq!(listed("&location=%20pARIS", limit), of(&|place, _| place == "Paris"));
            assert_eq!(listed("&style=history", limit), of(&|_, style| style == "history"));
            assert_eq!(
                listed("&style=mystery&location=oslo", limit),
                of(&|place, style| place == "Oslo" && style == "mystery")
            );
            assert_eq!(listed("&location=Nowhere", limit), Vec::<String>::new());
        }
        let whole = server.get("/api/v1/stories").expect(200).body;
        for (_, place, _, body) in &ids {
            assert!(
                common::http::find(&whole, body).is_some(),
                "{place} does not stand in the list byte for byte"
            );
        }
        for bad in ["limit=0", "limit=101", "limit=x", "style=opera", "cursor=nonsense"] {
            let problem = server.get(&format!("/api/v1/stories?{bad}")).expect(422).json();
            assert_eq!(problem["errors"].as_array().unwrap().len(), 1, "{bad}");
        }
        server.get("/api/v1/stories?location=%zz").expect(400);
    });
}

#[test]
fn points_interests_and_variations_make_stories_of_their_own() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let tell = |body: &str| server.tell(body).expect(200);
        let point = tell(r#"{"location":{"lat":-1.2864,"lng":36.8172}}"#).json();
        assert_eq!(text(&point["location"], "country"), "Kenya");
        assert!(text(&point, "story").contains("Nairobi"), "{point:?}");
        let named = tell(r#"{"location":{"lat":48.8566,"lng":2.3522,"name":"our stop"}}"#).json();
        assert!(text(&named, "story").contains("our stop"), "{named:?}");
        let ocean = tell(r#"{"location":{"lat":-48.9,"lng":-123.4}}"#).json();
        assert!(!text(&ocean, "story").is_empty());

        let plain = tell(r#"{"location":"Denver","style":"family"}"#).json();
        let keen = tell(r#"{"location":"Denver","style":"family","interests":["trains","astronomy"]}"#);
        assert_ne!(text(&keen.json(), "story"), text(&plain, "story"));
        assert_ne!(text(&keen.json(), "id"), text(&plain, "id"));
        let swapped = tell(r#"{"location":" denver ","style":"family","interests":["Astronomy","trains"]}"#);
        assert_eq!(
            swapped.body, keen.body,
            "order and case of interests make no other story"
        );

        let mut tellings = BTreeSet::from([text(&plain, "story").to_owned()]);
        for variation in 1..5 {
            let body = format!(r#"{{"location":"Denver","style":"family","variation":{variation}}}"#);
            assert_eq!(tell(&body).body, tell(&body).body);
            tellings.insert(text(&tell(&body).json(), "story").to_owned());
        }
        assert_eq!(tellings.len(), 5);

        // Other names, slips and scripts lead to the same place; names with a region tell places apart.
        for (typed, name, country) in [
            ("San Fransisco", "San Francisco", "United States"),
            ("München", "Munich", "Germany"),
            ("東京", "Tokyo", "Japan"),
            ("Portland, Maine", "Portland", "United States"),
            ("Springfield, Illinois", "Springfield", "United States"),
            ("Valencia, Venezuela", "Valencia", "Venezuela"),
        ] {
            let story = tell(&format!(r#"{{"location":"{typed}"}}"#)).json();
            assert_eq!(
                (text(&story["location"], "name"), text(&story["location"], "country")),
                (name, country),
                "{typed}"
            );
        }
    });
}

#[test]
fn an_unknown_place_is_said_to_be_unknown() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        for style in ["adventure", "science", "comedy"] {
            let body = format!(r#"{{"location":"Xqzzyblorf upon Vrrk","style":"{style}"}}"#);
            let story = server.tell(&body).expect(200).json();
            assert_eq!(text(&story["location"], "name"), "Xqzzyblorf upon Vrrk");
            for field in ["country", "lat", "lng"] {
                assert!(story["location"][field].is_null(), "{field}: {story:?}");
            }
            // It names what it does not know, and says what to try.
            let telling = text(&story, "story");
            assert!(telling.contains("“Xqzzyblorf upon Vrrk”"), "{telling}");
            assert!(telling.contains("spelling"), "{telling}");
            assert!(
                telling.contains("coordinates") || telling.contains("latitude"),
                "{telling}"
            );
        }
    });
}

#[test]
fn what_cannot_be_asked_is_refused_with_a_problem() {
    on_each_driver(|driver| {
        let server = Setup::new().driver(driver).start();
        let mut stream = server.connect();
        let nested = format!("{}{}", "[".repeat(4000), "]".repeat(4000));
        let nine = format!(r#"{{"location":"Rome","interests":[{}"a"]}}"#, r#""a","#.repeat(8));
        let long = format!(r#"{{"location":"{}"}}"#, "x".repeat(201));
        for (status, body) in [
            (400, ""),
            (400, "{"),
            (400, r#"{"location":"Rome"} extra"#),
            (400, "location=Rome"),
            (400, nested.as_str()),
            (422, "{}"),
            (422, "[]"),
            (422, "null"),
            (422, r#"{"location":7}"#),
            (422, r#"{"location":""}"#),
            (422, r#"{"location":" \n"}"#),
            (422, r#"{"location":"Rome","style":"opera"}"#),
            (422, r#"{"location":"Rome","length":"epic"}"#),
            (422, r#"{"location":"Rome","language":"tlh"}"#),
            (422, r#"{"location":"Rome","variation":-1}"#),
            (422, r#"{"location":{"lat":91,"lng":0}}"#),
            (422, r#"{"location":{"lat":0,"lng":-181}}"#),
            (422, r#"{"location":{"lat":0}}"#),
            (422, nine.as_str()),
            (422, long.as_str()),
        ] {
            let refused = stream.tell(body).expect(status);
            assert_eq!(
                refused.field("content-type"),
                Some("application/problem+json"),
                "{body}"
            );
            let problem = refused.json();
            assert_eq!(problem["status"].as_u64(), Some(u64::from(status)));
            assert!(!text(&problem, "title").is_empty() && !text(&problem, "detail").is_empty());
            assert_eq!(Some(text(&problem, "request_id")), refused.field("x-request-id"));
        }
        let all = stream
            .tell(r#"{"location":"","style":"opera","length":"epic"}"#)
            .expect(422)
            .json();
        assert_eq!(
            all["errors"].as_array().unwrap().len(),
            3,
            "all faults at once: {all:?}"
        );
        for media in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonx",
            "multipart/form-data",
        ] {
            stream.send(format!(
                "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nContent-Type: {media}\r\nContent-Length: 19\r\n\r\n{}",
                r#"{"location":"Rome"}"#
            ));
            let problem = stream.read().expect(415);
            assert_eq!(problem.field("content-type"), Some("application/problem+json"));
        }
        for media in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/ld+json",
        ] {
            stream.send(format!(
                "POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nContent-Type: {media}\r\nContent-Length: 19\r\n\r\n{}",
                r#"{"location":"Rome"}"#
            ));
            stream.read().expect(200);
        }
        // Too large by its length, before a byte of it is sent.
        stream.send("POST /api/v1/stories/generate HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999\r\n\r\n");
        let problem = stream.read().expect(413);
        assert_eq!(problem.field("content-type"), Some("application/problem+json"));
        assert_eq!(Some(text(&problem.json(), "request_id")), problem.field("x-request-id"));
        assert!(problem.closes() && stream.is_closed());
    });
}

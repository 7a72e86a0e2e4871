//! /openapi.json and /docs.
//!
//! Both are files beside this one, sent as they are. The tests hold the description to the router, the vocabularies
//! and the limits, and the page to its own Content-Security-Policy. Deliberately absent: anything made at run time.

use super::JSON;
use super::fixed::Fixed;
use crate::http::field;
use crate::http::negotiate::MediaType;
use std::sync::LazyLock;

/// The API described (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("openapi.json");
/// A page to read and try it; self-contained.
const PAGE: &str = include_str!("docs.html");

/// The answer of /openapi.json.
pub(super) static DESCRIPTION: Fixed = Fixed::new(MediaType::JSON, JSON, || OPENAPI.as_bytes(), Vec::new);

/// The answer of /docs.
pub(super) static DOCS: Fixed = Fixed::new(
    MediaType::HTML,
    "text/html; charset=utf-8",
    || PAGE.as_bytes(),
    || {
        vec![
            (field::CONTENT_SECURITY_POLICY, POLICY.as_bytes()),
            // For browsers that do not know frame-ancestors.
            (field::X_FRAME_OPTIONS, b"DENY"),
            (field::REFERRER_POLICY, b"no-referrer"),
        ]
    },
);

/// The policy that the page itself states, and what only a field can state: that nobody may frame it.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let stated = PAGE
        .split_once("http-equiv=\"Content-Security-Policy\" content=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("default-src 'none'", |(policy, _)| policy);
    format!("{stated}; frame-ancestors 'none'")
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{http, story};
    use crate::routes::Route;
    use crate::story::types::{Language, Length, Story, Style};
    use sha2::{Digest, Sha256};
    use sonic_rs::{JsonContainerTrait, JsonValueTrait, Value};
    use std::collections::BTreeSet;

    const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

    fn described() -> Value {
        sonic_rs::from_str(OPENAPI).unwrap()
    }

    /// What a JSON pointer (RFC 6901) leads to.
    fn at<'v>(root: &'v Value, pointer: &str) -> Option<&'v Value> {
        pointer.split('/').skip(1).try_fold(root, |value, part| {
            let part = part.replace("~1", "/").replace("~0", "~");
            match part.parse::<usize>() {
                Ok(index) if value.is_array() => value.get(index),
                _ => value.get(part.as_str()),
            }
        })
    }

    /// Calls `visit` with every object, and where it stands.
    fn walk(value: &Value, place: &str, visit: &mut impl FnMut(&Value, &str)) {
        if let Some(object) = value.as_object() {
            visit(value, place);
            for (key, member) in object {
                walk(member, &format!("{place}/{key}"), visit);
            }
        } else if let Some(array) = value.as_array() {
            for (index, item) in array.iter().enumerate() {
                walk(item, &format!("{place}/{index}"), visit);
            }
        }
    }

    fn words(value: &Value) -> Vec<&str> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect()
    }

    #[test]
    fn paths_and_methods_are_those_of_the_router() {
        let root = described();
        let mut described = BTreeSet::new();
        for (path, item) in root["paths"].as_object().unwrap() {
            for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let mut routed = BTreeSet::new();
        for name in Route::NAMES.iter().filter(|name| **name != "unknown") {
            let path = name.replace("{id}", "018f0000-0000-7000-8000-000000000000");
            for method in Route::of(&path).0.allow().split(", ") {
                routed.insert(format!("{method} {name}"));
            }
        }
        assert_eq!(described, routed);
    }

    #[test]
    fn vocabularies_are_those_of_the_domain() {
        let root = described();
        for (schema, names, preset) in [
            ("Style", Style::NAMES, Style::default().as_str()),
            ("Length", Length::NAMES, Length::default().as_str()),
            ("Language", Language::NAMES, Language::default().as_str()),
        ] {
            assert_eq!(words(&root["components"]["schemas"][schema]["enum"]), names);
            let member = &root["components"]["schemas"]["StoryRequest"]["properties"][schema.to_lowercase().as_str()];
            assert_eq!(member["default"].as_str(), Some(preset));
            assert_eq!(
                member["oneOf"][0]["$ref"].as_str(),
                Some(format!("#/components/schemas/{schema}").as_str())
            );
        }
    }

    #[test]
    fn limits_are_those_of_the_server() {
        let root = described();
        let number = |pointer: &str| {
            at(&root, pointer)
                .unwrap_or_else(|| panic!("{pointer}"))
                .as_u64()
                .unwrap()
        };
        for (pointer, limit) in [
            ("/components/schemas/PlaceName/maxLength", story::LOCATION_BYTES_MAX),
            (
                "/components/schemas/Point/properties/name/maxLength",
                story::LOCATION_BYTES_MAX,
            ),
            (
                "/components/schemas/StoryRequest/properties/interests/maxItems",
                story::INTERESTS_MAX,
            ),
            (
                "/components/schemas/StoryRequest/properties/interests/items/maxLength",
                story::INTEREST_BYTES_MAX,
            ),
            (
                "/components/schemas/StoryRequest/properties/variation/maximum",
                u32::MAX as usize,
            ),
            (
                "/components/schemas/StoryPage/properties/stories/maxItems",
                story::PAGE_MAX,
            ),
            (
                "/paths/~1api~1v1~1stories/get/parameters/0/schema/maxLength",
                story::LOCATION_BYTES_MAX,
            ),
            (
                "/paths/~1api~1v1~1stories/get/parameters/2/schema/maximum",
                story::PAGE_MAX,
            ),
            (
                "/paths/~1api~1v1~1stories/get/parameters/2/schema/default",
                story::PAGE_DEFAULT,
            ),
        ] {
            assert_eq!(number(pointer), limit as u64, "{pointer}");
        }
        // Limits that only sentences tell.
        for (pointer, limit) in [
            ("/components/schemas/PlaceName", story::LOCATION_BYTES_MAX),
            ("/components/schemas/Point/properties/name", story::LOCATION_BYTES_MAX),
            (
                "/components/schemas/StoryRequest/properties/interests/items",
                story::INTEREST_BYTES_MAX,
            ),
            (
                "/paths/~1api~1v1~1stories~1generate/post/responses/400",
                story::JSON_DEPTH_MAX,
            ),
            (
                "/paths/~1api~1v1~1stories~1generate/post/responses/413",
                http::BODY_BYTES_MAX,
            ),
            ("/components/responses/Refused", http::BODY_BYTES_MAX),
            ("/components/responses/Refused", http::TARGET_BYTES_MAX),
            ("/components/responses/Refused", http::HEAD_BYTES_MAX),
            ("/components/responses/Refused", http::HEADERS_MAX),
        ] {
            let text = at(&root, pointer).unwrap()["description"].as_str().unwrap();
            let told = text
                .split(|c: char| !c.is_ascii_digit())
                .any(|word| word == limit.to_string());
            assert!(told, "{pointer} does not say {limit}: {text}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_component_is_used() {
        let root = described();
        let mut used = BTreeSet::new();
        walk(&root, "", &mut |object, place| {
            if let Some(target) = object.get("$ref").and_then(|target| target.as_str()) {
                let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{place}: {target}"));
                assert!(at(&root, pointer).is_some(), "{place}: {target} leads nowhere");
                used.insert(pointer.to_owned());
            }
        });
        for kind in ["schemas", "responses", "headers", "parameters", "examples"] {
            for (name, _) in root["components"][kind].as_object().unwrap() {
                assert!(
                    used.contains(&format!("/components/{kind}/{name}")),
                    "{kind}/{name} is not used"
                );
            }
        }
    }

    #[test]
    fn every_answer_carries_both_ids_and_every_error_is_a_problem() {
        let root = described();
        let resolve = |value: &Value| match value.get("$ref").and_then(|target| target.as_str()) {
            Some(target) => at(&root, &target[1..]).unwrap().clone(),
            None => value.clone(),
        };
        let mut operation_ids = BTreeSet::new();
        for (path, item) in root["paths"].as_object().unwrap() {
            for method in METHODS {
                let Some(operation) = item.get(method) else { continue };
                let id = operation["operationId"].as_str().unwrap();
                assert!(operation_ids.insert(id.to_owned()), "{id} twice");
                for (code, response) in operation["responses"].as_object().unwrap() {
                    let response = resolve(response);
                    let place = format!("{method} {path} {code}");
                    for name in ["X-Request-ID", "X-Worker-ID"] {
                        assert!(response["headers"].get(name).is_some(), "{place}: {name}");
                    }
                    assert_eq!(
                        response.get("content").is_none(),
                        method == "head" || code == "204" || code == "304"
                    );
                    let probe = path.starts_with("/health/v2/") && code == "503";
                    if method != "head" && (code.starts_with('4') || code.starts_with('5')) && !probe {
                        let content = response["content"].as_object().unwrap();
                        assert!(
                            content.iter().all(|(media, _)| media == "application/problem+json"),
                            "{place}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn its_stories_are_stories_and_its_requests_are_taken() {
        let root = described();
        let example = &root["components"]["examples"]["story"]["value"];
        let story: Story = sonic_rs::from_str(&sonic_rs::to_string(example).unwrap()).unwrap();
        assert!(!story.story.is_empty());
        let required = words(&root["components"]["schemas"]["Story"]["required"]);
        let members: Vec<_> = example.as_object().unwrap().iter().map(|(name, _)| name).collect();
        assert_eq!(members, required);
        let pointer = "/paths/~1api~1v1~1stories~1generate/post/requestBody/content/application~1json/examples";
        for (name, example) in at(&root, pointer).unwrap().as_object().unwrap() {
            let body = sonic_rs::to_vec(&example["value"]).unwrap();
            assert!(crate::routes::input::read(&body).is_ok(), "{name}");
        }
    }

    /// What stands between the only `open` and the `close` after it.
    fn between<'t>(text: &'t str, open: &str, close: &str) -> &'t str {
        let (before, rest) = text.split_once(open).unwrap();
        let (inner, after) = rest.split_once(close).unwrap();
        assert!(!before.contains(open) && !after.contains(open), "one {open} only");
        inner
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                let sextet = (bits >> (18 - 6 * digit)) as usize & 63;
                out.push(if digit <= chunk.len() {
                    char::from(DIGITS[sextet])
                } else {
                    '='
                });
            }
        }
        out
    }

    #[test]
    fn the_page_is_small_self_contained_and_bound_by_its_own_policy() {
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        assert!(PAGE.len() < 30 * 1024, "{} bytes", PAGE.len());
        let policy = between(PAGE, "http-equiv=\"Content-Security-Policy\" content=\"", "\">");
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{policy}"
        );
        for (directive, open, close) in [
            ("style-src", "<style>", "</style>"),
            ("script-src", "<script>", "</script>"),
        ] {
            let hash = base64(&Sha256::digest(between(PAGE, open, close)));
            let wanted = format!("{directive} 'sha256-{hash}'");
            assert!(policy.contains(&wanted), "the policy must have: {wanted}");
        }
        // What would let text of the server become markup, or reach outside.
        for bad in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http://",
            "https://",
            "style=\"",
            "onclick=",
        ] {
            assert!(!PAGE.contains(bad), "{bad}");
        }
    }
}

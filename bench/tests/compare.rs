//! `compare` from one end to the other, on servers that are ready at once: the floor against itself and against what
//! does not answer alike. The report is held against its schema.
// A test file is all test: what fails to unwrap is a test that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sonic_rs::{JsonContainerTrait, JsonType, JsonValueTrait, Value};

const BIN: &str = env!("CARGO_BIN_EXE_roadtrip-bench");
const SMALL: [&str; 8] = [
    "--pairs",
    "5",
    "--seconds",
    "0.1",
    "-c",
    "4",
    "--idle-connections",
    "40",
];

fn compare(arguments: &[&str]) -> Output {
    let floor = format!("{BIN} floor --port {{port}}");
    let common = ["compare", "--ours", &floor];
    Command::new(BIN).args(common).args(arguments).output().unwrap()
}

/// A file of this test's own.
fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("roadtrip-bench-test-{}-{name}", std::process::id()))
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} of {value:?}"))
}

/// What is wrong with `value` by `schema`: of JSON Schema, what bench/schema uses.
fn faults(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return faults(root, &root["$defs"][name], value, at, found);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| {
            let mut own = Vec::new();
            faults(root, choice, value, at, &mut own);
            own.is_empty()
        };
        if choices.iter().filter(fits).count() != 1 {
            found.push(format!("{at}: not one of the choices"));
        }
        return;
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_str(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.get_type() == JsonType::Number,
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the schema has a type {other}"),
    };
    let types: Vec<&str> = match schema["type"].as_array() {
        Some(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        None => schema["type"].as_str().into_iter().collect(),
    };
    if !types.is_empty() && !types.iter().any(|name| is(name)) {
        found.push(format!("{at}: {value:?} is none of {types:?}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.iter().any(|one| one == value)
    {
        found.push(format!("{at}: {value:?} is not allowed"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        found.push(format!("{at}: {value:?} is another"));
    }
    if let (Some(values), Some(items)) = (value.as_array(), schema.get("items")) {
        for (place, one) in values.iter().enumerate() {
            faults(root, items, one, &format!("{at}[{place}]"), found);
        }
    }
    if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for name in schema["required"].as_array().unwrap().iter() {
            if value.get(name.as_str().unwrap()).is_none() {
                found.push(format!("{at}: {name:?} is missing"));
            }
        }
        for (name, one) in fields.iter() {
            match known.get(&name) {
                Some(schema) => faults(root, schema, one, &format!("{at}.{name}"), found),
                None => found.push(format!("{at}: {name} is not in the schema")),
            }
        }
    }
}

fn check_against_schema(report: &Value) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/compare.schema.json");
    let schema: Value = sonic_rs::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut found = Vec::new();
    faults(&schema, &schema, report, "report", &mut found);
    assert!(found.is_empty(), "{found:#?}");
    // And it can find fault.
    let mut found = Vec::new();
    let wrong: Value = sonic_rs::from_str(r#"{"format":"x","seconds":"y"}"#).unwrap();
    faults(&schema, &schema, &wrong, "report", &mut found);
    assert!(found.len() > 5, "{found:?}");
}

/// The verdict that the pairs of a row give by hand: 5 pairs, so the interval is from the least to the greatest.
fn verdict_by_hand(row: &Value, name: &str, noise: f64, high_is_good: bool) -> &'static str {
    let ratios: Vec<f64> = row["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| number(&pair["a"], name) / number(&pair["b"], name))
        .collect();
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    match (low > 1.0 + noise, high < 1.0 / (1.0 + noise)) {
        (true, _) if high_is_good => "faster",
        (_, true) if !high_is_good => "faster",
        (false, false) => "within noise",
        _ => "slower",
    }
}

#[test]
fn a_server_against_itself_is_within_noise_and_every_verdict_follows_from_its_pairs() {
    let (json, twin) = (file("aa.json"), format!("twin={BIN} floor --port {{port}}"));
    let only = [
        "--only",
        "aa,twin",
        "--peer",
        &twin,
        "--note",
        "a test",
        "--json",
        json.to_str().unwrap(),
    ];
    let out = compare(&[&SMALL[..], &only].concat());
    let said = String::from_utf8_lossy(&out.stderr);
    if said.contains("set up an io_uring") {
        eprintln!("skipped: no io_uring here");
        return;
    }
    assert!(out.status.success(), "{said}");
    let report: Value = sonic_rs::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(&json).unwrap();
    check_against_schema(&report);
    let page = String::from_utf8_lossy(&out.stdout);
    assert!(
        page.contains("Noise floor") && page.contains("| twin |") && page.contains("a test"),
        "{page}"
    );

    let peers = report["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 2);
    for peer in peers.iter() {
        assert_eq!(peer["state"].as_str(), Some("measured"), "{peer:?}");
        assert_eq!(peer["idle"]["a_bytes"].as_array().unwrap().len(), 3);
        let rows = peer["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 2);
        for row in rows.iter() {
            let pairs = row["pairs"].as_array().unwrap();
            let orders: Vec<_> = pairs.iter().map(|pair| pair["order"].as_str().unwrap()).collect();
            assert_eq!(orders, ["ab", "ba", "ab", "ba", "ab"]);
            assert_eq!(row["errors"].as_u64(), Some(0), "{row:?}");
            for (estimate, figure, high_is_good) in [
                ("requests_per_cpu_second", "requests_per_cpu_second", true),
                ("requests_per_second", "requests_per_second", true),
                ("p50", "p50_us", false),
                ("p99", "p99_us", false),
            ] {
                let judged = &row[estimate];
                assert!((number(judged, "coverage") - 0.9375).abs() < 1e-9);
                let noise = number(judged, "noise");
                let verdict = judged["verdict"].as_str().unwrap();
                assert_eq!(
                    verdict,
                    verdict_by_hand(row, figure, noise, high_is_good),
                    "{estimate}: {judged:?}"
                );
                if peer["name"].as_str() == Some("aa") {
                    assert_eq!(verdict, "within noise", "{judged:?}");
                    // The floor is what these very pairs strayed by.
                    let stray = (number(judged, "high")).max(1.0 / number(judged, "low")) - 1.0;
                    assert!((stray - noise).abs() < 1e-9, "{judged:?}");
                }
            }
        }
    }
}

#[test]
fn what_fails_or_answers_otherwise_is_named_and_does_not_end_the_run() {
    let json = file("failing.json");
    let other = format!("other={BIN} floor --port {{port}} --answer-bytes 300");
    let out = compare(
        &[
            &SMALL[..6],
            &["--only", "gone,other,aa", "--peer", "gone=false", "--peer", &other],
            &["--idle-connections", "0", "--json", json.to_str().unwrap()],
        ]
        .concat(),
    );
    let said = String::from_utf8_lossy(&out.stderr);
    if said.contains("set up an io_uring") {
        eprintln!("skipped: no io_uring here");
        return;
    }
    assert_eq!(out.status.code(), Some(1), "{said}");
    let report: Value = sonic_rs::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(&json).unwrap();
    check_against_schema(&report);
    let states: Vec<_> = report["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| (peer["name"].as_str().unwrap(), peer["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("aa", "measured"), ("gone", "failed"), ("other", "failed")]);
    let reason = |place: usize| report["peers"][place]["reason"].as_str().unwrap().to_owned();
    assert!(reason(1).contains("ended before"), "{}", reason(1));
    assert!(reason(2).contains("not the same"), "{}", reason(2));
    let page = String::from_utf8_lossy(&out.stdout);
    assert!(page.contains("- other failed: its body is not the same"), "{page}");
}

#[test]
fn the_list_names_every_peer_and_what_is_left_out_is_told() {
    let list = Command::new(BIN).args(["compare", "--list"]).output().unwrap();
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    for name in [
        "aa",
        "floor",
        "monoio",
        "glommio",
        "axum",
        "actix-web",
        "ntex",
        "may_minihttp",
        "nginx",
        "h2o",
        "fastapi",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
    }
    // Less is measured where time is up: named, and no failure.
    let (json, floor) = (file("limit.json"), format!("{BIN} floor --port {{port}}"));
    let out = Command::new(BIN)
        .args([
            "compare",
            "--ours",
            &floor,
            "--only",
            "aa,nginx",
            "--pairs",
            "1",
            "--seconds",
            "1",
        ])
        .args([
            "--idle-connections",
            "0",
            "--limit",
            "1",
            "--json",
            json.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    if !String::from_utf8_lossy(&out.stderr).contains("set up an io_uring") {
        assert!(out.status.success(), "{out:?}");
        let report: Value = sonic_rs::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        std::fs::remove_file(&json).unwrap();
        let last = &report["peers"][1];
        let said = (last["state"].as_str().unwrap(), last["reason"].as_str().unwrap());
        assert_eq!(said, ("missing", "the time of --limit was up"));
    }
    let out = compare(&["--only", "apache"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("there is no peer apache"));
}

/// Processes that have this word in their command line.
fn with_word(word: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(word.len()).any(|window| window == word.as_bytes())
        })
        .collect()
}

/// A bit for each signal that this process ignores, and so its children.
fn signals_ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_is_killed_leaves_neither_servers_nor_folders_behind() {
    // A job of a shell that runs in the background has SIGINT ignored, and with it all that it starts: it would not end.
    let ignored = signals_ignored();
    for (signal, number) in [("TERM", 15), ("INT", 2), ("KILL", 9)] {
        if ignored & 1 << (number - 1) != 0 {
            continue;
        }
        // A server that starts a worker, which would outlive it, and is known by the bytes that it answers with.
        let mark = format!("{}", 10_000 + std::process::id() % 50_000);
        let server = format!("sh -c '{BIN} floor --port {{port}} --answer-bytes {mark} & wait'");
        let temp = tempfile::tempdir().unwrap();
        let mut child = Command::new(BIN)
            .args(["compare", "--only", "aa", "--seconds", "60", "--ours", &server])
            .env("TMPDIR", temp.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let workers = || {
            let own = child.id();
            let mut found = with_word(&format!("--answer-bytes\0{mark}"));
            found.retain(|pid| *pid != own);
            found
        };
        until("a server", || !workers().is_empty());
        let killed = Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        child.wait().unwrap();
        until(&format!("{signal}: {:?} are left", with_word(&mark)), || {
            with_word(&format!("--answer-bytes\0{mark}")).is_empty()
        });
        until(&format!("{signal}: folders are left"), || {
            std::fs::read_dir(temp.path()).unwrap().next().is_none()
        });
    }
}

use super::*;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::time::Instant;

const ALL: LogSettings = LogSettings {
    level: LogLevel::Info,
    format: LogFormat::Json,
    access: AccessLog::All,
};

fn request<'a>(request_id: &'a str, path: &'a str, status: u16) -> Access<'a> {
    let duration = Duration::from_micros(1234);
    let mut bits = 0;
    let trace = Trace::from_parts(request_id, None, None, || {
        bits += 1;
        bits
    });
    Access {
        // A test ends with its process.
        trace: Box::leak(Box::new(trace)),
        client: Some([192, 0, 2, 7].into()),
        worker_id: "pod-3",
        method: "GET",
        route: "/x/{id}",
        path,
        status,
        duration,
        bytes: 42,
    }
}

/// What `events` log with these settings, through the thread and a pipe as in the real thing.
fn logged(settings: LogSettings, events: impl FnOnce()) -> String {
    let (reader, writer) = pipe();
    let (writer, guard) = to_fd(writer, 1000);
    tracing::subscriber::with_default(subscriber(settings, writer).0, events);
    drop(guard);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    text
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

#[test]
fn json_lines_hold_the_fields_at_their_top() {
    let text = logged(ALL, || access(&request("r-1", "/x/7", 200)));
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: sonic_rs::Value = sonic_rs::from_str(text.trim()).unwrap();
    use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _};
    assert_eq!(line["level"].as_str(), Some("INFO"));
    assert_eq!(line["target"].as_str(), Some("access"));
    assert_eq!(line["message"].as_str(), Some("request"));
    assert_eq!(line["request_id"].as_str(), Some("r-1"));
    assert_eq!(line["span_id"].as_str(), Some("0000000000000001"));
    assert_eq!(line["trace_id"].as_str(), Some("00000000000000020000000000000003"));
    assert_eq!(line["client"].as_str(), Some("192.0.2.7"));
    assert_eq!(line["worker_id"].as_str(), Some("pod-3"));
    assert_eq!(line["status"].as_u64(), Some(200));
    assert_eq!(line["duration_us"].as_u64(), Some(1234));
    assert_eq!(line["bytes"].as_u64(), Some(42));
    assert!(line.as_object().unwrap().contains_key(&"threadName"), "{text}");
    // RFC 3339 in UTC, and now.
    let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(
        jiff::Timestamp::now().duration_since(time).as_secs().abs() < 10,
        "{time}"
    );
}

#[test]
fn clients_cannot_forge_a_line() {
    let id = "a\n{\"level\":\"ERROR\"}\r\n\u{1b}[2J\u{9b}K\u{2028}\u{202e}\0";
    for format in [LogFormat::Json, LogFormat::Text] {
        let text = logged(LogSettings { format, ..ALL }, || {
            access(&request(id, id, 404));
            tracing::info!(by_display = %id, by_debug = ?id, "message with {id}");
        });
        assert_eq!(text.lines().count(), 2, "{text:?}");
        let outside = |c: char| c != '\n' && (c.is_control() || c == '\u{2028}' || c == '\u{202e}');
        assert!(!text.contains(outside), "{text:?}");
        if format == LogFormat::Json {
            use sonic_rs::JsonValueTrait as _;
            for line in text.lines() {
                let line: sonic_rs::Value = sonic_rs::from_str(line).unwrap();
                // A JSON parser gets back exactly what the client sent.
                let back = line["request_id"].as_str().or(line["by_display"].as_str());
                assert_eq!(back, Some(id));
            }
        }
    }
}

#[test]
fn text_lines_are_readable_and_levels_filter() {
    let settings = LogSettings {
        level: LogLevel::Warning,
        format: LogFormat::Text,
        access: AccessLog::Errors,
    };
    let text = logged(settings, || {
        access(&request("r-1", "/x/7", 200));
        access(&request("r-2", "/x/8", 503));
        tracing::error!("fault");
    });
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains(" WARN ") && text.contains("request_id=\"r-2\"") && text.contains("status=503"),
        "{text}"
    );
    assert!(text.contains("ERROR") && text.contains("fault"), "{text}");
}

#[test]
fn the_access_log_is_by_status() {
    assert!(!AccessLog::Off.wants(500));
    assert!(AccessLog::Errors.wants(500) && AccessLog::Errors.wants(503) && !AccessLog::Errors.wants(499));
    assert!(AccessLog::All.wants(200));
}

#[test]
fn a_closed_stdout_costs_lines_and_nothing_else() {
    let (reader, writer) = pipe();
    drop(reader);
    let (mut writer, guard) = to_fd(writer, 1000);
    let counters = guard.counters();
    for _ in 0..100 {
        writer.write_all(b"line\n").unwrap();
    }
    drop(guard);
    assert_eq!(counters.write_failed() + counters.queue_full(), 100);
    assert!(counters.write_failed() > 0);
}

#[test]
fn a_stopped_reader_neither_blocks_workers_nor_the_exit() {
    let (reader, writer) = pipe();
    let (mut writer, guard) = to_fd(writer, 64);
    let counters = guard.counters();
    let line = [b'x'; 1000];
    // First until the pipe is full and the log thread waits for the reader.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !counters.progress.stuck.load(Ordering::Acquire) {
        assert!(Instant::now() < deadline, "{counters:?}");
        writer.write_all(&line).unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
    let before = counters.queue_full();
    let start = Instant::now();
    for _ in 0..10_000 {
        writer.write_all(&line).unwrap();
    }
    // What did not fit into the queue is gone, and nobody waited for it.
    assert!(counters.queue_full() - before >= 10_000 - 64, "{counters:?}");
    drop(guard);
    // A deadline against hanging, not a measure of speed.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    // The exit did not just leave the thread where it was: it gave the batch up.
    assert!(counters.write_failed() > 0, "{counters:?}");
    drop(reader);
}

#[test]
fn a_slow_reader_gets_every_line() {
    let (reader, writer) = pipe();
    let (mut writer, guard) = to_fd(writer, 100_000);
    let counters = guard.counters();
    let reading = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        BufReader::new(File::from(reader))
            .lines()
            .take(5000)
            .map(Result::unwrap)
            .collect::<Vec<String>>()
    });
    for n in 0..5000 {
        writer
            .write_all(format!("line {n} {}\n", "y".repeat(100)).as_bytes())
            .unwrap();
    }
    let lines = reading.join().unwrap();
    drop(guard);
    assert_eq!(lines.len(), 5000);
    assert!(
        lines
            .iter()
            .enumerate()
            .all(|(n, line)| line.starts_with(&format!("line {n} ")))
    );
    assert_eq!((counters.queue_full(), counters.write_failed()), (0, 0));
}

/// Lines a second through formatting, queue and thread: `cargo test --lib log_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn log_speed() {
    let null = File::options().write(true).open("/dev/null").unwrap();
    let (writer, guard) = to_fd(null.into(), 1 << 20);
    tracing::subscriber::with_default(subscriber(ALL, writer).0, || {
        let start = Instant::now();
        for _ in 0..100_000 {
            access(&request("0123456789abcdef", "/api/v1/stories/generate", 200));
        }
        let mut out = std::io::stdout();
        writeln!(out, "{:?} per line", start.elapsed() / 100_000).unwrap();
    });
    drop(guard);
}

/// The child of the test below: the whole process's log, on the real stdout.
#[test]
#[ignore = "run by init_logs_to_stdout_and_refuses_to_do_it_twice"]
fn child_that_logs() {
    let (guard, _control) = init(ALL, None).unwrap();
    assert!(matches!(init(ALL, None), Err(LogError::Twice)));
    std::thread::Builder::new()
        .name("worker-7".to_owned())
        .spawn(|| tracing::info!(port = 8080, "ready"))
        .unwrap()
        .join()
        .unwrap();
    tracing::debug!("not at this level");
    drop(guard);
}

#[test]
fn init_logs_to_stdout_and_refuses_to_do_it_twice() {
    let exe = std::env::current_exe().unwrap();
    let name = "telemetry::logging::tests::child_that_logs";
    let run = |stdout: std::process::Stdio| {
        std::process::Command::new(&exe)
            .args([name, "--exact", "--ignored", "--nocapture"])
            .stdout(stdout)
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap()
    };
    let output = run(std::process::Stdio::piped());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.find('{').and_then(|at| line.get(at..)))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    use sonic_rs::JsonValueTrait as _;
    let line: sonic_rs::Value = sonic_rs::from_str(lines[0]).unwrap();
    assert_eq!(
        (line["message"].as_str(), line["port"].as_u64()),
        (Some("ready"), Some(8080))
    );
    assert_eq!(line["threadName"].as_str(), Some("worker-7"));
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (mut writer, guard) = to_fd(full.into(), 1000);
    let counters = guard.counters();
    writer.write_all(b"line\n").unwrap();
    drop(guard);
    assert_eq!(counters.write_failed(), 1);
}

#[test]
fn the_level_changes_and_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let (writer, guard) = to_fd(open(&path).unwrap(), 1000);
    let (subscriber, level) = subscriber(ALL, writer);
    let control = LogControl {
        counters: guard.counters(),
        level,
        file: Some(path.clone()),
    };
    let until_in = |path: &Path, part: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !std::fs::read_to_string(path).is_ok_and(|text| text.contains(part)) {
            assert!(Instant::now() < deadline, "{part} is not in {path:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug!("first, not logged");
        control.set_level(LogLevel::Debug);
        tracing::debug!("second");
        control.set_level(LogLevel::Error);
        tracing::info!("third, not logged");
        control.set_level(LogLevel::Info);
        until_in(&path, "second");
        std::fs::rename(&path, &moved).unwrap();
        tracing::info!("fourth");
        until_in(&moved, "fourth");
        assert_eq!(control.reopen().unwrap(), Some(path.as_path()));
        tracing::info!("fifth");
        until_in(&path, "fifth");
        // Not to be opened: the log goes on where it was.
        std::fs::rename(&path, folder.path().join("log.2")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(control.reopen().unwrap_err().to_string().contains("log file"));
        tracing::info!("sixth");
        until_in(&folder.path().join("log.2"), "sixth");
    });
    drop(guard);
    let old = std::fs::read_to_string(&moved).unwrap();
    assert!(!old.contains("not logged") && old.lines().count() == 2, "{old}");
}

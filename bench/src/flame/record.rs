//! perf's samples, folded and drawn.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options as FoldOptions};
use inferno::flamegraph::{self, Options};

use super::scenario::Scenario;

/// Bytes of a drawing at most, so that the repository stays small; narrow frames are left out until it is.
const SVG_BYTES_MAX: usize = 300_000;
/// Narrowest frames, in per cent of the whole, that are tried one after the other.
const WIDTHS: [f64; 5] = [0.05, 0.1, 0.2, 0.4, 0.8];
/// Bytes of each stack that are copied: the deepest of ours are some ten thousand bytes deep.
const STACK_BYTES: u32 = 16_384;

/// Records `pid` and gives folded stacks: a line a stack, `frame;frame;frame count`, sorted.
///
/// # Errors
/// perf is missing, may not record, or found nothing.
pub(super) fn fold(pid: u32, scratch: &Path, seconds: u32, frequency: u32) -> Result<String, String> {
    let data = scratch.join("perf.data");
    let perf = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("cannot run perf: {e}; on Debian: apt-get install linux-perf"))
    };
    let recorded = perf(
        Command::new("perf")
            .args([
                "record",
                "-e",
                "cpu-clock",
                "-F",
                &frequency.to_string(),
                "-p",
                &pid.to_string(),
            ])
            .args(["--call-graph", &format!("dwarf,{STACK_BYTES}"), "-o"])
            .arg(&data)
            .args(["--", "sleep", &seconds.to_string()]),
    )?;
    if !recorded.status.success() {
        return Err(format!(
            "perf record failed (kernel.perf_event_paranoid above 1 allows it to root only): {}",
            String::from_utf8_lossy(&recorded.stderr)
        ));
    }
    // Inlined frames would need addr2line for each address: minutes.
    let script = perf(Command::new("perf").args(["script", "--no-inline", "-i"]).arg(&data))?;
    let mut folded = Vec::new();
    let mut options = FoldOptions::default();
    options.nthreads = 1;
    Folder::from(options)
        .collapse(script.stdout.as_slice(), &mut folded)
        .map_err(|e| format!("cannot fold what perf script says: {e}"))?;
    let folded = String::from_utf8_lossy(&folded);
    let mut lines: Vec<String> = folded.lines().filter_map(in_us).map(|line| plain(&line)).collect();
    if lines.is_empty() {
        return Err("perf took no sample".to_owned());
    }
    lines.sort();
    Ok(lines.join("\n") + "\n")
}

/// perf weighs a sample of cpu-clock with the nanoseconds that it stands for; here in microseconds.
fn in_us(line: &str) -> Option<String> {
    let (stack, ns) = line.rsplit_once(' ')?;
    let us = ns.parse::<u64>().ok()? / 1000;
    (us > 0).then(|| format!("{stack} {us}"))
}

/// A stack without what differs from build to build: hashes of symbols, numbers of compiled constants.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for (index, frame) in line.split(';').enumerate() {
        if index > 0 {
            out.push(';');
        }
        // `::h` and sixteen hexadecimal digits.
        let (name, count) = match frame.rsplit_once(' ') {
            Some((name, count)) if count.bytes().all(|b| b.is_ascii_digit()) => (name, Some(count)),
            _ => (frame, None),
        };
        let name = match name.rsplit_once("::h") {
            Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => name,
            _ => name,
        };
        out.push_str(name);
        if let Some(count) = count {
            out.push(' ');
            out.push_str(count);
        }
    }
    out
}

/// Draws the stacks, and their difference from those that were kept; then keeps these. Gives a sentence for the terminal.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn draw(folder: &Path, scenario: &Scenario, folded: &str) -> Result<String, String> {
    let kept = folder.join(format!("{}.folded.gz", scenario.name));
    let write = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    let before = match std::fs::File::open(&kept) {
        Ok(file) => {
            let mut text = String::new();
            GzDecoder::new(file)
                .read_to_string(&mut text)
                .map_err(|e| format!("cannot read {}: {e}", kept.display()))?;
            Some(text)
        }
        Err(_) => None,
    };
    let seconds = total(folded) as f64 / 1e6;
    let svg = drawing(
        folded,
        scenario.title,
        &format!("{seconds:.1} s of CPU time, user and kernel"),
    )?;
    write(format!("{}.svg", scenario.name), &svg)?;
    if let Some(before) = &before {
        let mut both = Vec::new();
        let options = inferno::differential::Options {
            // Two recordings differ in their number of samples; shares are compared.
            normalize: true,
            strip_hex: true,
        };
        inferno::differential::from_readers(options, before.as_bytes(), folded.as_bytes(), &mut both)
            .map_err(|e| format!("cannot compare with {}: {e}", kept.display()))?;
        let both = String::from_utf8_lossy(&both);
        let svg = drawing(&both, scenario.title, "red: more than before, blue: less")?;
        write(format!("{}.diff.svg", scenario.name), &svg)?;
    }
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(9));
    let packed = encoder.write_all(folded.as_bytes()).and_then(|()| encoder.finish());
    let packed = packed.map_err(|e| format!("cannot compress the stacks: {e}"))?;
    write(format!("{}.folded.gz", scenario.name), &packed)?;
    let compared = if before.is_some() {
        ", compared with the one before"
    } else {
        ""
    };
    Ok(format!(
        "{seconds:.2} s of CPU time, {} bytes of SVG{compared}",
        svg.len()
    ))
}

/// Microseconds of all stacks.
fn total(folded: &str) -> u64 {
    folded
        .lines()
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

fn drawing(folded: &str, title: &str, subtitle: &str) -> Result<Vec<u8>, String> {
    let mut svg = Vec::new();
    for width in WIDTHS {
        let mut options = Options::default();
        options.title = title.to_owned();
        options.subtitle = Some(subtitle.to_owned());
        options.count_name = "us".to_owned();
        options.min_width = width;
        options.hash = true;
        svg.clear();
        flamegraph::from_lines(&mut options, folded.lines(), &mut svg).map_err(|e| format!("cannot draw: {e}"))?;
        if svg.len() <= SVG_BYTES_MAX {
            break;
        }
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDED: &str = "w;main;a::b 30\nw;main;c 70\n";

    #[test]
    fn hashes_of_symbols_are_no_difference() {
        assert_eq!(plain("w;a::b::h0123456789abcdef;c 7"), "w;a::b;c 7");
        assert_eq!(plain("w;a::b::h0123456789abcdef 7"), "w;a::b 7");
        assert_eq!(plain("w;a::hello;[unknown] 7"), "w;a::hello;[unknown] 7");
        assert_eq!(total(FOLDED), 100);
        assert_eq!(in_us("w;a b 7000").as_deref(), Some("w;a b 7"));
        assert_eq!(in_us("w;a b 7"), None);
    }

    #[test]
    fn stacks_are_drawn_kept_and_compared_with_the_last() {
        let folder = std::env::temp_dir().join(format!("roadtrip-flame-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let scenario = &super::super::scenario::ALL[0];
        draw(&folder, scenario, FOLDED).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        assert!(read("live.svg").unwrap().contains("s of CPU time"));
        assert!(read("live.diff.svg").is_err(), "there is nothing to compare with");
        draw(&folder, scenario, "w;main;a::b 90\nw;main;c 10\n").unwrap();
        assert!(read("live.diff.svg").unwrap().contains("a::b"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! `check`: does this host (or container) serve roadtrip-api well? Reads, judges, names the remedy; changes nothing.

mod cgroup;
mod judge;

use serde::Serialize;

/// Check the host's settings that matter to roadtrip-api; changes nothing
///
/// Prints each setting as ok or warn, with why it matters and the command that would change it. Limits are those of
/// this process: run it as the user and in the container that the service runs in. Exit code 1 where there is a warning.
#[derive(clap::Args)]
#[command(after_help = "Example: roadtrip-tuning check --connections 50000 --json")]
pub(crate) struct Args {
    /// Connections that one pod is to hold
    #[arg(long, default_value_t = 8000)]
    connections: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One setting, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Its name, as the kernel has it.
    setting: &'static str,
    /// What it is now; `not readable` where the kernel does not say.
    value: String,
    /// False is a warning.
    ok: bool,
    /// Why it matters, or what is wrong.
    why: String,
    /// The command that changes it; `None` where all is well.
    remedy: Option<String>,
}

impl Finding {
    fn ok(setting: &'static str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            setting,
            value: value.into(),
            ok: true,
            why: why.into(),
            remedy: None,
        }
    }

    fn warn(
        setting: &'static str,
        value: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            setting,
            value: value.into(),
            ok: false,
            why: why.into(),
            remedy: Some(remedy.into()),
        }
    }
}

/// Reads a file of /proc or /sys by its path; `None` where it is absent or not readable. Tests give a table instead.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Runs the subcommand: true where nothing warns.
pub(crate) fn run(args: &Args) -> Result<bool, String> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let findings = judge::all(&read, args.connections);
    if args.json {
        println!(
            "{}",
            sonic_rs::to_string_pretty(&findings).map_err(|e| format!("cannot write JSON: {e}"))?
        );
    } else {
        println!("{}", text(&findings));
    }
    Ok(findings.iter().all(|f| f.ok))
}

fn text(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for f in findings {
        lines.push(format!(
            "{:<4}  {:<32} {}",
            if f.ok { "ok" } else { "warn" },
            f.setting,
            f.value
        ));
        lines.push(format!("        {}", f.why));
        if let Some(remedy) = &f.remedy {
            lines.push(format!("        change it: {remedy}"));
        }
    }
    let warnings = findings.iter().filter(|f| !f.ok).count();
    lines.push(format!("{} settings read, {warnings} to warn of", findings.len()));
    lines.join("\n")
}

//! Many runs of one test.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.trim().parse().ok()
}

/// Runs `test` with the seeds 0 to `count`. Where one panics, says which and how to run it alone:
///
/// - `SIM_SEED=n` runs seed n only;
/// - `SIM_SEEDS=n` runs n seeds.
pub fn run_seeds(name: &str, count: u64, test: impl Fn(u64)) {
    let seeds = match from_env("SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 0..=from_env("SIM_SEEDS").unwrap_or(count).saturating_sub(1),
    };
    for seed in seeds {
        // Nothing of the run outlives the unwinding: the panic goes on below.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("{name}: failed with seed={seed}; again with: SIM_SEED={seed} cargo test {name}");
            resume_unwind(panic);
        }
    }
}

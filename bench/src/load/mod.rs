use std::process::ExitCode;
/// x
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_args: &Args) -> Result<ExitCode, String> { Ok(ExitCode::SUCCESS) }

//! The `lameduck` binary: parse, dispatch, exit code.

use std::process::ExitCode;

use lameduck::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(Cli::run_command_line())
}

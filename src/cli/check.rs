//! `lameduck check`: is this configuration good?

use std::io::Write;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;

use crate::config::{Flags, resolve};

/// Options of `lameduck check`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CheckArgs {
    /// The configuration [default: ./lameduck.toml, then /etc/lameduck/lameduck.toml]
    #[arg(short, long, value_name = "FILE", env = "LAMEDUCK_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print every effective value, as a configuration that means the same
    #[arg(long, env = "LAMEDUCK_PRINT", value_parser = FalseyValueParser::new())]
    pub print: bool,
    /// Colours in messages; set by whoever knows what `err` is.
    #[arg(skip)]
    pub colour: bool,
}

/// Checks a configuration; returns the exit code.
pub fn run(args: CheckArgs, out: &mut impl Write, err: &mut impl Write) -> u8 {
    match resolve(args.config.as_deref(), Flags::default()) {
        Ok(loaded) => {
            if args.print {
                let _ = write!(out, "{}", crate::config::print::print(&loaded.config));
            }
            0
        }
        Err(error) => {
            let _ = write!(err, "{}", error.render(args.colour));
            1
        }
    }
}

//! The command line: one file for each subcommand, no logic that the library lacks.

pub mod check;

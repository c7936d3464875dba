//! `lameduck completions`: scripts with which shells complete lameduck's commands.

use clap_complete::Shell;

use super::exit::Exit;
use crate::rt::output::AnswerWriter;

/// Options of `lameduck completions`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompletionsArgs {
    /// The shell that is to read it
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Writes the shell's script to standard output.
///
/// # Errors
/// When it can't be written.
pub fn run_completions(args: &CompletionsArgs) -> Result<(), Exit> {
    Exit::answered(std::io::Write::write_all(
        &mut AnswerWriter,
        &script(args.shell),
    ))
}

fn script(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::shown_commands(), "lameduck", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn script_of_each_shell_has_every_command_that_help_shows_and_no_hidden_one() {
        let commands = super::super::shown_commands();
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for command in commands.get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {command}");
            }
            // Fish writes options without their dashes.
            assert!(script.contains("drain-timeout"), "{shell}");
            for hidden in ["demo-app", crate::tools::stand_in::STAND_IN] {
                assert!(!script.contains(hidden), "{shell}: {hidden}");
            }
        }
    }
}

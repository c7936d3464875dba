//! The command line: one file per subcommand, and no logic that the library lacks.
//!
//! [`exit`] has the exit codes, [`fleet`] asks several proxies at once, [`client`](crate::client) calls a running
//! proxy's admin API and parses arguments, and [`output`] prints. Commands that call the proxy run on a single-threaded
//! runtime.

pub mod changes;
pub mod check;
pub mod completions;
pub mod copy;
pub mod demo;
pub mod deregister;
pub mod doctor;
pub mod drain;
pub mod exec;
pub mod exit;
pub mod fleet;
pub mod health;
pub mod import;
pub mod man;
pub mod pause;
pub mod register;
pub mod reload;
pub mod report;
pub mod resume;
pub mod roll;
pub mod run;
pub mod split;
pub mod status;
mod supervised;
pub mod top;
pub mod upgrade;
pub mod verify;

use clap::{CommandFactory, Parser, Subcommand};

use crate::rt::output::{self, AnswerWriter, ErrorWriter};
use exit::Exit;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "lameduck",
    version,
    about = "A reverse proxy whose rolling restarts cost no request",
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 a deadline or --wait ran out, 4 the backend died \
                  while draining, 5 the proxy can't be reached, 6 a plan went back, 7 a report has what it must not \
                  have or differs from the log, 130 interrupted.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the proxy
    Run(run::RunArgs),
    /// Validate a configuration
    Check(check::CheckArgs),
    /// Show pools and backends
    Status(status::StatusArgs),
    /// Watch pools, backends, drains and restarts in the terminal
    Top(top::TopArgs),
    /// Exit 0 if a backend is ready, or draining in good order
    Health(health::HealthArgs),
    /// Show what has changed lately: by reloads, discovery, the API and launchers
    Changes(changes::ChangesArgs),
    /// Show what the last restarts were, and what they have cost
    Report(report::ReportArgs),
    /// Recompute a restart report from access logs
    Verify(verify::VerifyArgs),
    /// Take a backend out and wait until nothing is in flight on it
    Drain(drain::DrainArgs),
    /// Hold what comes to a pool, or answer it with a page
    Pause(pause::PauseArgs),
    /// Lift a drain, or end a pause
    Resume(resume::ResumeArgs),
    /// Move the weights of a route that several pools answer
    Split(split::SplitArgs),
    /// Add a backend that runs already, or move one to another address
    Register(register::RegisterArgs),
    /// Drain a registered backend, then remove it
    Deregister(deregister::DeregisterArgs),
    /// Restart the backends of a pool one after the other, without losing a request
    Roll(roll::RollArgs),
    /// Run an app so that it is drained before it is stopped
    Exec(exec::ExecArgs),
    /// Make the proxy read its configuration again
    Reload(reload::ReloadArgs),
    /// Have another lameduck take over from the running one, without losing a connection
    Upgrade(upgrade::UpgradeArgs),
    /// Say what in a supervisor's configuration will cut requests
    Doctor(doctor::DoctorArgs),
    /// Read another proxy's configuration and write lameduck's
    Import(import::ImportArgs),
    /// Print what a shell needs to complete lameduck's commands
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
    /// Copy this binary to where an app's container can run it
    Copy(copy::CopyArgs),
    /// Show it all at work: a demo app, restarted under load
    Demo(demo::DemoArgs),
    /// The app of the demo
    #[command(hide = true)]
    DemoApp(crate::tools::demo::app::DemoAppArgs),
    /// What is left of a process that has handed over to another one
    #[command(hide = true, name = crate::tools::stand_in::STAND_IN)]
    StandIn {
        /// The process that serves
        pid: u32,
    },
}

impl Cli {
    /// Runs the command that the process's arguments name; returns the exit code.
    pub fn run_command_line() -> u8 {
        output::take_panics();
        output::finish(Self::run_words())
    }

    fn run_words() -> u8 {
        // A launcher runs for as long as its app, so it is started without the memory that other commands need.
        match std::env::args_os().nth(1) {
            Some(word) if word == "exec" => exec::run_words(std::env::args_os().skip(1)),
            _ => match Self::try_parse() {
                Ok(line) => line.dispatch(),
                Err(error) => exit::explain(&error),
            },
        }
    }

    /// Runs the command; returns the exit code.
    pub fn dispatch(self) -> u8 {
        match self.command {
            CliCommand::Run(args) => run::run_server(args),
            CliCommand::Check(args) => check(args),
            CliCommand::Status(args) => block_on(status::run_status(args)),
            CliCommand::Top(args) => block_on(top::run_top(args)),
            CliCommand::Health(args) => block_on(health::run_health(args)),
            CliCommand::Changes(args) => block_on(changes::run_changes(args)),
            CliCommand::Report(args) => block_on(report::run_report(args)),
            CliCommand::Verify(args) => verify::run_verify(&args),
            CliCommand::Drain(args) => block_on(drain::run_drain(args)),
            CliCommand::Pause(args) => block_on(pause::run_pause(args)),
            CliCommand::Resume(args) => block_on(resume::run_resume(args)),
            CliCommand::Split(args) => block_on(split::run_split(args)),
            CliCommand::Register(args) => block_on(register::run_register(args)),
            CliCommand::Deregister(args) => block_on(deregister::run_deregister(args)),
            CliCommand::Roll(args) => block_on(roll::run_roll(args)),
            CliCommand::Exec(args) => exec::run_exec(args, false),
            CliCommand::Reload(args) => block_on(reload::run_reload(args)),
            CliCommand::Upgrade(args) => block_on(upgrade::run_upgrade(args)),
            CliCommand::StandIn { pid } => stand_in(pid),
            CliCommand::Doctor(args) => doctor(args),
            CliCommand::Import(args) => {
                import::run_import(args, &mut AnswerWriter, &mut ErrorWriter)
            }
            CliCommand::Completions(args) => ended(completions::run_completions(&args)),
            CliCommand::Man(args) => ended(man::run_man(&args)),
            CliCommand::Copy(args) => ended(copy::run_copy(&args)),
            CliCommand::Demo(args) => demo::run_demo(args),
            CliCommand::DemoApp(args) => crate::tools::demo::app::run_demo_app(args),
        }
    }
}

/// The command line as the help shows it: without commands that only lameduck itself calls.
fn shown_commands() -> clap::Command {
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|one| !one.is_hide_set());
    let mut commands = clap::Command::new("lameduck")
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments())
        .subcommands(shown.cloned());
    if let Some(about) = whole.get_about() {
        commands = commands.about(about.clone());
    }
    commands
}

fn ended(end: Result<(), Exit>) -> u8 {
    match end {
        Ok(()) => 0,
        Err(exit) => exit.report(),
    }
}

fn check(mut args: check::CheckArgs) -> u8 {
    args.colour = output::error_colour();
    check::run_check(args, &mut AnswerWriter, &mut ErrorWriter)
}

fn doctor(mut args: doctor::DoctorArgs) -> u8 {
    args.colour = output::colour();
    doctor::run_doctor(args, &mut AnswerWriter, &mut ErrorWriter)
}

fn stand_in(pid: u32) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.and_then(|runtime| runtime.block_on(crate::tools::stand_in::stand_in(pid)));
    ended.unwrap_or_else(|error| {
        output::complain(&format!("stand-in: {error}"));
        1
    })
}

fn block_on(command: impl Future<Output = Result<(), Exit>>) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(command);
            // Tasks that wait for a stopped reader are abandoned at the end of the process.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Exit::failed(format!(
            "can't start: {error}; the system may be out of descriptors (`ulimit -n`)"
        ))),
    };
    self::ended(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_variable_and_every_argument_a_help_text() {
        for command in Cli::command().get_subcommands() {
            if command.is_hide_set() {
                continue;
            }
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let place = format!("{} {}", command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some(), "{place} has no help");
                if argument.get_long().is_some_and(|long| long != "help") {
                    let variable = argument.get_env().unwrap_or_default().to_string_lossy();
                    assert!(variable.starts_with("LAMEDUCK_"), "{place} has no variable");
                }
            }
        }
    }

    #[test]
    fn documented_command_lines_parse() {
        for line in [
            "lameduck status",
            "lameduck status app --watch --json",
            "lameduck top",
            "lameduck top app --admin /tmp/a --admin /tmp/b",
            "lameduck changes",
            "lameduck changes --json --last 10",
            "lameduck report --last --json --fail-on lost,cut",
            "lameduck report --since 1h --html --output report.html",
            "lameduck report --roll roll-17 --markdown",
            "lameduck verify report.json --log access.log access.log.1.gz --json",
            "lameduck health app",
            "lameduck health app/app-1",
            "lameduck drain app/app-1 --timeout 30s --until restarted --expires 10m --no-wait --reason x --lame-duck 8s",
            "lameduck drain app/app-1~2 --admin /tmp/sock",
            "lameduck pause app --for 5m --reason x",
            "lameduck pause app --page sorry.html --status 503 --type text/html",
            "lameduck resume app",
            "lameduck split shop-api",
            "lameduck split shop-api api=50 api-next=50 --json",
            "lameduck split shop-api --reset",
            "lameduck split",
            "lameduck split --json",
            "lameduck split shop-api api-next --to 100 --in 10m",
            "lameduck split shop-api api-next --to 12.5 --in 10m --steps 5 --abort-on 5xx>1% --abort-on p99>2x --detach",
            "lameduck split shop-api api-next --to 0 --in 10m --every 1m --min-requests 100 --json",
            "lameduck split shop-api --wait",
            "lameduck split shop-api --stop",
            "lameduck split shop-api --back --json",
            "lameduck resume app/app-1 --all --wait 30s",
            "lameduck resume app/app-1 --actor supervisor --wait-ready",
            "lameduck drain app/app-1 --actor supervisor --until restarted",
            "lameduck register app/app-1 127.0.0.1:3001 --weight 2 --wait 30s",
            "lameduck deregister app/app-1 --timeout 30s",
            "lameduck exec --pool app --name api-0 --port auto --port-env PORT --drain-timeout 70s --lame-duck 5s -- node app.js --port 1",
            "lameduck exec --no-port -- worker",
            "lameduck reload --admin http://127.0.0.1:9901 --token-file /tmp/token",
            "lameduck roll app --max-unavailable 2 --dry-run -- systemctl restart api@{name} -v",
            "lameduck doctor oxfile.toml --strict -c x.toml --app-stop 10s --json",
            "lameduck import nginx /etc/nginx/nginx.conf -o lameduck.toml --prefix /etc/nginx",
            "lameduck copy /shared/lameduck",
            "lameduck completions bash",
            "lameduck man /usr/share/man/man1",
            "lameduck demo",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn usage_errors_are_2_and_show_an_example() {
        for (line, says) in [
            ("lameduck drain app/", "app/app-1"),
            ("lameduck changes --last 0", "0 is not in"),
            ("lameduck drain app/a --timeout soon", "30s"),
            ("lameduck drain app/a --until never", "restarted"),
            ("lameduck pause app/app-1", "write POOL"),
            ("lameduck pause app --status 503", "--page"),
            ("lameduck split shop =5", "api-next=5"),
            ("lameduck split shop api --to 100", "--in"),
            ("lameduck split shop api --in 10m", "--to"),
            ("lameduck split --to 100 --in 10m", "<ROUTE>"),
            ("lameduck split shop api --to 101 --in 10m", "0 to 100"),
            ("lameduck split shop api --to 1 --in soon", "30s"),
            (
                "lameduck split shop api --to 1 --in 1m --abort-on 5xx>1",
                "a share ends with %",
            ),
            (
                "lameduck split shop api --to 1 --in 1m --steps 5 --every 1s",
                "--every",
            ),
            (
                "lameduck split shop api --to 1 --in 1m --steps 101",
                "101 is not in",
            ),
            ("lameduck split shop --stop --back", "--back"),
            ("lameduck split shop --detach", "--to"),
            ("lameduck split shop api=1000001", "1000000"),
            ("lameduck split shop api=1 --reset", "--reset"),
            ("lameduck pause app --for ever", "30s"),
            (
                "lameduck register app/a 127.0.0.1:1 --weight 1001",
                "1001 is not in",
            ),
            ("lameduck register app/a", "<ADDRESS>"),
            ("lameduck status --admin ftp://x", "http://127.0.0.1:9901"),
            ("lameduck roll app", "<CMD>"),
            ("lameduck completions sh", "zsh"),
            ("lameduck roll app --max-unavailable 0 -- x", "0 is not in"),
            ("lameduck exec -- app", "--pool"),
            ("lameduck exec --pool app", "<CMD>"),
            ("lameduck exec --pool app --port 0 -- app", "auto"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn help_names_what_exists_and_nothing_else() {
        let help = Cli::command().render_help().to_string();
        for there in [
            "run", "check", "status", "health", "drain", "resume", "roll", "exec", "reload",
            "doctor",
        ] {
            assert!(help.contains(&format!("\n  {there} ")), "{help}");
        }
        assert!(!help.contains("\n  demo-app"), "{help}");
    }

    #[test]
    fn every_exit_code_is_in_the_help_and_in_the_docs() {
        let help = Cli::command().get_after_help().unwrap().to_string();
        let docs = include_str!("../../docs/cli.md");
        for (code, meaning) in exit::CODES {
            assert!(help.contains(&format!("{code} ")), "{code}: {help}");
            let row = format!("| {code} | {meaning} |");
            assert!(docs.contains(&row), "no `{row}`");
        }
    }

    #[test]
    fn the_docs_have_every_command_and_option() {
        let docs = include_str!("../../docs/cli.md");
        for command in Cli::command().get_subcommands() {
            if command.is_hide_set() || command.get_name() == "demo" {
                continue;
            }
            let name = command.get_name();
            assert!(docs.contains(&format!("lameduck {name}")), "{name}");
            let shown = command
                .get_arguments()
                .filter(|option| !option.is_hide_set());
            for long in shown.filter_map(clap::Arg::get_long) {
                assert!(docs.contains(&format!("--{long}")), "{name} --{long}");
            }
        }
    }

    #[test]
    fn the_doctor_knows_which_options_take_no_value() {
        use crate::tools::doctor::FLAGS;
        let cli = Cli::command();
        let mut seen = std::collections::BTreeSet::new();
        for name in ["exec", "drain", "resume", "register", "deregister"] {
            let command = cli.find_subcommand(name).unwrap();
            for option in command.get_arguments() {
                let Some(long) = option.get_long() else {
                    continue;
                };
                let flag = !option.get_action().takes_values();
                assert_eq!(flag, FLAGS.contains(&long), "{name} --{long}");
                // Variables must be known, too.
                let variable = option.get_env().unwrap().to_str().unwrap();
                let named = long.to_uppercase().replace('-', "_");
                assert_eq!(variable, format!("LAMEDUCK_{named}"));
                seen.extend(flag.then_some(long));
            }
        }
        assert_eq!(seen, FLAGS.into());
    }
}

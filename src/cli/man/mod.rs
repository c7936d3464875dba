//! `lameduck man`: a manual page for each command, and one for the configuration file.
//!
//! `commands` makes the pages of commands from the parser's definition, `configuration` the page of the configuration
//! file from the declared keys, and `prose` converts their Markdown to roff.

mod commands;
mod configuration;
mod prose;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::exit::Exit;
use crate::rt::output;

/// Options of `lameduck man`.
#[derive(Debug, Clone, clap::Args)]
pub struct ManArgs {
    /// The directory that the pages are written to; it is made if it is not there
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// One manual page.
struct ManualPage {
    /// File name, such as `lameduck-run.1`.
    name: String,
    /// Text in roff.
    text: Vec<u8>,
}

/// Writes all pages.
///
/// # Errors
/// The directory or a page can't be written.
pub fn run_man(args: &ManArgs) -> Result<(), Exit> {
    let pages = pages(&date_of_pages());
    write(&pages, &args.dir).map_err(|error| {
        let dir = args.dir.display();
        Exit::failed(format!(
            "can't write manual pages to {dir}: {error}; name a directory that this user may write to"
        ))
    })?;
    let (count, dir) = (
        output::count(pages.len() as u64, "page"),
        args.dir.display(),
    );
    Exit::answered(output::answer(&format!(
        "{count} in {dir}: read one with `man -l {dir}/lameduck.1`\n"
    )))
}

fn write(pages: &[ManualPage], dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for page in pages {
        std::fs::write(dir.join(&page.name), &page.text)?;
    }
    Ok(())
}

fn pages(date: &str) -> Vec<ManualPage> {
    let mut pages = commands::pages(date);
    pages.push(configuration::page(date));
    pages
}

/// Date in the pages' footers: that of `SOURCE_DATE_EPOCH`, so that packages are reproducible, or else today.
fn date_of_pages() -> String {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    let epoch = epoch.and_then(|seconds| seconds.parse().ok());
    let time = epoch.map_or_else(SystemTime::now, |seconds| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    });
    let whole = humantime::format_rfc3339_seconds(time).to_string();
    whole.chars().take("2026-01-01".len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        let pages = pages("2026-01-01");
        let page = pages.into_iter().find(|page| page.name == name);
        String::from_utf8(page.unwrap_or_else(|| panic!("no {name}")).text).unwrap()
    }

    #[test]
    fn each_command_that_help_shows_has_a_page_that_the_first_page_names() {
        let names: Vec<_> = pages("2026-01-01")
            .into_iter()
            .map(|page| page.name)
            .collect();
        let first = text("lameduck.1");
        for command in super::super::shown_commands().get_subcommands() {
            let name = format!("lameduck-{}", command.get_name());
            assert!(names.contains(&format!("{name}.1")), "{names:?}");
            assert!(first.contains(&name.replace('-', "\\-")), "{name}: {first}");
        }
        assert!(names.contains(&"lameduck-import-nginx.1".to_owned()));
        assert!(!names.iter().any(|name| name.contains("demo-app")));
    }

    #[test]
    fn every_page_of_a_command_has_exit_codes_environment_and_see_also() {
        for page in pages("2026-01-01") {
            let text = String::from_utf8(page.text).unwrap();
            for heading in [".SH NAME", "EXIT STATUS", ".SH FILES", "SEE ALSO"] {
                assert!(
                    text.contains(heading) || page.name.ends_with(".5"),
                    "{}: {heading}",
                    page.name
                );
            }
            assert!(
                !text.contains("]("),
                "{}: a link is left as Markdown",
                page.name
            );
        }
    }

    #[test]
    fn page_of_the_file_has_every_declared_key() {
        let page = text("lameduck.toml.5");
        for section in &crate::config::schema::SECTIONS[1..] {
            assert!(page.contains(section.header), "{}", section.header);
            for key in section.keys {
                let name = key.name.replace('-', "\\-");
                assert!(page.contains(&format!("\\fB{name}\\fR")), "{}", key.name);
            }
        }
    }

    #[test]
    fn pages_of_a_directory_that_cannot_be_made_are_refused_with_its_name() {
        let dir = "/dev/null/pages".into();
        let exit = run_man(&ManArgs { dir }).unwrap_err();
        assert_eq!(exit.code, 1);
        assert!(exit.message.contains("/dev/null/pages"), "{exit:?}");
    }
}

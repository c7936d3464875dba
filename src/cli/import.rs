//! `lameduck import`: converts the configurations of other proxies.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config;
use crate::rt::output::{answered, count};
use crate::tools::import::ingress::import_ingress;
use crate::tools::import::nginx::import_nginx;
use crate::tools::import::notice::NoticeKind;

/// Options of `lameduck import`.
#[derive(Debug, Clone, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct ImportArgs {
    #[command(subcommand)]
    source: ImportSource,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum ImportSource {
    /// Read nginx's configuration with its includes
    Nginx(ImportNginxArgs),
    /// Read Kubernetes' Ingress objects with ingress-nginx's annotations
    Ingress(ImportIngressArgs),
}

/// Options of `lameduck import nginx`.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportNginxArgs {
    /// nginx.conf, or a file of sites-enabled
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to write lameduck's configuration [default: standard output]
    #[arg(short, long, value_name = "OUT", env = "LAMEDUCK_OUTPUT")]
    pub output: Option<PathBuf>,
    /// The directory that names of includes are relative to [default: FILE's]
    #[arg(long, value_name = "DIR", env = "LAMEDUCK_PREFIX")]
    pub prefix: Option<PathBuf>,
}

/// Options of `lameduck import ingress`.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportIngressArgs {
    /// A file of Ingress objects, as `kubectl get ingress -A -o yaml` writes them
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to write lameduck's configuration [default: standard output]
    #[arg(short, long, value_name = "OUT", env = "LAMEDUCK_OUTPUT")]
    pub output: Option<PathBuf>,
}

/// Imports. The configuration goes to `out` or the named file, remarks about it go to `err`.
///
/// Returns the exit code: 0 if everything was converted, 3 if something was left out, 1 if a file can't be read or
/// written.
pub fn run_import(args: ImportArgs, out: &mut impl Write, err: &mut impl Write) -> u8 {
    let (file, output, imported) = match args.source {
        ImportSource::Nginx(args) => {
            let imported = import_nginx(&args.file, args.prefix.as_deref());
            let imported = imported.map_err(|error| error.to_string());
            (args.file, args.output, imported)
        }
        ImportSource::Ingress(args) => {
            let imported = import_ingress(&args.file).map_err(|error| error.to_string());
            (args.file, args.output, imported)
        }
    };
    let imported = match imported {
        Ok(imported) => imported,
        Err(error) => {
            let _ = writeln!(err, "error: {error}");
            return 1;
        }
    };
    if let Err(error) = config::parse("lameduck.toml", &imported.toml) {
        let _ = writeln!(
            err,
            "{}error: lameduck does not accept what it made of {}; correct it by hand, and please report this",
            error.render(false),
            file.display()
        );
        let _ = write(output.as_deref(), &imported.toml, out);
        return 1;
    }
    let mut left_out = 0;
    for notice in &imported.notices {
        let severity = match notice.kind {
            NoticeKind::LeftOut => "warning",
            NoticeKind::Differs => "note",
        };
        left_out += u64::from(notice.kind == NoticeKind::LeftOut);
        let _ = writeln!(err, "{severity}: {notice}");
    }
    if let Err(why) = write(output.as_deref(), &imported.toml, out) {
        let _ = writeln!(err, "error: {why}");
        return 1;
    }
    if left_out > 0 {
        let _ = writeln!(
            err,
            "{} left out; each stands as a comment at its place",
            count(left_out, "thing")
        );
        return 3;
    }
    0
}

fn write(path: Option<&Path>, text: &str, out: &mut impl Write) -> Result<(), String> {
    match path {
        None => answered(out.write_all(text.as_bytes()).and_then(|()| out.flush())),
        Some(path) => std::fs::write(path, text).map_err(|error| {
            format!(
                "can't write {}: {error}; name a file that this user may write",
                path.display()
            )
        }),
    }
}

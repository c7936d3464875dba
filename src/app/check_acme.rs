//! What `[listener.acme]` needs of the machine: a build that can, and a file with the authority's own authority.

use crate::config::{AcmeConfig, ConfigFindings};
use crate::tls::pem;

/// Checks it.
pub(super) fn check(at: &str, acme: &AcmeConfig, f: &mut ConfigFindings) {
    if !cfg!(feature = "acme") {
        f.error(
            f.place(at),
            "[listener.acme]: this lameduck was built without the feature `acme`",
            "build it with `--features acme`, or let an ACME client (certbot, lego) write the files of `tls`",
        );
        return;
    }
    let key = format!("{at}.ca");
    let Some(file) = acme.ca.as_deref().filter(|_| f.sound(&[&key])) else {
        return;
    };
    let read = pem::read(file).and_then(|text| pem::certificates(file, &text));
    if let Err(problem) = read {
        let message = format!("`ca`: {}: {}", problem.file.display(), problem.why);
        f.error(f.place(&key), message, problem.remedy);
    }
}

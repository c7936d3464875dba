//! Checks what `[listener.acme]` needs: a build with the feature, and the CA file for the ACME server, if configured.

use crate::config::{AcmeConfig, ConfigFindings};
use crate::tls::pem;

/// Checks one `[listener.acme]` section.
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

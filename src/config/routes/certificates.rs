//! Requirements of a route on its clients' certificates, as written in the file.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::guards::unknown_key;
use crate::config::forms::{KeyContext, SpannedProblems, ValueForm};
use crate::config::print;
use crate::config::reader::{ValueError, describe};
use crate::config::values::{ValueResult, quoted, text, wrong};

/// Requirements of a route on its clients' certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CertificateDemand {
    /// The subject, as in `X-Client-Cert-Subject`. `None`: any.
    pub subject: Option<String>,
    /// Permitted alternative names, as in `X-Client-Cert-San`, of which the certificate must have one. Empty: any.
    pub san: Vec<String>,
}

/// Form of `"off"`, `"required"`, or `{ subject = "CN=…", san = ["DNS:…"] }`.
pub(in crate::config) struct CertificateForm;

/// Example for advice.
const CERTIFICATE_EXAMPLE: &str =
    "write `client_certificate = \"required\"`, or `{ subject = \"CN=…\", san = [\"DNS:…\"] }`";

/// The kinds of alternative names.
const SAN_KINDS: [&str; 4] = ["DNS:", "URI:", "IP:", "email:"];

impl ValueForm<Option<CertificateDemand>> for CertificateForm {
    fn name(&self) -> String {
        "\"off\", \"required\", or table".into()
    }

    fn read(
        &self,
        key: &KeyContext<'_>,
        value: &DeValue<'_>,
    ) -> ValueResult<Option<CertificateDemand>> {
        match text(key.name, value, "required")? {
            "off" => Ok(None),
            "required" => Ok(Some(CertificateDemand::default())),
            "optional" => Err(wrong(
                key.name,
                "\"optional\"",
                "a route that takes requests without a certificate asks for nothing",
                "leave it out, or write \"required\"",
            )),
            other => Err(wrong(
                key.name,
                quoted(other),
                "it is neither \"off\" nor \"required\"",
                CERTIFICATE_EXAMPLE,
            )),
        }
    }

    fn print(&self, demand: &Option<CertificateDemand>) -> String {
        let Some(CertificateDemand { subject, san }) = demand else {
            return print::text("off");
        };
        let mut parts = Vec::new();
        if let Some(subject) = subject {
            parts.push(format!("subject = {}", print::text(subject)));
        }
        if !san.is_empty() {
            let names = print::texts_of(san.iter().map(|name| print::text(name)));
            parts.push(format!("san = {names}"));
        }
        match parts.is_empty() {
            true => print::text("required"),
            false => format!("{{ {} }}", parts.join(", ")),
        }
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Option<CertificateDemand>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let before = problems.len();
        let mut demand = CertificateDemand::default();
        for (name, value) in table {
            match &**name.get_ref() {
                "subject" => match read_subject(value.get_ref()) {
                    Ok(subject) => demand.subject = Some(subject),
                    Err(problem) => problems.push((value.span(), problem)),
                },
                "san" => read_names(value, &mut demand.san, problems),
                other => problems.push((
                    name.span(),
                    unknown_key(key.name, other, "`subject` and `san` are its keys"),
                )),
            }
        }
        if problems.len() == before && demand == CertificateDemand::default() {
            let problem = ValueError::new(
                format!("`{}` is an empty table", key.name),
                CERTIFICATE_EXAMPLE,
            );
            problems.push((value.span(), problem));
        }
        (problems.len() == before).then_some(Some(demand))
    }
}

fn read_subject(value: &DeValue<'_>) -> ValueResult<String> {
    let subject = text("subject", value, "CN=admin,O=Example")?;
    let is_one = subject.contains('=') && subject.bytes().all(|b| matches!(b, b' '..=b'~'));
    match is_one {
        true => Ok(subject.into()),
        false => Err(wrong(
            "subject",
            quoted(subject),
            "it is no subject as X-Client-Cert-Subject tells it",
            "write it as RFC 4514 has it, such as \"CN=admin,O=Example\"",
        )),
    }
}

fn read_names(
    value: &Spanned<DeValue<'_>>,
    names: &mut Vec<String>,
    problems: &mut Vec<(Range<usize>, ValueError)>,
) {
    let remedy = "write `san = [\"DNS:client.example.org\"]`; kinds are DNS, URI, IP and email";
    let DeValue::Array(items) = value.get_ref() else {
        let message = format!("`san` is {}, but must be a list", describe(value.get_ref()));
        problems.push((value.span(), ValueError::new(message, remedy)));
        return;
    };
    if items.is_empty() {
        let message = "`san` is empty: no certificate would do";
        problems.push((value.span(), ValueError::new(message, remedy)));
    }
    for item in items.iter() {
        match text("san", item.get_ref(), "DNS:client.example.org") {
            Ok(name)
                if SAN_KINDS
                    .iter()
                    .any(|kind| name.len() > kind.len() && name.starts_with(kind))
                    && name.bytes().all(|b| matches!(b, b'!'..=b'~')) =>
            {
                names.push(name.into());
            }
            Ok(name) => {
                let message = format!(
                    "`san` has {}: it is no name as X-Client-Cert-San tells it",
                    quoted(name)
                );
                problems.push((item.span(), ValueError::new(message, remedy)));
            }
            Err(problem) => problems.push((item.span(), problem)),
        }
    }
}

//! The format of an error response: a configured or built-in page for browsers, a problem document (RFC 9457) for
//! clients that ask for JSON, a line of text for all others.

use crate::config::ErrorPage;
use crate::core::preference::weigh_type;
use crate::proxy::error_response::{reason_phrase, write_local_response};
use crate::proxy::files::head::media_type;
use crate::proxy::h1::request::RequestHead;
use crate::rt::html::EscapedHtml;

/// The format of an error response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm<'a> {
    /// A line of text.
    Text,
    /// A problem document.
    Problem,
    /// The built-in page.
    BuiltInPage,
    /// A configured page.
    Page(&'a ErrorPage),
}

/// The content of an error response.
#[derive(Debug, Clone, Copy)]
pub struct ToldError<'a> {
    /// The status.
    pub status: u16,
    /// The cause for people, in one line. Empty: only the status is known.
    pub detail: &'a str,
    /// The request id.
    pub request_id: &'a str,
    /// Whether to send `Connection: close`.
    pub close: bool,
    /// Whether to send the head without a body.
    pub head_only: bool,
    /// Number of seconds after which a retry is worthwhile (`Retry-After`).
    pub retry_after: Option<u32>,
}

/// Chooses the format by what the client accepts.
///
/// A client that names `text/html` or a JSON type gets that; if it names both, the one with the higher weight. A
/// client that accepts anything, or sends no `Accept`, gets a configured page, or otherwise the line of text: it is a
/// script, or a person with a command line.
pub fn choose_form<'a>(
    buffer: &[u8],
    head: &RequestHead,
    page: Option<&'a ErrorPage>,
) -> ErrorForm<'a> {
    // A client that wants to switch protocols displays no pages.
    if head.upgrade.is_some() {
        return ErrorForm::Text;
    }
    let mut accepts = head.fields.iter();
    let accepts = accepts.find(|field| field.name.of(buffer).eq_ignore_ascii_case(b"accept"));
    let accepted = accepts.map_or(&b"*/*"[..], |field| field.value.of(buffer));
    let weigh = |name| weigh_type(accepted, name).filter(|(weight, _)| *weight > 0);
    let html = weigh("text/html");
    let problem = weigh("application/problem+json").max(weigh("application/json"));
    let is_named = |weight: Option<(u16, u8)>| weight.filter(|(_, exactness)| *exactness > 0);
    let page_form = page.map_or(ErrorForm::BuiltInPage, ErrorForm::Page);
    match (is_named(html), is_named(problem)) {
        (Some(html), Some(problem)) if problem.0 > html.0 => ErrorForm::Problem,
        // `text/*` does not come from a browser.
        (Some((_, 1)), _) => page.map_or(ErrorForm::Text, ErrorForm::Page),
        (Some(_), _) => page_form,
        (None, Some(_)) => ErrorForm::Problem,
        (None, None) => match (page, html) {
            (Some(page), Some(_)) => ErrorForm::Page(page),
            _ => ErrorForm::Text,
        },
    }
}

/// Appends the complete response.
pub fn write_error(out: &mut Vec<u8>, told: &ToldError<'_>, form: ErrorForm<'_>) {
    match form {
        ErrorForm::Text => write_local_response(
            out,
            told.status,
            told.detail,
            told.close,
            told.head_only,
            told.retry_after,
        ),
        ErrorForm::Problem => {
            let content = problem_document(told);
            write_with(
                out,
                told,
                "application/problem+json",
                "",
                content.as_bytes(),
            );
        }
        ErrorForm::BuiltInPage => {
            let content = built_in_page(told);
            write_with(
                out,
                told,
                "text/html; charset=utf-8",
                POLICY,
                content.as_bytes(),
            );
        }
        ErrorForm::Page(page) => {
            let name = page.path.file_name().unwrap_or_default();
            let content_type = media_type(name.as_encoded_bytes());
            write_with(out, told, &content_type, "", &page.content);
        }
    }
}

/// The built-in page loads and runs nothing.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\n\
     X-Content-Type-Options: nosniff\r\n";

fn write_with(
    out: &mut Vec<u8>,
    told: &ToldError<'_>,
    content_type: &str,
    fields: &str,
    content: &[u8],
) {
    let mut number = itoa::Buffer::new();
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    let phrase = reason_phrase(told.status).as_bytes();
    put(&[
        b"HTTP/1.1 ",
        number.format(told.status).as_bytes(),
        b" ",
        phrase,
    ]);
    put(&[
        b"\r\nContent-Type: ",
        content_type.as_bytes(),
        b"\r\nCache-Control: no-store\r\nVary: Accept\r\n",
    ]);
    put(&[fields.as_bytes()]);
    put(&[
        b"Content-Length: ",
        number.format(content.len()).as_bytes(),
        b"\r\n",
    ]);
    if let Some(seconds) = told.retry_after {
        put(&[b"Retry-After: ", number.format(seconds).as_bytes(), b"\r\n"]);
    }
    if told.close {
        put(&[b"Connection: close\r\n"]);
    }
    put(&[b"\r\n"]);
    if !told.head_only {
        put(&[content]);
    }
}

/// Returns the problem document (RFC 9457). `about:blank`: the status says what kind of problem it is.
fn problem_document(told: &ToldError<'_>) -> String {
    let mut document = serde_json::json!({
        "type": "about:blank",
        "title": reason_phrase(told.status),
        "status": told.status,
        "request_id": told.request_id,
    });
    if !told.detail.is_empty() {
        document["detail"] = told.detail.into();
    }
    format!("{document}\n")
}

/// Returns advice for the person who sees an error of this class.
fn advice(status: u16) -> &'static str {
    match status {
        401 => "You have to sign in to see this.",
        403 => "You are not allowed to see this.",
        404 | 410 => {
            "There is nothing at this address. It may have moved, or the link may be mistaken."
        }
        429 => "Those were too many requests in a short time. Please wait a moment.",
        502..=504 => {
            "The site can't answer just now. It is not your fault; please try again in a moment."
        }
        500.. => "Something went wrong on our side. It is not your fault.",
        _ => "The site could not make sense of the request.",
    }
}

/// Returns the small built-in page, suitable for light and dark mode and for phones.
fn built_in_page(told: &ToldError<'_>) -> String {
    let phrase = reason_phrase(told.status);
    let mut page = String::with_capacity(1_800);
    let status = told.status;
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str("<meta name=\"robots\" content=\"noindex\">\n");
    page.push_str(&format!(
        "<title>{status} {phrase}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
    ));
    page.push_str(&format!(
        "<p class=\"status\">{status}</p>\n<h1>{phrase}</h1>\n<p>{}</p>\n",
        advice(status)
    ));
    if !told.detail.is_empty() {
        let detail = EscapedHtml(told.detail);
        page.push_str(&format!("<p class=\"detail\">{detail}</p>\n"));
    }
    if !told.request_id.is_empty() {
        let id = EscapedHtml(told.request_id);
        page.push_str(&format!("<p class=\"id\">Request <code>{id}</code></p>\n"));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

const STYLE: &str = ":root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--paper:#f6f7f9;--line:#d5dae1}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--soft:#9aa5b4;--paper:#14181e;--line:#303844}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--paper);color:var(--ink);\
font:1rem/1.55 system-ui,sans-serif}\
main{width:100%;max-width:32rem}\
.status{margin:0;font-size:3.5rem;line-height:1;font-weight:700;letter-spacing:-.03em;color:var(--soft)}\
h1{margin:.35rem 0 1rem;font-size:1.5rem;line-height:1.25}\
p{margin:0 0 1rem}\
.detail,.id{color:var(--soft);font-size:.875rem}\
.id{margin:1.5rem 0 0;padding-top:1rem;border-top:1px solid var(--line)}\
code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PageStatus;
    use crate::proxy::h1::request::{HeadLimits, HeadProgress};
    use std::sync::Arc;

    fn page() -> ErrorPage {
        ErrorPage {
            status: PageStatus::Class(5),
            path: "/x/5xx.html".into(),
            content: Arc::from(&b"<p>ours</p>"[..]),
        }
    }

    fn form_for(fields: &str, page: Option<&ErrorPage>) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = RequestHead::new();
        let limits = HeadLimits {
            max_header: 65536,
            max_uri: 8192,
        };
        assert_eq!(
            head.parse(text.as_bytes(), &limits),
            Ok(HeadProgress::Complete)
        );
        match choose_form(text.as_bytes(), &head, page) {
            ErrorForm::Text => "text",
            ErrorForm::Problem => "problem",
            ErrorForm::BuiltInPage => "built in",
            ErrorForm::Page(_) => "page",
        }
        .into()
    }

    #[test]
    fn error_form_follows_the_accept_field() {
        let page = page();
        for (fields, without, with) in [
            ("", "text", "page"),
            ("Accept: */*\r\n", "text", "page"),
            (
                "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n",
                "built in",
                "page",
            ),
            ("Accept: text/*\r\n", "text", "page"),
            ("Accept: application/json\r\n", "problem", "problem"),
            (
                "accept: application/problem+json, text/html;q=0.5\r\n",
                "problem",
                "problem",
            ),
            (
                "Accept: application/json, text/plain, */*\r\n",
                "problem",
                "problem",
            ),
            ("Accept: application/*\r\n", "problem", "problem"),
            (
                "Accept: application/json;q=0.5, text/html\r\n",
                "built in",
                "page",
            ),
            ("Accept: text/plain\r\n", "text", "text"),
            ("Accept: image/avif,image/webp\r\n", "text", "text"),
            ("Accept: text/html;q=0, */*\r\n", "text", "text"),
            (
                "Accept: text/html\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
                "text",
                "text",
            ),
        ] {
            assert_eq!(form_for(fields, None), without, "{fields}");
            assert_eq!(form_for(fields, Some(&page)), with, "{fields}, with a page");
        }
    }

    const TOLD: ToldError<'_> = ToldError {
        status: 503,
        detail: "no <b>backend</b> & \"none\"",
        request_id: "a-1'<script>",
        close: true,
        head_only: false,
        retry_after: Some(2),
    };

    fn written(told: &ToldError<'_>, form: ErrorForm<'_>) -> (String, String) {
        let mut out = Vec::new();
        write_error(&mut out, told, form);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap();
        assert!(told.head_only || length == body.len().to_string(), "{head}");
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn nothing_is_echoed_unescaped_and_nothing_is_loaded() {
        let (head, body) = written(&TOLD, ErrorForm::BuiltInPage);
        assert!(head.starts_with(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\n"
        ));
        for line in [
            "Retry-After: 2",
            "Connection: close",
            "Cache-Control: no-store",
            "Vary: Accept",
        ] {
            assert!(head.contains(line), "{line}: {head}");
        }
        assert!(
            body.contains("no &lt;b&gt;backend&lt;/b&gt; &amp; &quot;none&quot;")
                && body.contains("a-1&#39;&lt;script&gt;"),
            "{body}"
        );
        for loads in [
            "<script", "http:", "https:", "url(", "@import", "src=", "href=",
        ] {
            assert!(!body.contains(loads), "{loads}: {body}");
        }
        let (whole, _) = written(&TOLD, ErrorForm::BuiltInPage);
        let (head, body) = written(
            &ToldError {
                head_only: true,
                ..TOLD
            },
            ErrorForm::BuiltInPage,
        );
        assert_eq!((head, body.as_str()), (whole, ""));
    }

    #[test]
    fn problem_document_and_text_agree() {
        let (head, body) = written(&TOLD, ErrorForm::Problem);
        assert!(
            head.contains("Content-Type: application/problem+json"),
            "{head}"
        );
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["status"], 503);
        assert_eq!(document["title"], "Service Unavailable");
        assert_eq!(document["detail"], TOLD.detail);
        assert_eq!(document["request_id"], TOLD.request_id);
        let page = page();
        let (head, body) = written(&TOLD, ErrorForm::Page(&page));
        assert!(
            head.contains("Content-Type: text/html; charset=utf-8"),
            "{head}"
        );
        assert_eq!(body, "<p>ours</p>");
    }

    #[test]
    fn every_error_has_its_advice() {
        for status in 400..600 {
            let (_, body) = written(&ToldError { status, ..TOLD }, ErrorForm::BuiltInPage);
            assert!(
                body.contains(advice(status)) && body.len() < 4_000,
                "{status}"
            );
        }
    }
}

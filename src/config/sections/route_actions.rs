//! `[route.redirect]` and `[route.respond]`: responses of a route without a backend.

use crate::config::declare::{section, words};
use crate::config::forms::{ConfigValue, EmptyIsNone, ZeroIsNone, custom, integer};
use crate::config::print;
use crate::config::routes::{
    TemplateForm, TemplateUse, TextTemplate, read_media_type, read_redirect_status,
};

section! {
    /// The route's action: its requests are [sent elsewhere](routes.md#redirects). What is left out stays as the
    /// request has it.
    [route.redirect]
    #[derive(Debug, Clone, PartialEq)]
    pub struct RedirectAction {
        /// 301 and 308 are for ever, 302 and 307 for now; 307 and 308 keep method and body, 303 makes it a GET.
        status: u16 = 308, custom("301, 302, 303, 307 or 308", read_redirect_status, |status| status.to_string());
        /// The scheme, `"https"` or `"http"`. Left out: as the request came.
        #[no_default(optional)]
        scheme: Option<RedirectScheme> = "https", EmptyIsNone("https", scheme());
        /// The host, which may have `{host}` in it. Left out: the request's.
        #[no_default(optional)]
        host: Option<TextTemplate> = "www.example.org", EmptyIsNone("www.example.org", template(TemplateUse::Host, "www.example.org"));
        /// The port. Left out: that of `scheme`, if that is written, else the request's.
        #[no_default(optional)]
        port: Option<u16> = 443, ZeroIsNone(integer(0..=65535));
        /// The path. The query is added, unless this has a `?` or `{query}`. Left out: the request's path and query.
        #[no_default(optional)]
        path: Option<TextTemplate> = "/new{rest}", EmptyIsNone("/new{rest}", template(TemplateUse::Path, "/new{rest}"));
    }
}

section! {
    /// The route's action: its requests get a [fixed answer](routes.md#fixed-answers).
    [route.respond]
    #[derive(Debug, Clone, PartialEq)]
    pub struct RespondAction {
        /// The answer's status.
        status: u16 = 200, integer(200..=599).told();
        /// Its content. What placeholders stand for is escaped as `type` needs it.
        body: TextTemplate = "", template(TemplateUse::Body, "no");
        /// The content's type, if there is content.
        #[key = "type"]
        media_type: String = "text/plain; charset=utf-8", custom("media type", read_media_type, |text| print::text(text));
    }
}

words! {
    /// Schemes of redirects.
    pub enum RedirectScheme {
        /// Without TLS.
        Http = "http",
        /// With TLS.
        Https = "https",
    }
}

fn scheme() -> <RedirectScheme as ConfigValue>::Form {
    RedirectScheme::form()
}

fn template(wanted: TemplateUse, example: &'static str) -> TemplateForm {
    TemplateForm { wanted, example }
}

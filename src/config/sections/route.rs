//! `[[route]]`.

use super::compression::read_route_switch;
use super::files::FilesAction;
use super::headers::networks;
use super::pool::name;
use super::route_guards::{RouteAuth, RouteHold, RouteRate, RouteRetry};
use super::{RedirectAction, RequestHeaderRules, RespondAction, ResponseHeaderRules};
use crate::config::ListenAddress;
use crate::config::declare::section;
use crate::config::error_pages::{ErrorPages, PageTable};
use crate::config::forms::{
    ByteSize, EmptyIsNone, ListenAddressForm, OrAuto, custom, integer, list, some_time,
};
use crate::config::listener::{print_redirect, read_redirect};
use crate::config::print;
use crate::config::routes::{
    CertificateDemand, CertificateForm, ConnectionForm, ConnectionLimit, FieldMatch, FieldMatches,
    HostList, MatchedPlace, MirrorConfig, MirrorForm, PathRewrite, RewriteForm, SplitKey,
    SplitShare, SplitShares, print_split_key, read_method, read_path, read_prefix, read_regex,
    read_split_key,
};
use ipnet::IpNet;
use std::time::Duration;

section! {
    /// What is done with which requests. With one pool and no route, everything goes there. Of all routes that fit a
    /// request, the [most specific](routes.md#which-route-a-request-gets) gets it.
    [[route]]
    #[derive(Debug, Clone, PartialEq)]
    pub struct Route {
        /// What the access log calls it. Unique.
        name: Option<String> = "", EmptyIsNone("shop-api", name());
        /// The request's host, without port: `www.example.org`, `*.example.org` (one or more labels), or `*` for any. A
        /// list: any of them.
        ///
        /// Lower case. Empty: any.
        #[key = "host"]
        hosts: Vec<String> = "*", HostList;
        /// The whole path: `/login` matches neither `/login/` nor `/login/x`.
        path: Option<String> = "", EmptyIsNone("/login", custom("text", read_path, |path| print::text(path)).public());
        /// Whole leading segments of the path: `/api` matches `/api` and `/api/x`, not `/apis`.
        path_prefix: String = "/", custom("text", read_prefix, |prefix| print::text(prefix)).public();
        /// A [regular expression](routes.md#regular-expressions) that the path has a match for.
        path_regex: Option<String> = "", EmptyIsNone("^/v[0-9]+/", custom("regular expression", read_regex, |regex| print::text(regex)).public());
        /// The request's method is one of these, such as `["GET", "HEAD"]`. Empty: any.
        methods: Vec<String> = [], list("list of methods", "[\"GET\", \"HEAD\"]", custom("method", read_method, |method| print::text(method)).public());
        /// Header fields that the request has, such as `{ "X-Canary" = "always" }`. A value is a text that must be the
        /// same, or `{ regex = "..." }`.
        headers: Vec<FieldMatch> = {}, FieldMatches(MatchedPlace::Headers);
        /// Fields of the query, likewise, such as `{ debug = "1" }`.
        query: Vec<FieldMatch> = {}, FieldMatches(MatchedPlace::Query);
        /// Cookies, likewise, such as `{ beta = "yes" }`.
        cookies: Vec<FieldMatch> = {}, FieldMatches(MatchedPlace::Cookies);
        /// The client is in one of these networks, such as `["10.0.0.0/8"]`; behind trusted proxies, the one that they
        /// tell of. Empty: any.
        clients: Vec<IpNet> = [], networks();
        /// The client has come to one of these listeners, named by `address` as they have it, such as
        /// `["127.0.0.1:8081"]`. Empty: any.
        listeners: Vec<ListenAddress> = [], list("list of listeners' addresses", "[\"127.0.0.1:8081\"]", ListenAddressForm);
        /// Of the routes of one host that fit, those with the highest priority come first, before their paths are compared.
        /// For orders that the most specific match can't say.
        priority: i32 = 0, integer(-1000..=1000);
        /// Its action: the pool of this name answers. Beside `files`: what is [no file](files.md#files-and-an-app).
        #[no_default(optional)]
        pool: Option<String> = "app", EmptyIsNone("app", name());
        /// Its action: [pools answer by weight](routes.md#split-over-several-pools), each with 0 to 1,000,000, such as
        /// `{ api = 95, api-next = 5 }`. `lameduck split` moves the weights of a route that has a name.
        split: Vec<SplitShare> = {}, SplitShares;
        /// What a split chooses by: each `request` by chance; or always the same pool for one `client`, for one value of
        /// `cookie:NAME` or of `header:NAME` (without it: for one client).
        split_on: SplitKey = "request", custom("text", read_split_key, print_split_key);
        /// Copies of its requests [go to another pool](routes.md#mirror-to-another-pool), whose answers nobody gets, such as
        /// `{ pool = "shadow", percent = 1 }`; without `percent`, of all.
        mirror: Option<MirrorConfig> = {}, MirrorForm;
        /// Who comes without TLS is [sent to HTTPS](tls.md#from-http-to-https), on port 443 (`true`) or another, before anything
        /// else is asked: 301 for GET and HEAD, 308 for other methods. What a trusted proxy says of its client's scheme
        /// counts.
        ///
        /// `None`: requests are served either way.
        redirect_https: Option<u16> = false, custom("true, false or port", read_redirect, print_redirect).public();
        /// Leading segments that are taken off the path before the app gets it: with `"/api"`, `/api/x` becomes `/x`.
        strip_prefix: Option<String> = "", EmptyIsNone("/api", custom("text", read_prefix, |prefix| print::text(prefix)));
        /// The app is asked for [another path](routes.md#other-paths-for-the-app): a text such as `"/v2{rest}"`, or a
        /// table of `regex` and `to`.
        rewrite: Option<PathRewrite> = "", RewriteForm;
        /// Only clients in these networks may come, such as `["10.0.0.0/8"]`; the others get 403. Behind trusted proxies, the
        /// client is the one that they tell of. One that nobody knows is in no network. Empty: all.
        allow: Vec<IpNet> = [], networks();
        /// Clients in these networks get 403, those of `allow` too.
        deny: Vec<IpNet> = [], networks();
        /// Requests of one client that are served at once; the others get 429. `0`: no limit. A table
        /// counts by another `key`, as `rate` does.
        connections: Option<ConnectionLimit> = 0, ConnectionForm;
        /// `"required"`: only clients that have shown a certificate of the listener's `client_ca`; the others get 403. A
        /// table says [which ones](limits.md#client-certificates).
        client_certificate: Option<CertificateDemand> = "off", CertificateForm;
        /// As in `[server]`. `"auto"`: as there. `"0"`: no limit.
        max_body: Option<u64> = "auto", OrAuto(ByteSize);
        /// As in `[server]`. `"auto"`: as there. `"0"`: no limit.
        total_timeout: Option<Duration> = "auto", OrAuto(Duration::form());
        /// As in `[pool.upstream]`. `"auto"`: as there.
        read_timeout: Option<Duration> = "auto", OrAuto(some_time());
        /// As in `[pool.upstream]`. `"auto"`: as there.
        request_buffering: Option<bool> = "auto", OrAuto(bool::form());
        /// Whether its answers are compressed, where `[compression]` is written. `false` where an answer has a secret
        /// beside what the client has sent ([BREACH](compression.md#secrets)).
        compression: bool = true, custom("true or false", read_route_switch, bool::to_string);
        /// Pages for browsers in the place of lameduck's own errors: files by status or class, such as `"502"` or `"5xx"`.
        /// What a route has no page for gets that of `[server]`. See [error pages](error-pages.md).
        error_pages: ErrorPages = {}, PageTable;
        /// Whether the app's answers get these pages, too, and those of `[server]`: what it has sent of such an answer is
        /// thrown away.
        intercept: bool = false;
    }
    sections {
        /// `[route.redirect]`; `None`: it has another action.
        redirect: Option<RedirectAction>;
        /// `[route.respond]`; `None`: it has another action.
        respond: Option<RespondAction>;
        /// `[route.files]`; `None`: it has another action.
        files: Option<FilesAction>;
        /// `[route.request_headers]`; `None`: requests keep theirs.
        request_headers: Option<RequestHeaderRules>;
        /// `[route.response_headers]`; `None`: answers keep theirs.
        response_headers: Option<ResponseHeaderRules>;
        /// How fast requests may come.
        rate: Option<RouteRate>;
        /// Who may come.
        auth: Option<RouteAuth>;
        /// Second tries.
        retry: Option<RouteRetry>;
        /// Waits.
        hold: Option<RouteHold>;
    }
}

//! Checks which host a request was meant for, and which web page sent it: a page must not be able to misuse a
//! browser.
//!
//! A web page can let its own name resolve to this host (DNS rebinding), and read the responses; its `Host` is then a
//! name that is not allowed here. It can also send a request whose response it may not read; its `Origin` reveals
//! that. No browser connects to a unix socket, but through `ssh -L` or `socat` it can: on the admin socket, requests
//! from browsers are checked in the same way, and others are not checked.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};

use super::dashboard::is_page;
use super::problem::{ProblemDocument, ProblemKind};

/// Set by browsers: how the requesting page's origin is related to the requested one.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The host names under which a listener of the API may be addressed.
#[derive(Debug, Clone)]
pub(super) struct HostNames {
    /// The address to which it is bound.
    bound: IpAddr,
    /// `[admin] hosts`: lower case, without a dot at the end.
    names: Vec<String>,
    /// Whether only requests from browsers are checked.
    browsers_alone: bool,
}

/// A host and a port, as in a header field. A port is `None` if it is the scheme's default.
#[derive(Debug, PartialEq, Eq)]
struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// Parses `name`, `name:port`, `[v6]:port`; returns `None` for anything else.
    fn parse(text: &str, default: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                let port = match rest {
                    "" => "",
                    rest => rest.strip_prefix(':')?,
                };
                (host, port)
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        (!host.is_empty() && host.chars().all(fits)).then(|| Self {
            host,
            port: port.filter(|port| *port != default),
        })
    }
}

impl HostNames {
    /// Creates the rules for a listener that is bound to `bound`; `names`: `[admin] hosts`.
    pub(super) fn new(bound: IpAddr, names: Vec<String>) -> Self {
        Self {
            bound: bound.to_canonical(),
            names,
            browsers_alone: false,
        }
    }

    /// Creates the rules for the admin socket: a browser that reaches it uses whatever address was forwarded.
    pub(super) fn for_socket(names: Vec<String>) -> Self {
        Self {
            browsers_alone: true,
            ..Self::new(Ipv4Addr::UNSPECIFIED.into(), names)
        }
    }

    /// Returns whether a name in a `Host` header field is allowed. A literal address needs no resolver, so no DNS
    /// record can have made it point here.
    fn knows(&self, host: &str) -> bool {
        if host == "localhost" || self.lists(host) {
            return true;
        }
        host.parse::<IpAddr>().is_ok_and(|ip| {
            let ip = ip.to_canonical();
            self.bound.is_unspecified()
                || ip == self.bound
                || (self.bound.is_loopback() && ip.is_loopback())
        })
    }

    fn lists(&self, host: &str) -> bool {
        self.names.iter().any(|name| name == host)
    }

    /// Decides whether a request may be answered.
    ///
    /// # Errors
    /// If not: with the configuration that would be needed to allow it.
    pub(super) fn judge(
        &self,
        method: &Method,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), ProblemDocument> {
        if self.browsers_alone && !is_of_browser(headers) {
            return Ok(());
        }
        let asked = self.asked_host(version, uri, headers)?;
        // Nothing there is secret, and nothing changes. Links on other sites may lead to the page.
        let tells_nothing = uri.path().starts_with("/-/") || is_page(uri.path());
        if matches!(*method, Method::GET | Method::HEAD) && tells_nothing {
            return Ok(());
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if origins.any(|origin| !self.is_ours(origin.as_bytes(), asked.as_ref())) {
            return Err(foreign_origin("Its `Origin` is not this host's."));
        }
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
        let listed = headers.contains_key(header::ORIGIN);
        if !listed && sites.any(|site| site == "cross-site") {
            return Err(foreign_origin("Its `Sec-Fetch-Site` is `cross-site`."));
        }
        Ok(())
    }

    /// Returns the host that the request was meant for; `None` with HTTP/1.0, which no browser uses.
    fn asked_host(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<Authority>, ProblemDocument> {
        // A target in absolute form names the host too; then both have to be allowed.
        let target = uri.authority().map(|authority| authority.as_str());
        let mut fields = headers.get_all(header::HOST).iter();
        let field = fields.next().map(|host| host.to_str().unwrap_or_default());
        if fields.next().is_some() {
            return Err(foreign_host("It has more than one `Host`."));
        }
        let mut asked = None;
        for text in target.into_iter().chain(field) {
            let known = Authority::parse(text, 80).filter(|found| self.knows(&found.host));
            asked = Some(known.ok_or_else(|| {
                let shown: String = text.chars().take(100).collect();
                foreign_host(&format!("It asks for the host `{}`.", shown.escape_debug()))
            })?);
        }
        match asked {
            None if version > Version::HTTP_10 => Err(foreign_host("It has no `Host`.")),
            asked => Ok(asked),
        }
    }

    /// Returns whether an origin is allowed: same host and port, or a host in `hosts`.
    fn is_ours(&self, origin: &[u8], asked: Option<&Authority>) -> bool {
        let Some((scheme, authority)) = std::str::from_utf8(origin)
            .ok()
            .and_then(|origin| origin.split_once("://"))
        else {
            return false;
        };
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let origin = Authority::parse(authority, default);
        origin.is_some_and(|origin| Some(&origin) == asked || self.lists(&origin.host))
    }
}

/// Returns whether a browser has sent the request. Every browser sends one of these header fields.
fn is_of_browser(headers: &HeaderMap) -> bool {
    let names_browser = |agent: &HeaderValue| {
        let agent = agent.as_bytes();
        agent.windows(8).any(|part| part == b"Mozilla/")
    };
    headers.contains_key(header::ORIGIN)
        || headers.contains_key(SEC_FETCH_SITE)
        || (headers.get_all(header::USER_AGENT).iter()).any(names_browser)
}

fn foreign_host(what: &str) -> ProblemDocument {
    let detail = format!(
        "{what} Over TCP, the API answers to its own addresses, to `localhost`, and to the names in [admin] hosts, so \
         that no web page can make its own name point here. Ask by address, or add the name to `hosts` and restart \
         lameduck."
    );
    ProblemDocument::new(ProblemKind::ForeignHost, detail)
}

fn foreign_origin(what: &str) -> ProblemDocument {
    let detail = format!(
        "{what} A web page of another site sent this; the API answers none. If the page is yours, add its host to \
         [admin] hosts and restart lameduck."
    );
    ProblemDocument::new(ProblemKind::ForeignOrigin, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(bound: &str, names: &[&str], target: &str, fields: &[(&str, &str)]) -> u64 {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let names = HostNames::new(bound.parse().unwrap(), names);
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, value.parse().unwrap())
            })
            .collect();
        let uri = target.parse().unwrap();
        match names.judge(&Method::GET, Version::HTTP_11, &uri, &headers) {
            Ok(()) => 200,
            Err(problem) => problem.document(None)["status"].as_u64().unwrap(),
        }
    }

    fn host(bound: &str, host: &str) -> u64 {
        asked(
            bound,
            &["Duck.example".to_lowercase().as_str()],
            "/v1/pools",
            &[("host", host)],
        )
    }

    #[test]
    fn host_that_is_an_own_address_or_a_listed_name_is_answered() {
        for good in [
            "127.0.0.1",
            "127.0.0.1:9901",
            "127.8.8.8",
            "[::1]:9901",
            "[::ffff:127.0.0.1]",
            "localhost",
            "LOCALHOST.:1",
            "duck.example",
            "Duck.Example.:9901",
        ] {
            assert_eq!(host("127.0.0.1", good), 200, "{good}");
        }
        assert_eq!(host("0.0.0.0", "10.1.2.3:9901"), 200);
        assert_eq!(host("::", "[2001:db8::1]:9901"), 200);
        assert_eq!(host("10.1.2.3", "10.1.2.3"), 200);
    }

    #[test]
    fn foreign_or_malformed_host_is_misdirected() {
        for bad in [
            "evil.example",
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "duck.example.evil",
            "xduck.example",
            "127.1",
            "0x7f.1",
            "2130706433",
            "10.1.2.3",
            "0.0.0.0",
            "",
            ".",
            ":9901",
            "localhost:",
            "localhost:9901:1",
            "localhost:x",
            "localhost:99999",
            "a@localhost",
            "localhost/",
            "localhost, evil.example",
            "[::1",
            "[::1]x",
            "::1",
        ] {
            let wanted = if bad == "localhost:" { 200 } else { 421 };
            assert_eq!(host("127.0.0.1", bad), wanted, "{bad}");
        }
        assert_eq!(host("10.1.2.3", "127.0.0.1"), 421);
        assert_eq!(host("0.0.0.0", "evil.example"), 421);
        assert_eq!(asked("127.0.0.1", &[], "/v1/pools", &[]), 421);
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(asked("127.0.0.1", &[], "/", &twice), 421);
    }

    #[test]
    fn absolute_target_and_host_field_have_to_be_known_both() {
        let at = |target: &str, host: &str| asked("127.0.0.1", &[], target, &[("host", host)]);
        assert_eq!(at("http://localhost/v1/pools", "localhost"), 200);
        assert_eq!(at("http://evil.example/v1/pools", "localhost"), 421);
        assert_eq!(at("http://localhost/v1/pools", "evil.example"), 421);
        // What a proxy in front claims does not count.
        let hearsay = [("host", "evil.example"), ("x-forwarded-host", "localhost")];
        assert_eq!(asked("127.0.0.1", &[], "/", &hearsay), 421);
    }

    #[test]
    fn page_of_another_origin_is_refused_and_our_own_is_not() {
        let from = |path: &str, fields: &[(&str, &str)]| {
            let fields = [&[("host", "localhost:9901")], fields].concat();
            asked("127.0.0.1", &["duck.example"], path, &fields)
        };
        for bad in [
            "http://evil.example",
            "https://evil.example",
            "null",
            "http://localhost",
            "http://localhost:3000",
            "https://localhost",
            "http://127.0.0.1:9901",
            "file://localhost:9901",
            "chrome-extension://abc",
            "localhost:9901",
        ] {
            assert_eq!(from("/v1/pools", &[("origin", bad)]), 403, "{bad}");
            assert_eq!(from("/-/live", &[("origin", bad)]), 200, "{bad}");
            assert_eq!(from("/", &[("origin", bad)]), 200, "{bad}");
        }
        for good in [
            "http://localhost:9901",
            "http://LOCALHOST.:9901",
            "https://duck.example",
            "http://duck.example:8443",
        ] {
            assert_eq!(from("/v1/pools", &[("origin", good)]), 200, "{good}");
        }
        let two = [
            ("origin", "http://localhost:9901"),
            ("origin", "http://evil.example"),
        ];
        assert_eq!(from("/v1/pools", &two), 403);
        assert_eq!(from("/v1/pools", &[("sec-fetch-site", "cross-site")]), 403);
        assert_eq!(from("/v1/pools", &[("sec-fetch-site", "none")]), 200);
        assert_eq!(from("/v1/pools", &[("sec-fetch-site", "same-origin")]), 200);
    }

    #[test]
    fn browser_on_the_socket_is_checked_and_other_clients_are_not() {
        let names = HostNames::for_socket(vec!["duck.example".to_owned()]);
        let ask = |fields: &[(&str, &str)]| {
            let headers = fields.iter().map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, value.parse().unwrap())
            });
            let headers: HeaderMap = headers.collect();
            let uri = "/v1/pools".parse().unwrap();
            let judged = names.judge(&Method::POST, Version::HTTP_11, &uri, &headers);
            judged.map_or_else(|problem| problem.slug(), |()| "answered")
        };
        let firefox = ("user-agent", "Mozilla/5.0 (X11; Linux) Firefox/140");
        assert_eq!(ask(&[("host", "lameduck")]), "answered");
        assert_eq!(
            ask(&[("host", "any.example"), ("user-agent", "curl/8")]),
            "answered"
        );
        assert_eq!(ask(&[("host", "localhost:8000"), firefox]), "answered");
        assert_eq!(ask(&[("host", "10.0.0.9:8000"), firefox]), "answered");
        assert_eq!(ask(&[("host", "duck.example"), firefox]), "answered");
        // A name that was made to resolve to this host.
        assert_eq!(
            ask(&[("host", "evil.example:8000"), firefox]),
            "foreign-host"
        );
        let own = ("origin", "http://localhost:8000");
        assert_eq!(ask(&[("host", "localhost:8000"), own]), "answered");
        let evil = ("origin", "http://evil.example");
        assert_eq!(ask(&[("host", "localhost:8000"), evil]), "foreign-origin");
        let form = ("sec-fetch-site", "cross-site");
        assert_eq!(ask(&[("host", "localhost:8000"), form]), "foreign-origin");
    }

    #[test]
    fn http_1_0_without_host_is_no_browser() {
        let names = HostNames::new("127.0.0.1".parse().unwrap(), Vec::new());
        let uri = "/v1/pools".parse().unwrap();
        let judged = |version| names.judge(&Method::GET, version, &uri, &HeaderMap::new());
        assert!(judged(Version::HTTP_10).is_ok());
        assert!(judged(Version::HTTP_11).is_err());
    }
}

//! Requests after a seed: of what the site names, and of what is asked of every site.

use std::borrow::Cow;
use std::net::SocketAddr;

use lameduck::tools::import::nginx::tree::NginxDirective;

use super::place::PlacedSite;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which of the site's addresses it is for.
    pub door: usize,
    pub method: Cow<'static, str>,
    pub host: String,
    pub target: String,
    pub fields: Vec<(Cow<'static, str>, String)>,
    pub body: String,
}

impl Request {
    pub fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        // Each gets its own port, where it gets one.
        let host = self.host.replace("@port@", &address.port().to_string());
        let mut out = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\n",
            self.method, self.target
        );
        for (name, value) in &self.fields {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            out.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        out.push_str("Connection: close\r\n\r\n");
        out.push_str(&self.body);
        out.into_bytes()
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Makes them.
pub struct RequestMaker {
    random: fastrand::Rng,
    doors: usize,
    hosts: Vec<String>,
    paths: Vec<String>,
}

impl RequestMaker {
    pub fn new(site: &PlacedSite, seed: u64) -> Self {
        let mut maker = RequestMaker {
            random: fastrand::Rng::with_seed(seed),
            doors: site.doors.len(),
            hosts: vec!["nobody.example.net".into(), "127.0.0.1:@port@".into()],
            paths: [
                "/",
                "/index.html",
                "/robots.txt",
                "/favicon.ico",
                "/app.js",
                "/page.html",
                "/nowhere",
                "/sub/",
                "/api",
                "/.git/config",
                "/.well-known/acme-challenge/x",
                "/big",
                "/s-404",
                "/s-502",
                "/login",
                "/cached/x",
                "/framed",
                "/a%20b.txt",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        maker.learn(&site.tree);
        maker
    }

    /// Hosts and paths that a site names.
    fn learn(&mut self, level: &[NginxDirective]) {
        for directive in level {
            match directive.name() {
                "server_name" => {
                    for name in directive.args() {
                        let name = name
                            .trim_start_matches('~')
                            .trim_start_matches('^')
                            .trim_end_matches('$')
                            .replace('\\', "");
                        let host = match name.strip_prefix("*.").or(name.strip_prefix('.')) {
                            Some(rest) => format!("sub.{rest}"),
                            None => name,
                        };
                        if host
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
                            && !host.is_empty()
                        {
                            // The site's own are asked for more often.
                            self.hosts.extend([host.clone(), host]);
                        }
                    }
                }
                "location" | "rewrite" | "if" => {
                    for word in directive.args() {
                        self.learn_path(word);
                    }
                }
                _ => {}
            }
            self.learn(directive.inner());
        }
    }

    fn learn_path(&mut self, word: &str) {
        if word.starts_with('/') && !word.contains(['(', '[', '\\', '$']) {
            let path = word.trim_start_matches(['=', '^', '~']).to_owned();
            let bare = path.trim_end_matches('/').to_owned();
            if bare.is_empty() {
                return;
            }
            self.paths.extend([
                path.clone(),
                format!("{bare}/x"),
                format!("{bare}x"),
                format!("{bare}/a/b.js"),
                format!("{bare}/app.js"),
                bare,
            ]);
            return;
        }
        // Of an expression: its endings and its words.
        let mut plain = String::new();
        for part in word.split(['(', ')', '|', '$', '^', '?', '*', '[', ']', '+']) {
            let part = part.replace('\\', "");
            let part = part.trim_start_matches(['~', ':', '.', ' ', '=']);
            if part.len() > 1
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"/-_.".contains(&b))
            {
                plain.push_str(part);
                self.paths
                    .push(format!("/{}", part.trim_start_matches('/')));
                self.paths.push(format!("/dir/file.{part}"));
                self.paths.push(format!("/{}/7", part.trim_matches('/')));
            }
        }
        if !plain.is_empty() {
            self.paths
                .push(format!("/{}", plain.trim_start_matches('/')));
        }
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.random.usize(..from.len())]
    }

    pub fn make(&mut self) -> Request {
        let method = *self.pick(&[
            "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE",
            "OPTIONS", "PATCH",
        ]);
        let hosts = self.hosts.clone();
        let mut host = self.pick(&hosts).clone();
        if self.random.u8(..20) == 0 {
            host = host.to_ascii_uppercase().replace("@PORT@", "@port@");
        }
        let paths = self.paths.clone();
        let mut target = self.pick(&paths).clone();
        if target.is_empty() {
            target.push('/');
        }
        match self.random.u8(..16) {
            0 => target.push('/'),
            1 => target = target.replacen('/', "//", 1),
            2 => target.push_str("/deeper/still"),
            3 => target = encode_last(&target),
            4 => target.push_str(".php"),
            _ => {}
        }
        if self.random.u8(..3) == 0 {
            let query = *self.pick(&[
                "a=1",
                "a=1&b=two",
                "q=%20x",
                "debug=1",
                "utm_source=x",
                "",
                "x=/y?z",
            ]);
            target.push('?');
            target.push_str(query);
        }
        let mut fields = Vec::new();
        let choices: [(&'static str, &[&str]); 14] = [
            (
                "User-Agent",
                &[
                    "Mozilla/5.0",
                    "curl/8.0",
                    "Googlebot/2.1",
                    "python-requests/2",
                    "",
                    "wget",
                    "sqlmap",
                ],
            ),
            (
                "Accept-Encoding",
                &[
                    "gzip",
                    "gzip, deflate, br",
                    "identity",
                    "br;q=1.0, gzip;q=0.5",
                ],
            ),
            (
                "Accept",
                &["*/*", "text/html", "application/json", "image/webp,*/*"],
            ),
            ("Range", &["bytes=0-9", "bytes=-5", "bytes=5-"]),
            (
                "If-Modified-Since",
                &[
                    "Thu, 01 Jan 1970 00:00:01 GMT",
                    "Fri, 01 Jan 2100 00:00:00 GMT",
                ],
            ),
            ("If-None-Match", &["\"x\"", "*"]),
            (
                "Cookie",
                &["beta=yes", "session=abc; theme=dark", "canary=always"],
            ),
            (
                "Origin",
                &["https://app.example.org", "https://evil.example.net"],
            ),
            (
                "Referer",
                &["https://www.example.org/x", "https://spam.example.net/"],
            ),
            ("X-Forwarded-Proto", &["https", "http"]),
            (
                "X-Forwarded-For",
                &["203.0.113.7", "203.0.113.7, 198.51.100.2"],
            ),
            (
                "Authorization",
                &["Basic YWRhOmVuZ2luZQ==", "Basic YWRhOndyb25n", "Bearer abc"],
            ),
            ("X-Api-Key", &["k1", "k2"]),
            ("X-Canary", &["always", "never"]),
        ];
        for (name, values) in choices {
            if self.random.u8(..5) == 0 {
                fields.push((name.into(), (*self.pick(values)).to_owned()));
            }
        }
        let body = match method {
            "POST" | "PUT" | "PATCH" => {
                fields.push((
                    "Content-Type".into(),
                    "application/x-www-form-urlencoded".into(),
                ));
                let length = *self.pick(&[3, 500, 5_000]);
                "b=".to_owned() + &"y".repeat(length)
            }
            _ => String::new(),
        };
        Request {
            door: self.random.usize(..self.doors),
            method: method.into(),
            host,
            target,
            fields,
            body,
        }
    }
}

/// What a site's comments say is asked of it besides, for edges that chance would seldom meet:
/// `# ask: GET www.example.org/path?q=1 | Cookie: beta=yes | Accept: */*`, at each of its addresses.
pub fn asked(text: &str, doors: usize) -> Vec<Request> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# ask: "));
    let mut requests = Vec::new();
    for line in lines {
        let mut parts = line.split(" | ");
        let (method, url) = parts.next().and_then(|part| part.split_once(' ')).unwrap();
        let (host, target) = url.split_at(url.find('/').unwrap());
        let fields: Vec<_> = parts
            .map(|part| part.split_once(':').unwrap())
            .map(|(name, value)| (name.to_owned().into(), value.trim().to_owned()))
            .collect();
        let body = match method {
            "POST" | "PUT" | "PATCH" => "b=1".to_owned(),
            _ => String::new(),
        };
        requests.extend((0..doors).map(|door| Request {
            door,
            method: method.to_owned().into(),
            host: host.to_owned(),
            target: target.to_owned(),
            fields: fields.clone(),
            body: body.clone(),
        }));
    }
    requests
}

/// The last letter as a client may send it, too.
fn encode_last(target: &str) -> String {
    match target.char_indices().last() {
        Some((at, c)) if c.is_ascii_alphanumeric() => format!("{}%{:02x}", &target[..at], c as u32),
        _ => target.to_owned(),
    }
}

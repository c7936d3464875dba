//! `--print` and back: the same configuration.

use lameduck::config::print::print;
use lameduck::config::*;
use proptest::prelude::*;
use std::time::Duration;

#[track_caller]
fn assert_round_trip(config: &Config) {
    let text = print(config);
    let again = parse("printed.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(&again.config, config, "{text}");
    assert_eq!(print(&again.config), text);
}

#[test]
fn examples_and_files_with_warnings_round_trip() {
    let mut count = 0;
    for dir in ["config", "tests/config/warned"] {
        for path in super::messages::files(dir) {
            let text = std::fs::read_to_string(&path).unwrap();
            // Relative paths were resolved when it was read: printed for a file elsewhere they must be the same.
            let mut config = parse(path.to_str().unwrap(), &text).unwrap().config;
            config.admin.token_file = config
                .admin
                .token_file
                .map(|path| std::path::absolute(path).unwrap());
            assert_round_trip(&config);
            count += 1;
        }
    }
    assert!(count >= 10);
}

#[test]
fn every_value_can_differ_from_its_default() {
    let text = r#"
[server]
threads = 4
lame_duck = "1m1ms"
lame_duck_max = "21s"
deadline = "2h"
state_dir = "/var/lib/lame \"duck\""
max_connections = 10000
max_connections_per_client = 100
max_requests_per_connection = 1000
max_concurrent_streams = 64
max_stream_resets = 0
header_timeout = "1.5s"
idle_timeout = "2m"
body_timeout = "1d"
min_body_rate = "1KiB"
min_response_rate = 500
rate_grace = "7s"
total_timeout = "1h"
tcp_keepalive = "0s"
max_header = "16KiB"
max_uri = "4KiB"
max_body = 1000001
max_memory = "100MiB"
max_memory_per_connection = "1MiB"
zone = "eu-1a"
error_pages = { "5xx" = "/e/5xx.html", "404" = "/e/404.html" }
[admin]
socket = "/tmp/with\\backslash\u0022.sock"
mode = "0600"
group = "www-data"
http = "[::1]:9000"
token_file = "/etc/lameduck/token"
probes = "0.0.0.0:9902"
hosts = ["lameduck.internal", "10.0.0.1"]
apps_socket = "/run/apps.sock"
apps_mode = "0666"
apps_group = "apps"
apps_pools = ["a.B-c_1"]
[admin.tls]
cert = "/tls/admin.pem"
key = "/tls/admin.key"
client_ca = "/tls/ca.pem"
[access_log]
path = "/var/log/lameduck/ä.log"
format = "combined"
fields = ["status", "time", "trace_id"]
slow = "2s"
sample = 0.25
facility = "local3"
[tracing]
endpoint = "https://otel.internal:4318/v1/traces"
sample = 0.5
trust = "trusted"
service_name = "edge"
headers_file = "/etc/lameduck/otlp"
ca = "/tls/ca.pem"
timeout = "3s"
queue_spans = 100
queue_bytes = "1MiB"
environment = "production"
[headers]
trusted = ["10.0.0.0/8", "fd00::/8", "unix:", "192.0.2.1"]
x_forwarded = false
forwarded = true
via = true
request_id = false
[[listener]]
address = "[::]:8080"
reuse_port = true
http2 = true
proxy_protocol = true
hsts = "365d"
[listener.tls]
cert = "/tls/a \"b\".pem"
key = "/tls/a.key"
client_auth = "optional"
client_ca = "/tls/ca.pem"
client_crl = "/tls/revoked.pem"
min_version = "1.3"
[[listener.tls.certificates]]
cert = "/tls/c.pem"
key = "/tls/c.key"
[listener.acme]
domains = ["example.org", "www.example.org"]
email = "ops@example.org"
directory = "https://ca.internal:9000/acme/directory"
challenge = "tls-alpn-01"
profile = "shortlived"
state_dir = "/var/lib/acme"
ca = "/tls/internal.pem"
eab_kid = "kid-1"
eab_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV"
orders_per_hour = 5
[[listener.acme.certificates]]
domains = ["shop.example.org"]
[[listener]]
address = "unix:/run/a b.http"
mode = "0666"
group = "www-data"
reuse_port = true
proxy_protocol = true
redirect_https = 8443
http2 = true
[[pool]]
name = "a.B-c_1"
balance = "hash"
hash_on = "cookie:sid"
hash_load = 1.5
[[pool.backend]]
name = "x"
address = "unix:/run/a b.sock"
weight = 0
zone = "eu-1a"
[[pool.backend]]
address = "App.internal:80"
weight = 1000
zone = "eu-1b"
[pool.health]
host = "x:80"
path = "/up?deep=1"
method = "HEAD"
headers = { "X-B" = "tab\tquote\"", "x-a" = "" }
expect = [204, "3xx", "400-404", "503"]
service = ""
port = 81
tls = false
interval = "250ms"
timeout = "200ms"
fast_interval = "7us"
rise = 1
fall = 1000
fall_timeout = 7
absent_after = "0"
[pool.drain]
deadline = "1s"
close_spread = "0s"
cut_on_503 = true
[pool.upstream]
connect_timeout = "3s"
read_timeout = "1h"
tunnel_timeout = "1h"
idle_timeout = "0"
max_in_flight = 100
request_buffering = false
preserve_host = false
http2 = true
[pool.tls]
ca = "/etc/ca.pem"
server_name = "app.internal"
cert = "/etc/cert.pem"
key = "/etc/key.pem"
verify = false
[pool.retry]
attempts = 1
budget = 1e-7
idempotency_key = true
[pool.hold]
on_empty = "fail_open"
timeout = "3s"
max_requests = 5
max_bytes = "1000kB"
[pool.slow_start]
window = "30s"
[pool.outlier]
consecutive_errors = 0
error_rate = 0.25
latency_factor = 0
min_requests = 7
window = "1m"
max_ejected = 1
ejection = "1m"
max_ejection = "1h"
[[pool.discovery]]
type = "file"
path = "/etc/a b.json"
min_healthy = 0
confirm_after = "1m"
[[pool.discovery]]
type = "dns"
name = "_http._tcp.App.internal"
record = "srv"
server = "[::1]:5353"
timeout = "2s"
min_ttl = "3s"
max_ttl = "1h"
[[pool.discovery]]
type = "dns"
name = "app.internal"
port = 80
[[pool.discovery]]
type = "docker"
socket = "/run/docker.sock"
label = "a.b/c=d"
network = "front"
port = 8080
[[pool.discovery]]
type = "kubernetes"
namespace = "shop"
service = "api"
port = "http"
api_server = "https://10.0.0.1:6443"
kubeconfig = "/etc/lameduck/kubeconfig"
[[pool.discovery]]
type = "kubernetes"
selector = "app=shop,tier!=test"
[pool.supervisor]
type = "supervisord"
process = "app:{name}"
address = "unix:/run/other.sock"
poll_interval = "50ms"
[[pool]]
name = "tcp"
balance = "round_robin"
[pool.tls]
[pool.health]
type = "grpc"
service = "shop.Orders"
host = "shop.internal"
[pool.upstream]
proxy_protocol = "v1"
[pool.retry]
budget = 0
[pool.hold]
on_empty = "fail"
[[route]]
host = "*.Example.org"
path_prefix = "/a/%2f/"
pool = "tcp"
[[route]]
name = "by-path"
host = ["a.org", "*.B.org", "[::1]"]
path = "/a/%2f/"
methods = ["PUT", "PURGE"]
headers = { "X-B" = "q\"", "x-a" = { regex = '^\d+\\' }, "X-c" = "" }
query = { "ä b" = "1", empty = "" }
cookies = { beta = { regex = "^y" } }
clients = ["10.0.0.0/8", "::1"]
pool = "tcp"
[[route]]
path_regex = '^/v\d+/"'
pool = "tcp"
[[route]]
path = "/strip"
strip_prefix = "/strip"
redirect_https = 8443
pool = "tcp"
[route.request_headers]
set = { "X-b" = "q\"{client}", X-a = "", Host = "{host}:81" }
add = { "X-c" = ["{{1}}", "$$2"], "X-d" = "tab" }
remove = ["X-Z", "Accept"]
[route.response_headers]
add = { Set-Cookie = ["b=\u00fc", "a=1"] }
[[route]]
path_regex = '^/w/(\d+)'
rewrite = '/w2/$1{rest}?{query}'
pool = "tcp"
[[route]]
path = "/match"
rewrite = { to = "/$1.x", regex = '(x")' }
pool = "tcp"
[[route]]
path = "/redirect"
redirect = { status = 307, scheme = "http", host = "a.{host}", port = 81, path = "{path}" }
[[route]]
path = "/respond"
respond = { status = 404, body = "a\n{{}}{path}", type = "text/x" }
[[route]]
host = "[::1]"
pool = "a.B-c_1"
[[route]]
path = "/shop"
pool = "tcp"
intercept = true
error_pages = { "503" = "/e/503.html" }
[[route]]
path_prefix = "/static"
[route.files]
root = "/srv/www"
index = []
try = ["{path}", "/a{path}.html", "{path}/", "/b/", "/index.html", "=410"]
precompressed = true
cache = { "/assets/*" = "immutable", "*.html" = "no-cache", "x" = "no-store", "*" = "1h", "y" = "" }
hidden = true
[[route]]
path_prefix = "/other"
files = { root = "/srv/other", cache = "30d" }
"#;
    let config = parse("x.toml", text)
        .unwrap_or_else(|error| panic!("{error}"))
        .config;
    assert_round_trip(&config);
    // Every key of the file differs from a default pool's, so that a key that print forgets is noticed.
    let defaults = print(
        &parse(
            "y.toml",
            "[[listener]]\naddress = \"127.0.0.1:1\"\n[[pool]]\nname = \"p\"\n[pool.health]\n[pool.tls]\n[pool.outlier]",
        )
        .unwrap()
        .config,
    );
    let printed = print(&config);
    let first = printed.split("[[pool]]\nname = \"tcp\"").next().unwrap();
    for line in defaults
        .lines()
        .filter(|line| line.contains(" = "))
        // They say nothing new of an HTTP check.
        .filter(|line| !line.starts_with("type") && !line.starts_with("service"))
        // No listener has both, and no pool HTTP/2 and the PROXY protocol.
        .filter(|line| *line != "proxy_protocol = \"off\"")
        .filter(|line| !line.starts_with("redirect_https") && !line.starts_with("hsts"))
        // These are a unix socket's alone.
        .filter(|line| *line != "mode = \"0660\"" && *line != "group = \"\"")
    {
        assert!(
            !first.lines().any(|other| other == line),
            "{line} is at its default"
        );
    }
}

#[test]
fn an_implied_health_check_stays_implied() {
    let flags = ["127.0.0.1:3000".to_string()];
    let config = Config::from_args(None, &flags, None).unwrap();
    assert!(!config.pools[0].health.explicit);
    assert_round_trip(&config);
    assert!(print(&config).contains("\n# path = \"/health\"\n"));
    assert_round_trip(&Config::from_args(Some("[::]:80"), &flags, Some("/up")).unwrap());
}

fn duration() -> impl Strategy<Value = Duration> {
    (1u64..10_000_000_000).prop_map(Duration::from_micros)
}

proptest! {
    #[test]
    fn any_numbers_round_trip(
        times in prop::collection::vec(duration(), 6),
        numbers in prop::collection::vec(1u32..1000, 6),
        budget in 0.0f64..=1.0,
        bytes in 1..i64::MAX as u64,
        path in "/\\PC{0,12}",
    ) {
        let mut config = Config::from_args(None, &["127.0.0.1:3000".to_string()], Some("/up")).unwrap();
        let pool = &mut config.pools[0];
        pool.health.absent_after = times[0];
        pool.upstream.connect_timeout = times[1];
        pool.upstream.read_timeout = times[2];
        pool.hold.timeout = times[3];
        pool.slow_start.window = times[4];
        pool.drain.close_spread = times[5];
        pool.drain.deadline = times[5];
        pool.health.rise = numbers[0];
        pool.upstream.max_in_flight = numbers[1];
        pool.backends[0].weight = numbers[2];
        pool.retry.budget = budget;
        pool.hold.max_bytes = bytes;
        config.server.max_body = bytes;
        config.server.threads = numbers[3] as usize;
        config.server.max_connections = Some(numbers[4] as usize);
        if !path.chars().any(char::is_control) {
            config.server.state_dir = Some(path.into());
        }
        assert_round_trip(&config);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\[\\[?(server|pool|pool.health|listener|route|pool.backend)\\]\\]?\n|(name|address|path|expect|interval|weight|host) = (\"[a-z0-9:/%*.é]{0,6}\"|-?[0-9]{1,3}|\\[\"?[0-9x]{0,3}\"?\\]|true|\\{\\})\n|\\PC{0,5}\n){0,8}") {
        if let Err(error) = parse("x.toml", &text) {
            prop_assert!(!error.render(false).is_empty());
        }
    }
}

"""`benches/run front_door`: what a front door does besides passing on, beside nginx, HAProxy and Caddy.

Each row asks the same of all of them, in each one's own words, put into its usual configuration.
"""

import time
from dataclasses import dataclass

from rows import BODIES, MIB, REQUESTS, Row, bodies, requests, run
from proxies import Setup

# In the order of the table.
NAMES = ("lameduck", "nginx", "nginx-buffered", "haproxy", "caddy")

# What the lab serves below @LAB@, and how large each is.
SIZES = {"1k": 1024, "64k": 65536, "1m": MIB}

# bcrypt with a cost of 10, as `htpasswd -B -C 10` makes it, and `{SHA}`; of the password "bench-password".
BCRYPT = "$2y$10$cD.ujOZpuOyU75xJpDZXiexL5WbrnsGWtox3nfCwK4RmDJeT7c8cy"
SHA = "{SHA}o3cOkwHD7Gf2y1wTOReNwr96zYY="
AUTHORIZATION = "Basic YmVuY2g6YmVuY2gtcGFzc3dvcmQ="

MANY = 1_000


@dataclass(frozen=True)
class Front:
    """One feature, in each proxy's words. `@LAB@` stands for the lab's directory, `@BACKEND@` for the app's address.
    An empty one: the proxy needs none."""

    # Tables behind the pool's.
    lameduck: str = ""
    # In `http`; in `server`; in `location /`.
    nginx_http: str = ""
    nginx_server: str = ""
    nginx_location: str = ""
    # In the frontend.
    haproxy: str = ""
    # In the site; in its `reverse_proxy`; other sites.
    caddy: str = ""
    caddy_proxy: str = ""
    caddy_sites: str = ""
    # About the pool: in its table; in nginx's and HAProxy's, and behind each server; Envoy's policy and what else its
    # cluster has.
    lameduck_pool: str = ""
    nginx_upstream: str = ""
    nginx_each: str = ""
    haproxy_backend: str = ""
    haproxy_each: str = ""
    envoy_balance: str = ""
    envoy_timeout: str = ""
    envoy_cluster: str = ""

    def of(self, field, proxy):
        """One of them, for this proxy."""
        text = getattr(self, field).replace("@LAB@", str(proxy.lab.scratch)).replace("@PORT@", str(proxy.port))
        return text.replace("@BACKEND@", proxy.backends[0])


def put_files(directory):
    """What the configurations name."""
    (directory / "files").mkdir(exist_ok=True)
    for name, size in SIZES.items():
        (directory / "files" / f"{name}.bin").write_bytes(b"x" * size)
    (directory / "bcrypt").write_text(f"bench:{BCRYPT}\n")
    (directory / "sha").write_text(f"bench:{SHA}\n")
    (directory / "locations.map").write_text("".join(f"/part-{n}/ app\n" for n in range(MANY)))
    (directory / "hosts.map").write_text("".join(f"shop-{n}.example.org app\n" for n in range(MANY)))


def each(text, count=MANY):
    return "".join(text.replace("@N@", str(number)) for number in range(count))


FILES = Front(
    lameduck='[[route]]\npath_prefix = "/files"\nfiles = { root = "@LAB@" }\n[[route]]\npool = "app"\n',
    nginx_http="sendfile on; tcp_nopush on;",
    nginx_server="location /files/ { root @LAB@; }",
    caddy="handle /files/* {\n    root * @LAB@\n    file_server\n  }",
)
LOCATIONS = Front(
    lameduck=each('[[route]]\npath_prefix = "/part-@N@"\npool = "app"\n') + '[[route]]\npool = "app"\n',
    nginx_server=each("location /part-@N@/ { proxy_pass http://app; }\n"),
    haproxy="  use_backend %[path,map_beg(@LAB@/locations.map)] if { path,map_beg(@LAB@/locations.map) -m found }\n",
    caddy=each("handle /part-@N@/* {\n    reverse_proxy @BACKEND@\n  }\n  "),
)
HOSTS = Front(
    lameduck=each('[[route]]\nhost = "shop-@N@.example.org"\npool = "app"\n') + '[[route]]\npool = "app"\n',
    nginx_http="server_names_hash_max_size 4096; server_names_hash_bucket_size 128;\n" + each(
        "server { listen 127.0.0.1:@PORT@; server_name shop-@N@.example.org; location / { proxy_pass http://app; } }\n"),
    haproxy="  use_backend %[req.hdr(host),map_str(@LAB@/hosts.map)] if { req.hdr(host),map_str(@LAB@/hosts.map) -m found }\n",
    caddy_sites=each("http://shop-@N@.example.org:@PORT@ {\n  bind 127.0.0.1\n  log {\n    output file @LAB@/caddy-hosts.log\n  }\n"
                     "  reverse_proxy @BACKEND@\n}\n"),
)
RATE = Front(
    lameduck='[[route]]\npool = "app"\nrate = { limit = "1000000/s", burst = 10000 }\n',
    nginx_http="limit_req_zone $binary_remote_addr zone=one:10m rate=1000000r/s;",
    nginx_location="limit_req zone=one burst=10000 nodelay;",
    haproxy="  stick-table type ipv6 size 100k expire 30s store http_req_rate(1s)\n"
            "  http-request track-sc0 src\n  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 1000000 }\n",
)
RULES = Front(
    lameduck="""[[route]]
pool = "app"
[route.request_headers]
set = { X-Real-IP = "{client}", X-App = "shop" }
remove = ["X-Debug"]
[route.response_headers]
set = { X-Frame-Options = "DENY" }
remove = ["X-Powered-By"]
""",
    nginx_http='proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-App shop; proxy_set_header X-Debug "";\n'
               "add_header X-Frame-Options DENY; proxy_hide_header X-Powered-By;",
    haproxy="  http-request set-header X-Real-IP %[src]\n  http-request set-header X-App shop\n"
            "  http-request del-header X-Debug\n  http-response set-header X-Frame-Options DENY\n"
            "  http-response del-header X-Powered-By\n",
    caddy_proxy="header_up X-Real-IP {remote_host}\n    header_up X-App shop\n    header_up -X-Debug\n"
                "    header_down X-Frame-Options DENY\n    header_down -X-Powered-By",
)


def guarded(file, caddy_hash=""):
    """Basic authentication of everything below /private."""
    return Front(
        lameduck=f'[[route]]\npath_prefix = "/private"\npool = "app"\nauth = {{ basic = "@LAB@/{file}" }}\n'
                 '[[route]]\npool = "app"\n',
        nginx_server=f"location /private {{ auth_basic bench; auth_basic_user_file @LAB@/{file}; "
                     "proxy_pass http://app; }",
        haproxy="  acl private path_beg /private\n  http-request auth if private !{ http_auth(people) }\n",
        caddy=f"basic_auth /private/* {{\n    bench {caddy_hash}\n  }}" if caddy_hash else "",
    )


def timed(count, **work):
    """As `requests`, of as many as two seconds have room for: some take a hash of a password for each request, or try one
    location after the other."""
    def measure(lab, proxy, options):
        began = time.monotonic()
        lab.load(proxy, 16, 32, **work)
        took = (time.monotonic() - began) / 32
        number = max(min(options.scaled(count), int(2 / took)), 32)
        got = run(lab, proxy, 16, number, **work)
        return {"cpu_us": 1e6 * got["cpu"] / number, "per_second": number / got["seconds"]}
    return measure


def file(name, count):
    work = {"work": "fetch", "size": SIZES[name], "path": f"/files/{name}.bin"}
    if SIZES[name] >= MIB:
        return bodies(count, **work)
    return requests(count, **work)


def setup(front, **more):
    return Setup(front=front, **more)


BCRYPT_ROW = {"path": "/private/hello", "authorization": AUTHORIZATION}
ROWS = {
    "plain": Row("small GET with nothing of it, for comparison", requests(40_000), REQUESTS),
    "file-1k": Row("file of 1 KiB", file("1k", 40_000), REQUESTS, setup(FILES), without=("haproxy",)),
    "file-64k": Row("file of 64 KiB", file("64k", 15_000), REQUESTS, setup(FILES), without=("haproxy",)),
    "file-1m": Row("file of 1 MiB", file("1m", 1_500), BODIES, setup(FILES), without=("haproxy",)),
    "locations": Row("small GET, each to another of 1,000 locations", timed(40_000, path="/part-*/hello", spread=MANY),
                     REQUESTS, setup(LOCATIONS)),
    "hosts": Row("small GET, each to another of 1,000 hosts", timed(40_000, host="shop-*.example.org", spread=MANY),
                 REQUESTS, setup(HOSTS)),
    "rate": Row("small GET with a rate limit for each client", requests(40_000), REQUESTS, setup(RATE),
                without=("caddy",)),
    "rules": Row("small GET with five header rules", requests(40_000), REQUESTS, setup(RULES)),
    "auth-bcrypt": Row("small GET with basic authentication, bcrypt of cost 10", timed(30_000, **BCRYPT_ROW), REQUESTS,
                       setup(guarded("bcrypt", BCRYPT)), most_rounds=3),
    "auth-sha": Row("small GET with basic authentication, SHA-1", requests(30_000, **BCRYPT_ROW), REQUESTS,
                    setup(guarded("sha")), without=("haproxy", "caddy")),
    "gzip": Row("64 KiB of JSON, compressed with gzip at level 4", requests(3_000, work="json", size=65536), REQUESTS,
                Setup(gzip=True)),
}

# What is different where.
NOTES = {
    "nginx": "no probes, no metrics; sendfile and tcp_nopush; hashes the password of each request",
    "nginx-buffered": "the same, its log in blocks of 64 KiB, and open_file_cache",
    "haproxy": "serves no files; finds hosts and locations in a map; hashes the password of each request",
    "caddy": "no rate limit in its standard build; remembers passwords",
}

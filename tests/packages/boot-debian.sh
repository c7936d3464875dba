#!/bin/bash
# Starts a Debian's systemd as PID 1 of namespaces of its own, network included: boot-debian.sh DIR DEBIAN. The Debian's files
# are below a layer that goes away with it. Ends when it is killed, and everything in it with it.
set -eu
dir=$1
debian=$2
root=$dir/root

if [ -z "${INSIDE:-}" ]; then
  # A cgroup of its own, which the namespace shows as the root.
  hierarchy=/sys/fs/cgroup
  [ "$(stat -fc %T $hierarchy)" = cgroup2fs ] || hierarchy=$hierarchy/systemd
  mkdir "$hierarchy/$(basename "$dir")"
  echo $$ >"$hierarchy/$(basename "$dir")/cgroup.procs"
  INSIDE=1 exec unshare --mount --pid --ipc --uts --net --cgroup --fork --kill-child "$0" "$@"
fi

mount --make-rprivate /
mkdir "$root" "$dir/layer"
mount -t tmpfs -o size=2g tmpfs "$dir/layer"
mkdir "$dir/layer/upper" "$dir/layer/work"
mount -t overlay overlay -o "lowerdir=$debian,upperdir=$dir/layer/upper,workdir=$dir/layer/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --rbind /sys "$root/sys"
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
# The network has nothing but a loopback, which nobody else brings up.
ip link set lo up 2>/dev/null || python3 -c '
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))'
# Units that have nothing to do here, and would wait for hardware.
for unit in systemd-udevd.service systemd-udev-trigger.service getty.target systemd-resolved.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
rmdir /old
exec env -i container=lameduck PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=false

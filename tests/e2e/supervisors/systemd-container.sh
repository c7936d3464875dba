#!/bin/bash
# Starts systemd as PID 1 of namespaces of its own: a writable view of this machine's files that goes away with it,
# its own /run, /tmp, processes and cgroups; the network is shared. As root:
#
#   systemd-container.sh DIR LAMEDUCK
#
# Ends when it is killed, and everything in it with it. DIR/units holds the only units there are; DIR/etc is laid over /etc. DIR is visible inside under its own path, and
# LAMEDUCK (the binary) as /usr/bin/lameduck.
set -eu
dir=$1
lameduck=$2
root=$dir/root

if [ -z "${INSIDE:-}" ]; then
  # A cgroup of its own, which the namespace shows as the root.
  hierarchy=/sys/fs/cgroup
  [ "$(stat -fc %T $hierarchy)" = cgroup2fs ] || hierarchy=$hierarchy/systemd
  mkdir "$hierarchy/$(basename "$dir")"
  echo $$ >"$hierarchy/$(basename "$dir")/cgroup.procs"
  INSIDE=1 exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child "$0" "$@"
fi

mount --make-rprivate /
mkdir "$root" "$dir/layer"
mount -t tmpfs tmpfs "$dir/layer"
mkdir "$dir/layer/upper" "$dir/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/layer/upper,workdir=$dir/layer/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind /sys "$root/sys"
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
mkdir -p "$root$dir"
mount --bind "$dir" "$root$dir"
cp -r "$dir/etc/." "$root/etc/"
touch "$root/usr/bin/lameduck"
mount --bind "$lameduck" "$root/usr/bin/lameduck"
for user in lameduck app; do
  chroot "$root" useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "$user"
done
# Its users write here, and find the way.
chmod 755 "$dir"
chmod 777 "$dir/journals"

cd "$root"
mkdir old
pivot_root . old
umount -l /old
exec env -i container=lameduck PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH="$dir/units" \
  /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=false

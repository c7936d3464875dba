#!/bin/sh
# Says where the files of a Debian as this machine's are, in which packages are installed: debian-root.sh DIRECTORY. Makes them
# in that directory unless they are there, which takes half a minute and Debian's archive: tests/setup.sh does that for CI.
set -eu
# Beside what each Debian has. rpm asks no other distribution for anything: scriptlets are run by the same shell, with the same
# systemctl and useradd.
included=systemd,systemd-sysv,logrotate,adduser,rpm
. /etc/os-release
# Another suite or another list is another directory.
root=$1/debian-root-$VERSION_CODENAME-$(echo "$included" | tr , -)
if [ ! -e "$root" ]; then
  rm -rf "$1/debian-root.new"
  mmdebstrap --variant=minbase --include="$included" "$VERSION_CODENAME" "$1/debian-root.new" >&2
  mv "$1/debian-root.new" "$root"
fi
echo "$root"

#!/bin/sh
# PID 1 of a laboratory kernel. Words of its command line arrive as variables:
#   lab_host     its host name                lab_python   the interpreter that runs the agent
#   lab_modules  folder with lib/modules      lab_agent    the agent
#   lab_transfer  folder through which files come and go
#   lab_addr     address/prefix of eth0, or empty
# The root is the host's file system, read-only, under an overlay whose upper layer is the node's own disk, /dev/ubda:
# what was synced there survives a power cut, what was not is lost, as on a real machine.
set -e
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH

mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir /run/disk /run/root
mount -t ext4 -o noatime /dev/ubda /run/disk
modprobe -d "$lab_modules" overlay
mkdir -p /run/disk/upper /run/disk/work
mount -t overlay -o "lowerdir=/,upperdir=/run/disk/upper,workdir=/run/disk/work" overlay /run/root

cd /run/root
mkdir -p .host lib/modules
mount --bind "$lab_modules/lib/modules" lib/modules
# pivot_root and not chroot: the kernel loads schedulers by itself, with the modprobe that its own root shows it.
pivot_root . .host
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/transfer
mount -t hostfs none /run/transfer -o "$lab_transfer"

echo "$lab_host" >/proc/sys/kernel/hostname
ip link set lo up
if [ -n "$lab_addr" ]; then
    ip link set vec0 name eth0
    ip addr add "$lab_addr" brd + dev eth0
    ip link set eth0 up
fi

set +e
"$lab_python" -I -S "$lab_agent" /dev/ttyS0
echo "agent ended with status $?: halting"
sync
echo o >/proc/sysrq-trigger
exec sleep 60

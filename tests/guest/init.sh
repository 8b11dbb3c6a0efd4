#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The first process of a guest: mounts, loads drivers of the machine, then runs what the host sends.
# A job comes over the virtio port "job" as "ID SECONDS LENGTH" and the script; "ID CODE LENGTH" and
# the script's output go back. BOOT_MODULES and GUEST_ADDRESS are filled in when the image is made.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ PAGER=cat
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /run /tmp /mnt
ln -sf /proc/self/fd /dev/fd
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm
modprobe -a -q @BOOT_MODULES@
mount -t configfs config /sys/kernel/config
hostname guest
ip link set lo up
ip link set eth0 up
ip addr add @GUEST_ADDRESS@/24 dev eth0

port=
while [ -z "$port" ]; do
  for entry in /sys/class/virtio-ports/*; do
    [ "$(cat "$entry/name" 2>/dev/null)" = job ] && port=/dev/${entry##*/}
  done
  [ -n "$port" ] || sleep 0.05
done
exec 3<>"$port"
echo "READY $(cut -d' ' -f1 /proc/uptime) $(uname -r)" >&3
while read -r id seconds length <&3; do
  [ "$id" = QUIT ] && break
  head -c "$length" <&3 >/run/job
  timeout -s KILL "$seconds" sh /run/job >/run/output 2>&1 </dev/null
  code=$?
  echo "$id $code $(stat -c %s /run/output)" >&3
  cat /run/output >&3
done
poweroff -f

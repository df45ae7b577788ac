#!/bin/busybox sh
# The first process, in the initramfs: puts a throw-away layer over the host's root file system and moves into it.
# Should a line fail, this ends, and with it the machine: the console says which.
set -ex
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order

mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro hostfs /host
mount -t tmpfs -o mode=755 tmpfs /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /union
for kernels_own in proc sys dev; do
    mkdir -p "/union/$kernels_own"
    mount -o move "/$kernels_own" "/union/$kernels_own"
done
mkdir -p /union/run
mount -t tmpfs -o mode=755 tmpfs /union/run
cp -r /guest /union/run/shaper-vm
cp /bin/busybox /union/run/shaper-vm/busybox
exec switch_root /union /bin/sh /run/shaper-vm/main.sh

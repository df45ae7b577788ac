# The first process after the move to the host's root file system: prepares the machine, then runs the commands.
# Their output goes through a pipe to the virtio port, which only one process can have open.
set -ex
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
guest=/run/shaper-vm

mkdir -p /dev/shm /dev/pts /run/lock /run/tmp /lib/modules /var/lib/docker
chmod 1777 /run/tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
echo shaper-vm >/proc/sys/kernel/hostname
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# An overlay cannot be the upper layer of another: what makes overlays of its own gets a file system that can.
mount -t tmpfs tmpfs /var/lib/docker
ln -sfn "$(cat $guest/modules)" "/lib/modules/$(uname -r)"
modprobe -a sch_fq sch_netem sch_ingress cls_bpf act_mirred veth bridge virtio_net tun
ip link set eth0 name spare
ip link set lo up
ulimit -n 65536

# The driver makes the port some time after it was loaded. With no port, this shell ends, and the kernel panics.
attempts=0
until port=$(ls /dev/vport*p1); do
    attempts=$((attempts + 1))
    [ $attempts -lt 50 ]
    sleep 0.1
done
set +ex
for script in $guest/commands/*; do
    /bin/sh "$script" </dev/null 2>&1
    printf '\036shaper-vm: exit %d\n' $?
done | cat >$port
# The host has read the last line by now or does so soon, and then ends this machine.
sleep 60
exec $guest/busybox poweroff -f

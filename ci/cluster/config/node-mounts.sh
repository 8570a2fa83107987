# Makes the file system of one node inside a fresh mount namespace, then keeps the namespace alive.
# $1 the folder of the node. Runs as root in the network namespace of the node.
set -eu
node=$1
mount --make-rprivate /

# Whatever the node writes into these folders stays with the node; what the machine has there can be read.
for dir in etc opt var/lib; do
  mkdir -p "$node/overlay/$dir/upper" "$node/overlay/$dir/work"
  mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$node/overlay/$dir/upper,workdir=$node/overlay/$dir/work" "/$dir"
done
# Plain folders, not the overlay: containerd puts overlays of its own there, and tests look into them from outside.
for dir in etc/cni etc/kubernetes opt/cni opt/containerd var/lib/cni var/lib/kubelet var/lib/containerd var/log; do
  mkdir -p "$node/fs/$dir" "/$dir"
  mount --bind "$node/fs/$dir" "/$dir"
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock

mount --bind "$node/boot_id" /proc/sys/kernel/random/boot_id
# The kubelet sets these, and they belong to the whole machine: it may set copies.
for knob in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  if [ -e "/proc/sys/$knob" ]; then
    copy="$node/sysctl/$knob"
    mkdir -p "$(dirname "$copy")"
    cat "/proc/sys/$knob" > "$copy"
    mount --bind "$copy" "/proc/sys/$knob"
  fi
done
echo 1 > /proc/sys/net/ipv4/ip_forward

# Volumes that the kubelet mounts must reach the containers that share them.
mount --make-rshared /
touch /run/node-is-mounted
exec sleep infinity

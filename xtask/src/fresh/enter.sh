# SPDX-License-Identifier: Apache-2.0
# Makes $root the root directory of this shell, with the mounts of a running machine, and runs a
# command in it:
#     unshare --mount --pid --fork --kill-child sh enter.sh COMMAND [ARGUMENT...]
# The caller puts lines before these that set $root, $rust (a toolchain) and $shared (device trees,
# or empty). The mounts belong to the namespace: they end with its last process, and the machine
# does not see them.
set -eu
# The PATH of a Debian root user. The machine's PATH may name directories that the new root lacks.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Only a mount can become the root. chroot is not enough: the kernel makes no user namespace in a
# chroot.
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount --bind -o ro "$rust" "$root/opt/rust"
if [ -n "$shared" ]; then
    mount --bind -o ro "$shared" "$root/root/shared"
fi

cd "$root"
pivot_root . mnt
umount -l /mnt
exec "$@"

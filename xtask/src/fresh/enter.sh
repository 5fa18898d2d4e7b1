# SPDX-License-Identifier: Apache-2.0
# Makes $root this shell's root, with what a running machine has mounted there, and runs a command
# in it:
#     unshare --mount --pid --fork --kill-child sh enter.sh COMMAND [ARGUMENT...]
# The lines before these set $root, $rust (a toolchain) and $shared (device trees, or nothing). The
# mounts are the namespace's: they end with its last process, and the machine does not see them.
set -eu
# What Debian calls a root's PATH. The one of the machine may name directories that the root does
# not have.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Only a mount can become the root. A chroot would not do: the kernel makes no user namespace in
# one.
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

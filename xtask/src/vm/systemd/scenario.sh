#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs as root in a Debian that systemd has booted with the package installed: uses the package as
# docs/linux.md says, removes, installs and upgrades it. The machine has the users alice, who is in
# the clients' group, and bob.
#
# A line "ANION-STEP NAME ok" reports a step that passed. mod.rs has the names. /srv/steps lists the
# steps to run here, and /srv/devices the devices below /dev that make dma-bufs.
FIRST=/srv/anion_first.deb
NEXT=/srv/anion_next.deb
SOCKET=/run/anion/allocator.sock
DEVICES=$(sed 's,^,/dev/,' /srv/devices)
export LC_ALL=C PAGER=cat SYSTEMD_PAGER=cat SYSTEMD_COLORS=0

verdict=passed

# step NAME COMMAND…: runs one step with its output, if it is in the list.
step() {
    name=$1
    shift
    grep -qx "$name" /srv/steps || return
    echo "ANION-BEGIN $name"
    if "$@"; then
        echo "ANION-STEP $name ok"
    else
        echo "ANION-STEP $name FAILED"
        verdict=FAILED
        journalctl --no-pager -b -u 'anion*' -n 40
    fi
}

# as USER COMMAND…: runs the command in a session of the user, with the user's present groups.
as() {
    user=$1
    shift
    XDG_RUNTIME_DIR="/run/user/$(id -u "$user")" setpriv --reuid "$user" --regid "$user" --init-groups "$@"
}

# eventually COMMAND…: repeats the command until it succeeds.
eventually() {
    for _ in $(seq 600); do
        "$@" && return
        sleep 0.1
    done
    echo "never: $*"
    return 1
}

# refused PATTERN COMMAND…: checks that the command fails, with this text.
refused() {
    pattern=$1
    shift
    if "$@" >/tmp/said 2>&1; then
        echo "not refused: $*"
        return 1
    fi
    cat /tmp/said
    grep -q "$pattern" /tmp/said
}

# allocates_as USER: allocates a buffer, which is a dma-buf if the kernel has a device for it.
allocates_as() {
    if [ -n "$DEVICES" ]; then
        as "$1" anionctl alloc --size 8M --require-dma-buf >/tmp/allocated 2>&1
    else
        as "$1" anionctl alloc --size 8M >/tmp/allocated 2>&1
    fi
    status=$?
    cat /tmp/allocated
    return $status
}

# Checks that udev's rules give the devices to the service's group.
devices_are_given() {
    for device in $DEVICES; do
        ls -l "$device"
        [ "$(stat -c %G:%a "$device")" = anion-devices:660 ] || return
    done
}

# Checks a plain boot: no unit waited for udev before alice allocates. The service waits for udev,
# on a busy machine longer than a client does, so a client that timed out tries again.
boots() {
    until allocates_as alice; do
        grep -q TimedOut /tmp/allocated || return
    done
    devices_are_given
}

removes() {
    dpkg -r anion || return
    refused inactive systemctl is-active anion.socket || return
    leftovers >/tmp/left
    printf '/etc/anion\n' | diff - /tmp/left || return
    [ -e /etc/anion/heaps.dts ] || return
    udevadm settle
    for device in $DEVICES; do
        ls -l "$device"
        [ "$(stat -c %G "$device")" != anion-devices ] || return
    done
    dpkg -P anion || return
    leftovers >/tmp/left
    [ ! -s /tmp/left ] || { cat /tmp/left; return 1; }
    ! getent group anion-clients anion-devices
}

# Lists files with Anion's name.
leftovers() {
    find / -xdev -name '*anion*' -not -path '/srv/*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/tmp/*' \
        -not -path '/var/lib/dpkg/info/*' | sort
    find /run -name '*anion*' -not -path '/run/systemd/*' -not -path '/run/log/*'
}

installs() {
    cd /srv && mkdir fresh && cp "$FIRST" fresh/anion_0.deb && cd fresh || return
    dpkg -i anion_*.deb || return
    cd /
    systemctl is-enabled anion.socket && systemctl is-active anion.socket || return
    refused inactive systemctl is-active anion.service || return
    ls -l "$SOCKET"
    devices_are_given || return
    [ "$(stat -c %G:%a "$SOCKET")" = anion-clients:660 ] || return
    if [ -n "$DEVICES" ]; then
        [ "$(cat /sys/module/udmabuf/parameters/size_limit_mb)" = 1024 ] || return
    fi
    dpkg -V anion
}

# The error names the group to join. After joining it, the user can allocate.
joins() {
    refused 'anion-clients (mode 0660).*usermod -aG anion-clients alice$' as alice anionctl list || return
    usermod -aG anion-clients alice
    as alice anionctl list && systemctl is-active anion.service
}

allocates() {
    if [ -n "$DEVICES" ]; then
        as alice anionctl alloc --size 8M --require-dma-buf >/tmp/allocated || return
        cat /tmp/allocated
        grep -q 'dma-heap.*yes  *yes' /tmp/allocated || return
    else
        allocates_as alice && grep -q 'memfd.*yes  *yes' /tmp/allocated || return
        refused 'not dma-bufs' as alice anionctl alloc --size 8M --require-dma-buf || return
        anionctl list
    fi
    [ "$(systemctl show -P NotifyAccess -P Type anion.service | sort | tr '\n' ' ')" = "main notify " ] || return
    systemctl show -P StatusText anion.service | grep -q "Serving at $SOCKET"
}

# may_not_open DEVICE: checks that alice cannot open the device.
may_not_open() {
    refused 'Permission denied' as alice sh -c "exec 3<>$1" && refused 'Permission denied' as alice sh -c "exec 3<$1"
}

keeps_devices() {
    for device in $DEVICES; do
        may_not_open "$device" || return
    done
}

refuses_strangers() {
    refused 'anion-clients (mode 0660).*usermod -aG anion-clients bob$' as bob anionctl alloc --size 8M --require-dma-buf
}

# Changes the configuration as an administrator does; the upgrade must keep the change. The service
# resolves the new names by the machine's libraries while it runs.
limits() {
    usermod -aG video bob
    sed -i 's/max-buffers = <4096>;/&\n some { users = "alice"; groups = "video"; max-bytes = <0x1000000>; };/' \
        /etc/anion/heaps.dts || return
    before=$(systemctl show -P MainPID anion.service)
    systemctl reload anion.service || return
    eventually limited || return
    as alice anionctl alloc --size 8M --count 2 || return
    as alice anionctl usage | grep -q '16.0 MiB' || return
    aniond --check-config /etc/anion/heaps.dts | grep 'some .*alice (1000), bob (1001)' || return
    sed -i 's/users = "alice"/users = "alice", "carol"/' /etc/anion/heaps.dts || return
    systemctl reload anion.service || return
    eventually said_of_carol || return
    sed -i 's/, "carol"//' /etc/anion/heaps.dts || return
    systemctl reload anion.service || return
    eventually limited || return
    [ "$(systemctl show -P MainPID anion.service)" = "$before" ]
}

limited() {
    refused QUOTA_EXCEEDED as alice anionctl alloc --size 8M --count 3
}

said_of_carol() {
    journalctl -u anion.service -o cat | grep 'error: /anion/clients/some: users: this machine has no user "carol"'
}

# charged BYTES: checks that alice is charged for these bytes.
charged() {
    as alice anionctl --json usage >/tmp/usage || return
    tr -d ' \n' </tmp/usage | grep -q "\"uid\":$(id -u alice),[^}]*\"bytes\":$1,"
}

# A restart by systemd keeps alice's buffers in the books. They are free once she closes them.
carries() {
    as alice anionctl alloc --size 4M --count 2 --hold 600 >/tmp/carried &
    eventually grep -q 'allocated in' /tmp/carried || return
    charged 8388608 || { cat /tmp/usage; return 1; }
    for round in 1 2; do
        before=$(systemctl show -P MainPID anion.service)
        systemctl restart anion.service || return
        [ "$(systemctl show -P MainPID anion.service)" != "$before" ] || return
        charged 8388608 || { cat /tmp/usage; return 1; }
        [ "$(systemctl show -P NFileDescriptorStore anion.service)" = 0 ] || return
    done
    journalctl -u anion.service -o cat | grep '2 buffers of the previous service are counted, with 8388608 bytes' || return
    kill "$(pidof anionctl)"
    wait
    eventually charged 0
}

restarts() {
    before=$(systemctl show -P MainPID anion.service)
    kill -9 "$before"
    allocates_as alice || return
    [ "$(systemctl show -P MainPID anion.service)" != "$before" ]
}

# Checks that the service waits for udev's pending events. At a plain boot it starts before the
# devices have their group.
settles() {
    systemctl stop anion.service
    chgrp root /dev/dma_heap/system /dev/udmabuf
    udevadm control --stop-exec-queue
    udevadm trigger --subsystem-match=dma_heap
    udevadm trigger --subsystem-match=misc --sysname-match=udmabuf
    as alice anionctl alloc --size 8M --require-dma-buf >/tmp/waiting 2>&1 &
    waiting=$!
    eventually starting
    udevadm control --start-exec-queue
    wait $waiting
    status=$?
    cat /tmp/waiting
    return $status
}

starting() {
    [ "$(systemctl is-active anion.service)" = activating ]
}

serves_a_user() {
    systemctl start user@1000.service || return
    as alice systemctl --user start anion.socket || return
    as alice anionctl alloc --size 8M || return
    as alice anionctl -vv alloc --size 4K 2>&1 | grep -q 'connected to /run/user/1000/anion/allocator.sock' || return
    as alice systemctl --user is-active anion.service || return
    as alice systemctl --user stop anion.socket anion.service || return
    as alice anionctl -vv alloc --size 4K 2>&1 | grep -q "connected to $SOCKET" || return
    systemctl stop user@1000.service
}

logs() {
    anionctl doctor
    journalctl -u anion.service >/tmp/journal || return
    grep -q "aniond\[.*Serving at $SOCKET (from systemd)" /tmp/journal || return
    journalctl -u anion.service -p warning -o cat >/tmp/warnings
    # Only the killed service ends by a signal; the system call filter kills none.
    cat /tmp/warnings
    grep -c 'status=9/KILL' /tmp/warnings | grep -qx 1 && ! grep -q status=31/SYS /tmp/warnings || return
    # Messages of the service have their own priority in the journal.
    journalctl -u anion.service -p info..info -o cat | grep -q 'Serving at'
}

is_secure() {
    systemd-analyze security --no-pager --threshold=12 anion.service >/tmp/security
    status=$?
    tail -n 1 /tmp/security
    return $status
}

upgrades() {
    as alice anionctl alloc --size 8M --hold 600 >/tmp/held &
    holder=$!
    eventually grep -q 'allocated in' /tmp/held || return
    before=$(systemctl show -P MainPID anion.service)
    dpkg -i --force-confold "$NEXT" || return
    grep -q 'users = "alice"' /etc/anion/heaps.dts || return
    kill -0 $holder || return
    [ "$(systemctl show -P MainPID anion.service)" != "$before" ] || return
    charged 8388608 || { cat /tmp/usage; return 1; }
    allocates_as alice || return
    kill $holder
    wait $holder
    dpkg-query -W -f '${Version}\n' anion | grep -q upgraded
}

step boots boots
step removes removes
step installs installs
step joins joins
step allocates allocates
step keeps-devices keeps_devices
step refuses-strangers refuses_strangers
step limits limits
step carries carries
step restarts restarts
step settles settles
step serves-a-user serves_a_user
step logs logs
step is-secure is_secure
step upgrades upgrades
echo "ANION-VERDICT $verdict"
systemctl reboot --force --force

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs as root in a Debian 13 that systemd has booted: installs the package and uses it as
# docs/linux.md describes.
#
# A line "ANION-STEP NAME ok" reports a step that passed. systemd.rs has the names.
FIRST=/srv/anion_first.deb
NEXT=/srv/anion_next.deb
SOCKET=/run/anion/allocator.sock
export LC_ALL=C PAGER=cat SYSTEMD_PAGER=cat SYSTEMD_COLORS=0

verdict=passed

# step NAME COMMAND…: runs one step and prints its output.
step() {
    name=$1
    shift
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
    runuser -u "$user" -- env XDG_RUNTIME_DIR="/run/user/$(id -u "$user")" "$@"
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

boots() {
    [ -c /dev/dma_heap/system ] && [ -c /dev/udmabuf ] || return
    useradd --create-home --uid 1000 alice && useradd --create-home --uid 1001 bob || return
    ls -l /dev/dma_heap/system /dev/udmabuf
    find / -xdev -name '*anion*' -not -path '/srv/*' -not -path '/proc/*' | sort >/srv/before
}

installs() {
    cd /srv && mkdir fresh && cp "$FIRST" fresh/anion_0.deb && cd fresh || return
    dpkg -i anion_*.deb || return
    cd /
    systemctl is-enabled anion.socket && systemctl is-active anion.socket || return
    refused inactive systemctl is-active anion.service || return
    ls -l /dev/dma_heap/system /dev/udmabuf "$SOCKET"
    [ "$(stat -c %G:%a /dev/dma_heap/system /dev/udmabuf | sort -u)" = anion-devices:660 ] || return
    [ "$(stat -c %G:%a "$SOCKET")" = anion-clients:660 ] || return
    [ "$(cat /sys/module/udmabuf/parameters/size_limit_mb)" = 1024 ] || return
    dpkg -V anion
}

# The message names the group to join; joining it helps.
joins() {
    refused 'anion-clients (mode 0660).*usermod -aG anion-clients alice$' as alice anionctl list || return
    usermod -aG anion-clients alice
    as alice anionctl list && systemctl is-active anion.service
}

allocates() {
    as alice anionctl alloc --size 8M --require-dma-buf >/tmp/allocated || return
    cat /tmp/allocated
    grep -q 'dma-heap.*yes  *yes' /tmp/allocated || return
    [ "$(systemctl show -P NotifyAccess -P Type anion.service | sort | tr '\n' ' ')" = "main notify " ] || return
    systemctl show -P StatusText anion.service | grep -q "Serving at $SOCKET"
}

# may_not_open DEVICE: checks that alice cannot open the device.
may_not_open() {
    refused 'Permission denied' as alice sh -c "exec 3<>$1" && refused 'Permission denied' as alice sh -c "exec 3<$1"
}

keeps_devices() {
    may_not_open /dev/dma_heap/system && may_not_open /dev/udmabuf
}

refuses_strangers() {
    refused 'anion-clients (mode 0660).*usermod -aG anion-clients bob$' as bob anionctl alloc --size 8M --require-dma-buf
}

# An administrator's change of the configuration, which the upgrade keeps.
limits() {
    sed -i 's/max-bytes = <0x40000000>/max-bytes = <0x1000000>/' /etc/anion/heaps.dts || return
    systemctl restart anion.service || return
    as alice anionctl alloc --size 8M --count 2 || return
    refused QUOTA_EXCEEDED as alice anionctl alloc --size 8M --count 3 || return
    as alice anionctl usage | grep -q '16.0 MiB'
}

restarts() {
    before=$(systemctl show -P MainPID anion.service)
    kill -9 "$before"
    as alice anionctl alloc --size 8M --require-dma-buf || return
    [ "$(systemctl show -P MainPID anion.service)" != "$before" ]
}

# The service waits until udev has finished: at a plain boot it starts before the devices have their
# group.
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
    # The killed service ends in this way; the system call filter ends none.
    cat /tmp/warnings
    grep -c 'status=9/KILL' /tmp/warnings | grep -qx 1 && ! grep -q status=31/SYS /tmp/warnings || return
    # Messages of the service itself have a priority of their own.
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
    grep -q 'max-bytes = <0x1000000>' /etc/anion/heaps.dts || return
    kill -0 $holder || return
    [ "$(systemctl show -P MainPID anion.service)" != "$before" ] || return
    as alice anionctl alloc --size 8M --require-dma-buf || return
    kill $holder
    wait $holder
    dpkg-query -W -f '${Version}\n' anion | grep -q upgraded
}

removes() {
    dpkg -r anion || return
    refused inactive systemctl is-active anion.socket || return
    leftovers >/tmp/left
    printf '/etc/anion\n' | diff - /tmp/left || return
    [ -e /etc/anion/heaps.dts ] || return
    udevadm settle
    ls -l /dev/dma_heap/system /dev/udmabuf
    stat -c %G /dev/dma_heap/system /dev/udmabuf | grep anion && return 1
    dpkg -P anion || return
    leftovers >/tmp/left
    [ ! -s /tmp/left ] || { cat /tmp/left; return 1; }
    ! getent group anion-clients anion-devices
}

# Lists the files named after Anion that did not exist before.
leftovers() {
    find / -xdev -name '*anion*' -not -path '/srv/*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/tmp/*' \
        -not -path '/var/lib/dpkg/info/*' | sort | comm -13 /srv/before -
    find /run -name '*anion*' -not -path '/run/systemd/*' -not -path '/run/log/*'
}

step boots boots
step installs installs
step joins joins
step allocates allocates
step keeps-devices keeps_devices
step refuses-strangers refuses_strangers
step limits limits
step restarts restarts
step settles settles
step serves-a-user serves_a_user
step logs logs
step is-secure is_secure
step upgrades upgrades
step removes removes
echo "ANION-VERDICT $verdict"
systemctl reboot --force --force

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
# Bytes of a buffer of the camera pipeline.
FRAME=3112960
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

# frames: prints how many frames of the pipeline have arrived.
frames() {
    grep -c '^frame ' /tmp/streamed
}

# reach NUMBER: checks that so many frames have arrived.
reach() {
    [ "$(frames)" -ge "$1" ]
}

# Waits until more frames have arrived than the pipeline has buffers in its ring.
flows() {
    eventually reach $(($(frames) + 5))
}

# Starts the camera pipeline as alice, slow enough for an emulated machine. It replaces its buffers
# and ends with its input.
begins_to_stream() {
    rm -f /tmp/until && mkfifo /tmp/until || return
    as alice camera_pipeline --until-closed --frames 1 --rate 2 --replace 2 </tmp/until >/tmp/streamed 2>&1 &
    pipeline=$!
    exec 3>/tmp/until
    flows
}

# counts: checks that the service knows each buffer that a process of alice has, that a process has
# each buffer that the service knows, and that alice is charged for them.
counts() {
    as alice anionctl holders --csv >/tmp/holders || return
    held=$(awk -F, 'NR > 1 && ($3 == "" || $8 == "") { wrong = 1 }
        NR > 1 && !known[$1]++ { count++ }
        END { if (!wrong) print count }' /tmp/holders)
    [ "${held:-0}" -ge 4 ] && charged $((held * FRAME))
}

# Checks the books while the pipeline is stopped. A release is detected within a second. A reply
# that is not read yet has a buffer that no process has.
is_exact() {
    kill -STOP $(pidof camera_pipeline)
    for _ in 1 2 3; do
        counts && break
    done
    status=$?
    kill -CONT $(pidof camera_pipeline)
    return $status
}

# stays COMMAND…: runs a command that restarts the service while frames flow. Whenever alice looks
# meanwhile, the buffers of the ring are in the books.
stays() {
    before=$(systemctl show -P MainPID anion.service)
    "$@" >/tmp/restarted 2>&1 &
    restart=$!
    looks=0
    while kill -0 $restart 2>/dev/null; do
        as alice anionctl --json usage >/tmp/usage 2>&1 || { cat /tmp/usage; return 1; }
        held=$(tr -d ' \n' </tmp/usage | sed -n "s/.*\"uid\":$(id -u alice),[^}]*\"bytes\":\([0-9]*\),.*/\1/p")
        [ "${held:-0}" -ge $((4 * FRAME)) ] || { cat /tmp/usage; return 1; }
        looks=$((looks + 1))
        sleep 4
    done
    wait $restart || { cat /tmp/restarted; return 1; }
    [ "$(systemctl show -P MainPID anion.service)" != "$before" ] || return
    echo "$looks looks during the restart, $(frames) frames since the start"
    flows && eventually is_exact || { cat /tmp/holders /tmp/usage; return 1; }
}

# Ends the pipeline. It must report every frame in order with its bytes, replaced buffers and one
# restart, and leave nothing in the books and in the store of systemd.
ends() {
    exec 3>&-
    wait $pipeline
    status=$?
    tail -n 8 /tmp/streamed
    [ $status = 0 ] || return
    awk '/^frame / && $2 != ++count "," { exit 1 }' /tmp/streamed || return
    grep -qx "$(frames) frames arrived in order with every byte; [1-9][0-9]* buffers were replaced; the service \
was started again 1 times" /tmp/streamed || return
    eventually charged 0 && [ "$(systemctl show -P NFileDescriptorStore anion.service)" = 0 ]
}

# Checks that alice may hold as much as the pipeline needs.
has_room() {
    as alice anionctl usage | grep -q '64.0 MiB'
}

# A restart loses no frame of a pipeline that allocates meanwhile.
streams() {
    sed -i 's/max-bytes = <0x1000000>/max-bytes = <0x4000000>/' /etc/anion/heaps.dts || return
    systemctl reload anion.service || return
    eventually has_room || return
    begins_to_stream || { cat /tmp/streamed; return 1; }
    stays systemctl restart anion.service || return
    ends
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

# An upgrade loses no frame, either.
upgrades() {
    begins_to_stream || { cat /tmp/streamed; return 1; }
    stays dpkg -i --force-confold "$NEXT" || return
    cat /tmp/restarted
    grep -q 'users = "alice"' /etc/anion/heaps.dts || return
    ends || return
    allocates_as alice || return
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
step streams streams
step restarts restarts
step settles settles
step serves-a-user serves_a_user
step logs logs
step is-secure is_secure
step upgrades upgrades
echo "ANION-VERDICT $verdict"
systemctl reboot --force --force

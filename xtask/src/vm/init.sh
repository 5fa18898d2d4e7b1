#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The guest's init: runs the steps that guest.rs expects on this kernel, reports the result of each,
# and stops the machine.

SERVICE=vendor.anion.allocator.IHeapAllocator/default
HEAPS=/etc/anion/heaps.dts
SOCKET=/run/anion/allocator.sock
GRAPHICS_SOCKET=/run/anion/graphics.sock
FALLBACK_SOCKET=/run/anion/fallback.sock
GROUP=/sys/fs/cgroup/anion
GROUP_SOCKET=/run/anion/group.sock
LOGS=/tmp/logs
# MiB of swap space.
SWAP=256
verdict=passed

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
# The kernel leaves its first root writable by all users, and rsb_hub trusts no configuration below
# such a directory.
chmod 0755 /
mkdir -p /dev/shm "$LOGS"
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# Kernel messages would appear in the middle of the programs' lines; panics still appear.
dmesg -n 1
# The serial console reports no size; tables would have zero columns.
stty cols 120
# Programs start with the limits that a service manager sets: a low limit that they may raise.
ulimit -Hn 65536
ulimit -Sn 1024
export RUST_BACKTRACE=1
# A seccomp filter confines every service, so each call that it makes here is in its policy.
export ANION_SECCOMP=built-in

# as USER COMMAND…: executes the command as that user.
as() {
    user=$1
    shift
    exec su -s /bin/sh "$user" -c "exec $*"
}

# run_as USER COMMAND…: runs the command as that user.
run_as() (
    as "$@"
)

# Prints the whole seconds since the guest started.
uptime_seconds() {
    read -r now _ </proc/uptime
    echo "${now%.*}"
}

# eventually SECONDS COMMAND…: repeats the command until it succeeds.
eventually() {
    deadline=$(($(uptime_seconds) + $1))
    shift
    until "$@" >/tmp/last-try 2>&1; do
        if [ "$(uptime_seconds)" -gt "$deadline" ]; then
            echo "gave up on: $*"
            cat /tmp/last-try
            return 1
        fi
        usleep 100000
    done
}

finish() {
    # The script exists only if the run observes the service.
    [ ! -e /etc/guest/observe.sh ] || . /etc/guest/observe.sh || verdict=FAILED
    echo "ANION-VERDICT $verdict"
    reboot -f
}

# step NAME COMMAND…: runs the step and reports its result, if this kernel's list has it.
step() {
    name=$1
    grep -qx "$name" /etc/guest/steps || return 0
    shift
    echo "ANION-BEGIN $name"
    if "$@"; then
        echo "ANION-STEP $name ok"
    else
        rc=$?
        verdict=FAILED
        for log in "$LOGS"/*; do
            echo "--- end of $log"
            tail -n 40 "$log"
        done
        echo "--- end of the kernel log"
        dmesg | tail -n 20
        echo "ANION-STEP $name FAILED ($rc)"
        return 1
    fi
}

prepare_devices() {
    cat /proc/version
    for module in /modules/*; do
        [ ! -e "$module" ] || insmod "$module" || return
    done
    mkdir /dev/binderfs || return
    if grep -qw binder /proc/filesystems; then
        mount -t binder binder /dev/binderfs || return
        for device in binder hwbinder vndbinder; do
            ln -s "binderfs/$device" "/dev/$device" || return
        done
    else
        # rsb_hub reads only this file.
        ln -s ../binder /dev/binderfs/binder || return
    fi
    check_page && list_devices
}

# Checks that the page size is the expected one of this kernel.
check_page() {
    grep -m 1 KernelPageSize /proc/self/smaps >/tmp/page && cat /tmp/page || return
    grep -qw "$(cat /etc/guest/page) kB" /tmp/page
}

# Prints a line for each device. Checks that the devices are the expected ones of this kernel.
list_devices() {
    found=
    for device in ashmem binder $(cd /dev && echo dma_heap/*) hwbinder ion udmabuf vndbinder; do
        if [ -c "/dev/$device" ]; then
            echo "device /dev/$device: present"
            chmod 0666 "/dev/$device" || return
            found="$found$device
"
        else
            echo "device /dev/$device: absent"
        fi
    done
    for pages in /sys/kernel/mm/hugepages/hugepages-*; do
        if [ -d "$pages" ]; then
            echo "huge pages of ${pages##*-}: present"
        else
            echo "huge pages: absent"
        fi
    done
    if [ "$found" != "$(cat /etc/guest/devices)
" ]; then
        echo "these devices were expected:"
        cat /etc/guest/devices
        return 1
    fi
}

check_device_tree() {
    aniond --check-config /proc/device-tree >/tmp/device-tree 2>&1
    rc=$?
    cat /tmp/device-tree
    [ "$rc" = 0 ] || return
    grep -q closed /tmp/device-tree
}

start_hub() {
    rsb_hub >>"$LOGS/hub" 2>&1 &
    hub=$!
    eventually 180 rsb_service list
}

serve_binder() {
    aniond --check-config "$HEAPS" || return
    as anion aniond --config "$HEAPS" --transport binder --graphics >>"$LOGS/aniond-binder" 2>&1 &
    daemon=$!
    eventually 180 rsb_service check "$SERVICE" && run_as alice anionctl list --binder || return
    grep "system calls are allowed" "$LOGS/aniond-binder"
}

# vts USER ENDPOINT ARGUMENTS…: runs the conformance suite. 100 rounds of 2 MiB are three times the
# memory that may be charged and not held; the step churn has more rounds.
vts() {
    user=$1
    endpoint=$2
    shift 2
    run_as "$user" anion-vts --endpoint "$endpoint" --rounds 100 --color never "$@"
}

# Arguments that add the suites of the graphics allocator and of the mapper.
GRAPHICS="--graphics binder --mapper /bin/mapper.anion.so"

# Runs only these two suites. Other kernels run the rest.
vts_graphics() {
    vts alice binder $GRAPHICS graphics_ && vts alice binder $GRAPHICS mapper::
}

# Runs the suite for two uids at once. Each output has its own file, since it ends with a summary.
vts_both() {
    vts alice binder $GRAPHICS >/tmp/vts-alice 2>&1 &
    alice=$!
    vts bob binder --graphics binder >/tmp/vts-bob 2>&1 &
    bob=$!
    rc=0
    wait "$alice" || rc=$?
    wait "$bob" || rc=$?
    cat /tmp/vts-alice /tmp/vts-bob
    return "$rc"
}

# A client allocates and closes repeatedly. The service must not need more memory than the small
# guest has.
churn() {
    run_as alice anion-vts --endpoint binder --rounds 800 --color never releases_keep_pace_with_allocations
}

# alice pins pages and releases the buffers; bob must not get these pages. Both are child processes
# of the suite.
attack_domains() {
    anion-vts --endpoint binder --uids 1000,2000 --color never _by_one_uid_never
}

# Makes the same calls to all heaps, and compares the answers with the table.
compare_answers() {
    run_as alice anion-contract --endpoint binder --require "$(cat /etc/guest/parties)" --color never
}

restart_hub() {
    kill "$hub" && wait "$hub"
    if rsb_service list >/dev/null 2>&1; then
        echo "the hub was stopped, but something still answers"
        return 1
    fi
    start_hub && eventually 180 run_as alice anionctl list --binder
}

usage_is() {
    run_as alice anionctl usage --json --binder >/tmp/usage || return
    case $1 in
        0) ! grep -q '"bytes": *[1-9]' /tmp/usage ;;
        *) grep -q "\"bytes\": *$1\\b" /tmp/usage ;;
    esac
}

kill_holder() {
    as alice anionctl alloc --size 8M --hold 1h --binder >>"$LOGS/holder" 2>&1 &
    holder=$!
    eventually 180 usage_is 8388608 || return
    kill -9 "$holder"
    wait "$holder"
    eventually 180 usage_is 0
}

dump_service() {
    rsb_service dump "$SERVICE" >/tmp/dump || return
    cat /tmp/dump
    grep -q system /tmp/dump
}

# The service manager refuses this name of the graphics allocator, so the service serves both
# interfaces over sockets and registers neither.
serve_socket() {
    mkdir -p "${SOCKET%/*}" && chown anion:anion "${SOCKET%/*}" || return
    as anion aniond --config "$HEAPS" --transport auto --socket "$SOCKET" --socket-mode 0666 \
        --graphics=refused --graphics-socket "$GRAPHICS_SOCKET" >>"$LOGS/aniond-socket" 2>&1 &
    daemon=$!
    eventually 180 run_as alice anionctl list --socket "$SOCKET" || return
    grep 'kernel binder is not used: .* refuses .*IAllocator/refused' "$LOGS/aniond-socket" || return
    if rsb_service check "$SERVICE"; then
        echo "the heaps are registered without the graphics allocator"
        return 1
    fi
}

# Tests the mapper with dma-bufs that came over a socket. In this guest the suite runs with dma-bufs
# over binder; outside of guests it runs over a socket.
vts_socket() {
    run_as bob anion-vts --endpoint "unix:$SOCKET" --mapper /bin/mapper.anion.so \
        --graphics "unix:$GRAPHICS_SOCKET" --color never mapper::
}

stop_daemon() {
    kill "$daemon" && wait "$daemon"
}

stop_socket() {
    stop_daemon || return
    if [ -e "$SOCKET" ]; then
        echo "the socket was left behind"
        return 1
    fi
}

# Runs the suite in another binder context, which has its own service manager.
vts_vndbinder() {
    rsb_hub --device vndbinder >>"$LOGS/hub-vndbinder" 2>&1 &
    hub=$!
    eventually 180 rsb_service --device vndbinder list || return
    as anion aniond --config "$HEAPS" --transport binder --binder-device /dev/vndbinder \
        >>"$LOGS/aniond-vndbinder" 2>&1 &
    daemon=$!
    eventually 180 rsb_service --device vndbinder check "$SERVICE" || return
    vts alice binder:/dev/vndbinder && stop_daemon && kill "$hub" && wait "$hub"
}

# Runs the benchmarks. Only the ratios are meaningful, since the guest is emulated. Only root may
# raise the limit of descriptors this far.
run_bench() {
    # The filter is not part of the measurement.
    unset ANION_SECCOMP
    ulimit -Hn 300000 && ulimit -Sn 300000 || return
    # Twice the number of huge pages that the benchmark needs at once.
    echo 64 >/proc/sys/vm/nr_hugepages
    # The hub permits no other server.
    export ANION_BENCH_SERVICE=/bin/aniond
    for part in $(cat /etc/guest/bench); do
        run_as anion anion-bench "$part" || return
    done
}

. /etc/guest/doctor.sh
. /etc/guest/pressure.sh
. /etc/guest/fallback.sh
. /etc/guest/foreign.sh
. /etc/guest/pictures.sh
. /etc/guest/chaos.sh
# Where the policy is enforced.
[ ! -e /etc/guest/selinux.sh ] || . /etc/guest/selinux.sh

# If a step with `finish` fails, the steps after it would prove nothing.
step devices prepare_devices || finish
step device-tree check_device_tree
step hub start_hub || finish
step serve-binder serve_binder || finish
step doctor examine
step vts-binder-alice vts alice binder $GRAPHICS
step vts-binder-both vts_both
step vts-graphics vts_graphics
step churn churn
step domains attack_domains
step contract compare_answers
step hub-restart restart_hub || finish
step holder-killed kill_holder
step dump dump_service
step foreign ask_as_foreigner
step pictures show_pictures
step display show_display
step stop-binder stop_daemon
step serve-socket serve_socket || finish
step vts-socket-bob vts_socket
step pressure squeeze
step cgroup limit_group
step stop-socket stop_socket
step vts-vndbinder vts_vndbinder
step fallback fall_back
step limits raise_limits
# Not before the limits: services of root raise them here, too.
step chaos run_chaos
step closed-devices close_devices
# The last step that needs devices: they do not come back.
step vanished-devices lose_devices
step enforce enforce_policy || finish
step enforced-suites enforced_suites
step strangers refuse_strangers
step denials compare_denials
step bench run_bench
finish

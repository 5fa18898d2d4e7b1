# SPDX-License-Identifier: Apache-2.0
# init.sh sources this file: steps in which memory is scarce, in the machine or in a cgroup.

# mebibytes FIELD: prints a field of /proc/meminfo in MiB.
mebibytes() {
    while read -r field kib _; do
        if [ "$field" = "$1:" ]; then
            echo $((kib / 1024))
        fi
    done </proc/meminfo
}

# pooled SOCKET: prints the MiB in the pool of the service's system heap.
pooled() {
    run_as alice anionctl dump --heap system --socket "$1" >/tmp/heap || return
    line=$(grep '^ion/system/pooled_bytes: ' /tmp/heap) || return
    echo $((${line##* } >> 20))
}

pooled_is_at_least() {
    [ "$(pooled "$1")" -ge "$2" ]
}

# alloc SOCKET ARGUMENTS…: alice allocates and uses buffers of the system heap.
alloc() {
    socket=$1
    shift
    as alice anionctl alloc --heap system --socket "$socket" "$@"
}

# Fills a file in memory, until only the size of the future pool and 100 MiB are left.
start_hog() {
    echo "${SWAP}M" >/sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0 || return
    mount -o remount,size=100% /dev/shm || return
    dd if=/dev/zero of=/dev/shm/hog bs=1M count=$(($(mebibytes MemAvailable) - 300 - 100))
}

# Fills the file further in small steps, beyond the memory that is left without the pool.
feed_hog() {
    rest=$((100 + SWAP + 100))
    while [ "$rest" -gt 0 ]; do
        dd if=/dev/zero bs=1M count=4 >>/dev/shm/hog 2>/tmp/last-dd || return
        rest=$((rest - 4))
        if [ $((rest % 40)) -eq 0 ]; then
            (alloc "$SOCKET" --size 1M) >/tmp/last-alloc || return
        fi
        usleep 50000
    done
}

gave_way() {
    grep 'memory is scarce: heap system returned' "$LOGS/aniond-socket" && pooled_is_at_most "$SOCKET" 299
}

squeeze_pool() {
    # Memory that the suite left in the pool would take the place of memory that is pooled now, and
    # would then expire.
    run_as alice anionctl trim --socket "$SOCKET" || return
    start_hog && (alloc "$SOCKET" --size 20M --count 15) && eventually 180 pooled_is_at_least "$SOCKET" 300 || return
    feed_hog || return
    cat /proc/pressure/memory /proc/swaps
    # The process that holds the memory may have to wait for a processor.
    eventually 180 gave_way
}

# Checks that the pool shrinks when memory is scarce, and that no process is killed.
squeeze() {
    rc=0
    squeeze_pool || rc=$?
    rm /dev/shm/hog && swapoff /dev/zram0 && (alloc "$SOCKET" --size 20M) && return "$rc"
}

# is_calm SOCKET: returns whether the service reports no pressure. Under critical pressure it would
# pool nothing.
is_calm() {
    run_as alice anionctl dump --socket "$1" >/tmp/calm && grep -q '^memory pressure: none' /tmp/calm
}

# in_group COMMAND…: runs the command in the limited cgroup.
in_group() {
    echo 0 >"$GROUP/cgroup.procs" && "$@"
}

pooled_is_at_most() {
    [ "$(pooled "$1")" -le "$2" ]
}

# Checks that the pool shrinks when the service's cgroup is full, while the machine has free memory.
fill_group() {
    (in_group alloc "$GROUP_SOCKET" --size 10M --count 6) >/tmp/last-alloc || return
    eventually 180 pooled_is_at_least "$GROUP_SOCKET" 60 || return
    echo 40M >"$GROUP/memory.high" || return
    # An allocation above the limit makes the kernel count an event. It is small, since the process
    # is throttled until the pool shrinks.
    (in_group alloc "$GROUP_SOCKET" --size 64K) >/tmp/last-alloc || return
    eventually 180 pooled_is_at_most "$GROUP_SOCKET" 40 || return
    cat "$GROUP/memory.events"
    if [ "$(mebibytes MemAvailable)" -lt 300 ]; then
        echo "the machine has not enough memory to prove it"
        return 1
    fi
    # bob's listener received the level, even if the level has ended.
    grep 'memory is scarce: heap system returned' "$LOGS/aniond-group" &&
        eventually 180 grep -qE '"pressure_peak":"(moderate|critical)"' /tmp/watch
}

limit_group() {
    mount -t cgroup2 cgroup2 /sys/fs/cgroup && echo +memory >/sys/fs/cgroup/cgroup.subtree_control || return
    mkdir "$GROUP" || return
    in_group as anion aniond --config "$HEAPS" --socket "$GROUP_SOCKET" --socket-mode 0666 >>"$LOGS/aniond-group" 2>&1 &
    grouped=$!
    eventually 180 run_as alice anionctl list --socket "$GROUP_SOCKET" || return
    eventually 180 is_calm "$GROUP_SOCKET" || return
    as bob anionctl watch --json --interval 500ms --socket "$GROUP_SOCKET" >/tmp/watch 2>>"$LOGS/watch" &
    watch=$!
    rc=0
    fill_group || rc=$?
    # The listener ends first: it would fail without its service.
    kill "$watch" && wait "$watch" && kill "$grouped" && wait "$grouped" && return "$rc"
}

# SPDX-License-Identifier: Apache-2.0
# init.sh sources this file: steps with devices that are missing, not permitted, or disappear.

# Starts a service whose heaps use the first device that works.
serve_fallback() {
    mkdir -p "${FALLBACK_SOCKET%/*}" && chown anion:anion "${FALLBACK_SOCKET%/*}" || return
    as anion aniond --config /etc/anion/fallback.dts --socket "$FALLBACK_SOCKET" --socket-mode 0666 \
        >>"$LOGS/aniond-fallback" 2>&1 &
    daemon=$!
    eventually 180 run_as alice anionctl list --socket "$FALLBACK_SOCKET"
}

# Reads lines `HEAP BACKING`, and checks that the heap gives a buffer with this backing; if the
# backing is `none`, that the allocation fails with an error that names the heap.
check_backings() {
    run_as alice anionctl list --socket "$FALLBACK_SOCKET" || return
    while read -r heap backing; do
        run_as alice anionctl alloc --heap "$heap" --size 1M --socket "$FALLBACK_SOCKET" >/tmp/got 2>&1
        rc=$?
        cat /tmp/got
        case $backing in
            none) [ "$rc" != 0 ] && grep -q "$heap" /tmp/got ;;
            *) [ "$rc" = 0 ] && grep -qw "$backing" /tmp/got ;;
        esac || {
            echo "heap $heap was to be served by: $backing"
            return 1
        }
    done
}

# check_reasons REASON…: checks that the log and the dump contain the reasons for skipped sources.
check_reasons() {
    run_as alice anionctl dump --socket "$FALLBACK_SOCKET" >/tmp/reasons || return
    for reason; do
        grep "$reason" /tmp/reasons && grep -q "$reason" "$LOGS/aniond-fallback" || {
            echo "neither dump nor log tells: $reason"
            return 1
        }
    done
}

# Checks that the log names a device that exists and gives no memory. The heap keeps the device,
# since other processes may release memory.
check_dry() {
    grep -q "^contiguous none" /etc/guest/backings && ls /dev/dma_heap | grep -qv "^system" || return 0
    grep "heap contiguous: .* had no free memory" "$LOGS/aniond-fallback"
}

fall_back() {
    serve_fallback && check_backings </etc/guest/backings && check_dry && stop_daemon
}

# Checks that a service of root raises udmabuf's limits: it gives buffers above the module's default
# of 64 MiB.
raise_limits() {
    parameters=/sys/module/udmabuf/parameters
    socket=/run/raised.sock
    echo "before: $(cat $parameters/size_limit_mb) MiB in $(cat $parameters/list_limit) ranges"
    [ "$(cat $parameters/size_limit_mb)" = 64 ] || return
    aniond --config /etc/anion/fallback.dts --socket $socket --socket-mode 0666 >>"$LOGS/aniond-raised" 2>&1 &
    daemon=$!
    eventually 180 run_as alice anionctl list --socket $socket || return
    echo "now: $(cat $parameters/size_limit_mb) MiB in $(cat $parameters/list_limit) ranges"
    [ "$(cat $parameters/size_limit_mb)" -gt 64 ] && [ "$(cat $parameters/list_limit)" = 65536 ] || return
    run_as alice anionctl alloc --heap ordered --size 80M --socket $socket >/tmp/got 2>&1
    rc=$?
    cat /tmp/got
    [ "$rc" = 0 ] && grep -qw udmabuf /tmp/got && stop_daemon
}

# expected_late BACKINGS: prints the backings of the heaps after a running service got access to the
# devices. Memory that was set aside is not replaced.
expected_late() {
    sed 's/^anyhow .*/anyhow memfd/' "$1"
}

# Checks that the running service uses devices that became accessible.
served_late() {
    expected_late /etc/guest/backings >/tmp/late
    eventually 180 check_backings </tmp/late && grep "now uses" "$LOGS/aniond-fallback"
}

# Starts the service while it may not open the nodes, then permits it.
close_devices() {
    (cd /dev && chmod 0600 $(grep -v binder /etc/guest/devices)) || return
    : >"$LOGS/aniond-fallback"
    rc=0
    serve_fallback && check_backings <<END && check_reasons "Permission denied" || rc=$?
whatever memfd
ordered memfd
strict none
contiguous none
anyhow memfd
END
    (cd /dev && chmod 0666 $(grep -v binder /etc/guest/devices)) && [ "$rc" = 0 ] && served_late || rc=$?
    stop_daemon && return "$rc"
}

fallback_usage_is() {
    run_as alice anionctl usage --json --socket "$FALLBACK_SOCKET" >/tmp/usage || return
    case $1 in
        0) ! grep -q '"bytes": *[1-9]' /tmp/usage ;;
        *) grep -q "\"bytes\": *$1\\b" /tmp/usage ;;
    esac
}

# Removes the nodes while buffers are live: the service still makes buffers, and detects releases.
# Then starts a service without the devices.
lose_devices() {
    serve_fallback || return
    as alice anionctl alloc --heap whatever --size 8M --hold 1h --socket "$FALLBACK_SOCKET" >>"$LOGS/holder" 2>&1 &
    holder=$!
    eventually 180 fallback_usage_is 8388608 || return
    (cd /dev && rm $(grep -v binder /etc/guest/devices)) || return
    check_backings </etc/guest/backings || return
    kill "$holder"
    wait "$holder"
    eventually 180 fallback_usage_is 0 && stop_daemon || return
    : >"$LOGS/aniond-fallback"
    serve_fallback && check_backings <<END && check_reasons "No such file" && stop_daemon
whatever memfd
ordered memfd
strict none
contiguous none
anyhow memfd
END
}

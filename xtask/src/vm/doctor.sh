# SPDX-License-Identifier: Apache-2.0
# init.sh sources this file: checks that `anionctl doctor` finds the devices of this kernel, and
# predicts which heaps the service can serve.

# unavailable FILE: prints the names of the heaps that a table lists as unavailable.
unavailable() {
    sed -n 's/^ *[0-9][0-9]*  *\([^ ]*\) .* unavailable:.*/\1/p' "$1"
}

# Runs the doctor as the service's user, while the service runs. It exits with 4, since at least one
# heap is unavailable: no kernel has its device.
examine() {
    rc=0
    run_as anion anionctl doctor --all --binder --config "$HEAPS" >/tmp/doctor || rc=$?
    cat /tmp/doctor
    if [ "$rc" != 4 ]; then
        echo "it ended with $rc"
        return 1
    fi
    while read -r device; do
        case $device in
            dma_heap/*) what="dma-heap ${device#*/}" ;;
            *binder) what="$device device" ;;
            *) what=$device ;;
        esac
        if ! grep -qE "^(ok|limited) +$what: " /tmp/doctor; then
            echo "$device was not found"
            return 1
        fi
    done </etc/guest/devices
    grep -qE '^ok +service manager: ' /tmp/doctor && grep -qE '^ok +release of memfds: ' /tmp/doctor || return
    run_as alice anionctl list --binder >/tmp/list || return
    if [ "$(unavailable /tmp/doctor)" != "$(unavailable /tmp/list)" ]; then
        echo "the service says otherwise:"
        cat /tmp/list
        return 1
    fi
}

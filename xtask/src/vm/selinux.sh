# SPDX-License-Identifier: Apache-2.0
# Enforces the policy of sepolicy/: the service runs in the domain that init's rule selects, clients
# in domains of their own. The denials are compared with the expected ones.

# as_domain USER CONTEXT COMMAND…: executes the command as that user in that context.
as_domain() {
    user=$1
    context=$2
    shift 2
    exec su -s /bin/sh "$user" -c "echo -n $context >/proc/self/attr/exec && exec $*"
}

# in_domain USER CONTEXT COMMAND…: runs the command as that user in that context.
in_domain() (
    as_domain "$@"
)

# Sets the labels of /etc/selinux/labels, and those of the guest's own files, which no rule of Anion
# is about.
label_files() {
    find /bin -type f -exec setfilecon u:object_r:guest_program_exec:s0 {} + || return
    find /lib /lib64 /usr -type f -exec setfilecon u:object_r:system_file:s0 {} + || return
    setfilecon u:object_r:guest_log:s0 /tmp "$LOGS" || return
    while read -r path context; do
        setfilecon "$context" "$path" || return
    done </etc/selinux/labels
}

enforce_policy() {
    mount -t selinuxfs selinuxfs /sys/fs/selinux || return
    mkdir -p /vendor/bin/hw /vendor/etc/anion /vendor/lib64/hw || return
    mv /bin/aniond /vendor/bin/hw/vendor.anion.allocator-service || return
    mv /bin/mapper.anion.so /vendor/lib64/hw/ && mv "$HEAPS" /vendor/etc/anion/ || return
    # The kernel takes a policy, and a context without end of line, only in one write.
    /bin/dd if=/etc/selinux/policy of=/sys/fs/selinux/load bs=64M count=1 || return
    # No denial is left out of the log.
    echo 0 >/proc/sys/kernel/printk_ratelimit
    label_files || return
    echo -n u:r:init:s0 >/proc/self/attr/current && cat /proc/self/attr/current || return
    echo 1 >/sys/fs/selinux/enforce || return
    as_domain root u:r:servicemanager:s0 rsb_hub >>"$LOGS/hub" 2>&1 &
    hub=$!
    eventually 180 rsb_service list || return
    # As init.rc starts it.
    as anion /vendor/bin/hw/vendor.anion.allocator-service --transport binder \
        --config /vendor/etc/anion/heaps.dts --cgroup none --graphics >>"$LOGS/aniond" 2>&1 &
    daemon=$!
    eventually 180 rsb_service check "$SERVICE" || return
    cat "/proc/$daemon/attr/current"
    grep -q u:r:hal_anion_default:s0 "/proc/$daemon/attr/current"
}

# suite USER CONTEXT ARGUMENTS…: runs the conformance suite, without the tests to skip.
suite() {
    user=$1
    context=$2
    shift 2
    in_domain "$user" "$context" anion-vts --endpoint binder --rounds 60 --color never \
        $(cat /etc/guest/skipped) "$@"
}

# Runs the suites as a client of the allocator, and as an application that is a client of the
# graphics allocator. The application has categories, and maps the metadata of buffers, which are
# memfds, for writing.
enforced_suites() {
    suite alice u:r:hal_camera_default:s0 || return
    set -- bob u:r:graphics_app:s0:c1,c2 --graphics binder --mapper /vendor/lib64/hw/mapper.anion.so
    suite "$@" graphics_ && suite "$@" mapper::
}

# refused USER CONTEXT COMMAND…: checks that the command fails.
refused() {
    if in_domain "$@" >/tmp/refused 2>&1; then
        echo "not refused: $*"
        return 1
    fi
    cat /tmp/refused
}

# A client cannot open a buffer again or change its mode, also with the service's uid, which the
# file's mode permits.
reopen_buffer() {
    as_domain anion u:r:hal_camera_default:s0 anionctl alloc --heap system --size 8M --hold 1h \
        --binder >>"$LOGS/holder" 2>&1 &
    holder=$!
    eventually 180 held_buffer || return
    buffer=$(held_buffer)
    refused anion u:r:hal_camera_default:s0 /bin/dd if="$buffer" of=/dev/null count=1 || return
    refused anion u:r:hal_camera_default:s0 /bin/chmod 0666 "$buffer" || return
    kill "$holder"
}

# Prints the path of the buffer that the holder has.
held_buffer() {
    for file in "/proc/$holder/fd"/*; do
        case $(readlink "$file") in
            /memfd:anion:*)
                echo "$file"
                return
                ;;
        esac
    done
    return 1
}

# Domains that are no clients are refused.
refuse_strangers() {
    for context in u:r:untrusted_app:s0:c3,c4 u:r:shell:s0 u:r:hal_light_default:s0; do
        refused bob $context anionctl list --binder || return
    done
    # A client gets memory only from the service.
    refused root u:r:hal_camera_default:s0 /bin/dd if=/dev/dma_heap/system of=/dev/null count=0 || return
    refused root u:r:untrusted_app:s0:c3,c4 /bin/dd if=/dev/udmabuf of=/dev/null count=0 || return
    reopen_buffer
}

# The last step: it compares the denials in the kernel's log with the expected ones, each as a line
# of domain, type, class and permissions. Those of init and of the kernel, which run the script, are
# not enforced.
compare_denials() {
    kill "$daemon" && wait "$daemon" || return
    if dmesg | grep -e audit_lost -e 'kauditd_printk_skb: .* suppressed'; then
        echo "the log lacks denials"
        return 1
    fi
    dmesg | grep 'avc:  denied .* permissive=0$' >/tmp/avc
    sed -E -n 's/.*\{ (.*) \} .* scontext=u:r:(\w+):.* tcontext=u:\w+:(\w+):.* tclass=(\w+) .*/\2 \3 \4 \1/p' \
        /tmp/avc | sort -u >/tmp/denials
    sort -u /etc/selinux/denials >/tmp/expected
    diff /tmp/expected /tmp/denials && return
    echo "denied (+), or expected and not denied (-); in full:"
    cat /tmp/avc
    return 1
}

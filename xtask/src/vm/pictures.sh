# SPDX-License-Identifier: Apache-2.0
# Read in by init.sh: a camera of the kernel fills buffers, a graphics device gets them, a display shows them.

# Bytes of a buffer of 640×480 pixels of 4 bytes, of the camera's 4 and of the display's 3.
PICTURE=$((640 * 480 * 4))
RING=$((4 * PICTURE))
SHOWN=$((3 * PICTURE))

# Does so once: two steps need them.
insert_picture_modules() {
    [ ! -d /sys/module/vgem ] || return 0
    for module in /pictures/*; do
        [ ! -e "$module" ] || insmod "$module" || return
    done
    chmod 0666 /dev/video0 /dev/dri/card0 || return
    for module in vim2m vicodec vkms; do
        [ -d "/sys/module/$module" ] || echo "not run: $module: this kernel has no such module"
    done
}

# is_party HEAP: whether this kernel must have a device for that heap.
is_party() {
    case ",$(cat /etc/guest/parties)," in
        *",anion/$1,"*) ;;
        *) return 1 ;;
    esac
}

# capture PROGRAM ARGUMENT…: alice's program with the camera and the card.
capture() {
    as alice "$@" --device /dev/video0 --card /dev/dri/card0
}

# has_nothing PROGRAM: a heap of memfds has nothing for a camera, and the program says so.
has_nothing() {
    rc=0
    (capture "$1" --heap camera) >/tmp/refused 2>&1 || rc=$?
    cat /tmp/refused
    [ "$rc" = 1 ] && grep -q 'it takes dma-bufs, and memfds are none' /tmp/refused
}

# stream PROGRAM HEAP FRAMES: all frames arrive, and what alice is charged with is right before, during and after.
stream() {
    echo "$1, heap $2:"
    (capture "$1" --heap "$2" --frames "$3" --size 640x480) >/tmp/streamed || {
        rc=$?
        cat /tmp/streamed
        return "$rc"
    }
    cat /tmp/streamed
    for line in "usage with the buffers: $RING bytes" "frame $3/$3, every byte as expected" \
        "usage while devices alone hold the buffers: $RING bytes" \
        "usage while the card alone holds one: $PICTURE bytes" \
        "usage after the devices gave them back: 0 bytes"; do
        if ! grep -qF "$line" /tmp/streamed; then
            echo "it did not say: $line"
            return 1
        fi
    done
    usage_is 0
}

# What devices have given back is handed out again, and they take it again. It waits in the pool for some seconds
# alone, so the first rounds may find none.
stream_recycled() {
    for round in 1 2 3 4 5; do
        stream "$1" recycled "$others" || return
        if grep -q ', 4 of them recycled' /tmp/streamed; then
            return 0
        fi
    done
    echo "nothing was recycled"
    return 1
}

# kill_streaming PROGRAM: one that dies while the camera has its buffers leaves nothing.
kill_streaming() {
    capture "$1" --heap frames --frames 1000000 >/tmp/streaming 2>&1 &
    streaming=$!
    eventually 180 grep -q '^frame 100/' /tmp/streaming && usage_is "$RING" || return
    kill -9 "$streaming"
    wait "$streaming"
    eventually 180 usage_is 0
}

show_pictures() {
    insert_picture_modules || return
    for program in v4l2_capture capture; do
        has_nothing "$program" || return
        # Of one heap more than of the others: the camera makes 30 frames a second.
        read -r frames others _ </etc/guest/frames
        for heap in kernel frames lens legacy contiguous; do
            if is_party "$heap"; then
                stream "$program" "$heap" "$frames" || return
                frames=$others
            else
                echo "not run: $program, heap $heap: this kernel has no device for it"
            fi
        done
        if is_party recycled; then
            stream_recycled "$program" || return
        else
            echo "not run: $program, heap recycled: this kernel has no device for it"
        fi
        if is_party frames; then
            kill_streaming "$program" || return
        else
            echo "not run: $program, killed: this kernel has no device for heap frames"
        fi
    done
}

# find_display: where vkms is, if the kernel has it.
find_display() {
    for card in /sys/devices/*/vkms/drm/card*; do
        display=/dev/dri/${card##*/}
    done
    chmod 0666 "$display"
}

# on_display ARGUMENT…: alice's program with the display.
on_display() {
    as alice display --card "$display" "$@"
}

# show HEAP FRAMES: what was drawn is read back, and what alice is charged with is right all the time.
show() {
    echo "display, heap $1:"
    (on_display --heap "$1" --frames "$2" --size 640x480) >/tmp/shown || {
        rc=$?
        cat /tmp/shown
        return "$rc"
    }
    cat /tmp/shown
    for line in "usage with the buffers: $SHOWN bytes" "picture $2/$2 shown and read back, every colour as drawn" \
        "usage while the display alone holds one: $PICTURE bytes" \
        "usage after the display gave it back: 0 bytes"; do
        if ! grep -qF "$line" /tmp/shown; then
            echo "it did not say: $line"
            return 1
        fi
    done
    usage_is 0
}

# A heap of memfds has nothing for a display either.
has_nothing_to_show() {
    rc=0
    (on_display --heap camera) >/tmp/refused 2>&1 || rc=$?
    cat /tmp/refused
    [ "$rc" = 1 ] && grep -q 'it takes dma-bufs, and memfds are none' /tmp/refused
}

# One that dies while the display has its buffers leaves nothing: the kernel makes the display dark.
kill_showing() {
    on_display --heap frames --frames 1000000 >/tmp/showing 2>&1 &
    showing=$!
    eventually 180 grep -q '^picture 1/' /tmp/showing && usage_is "$SHOWN" || return
    kill -9 "$showing"
    wait "$showing"
    eventually 180 usage_is 0
}

show_display() {
    insert_picture_modules || return
    if [ ! -d /sys/module/vkms ]; then
        echo "not run: display: this kernel has no vkms"
        return 0
    fi
    find_display && has_nothing_to_show || return
    read -r _ _ frames </etc/guest/frames
    for heap in kernel frames recycled lens legacy contiguous; do
        if is_party "$heap"; then
            show "$heap" "$frames" || return
        else
            echo "not run: display, heap $heap: this kernel has no device for it"
        fi
    done
    kill_showing
}

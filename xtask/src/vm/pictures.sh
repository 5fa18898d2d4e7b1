# SPDX-License-Identifier: Apache-2.0
# init.sh sources this file: a kernel camera fills buffers, a graphics device gets them, a display
# shows them.

# Bytes of a buffer of 640×480 pixels of 4 bytes, of the camera's 4 buffers, of the display's 3.
PICTURE=$((640 * 480 * 4))
RING=$((4 * PICTURE))
SHOWN=$((3 * PICTURE))

# Inserts the modules, unless an earlier step did.
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

# is_party HEAP: returns whether this kernel must have a device for that heap.
is_party() {
    case ",$(cat /etc/guest/parties)," in
        *",anion/$1,"*) ;;
        *) return 1 ;;
    esac
}

# capture PROGRAM ARGUMENT…: runs alice's program with the camera and the card.
capture() {
    as alice "$@" --device /dev/video0 --card /dev/dri/card0
}

# refuses_memfds COMMAND…: checks that the program refuses a heap of memfds, which no device can
# import.
refuses_memfds() {
    rc=0
    ("$@" --heap camera) >/tmp/refused 2>&1 || rc=$?
    cat /tmp/refused
    [ "$rc" = 1 ] && grep -q 'no heap returned dma-bufs' /tmp/refused
}

# logged COMMAND…: runs the command, stores its output in /tmp/said, and prints it.
logged() {
    rc=0
    ("$@") >/tmp/said || rc=$?
    cat /tmp/said
    return "$rc"
}

# has_said LINE…: checks that the last logged output has all of these lines.
has_said() {
    for line in "$@"; do
        if ! grep -qF "$line" /tmp/said; then
            echo "it did not say: $line"
            return 1
        fi
    done
}

# leaves_nothing LINE BYTES COMMAND…: kills the command after it wrote LINE, with BYTES charged,
# and checks that nothing stays charged.
leaves_nothing() {
    line=$1 bytes=$2
    shift 2
    "$@" --heap frames >/tmp/dying 2>&1 &
    dying=$!
    eventually 180 grep -q "$line" /tmp/dying && usage_is "$bytes" || return
    kill -9 "$dying"
    wait "$dying"
    eventually 180 usage_is 0
}

# stream PROGRAM HEAP FRAMES: checks that all frames arrive, and that alice's charges are right
# before, during and after.
stream() {
    echo "$1, heap $2:"
    logged capture "$1" --heap "$2" --frames "$3" --size 640x480 || return
    has_said "usage with the buffers: $RING bytes" "frame $3/$3, every byte as expected" \
        "usage while devices alone hold the buffers: $RING bytes" \
        "usage while the card alone holds one: $PICTURE bytes" \
        "usage after the devices released them: 0 bytes" || return
    usage_is 0
}

# Checks that the service reuses buffers that devices have released, and that devices accept them
# again. A buffer waits some seconds before its reuse, so the first rounds may get none.
stream_recycled() {
    for round in 1 2 3 4 5; do
        stream "$1" recycled "$others" || return
        if grep -q ', 4 of them recycled' /tmp/said; then
            return 0
        fi
    done
    echo "nothing was recycled"
    return 1
}

# compose ARGUMENT…: checks alice's graphic buffers in a device, with the layout that the mapper
# reports.
compose() {
    logged as alice composer --graphics binder --mapper /bin/mapper.anion.so "$@"
}

# Checks that rows have the heap's alignment, and that each plane is read back as drawn.
share_graphic_buffers() {
    compose --card /dev/dri/card0 && has_said \
        "BGRA_8888: AR24, 640x480, modifier 0x0, planes 0+3072 shared by the device, and as drawn" \
        "YCBCR_420_888: NV12, 640x480, modifier 0x0, planes 0+1024 491520+1024 shared by the device, and as drawn" \
        "YV12: YV12, 640x480, modifier 0x0, planes 0+2048 983040+1024 1228800+1024 shared by the device, and as drawn" ||
        return
    eventually 180 usage_is 0
}

show_graphic_buffer() {
    compose --card "$display" --show && has_said \
        "BGRA_8888: AR24, 640x480, modifier 0x0, planes 0+3072 shown as XR24 on " ", and read back as drawn" || return
    eventually 180 usage_is 0
}

show_pictures() {
    insert_picture_modules || return
    for program in v4l2_capture capture; do
        refuses_memfds capture "$program" || return
        # Only one heap gets many frames, since the camera makes 30 frames per second.
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
            leaves_nothing '^frame 100/' "$RING" capture "$program" --frames 1000000 || return
        else
            echo "not run: $program, killed: this kernel has no device for heap frames"
        fi
    done
    if is_party frames; then
        share_graphic_buffers
    else
        echo "not run: composer: this kernel has no device for heap frames"
    fi
}

# find_display: prints the node of vkms, if the kernel has it.
find_display() {
    for card in /sys/devices/*/vkms/drm/card*; do
        display=/dev/dri/${card##*/}
    done
    chmod 0666 "$display"
}

# on_display ARGUMENT…: runs alice's program with the display.
on_display() {
    as alice display --card "$display" "$@"
}

# show HEAP FRAMES: checks that pictures are read back as drawn, and that alice's charges are right
# all the time.
show() {
    echo "display, heap $1:"
    logged on_display --heap "$1" --frames "$2" --size 640x480 || return
    has_said "usage with the buffers: $SHOWN bytes" "picture $2/$2 shown and read back, every colour as drawn" \
        "usage while the display alone holds one: $PICTURE bytes" \
        "usage after the display released it: 0 bytes" || return
    usage_is 0
}

show_display() {
    insert_picture_modules || return
    if [ ! -d /sys/module/vkms ]; then
        echo "not run: display: this kernel has no vkms"
        return 0
    fi
    find_display && refuses_memfds on_display || return
    read -r _ _ frames </etc/guest/frames
    for heap in kernel frames recycled lens legacy contiguous; do
        if is_party "$heap"; then
            show "$heap" "$frames" || return
        else
            echo "not run: display, heap $heap: this kernel has no device for it"
        fi
    done
    # The kernel disables the display when the program dies. The program reads nothing back at this
    # moment: vkms forgets to complete a job of its writeback connector if the display is disabled
    # first, and holds the pictures of this job until the module is removed.
    leaves_nothing '^showing picture 1 ' "$SHOWN" on_display --frames 1 --hold || return
    if is_party frames; then
        show_graphic_buffer
    else
        echo "not run: composer: this kernel has no device for heap frames"
    fi
}

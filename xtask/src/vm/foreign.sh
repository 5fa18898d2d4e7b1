# SPDX-License-Identifier: Apache-2.0
# init.sh sources this file: tests with another binder implementation.

# foreign PROGRAM ARGUMENT…: runs a program that comes with its own C library.
foreign() {
    program=$1
    shift
    run_as alice /foreign/lib/ld-linux-x86-64.so.2 --library-path /foreign/lib "/foreign/bin/$program" "$@"
}

# Lists the service and pings it with libgbinder's programs, and allocates a memfd and a dma-buf,
# which allocate.c maps and checks. Then waits until no client holds a buffer.
ask_as_foreigner() {
    foreign binder-list -d /dev/binder >/tmp/foreign-list || return
    cat /tmp/foreign-list
    grep -qF "$SERVICE" /tmp/foreign-list || return
    foreign binder-ping -d /dev/binder "$SERVICE" || return
    foreign allocate /dev/binder "$SERVICE" system 1000000 || return
    foreign allocate /dev/binder "$SERVICE" frames 1000000 || return
    eventually 180 usage_is 0
}

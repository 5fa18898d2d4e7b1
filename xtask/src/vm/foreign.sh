# SPDX-License-Identifier: Apache-2.0
# Read in by init.sh: a binder stack that shares nothing with the service's.

# foreign PROGRAM ARGUMENT…: a program that comes with a C library of its own.
foreign() {
    program=$1
    shift
    run_as alice /foreign/lib/ld-linux-x86-64.so.2 --library-path /foreign/lib "/foreign/bin/$program" "$@"
}

# It lists the service, pings it, and gets a memfd and a dma-buf that map, are zero and keep what is written. When the client has
# ended, no client holds anything.
ask_as_foreigner() {
    foreign binder-list -d /dev/binder >/tmp/foreign-list || return
    cat /tmp/foreign-list
    grep -qF "$SERVICE" /tmp/foreign-list || return
    foreign binder-ping -d /dev/binder "$SERVICE" || return
    foreign allocate /dev/binder "$SERVICE" system 1000000 || return
    foreign allocate /dev/binder "$SERVICE" frames 1000000 || return
    eventually 180 usage_is 0
}

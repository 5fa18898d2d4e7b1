# SPDX-License-Identifier: Apache-2.0
# init.sh sources this file: clients and the service while resources of the machine fail.

# Runs the test chaos, which may fill this machine's memory, limit cgroups, move the nodes of
# devices and change parameters of modules. It leaves all of them as they were.
run_chaos() {
    [ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup || return
    # Seed and duration.
    set -a
    . /etc/guest/chaos
    set +a
    ANION_TEST_SERVICE=/bin/aniond ANION_CHAOS_OWN_MACHINE=1 anion-chaos --nocapture
}

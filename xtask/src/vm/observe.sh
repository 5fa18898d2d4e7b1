# SPDX-License-Identifier: Apache-2.0
# Writes the observed system calls of the services to the console, once the last service has ended.

no_trace_runs() {
    for trace in "$OBSERVED"/*.running; do
        [ ! -e "$trace" ] || return 1
    done
}

report_observed() {
    eventually 180 no_trace_runs || return
    for trace in "$OBSERVED"/*; do
        while read -r line; do
            echo "ANION-OBSERVED $line"
        done <"$trace"
    done
    echo ANION-ALL-OBSERVED
}

OBSERVED=/tmp/observed
report_observed

// SPDX-License-Identifier: Apache-2.0
//! The long texts of `--help`.

/// After `-h`.
pub(crate) const SHORT: &str = "\
Exit status: 0 done, 1 refused by the service, 2 usage, 3 not reachable,
4 a check failed, 5 local failure. --help tells how the service is found, and
more; anionctl COMMAND --help has JSON keys and examples.";

/// After `--help`.
pub(crate) const LONG: &str = "\
Finding the service:
  1. the flag --socket PATH or --binder[=DEVICE];
  2. the socket that the environment variable ANION_SOCKET names;
  3. kernel binder, if the machine has a binder device and the service is
     registered with its service manager;
  4. $XDG_RUNTIME_DIR/anion/allocator.sock, if that directory is your own;
  5. /run/anion/allocator.sock, the socket of the machine's service.
  Where none answers, the message has the cause for each, and the command that
  helps.

Environment:
  ANION_SOCKET  path of the service's socket
  ANION_FDS     descriptor numbers that `describe` looks at, and that
                `alloc --exec` gives to its command
  ANION_PRELOAD the library that `run` puts before a program's own

JSON:
  --json prints one document per answer: an object whose keys are listed in
  each command's --help. Keys are never renamed; new ones may appear. Sizes
  are bytes, ids are 64-bit integers. Capacities and quotas of 0 mean
  unlimited. Words such as
  \"memfd\" are those of the tables; a value that this version does not know
  is \"unknown(N)\". Errors go to standard error as text, in every mode.

Exit status:
  0  done
  1  the service refused; its error code and explanation are on standard error
  2  the command line is wrong
  3  the service cannot be reached, or stopped answering
  4  a check failed: a buffer was not zero, did not hold what was written to
     it, could not be mapped, or the reply was not what was asked for; or
     doctor misses something that the configuration wants
  5  this process could not do its own part, such as writing its output
  `alloc --exec` and `run` exit as their command does; with 126 if the command
  cannot be run and 127 if there is none. A reader that closes standard output early is
  no error.

Examples:
  anionctl list
  anionctl alloc --size 8M --count 4
  anionctl alloc --format NV12 --width 1920 --height 1080
  anionctl alloc --size 3110400 --count 4 --heap camera --name preview --hold 60
  anionctl alloc --size 64K --exec anionctl describe
  anionctl reserve --size 8M --count 4 --heap camera --hold 60 &
  anionctl explain --size 1G --heap camera || echo \"would not fit\"
  anionctl run ls -l /dev/dma_heap
  anionctl --json usage | jq '.usage[] | select(.bytes > 0)'
  anionctl watch --interval 500ms
  anionctl doctor";

/// After `list --help`.
pub(crate) const LIST: &str = "\
JSON:
  {\"heaps\": [{\"id\", \"name\", \"aliases\": [], \"type\", \"backing\", \"available\",
    \"unavailable_reason\", \"passed_over\", \"release_mechanism\", \"capacity\",
    \"granule\", \"max_alignment\", \"flags\": [], \"priority\", \"stride_align\"}]}

Below the table: the sources that a heap's configuration would rather have, and
why each cannot be used on this machine (passed_over). release_mechanism is
close-events, leases, reference-counts or token: how the service learns that
a buffer has no holder any more.";

/// After `alloc --help`.
pub(crate) const ALLOC: &str = "\
Every buffer is mapped and checked to be zero. Unless --read-only is given, a
pattern of its own is then written to each, all are read back and compared, and
all are made zero again. Buffers of a secure heap cannot be mapped; their checks
show a dash. The memory is released when the last holder is gone: when this
command ends, or when the command that --exec names has closed its descriptors.

--exec COMMAND ARGS… must come last. The command replaces this process. It
inherits the buffers as descriptors 3, 4, … in order, and the environment
variables ANION_FDS=\"3 4 …\", ANION_IDS and ANION_SIZES in the same order. The
table goes to standard error, since standard output belongs to the command.
Buffers of ashmem belong to this process and cannot be passed on that way.

JSON:
  {\"buffers\": [{\"index\", \"id\", \"heap_id\", \"heap\", \"size\", \"backing\", \"inode\",
    \"zeroed\", \"verified\"}], \"total_bytes\", \"allocate_us\", \"check_us\"}
  zeroed and verified are null where the check could not be made. With --format also
  \"image\": {\"format\", \"fourcc\", \"modifier\", \"width\", \"height\", \"stride\", \"bytes\",
    \"planes\": [{\"components\", \"offset\", \"stride\", \"width\", \"height\", \"bytes\"}]}

Examples:
  anionctl alloc --size 8M --count 4
  anionctl alloc --size 1M --heap camera --heap system   # in this order
  anionctl alloc --size 1M --heap-mask 0x6 --dma-buf
  anionctl alloc --size 8M --hold 60 &                   # keep for a minute
  anionctl alloc --size 64K --count 2 --exec sh -c 'ls -lL /proc/self/fd'";

/// After `reserve --help`.
pub(crate) const RESERVE: &str = "\
The buffers are charged to this user at once, and made in the background. Says
how many lie ready, as soon as all do, or after a minute or the time of
--hold if that is shorter. Allocations of the same user from this heap and of
this size draw them while this command runs; without --hold it ends at once,
and the reservation with it.

JSON:
  {\"heap\", \"size\", \"count\", \"ready\", \"ready_us\"}
  ready_us is null if not all were ready.

Examples:
  anionctl reserve --size 8M --count 4 --heap camera --hold 60 &
  anionctl alloc --size 8M --count 4 --heap camera";

/// After `stats --help`.
pub(crate) const STATS: &str = "\
LIVE is held by clients, DEFERRED was released and waits to be cleaned, POOLED
is clean and ready for reuse; PEAK is the highest sum of LIVE and DEFERRED.
RESERVED is held ready for clients that asked for it and is not in use.
RECYCLED buffers came from the pool, MISSED ones could have, WARMED ones were
made for the pool before anybody asked; DISCARDED memory was released and not
kept, for the causes in brackets.
P50 and P99 bound what half and 99 of 100 successful
calls took within the service, in steps of powers of two.
LARGEST FREE is the longest free piece of memory
set aside for the heap; fragmented requests failed though all free pieces
together would have done.

JSON:
  {\"stats\": [{\"heap_id\", \"heap\", \"num_of_buffers\", \"num_of_alloc_bytes\",
    \"alloc_bytes_wm\", \"live_bytes\", \"deferred_bytes\", \"pooled_bytes\",
    \"reserved_bytes\", \"capacity\", \"largest_free_bytes\", \"allocations\",
    \"frees\", \"recycled\", \"pool_misses\", \"warmed\", \"scrubbed_bytes\", \"scrubbed_in_call_bytes\", \"unzeroed\",
    \"discarded\", \"discarded_by_cause\": {\"full\", \"busy\", \"sealed\",
    \"untouched\", \"scarce\", \"scrub_failed\"}, \"failures\":
    {\"no_memory\", \"fragmented\", \"quota\", \"not_permitted\",
     \"unsupported\", \"backend\"},
    \"allocate_latency\": [], \"allocate_p50_us\", \"allocate_p99_us\"}]}
  fragmented is part of no_memory. allocate_latency counts calls: element 0
  those below 1 us, element n those below 2^n us, the last one all longer ones.
  The bounds are null without calls, or in the class that has no end.";

/// After `usage --help`.
pub(crate) const USAGE: &str = "\
Privileged callers see every uid, others their own alone. RESERVED counts against
the quota as HELD does.
--processes has a line for each process that allocated a buffer which somebody
still holds, that process or another; COMMAND is (ended) once it is gone.

JSON:
  {\"usage\": [{\"uid\", \"user\", \"policy\", \"bytes\", \"buffers\", \"reserved_bytes\",
    \"peak_bytes\", \"quota_bytes\", \"quota_buffers\"}]}
  with --processes: {\"processes\": [{\"uid\", \"user\", \"pid\", \"command\",
    \"bytes\", \"buffers\"}]}; command is null for a process that has ended.";

/// After `holders --help`.
pub(crate) const HOLDERS: &str = "\
One line for each buffer and process: FDS counts descriptors of it, MAPS counts
mappings, MAPPED has their bytes. /proc tells this of the processes that the caller
may look into, which are its own user's; root sees all. The number of the others
is in the last line. REFS has all references to a dma-buf, those of devices and of
messages that were not received yet among them. Dma-bufs of other allocators are
shown, too. The service, if it answers, adds ids, heaps and labels; a line without
a process is a buffer that no process was seen with.
The service holds a descriptor of every buffer, and pooled memory that no client
holds, which has the name of its first buffer.

JSON:
  {\"buffers\": [{\"inode\", \"kind\", \"name\", \"size\", \"id\", \"heap\", \"owner_uid\",
    \"owner_pid\", \"exporter\", \"references\", \"holders\": [{\"pid\", \"command\",
     \"uid\", \"user\", \"descriptors\", \"mappings\", \"mapped_bytes\"}]}],
   \"unreadable_processes\", \"service\"}
  What the service would know is null where it does not answer (service is false).

Examples:
  anionctl holders
  sudo anionctl holders --csv > holders.csv
  anionctl --json holders | jq '.buffers[] | select(.holders == [])'";

/// After `describe --help`.
pub(crate) const DESCRIBE: &str = "\
The identity comes from the file behind the descriptor, so it is known wherever
the descriptor came from. Exits with 1 if any of them is not a live buffer of
the service; the others are shown all the same.

JSON:
  {\"buffers\": [{\"fd\", \"id\", \"size\", \"heap_id\", \"heap\", \"backing\", \"owner_uid\",
    \"owner_pid\", \"name\", \"inode\", \"age_ms\", \"image\": {\"format\",
    \"width\", \"height\", \"usage\", \"metadata_bytes\"}}],
   \"refused\": [{\"fd\", \"error\", \"message\"}]}

image is there for buffers that the graphics allocator gave.

Examples:
  anionctl alloc --size 64K --exec anionctl describe
  anionctl describe --fd 7 7<&3";

/// After `explain --help`.
pub(crate) const EXPLAIN: &str = "\
Exits with 0 if alloc would succeed now and with 1 if not. FITS is the largest
buffer that the heap could give now, for the same count, beyond what the caller
reserved.

JSON:
  {\"possible\", \"chosen_heap\", \"error\", \"summary\",
   \"verdicts\": [{\"heap_id\", \"heap\", \"verdict\", \"reason\", \"fits_bytes\"}]}
  chosen_heap and error are null where there is none.

Examples:
  anionctl explain --size 1G --count 4 --heap camera";

/// After `dump --help`.
pub(crate) const DUMP: &str = "\
How releases are noticed, memory pressure and huge pages, the heaps in the
format of ION's debugfs, then a table of live buffers.
The table has the caller's own buffers, for privileged callers all. With --json
the service's own JSON document is printed as it is.";

/// After `trim --help`.
pub(crate) const TRIM: &str = "\
Deferred frees go first, then pools. Buffers that clients hold are never touched.

JSON:
  {\"trimmed_bytes\"}

Examples:
  anionctl trim
  anionctl trim --heap system --bytes 64M";

/// After `watch --help`.
pub(crate) const WATCH: &str = "\
On a terminal it takes the whole screen: q, Esc or Ctrl-C ends it, s sorts heaps by
another column, Tab changes between heaps and users, the arrow keys scroll. HISTORY
has what clients held at each look, on a scale of its own for each heap. A service
that goes is waited for. Elsewhere the reports follow each other.

P99 bounds what 99 of 100 calls took since the look before. The memory pressure
is none, moderate or critical; a higher level since the look before is shown,
too, however short it was. The second table counts since the service started:
what became of released memory, and why some was not kept.

JSON, one line per look:
  {\"look\", \"elapsed_ms\", \"pressure\", \"pressure_peak\", \"heaps\": [the keys of
    stats, and \"live_bytes_per_s\", \"allocations_per_s\", \"frees_per_s\",
    \"interval_p99_us\"], \"usage\": [the keys of usage, and \"bytes_per_s\"]}
  The rates are null in the first look.";

/// After `metrics --help`.
pub(crate) const METRICS: &str = "\
OpenMetrics 1.0: heaps, pools, latencies, refusals by cause, memory pressure, and
what each uid holds, as far as the caller may know it. Counters count since the
service started.

--listen answers each connection with HTTP/1.0, whatever path is asked for. It
connects to the service for each answer; while the service is away the status is
503. The socket has the permissions of the umask.

Examples:
  anionctl metrics
  anionctl metrics --listen /run/anion-metrics.sock
  curl --unix-socket /run/anion-metrics.sock http://localhost/metrics";

/// After `trace --help`.
pub(crate) const TRACE: &str = "\
A Perfetto trace: for each heap a counter of what clients hold, calls that were
served as slices as long as they took within the service, refusals and releases as
instants, and the levels of memory pressure. Each has bytes, count, uid and pid.
Privileged callers record everyone's calls, others their own. The service keeps the
last 16384 events; --past begins with these. A service that goes is waited for.

JSON:
  {\"events\", \"lost\", \"bytes\", \"file\"}

Examples:
  anionctl trace -o anion.pftrace --seconds 10
  anionctl trace -o last.pftrace --past --seconds 0";

/// After `report --help`.
#[cfg(not(soong))]
pub(crate) const REPORT: &str = "\
One page without scripts and without anything from elsewhere. What each heap held
over time comes from the service's journal (its last 16384 events, those of the
caller unless it is privileged), the rest from the counters since the service
started: hits and misses of pools, how long calls took, and for memory that is set
aside which ranges clients hold (dark), which are pooled and which are free.

JSON:
  {\"file\", \"heaps\", \"events\"}

Examples:
  anionctl report --html anion.html";

/// After `doctor --help`.
pub(crate) const DOCTOR: &str = "\
Starts `aniond --doctor`, of the folder of anionctl or else of PATH. That looks at
the machine itself, as the user that it runs as: run it as the user of the
service. It needs no running service; one that answers is asked for its version
and the heaps that it cannot serve.

Every heap of the configuration is built as the service would, with a page of each
source, and without setting memory aside. What the configuration lacks follows, and
what the running service is: its user and its configuration. --all has all that was
looked at: whether it is there (ok), could do more (limited) or is not there for
this user (missing), what that means for Anion, and what changes it; most needs
root. Devices are for the service's user alone, never for clients: who may open one
has no quota.

Exit status:
  0  all that the configuration wants is here, whatever else is missing
  4  a heap would not be available, the configuration has errors, or the service
     would not start (leases, inotify)
  5  the configuration cannot be read, or there is no aniond

JSON:
  {\"ok\", \"findings\": [{\"what\", \"state\", \"found\", \"means\", \"change\", \"required\"}],
   \"config\": {\"origin\", \"heaps\": [{\"id\", \"name\", \"type\", \"device\", \"backing\",
     \"passed_over\", \"available\", \"unavailable_reason\"}], \"errors\": []},
   \"service\": {\"endpoint\", \"version\", \"heaps\", \"uid\", \"pid\",
     \"configuration\", \"unavailable\":
     [{\"heap\", \"reason\"}]}}
  change is null where there is nothing to change, service where none answers.
  Without the things that are required the service does not start.

Examples:
  anionctl doctor
  anionctl doctor --config board.dts
  anionctl --json doctor | jq -r '.findings[] | select(.state != \"ok\") | .change'";

/// After `run --help`.
#[cfg(not(soong))]
pub(crate) const RUN: &str = "\
The program opens, lists and asks /dev/ion and /dev/dma_heap/NAME as on a machine
that has them, and gets buffers of Anion's heaps. A node that the machine has and
the program may open is the machine's. The nodes are there for what the program
starts, too. docs/porting.md has what is answered.

The library is put before the program's own by LD_PRELOAD, with what is in that
variable after it. So the program must be linked dynamically, for the machine that
the library is for, and without rights of its own: setuid, setgid, capabilities.

--trap serves what no library can be put before: static programs, and system calls
that a program makes itself (x86-64 and 64-bit ARM, Linux 5.14). anionctl stays as
the program's parent, and the kernel asks it about calls that name a file, and about
requests to devices: so each call that opens a file or asks for its status takes
microseconds longer. Signals are passed on to the program. anionctl ends when all
that the program has started has ended. None of these gains rights by being setuid.
It is no sandbox.

Environment that the program is given (not with --trap):
  LD_PRELOAD           the library, then what was there
  ANION_SOCKET         the socket of the service that was found
  ANION_ION_INTERFACE  what --ion says

Exit status:
  that of the program (with --trap 128 + n after signal n), or
  3    the service cannot be reached
  5    the library is not there, or the kernel cannot trap system calls
  126  the program cannot be run, or cannot be served so
  127  there is no such program

Examples:
  anionctl run -- ./program --its-flag
  anionctl run ls -l /dev/dma_heap
  anionctl run --ion handles ./vendor-camera-test
  anionctl run --trap -- ./static-program";

/// After `completions --help`.
#[cfg(not(soong))]
pub(crate) const COMPLETIONS: &str = "\
Examples:
  anionctl completions bash > ~/.local/share/bash-completion/completions/anionctl
  anionctl completions zsh > ~/.zfunc/_anionctl
  anionctl completions fish > ~/.config/fish/completions/anionctl.fish";

/// After `man --help`.
#[cfg(not(soong))]
pub(crate) const MAN: &str = "\
Examples:
  anionctl man | man -l -
  anionctl man alloc > anionctl-alloc.1
  anionctl man --pages docs/commands";

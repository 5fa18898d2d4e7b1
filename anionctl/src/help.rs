// SPDX-License-Identifier: Apache-2.0
//! The long texts of `--help`.

/// After `-h`.
pub(crate) const SHORT: &str = "\
Exit status: 0 done, 1 refused by the service, 2 usage, 3 not reachable,
4 a check failed, 5 local failure. --help describes how anionctl finds the
service; anionctl COMMAND --help has JSON keys and examples.";

/// After `--help`.
pub(crate) const LONG: &str = "\
Finding the service:
  1. the flag --socket PATH or --binder[=DEVICE];
  2. the socket that the environment variable ANION_SOCKET names;
  3. kernel binder, if the machine has a binder device and the service is
     registered with its service manager;
  4. $XDG_RUNTIME_DIR/anion/allocator.sock, if that directory is your own;
  5. /run/anion/allocator.sock, the socket of the machine's service.
  If none answers, the message names the cause for each, and the command that
  helps.

Environment:
  ANION_SOCKET  path of the service's socket
  ANION_FDS     descriptor numbers for `describe`; `alloc --exec` sets it for
                its command
  ANION_PRELOAD library that `run` loads before those of the program

JSON:
  --json prints one object for each answer. Each command's --help lists its
  keys. Keys never change; later versions may add keys. Sizes are bytes, ids
  are 64-bit integers. Capacities and quotas of 0 mean unlimited. Words such
  as \"memfd\" are those of the tables; a value that this version does not know
  is \"unknown(N)\". Errors go to standard error as text, in every mode.

Exit status:
  0  done
  1  the service refused; its error code and explanation are on standard error
  2  the command line is wrong
  3  the service cannot be reached, or stopped answering
  4  a check failed: a buffer was not zero, lost data that was written to it,
     or could not be mapped, or the reply did not match the request; or doctor
     found that the machine lacks something that the configuration needs
  5  a failure of anionctl itself, such as writing its output
  `alloc --exec` and `run` exit with the status of their command; with 126 if
  the command cannot be run and 127 if it does not exist. It is no error if a
  reader closes standard output early.

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

Below the table: the preferred sources of a heap that this machine lacks, with
the reason for each (passed_over). release_mechanism says how the service
detects the release of a buffer: close-events, leases, reference-counts or
token.";

/// After `alloc --help`.
pub(crate) const ALLOC: &str = "\
The command maps every buffer and checks that it is zero. Without --read-only it
then writes a different pattern to each, reads all back, compares them, and
zeroes them again. Buffers of a secure heap cannot be mapped; their checks show a
dash. The service releases the memory when the last holder is gone: when this
command ends, or when the command of --exec has closed its descriptors.

--exec COMMAND ARGS… must come last. The command replaces this process. It
inherits the buffers as descriptors 3, 4, … in order, and the environment
variables ANION_FDS=\"3 4 …\", ANION_IDS and ANION_SIZES in the same order. The
table goes to standard error, since standard output belongs to the command.
--exec does not work with ashmem buffers, which belong to this process.

JSON:
  {\"buffers\": [{\"index\", \"id\", \"heap_id\", \"heap\", \"size\", \"backing\", \"inode\",
    \"zeroed\", \"verified\"}], \"total_bytes\", \"allocate_us\", \"check_us\"}
  zeroed and verified are null if the check was not possible. --format adds
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
The service charges the buffers to this user at once and makes them in the
background. The command prints how many are ready as soon as all are, or after a
minute, or after the time of --hold if that is shorter. While the command runs,
allocations of the same user, heap and size get these buffers. Without --hold the
command ends at once, and with it the reservation.

JSON:
  {\"heap\", \"size\", \"count\", \"ready\", \"ready_us\"}
  ready_us is null if not all were ready.

Examples:
  anionctl reserve --size 8M --count 4 --heap camera --hold 60 &
  anionctl alloc --size 8M --count 4 --heap camera";

/// After `stats --help`.
pub(crate) const STATS: &str = "\
LIVE         bytes that clients hold
DEFERRED     released bytes that wait for scrubbing
POOLED       clean bytes that are ready for reuse
PEAK         highest sum of LIVE and DEFERRED
RESERVED     preallocated bytes for reservations
RECYCLED     buffers that came from the pool (hits)
MISSED       buffers that the pool could have served, but did not have
WARMED       buffers that were preallocated
DISCARDED    released buffers that were not pooled, with the causes
P50, P99     upper bounds of the median and the 99th percentile of the
             duration of successful calls within the service, as powers of two
LARGEST FREE longest free range of memory that is set aside for the heap

A failure is \"fragmented\" if all free ranges together were large enough.

JSON:
  {\"stats\": [{\"heap_id\", \"heap\", \"num_of_buffers\", \"num_of_alloc_bytes\",
    \"alloc_bytes_wm\", \"live_bytes\", \"deferred_bytes\", \"pooled_bytes\",
    \"reserved_bytes\", \"capacity\", \"largest_free_bytes\", \"allocations\",
    \"frees\", \"recycled\", \"pool_misses\", \"warmed\", \"scrubbed_bytes\",
    \"scrubbed_in_call_bytes\", \"unzeroed\",
    \"discarded\", \"discarded_by_cause\": {\"full\", \"busy\", \"sealed\",
    \"untouched\", \"scarce\", \"scrub_failed\"}, \"failures\":
    {\"no_memory\", \"fragmented\", \"quota\", \"not_permitted\",
     \"unsupported\", \"backend\"},
    \"allocate_latency\": [], \"allocate_p50_us\", \"allocate_p99_us\"}]}
  no_memory includes fragmented. allocate_latency counts calls: element 0
  counts calls below 1 us, element n calls below 2^n us, the last element all
  longer calls. P50 and P99 are null without calls, and in the last element.";

/// After `usage --help`.
pub(crate) const USAGE: &str = "\
Privileged callers see every uid, others only their own. RESERVED counts against
the quota as HELD does. --processes prints a line for each process that allocated
a live buffer; COMMAND is (ended) if that process has ended.

JSON:
  {\"usage\": [{\"uid\", \"user\", \"policy\", \"bytes\", \"buffers\", \"reserved_bytes\",
    \"peak_bytes\", \"quota_bytes\", \"quota_buffers\"}]}
  with --processes: {\"processes\": [{\"uid\", \"user\", \"pid\", \"command\",
    \"bytes\", \"buffers\"}]}; command is null for a process that has ended.";

/// After `holders --help`.
pub(crate) const HOLDERS: &str = "\
The command prints a line for each buffer and process. FDS counts the descriptors,
MAPS the mappings, and MAPPED the mapped bytes. They come from /proc, which shows
a user its own processes, and root all. The last line counts the processes that
could not be read. REFS counts all references to a dma-buf, also those of devices
and of messages in flight. Dma-bufs of other allocators are listed, too.

The service, if it answers, adds ids, heaps and labels. A line without a process
is a buffer that no readable process holds. The service itself holds a descriptor
of every buffer. It also holds pooled memory, which has the name of its first
buffer.

JSON:
  {\"buffers\": [{\"inode\", \"kind\", \"name\", \"size\", \"id\", \"heap\", \"owner_uid\",
    \"owner_pid\", \"exporter\", \"references\", \"holders\": [{\"pid\", \"command\",
     \"uid\", \"user\", \"descriptors\", \"mappings\", \"mapped_bytes\"}]}],
   \"unreadable_processes\", \"service\"}
  Without an answer of the service, service is false and its values are null.

Examples:
  anionctl holders
  sudo anionctl holders --csv > holders.csv
  anionctl --json holders | jq '.buffers[] | select(.holders == [])'";

/// After `describe --help`.
pub(crate) const DESCRIBE: &str = "\
The service identifies the file behind the descriptor, whichever process the
descriptor came from. The command exits with 1 if a descriptor is not a live
buffer of the service; it prints the other ones.

JSON:
  {\"buffers\": [{\"fd\", \"id\", \"size\", \"heap_id\", \"heap\", \"backing\", \"owner_uid\",
    \"owner_pid\", \"name\", \"inode\", \"age_ms\", \"image\": {\"format\",
    \"width\", \"height\", \"usage\", \"metadata_bytes\"}}],
   \"refused\": [{\"fd\", \"error\", \"message\"}]}

Only buffers of the graphics allocator have image.

Examples:
  anionctl alloc --size 64K --exec anionctl describe
  anionctl describe --fd 7 7<&3";

/// After `explain --help`.
pub(crate) const EXPLAIN: &str = "\
The command exits with 0 if alloc would succeed now and with 1 if not. FITS is the
largest buffer that the heap could give now, for the same count, in addition to
the caller's reservations.

JSON:
  {\"possible\", \"chosen_heap\", \"error\", \"summary\",
   \"verdicts\": [{\"heap_id\", \"heap\", \"verdict\", \"reason\", \"fits_bytes\"}]}
  chosen_heap is null if no heap fits, error if there is none.

Examples:
  anionctl explain --size 1G --count 4 --heap camera";

/// After `dump --help`.
pub(crate) const DUMP: &str = "\
The report has the mechanism of release detection, memory pressure and huge
pages, the heaps in the format of ION's debugfs, and a table of live buffers. The
table has the caller's own buffers; privileged callers see all. --json prints the
service's own JSON document unchanged.";

/// After `trim --help`.
pub(crate) const TRIM: &str = "\
The service returns deferred frees first, then pooled memory. It never touches
buffers that clients hold.

JSON:
  {\"trimmed_bytes\"}

Examples:
  anionctl trim
  anionctl trim --heap system --bytes 64M";

/// After `watch --help`.
pub(crate) const WATCH: &str = "\
On a terminal the command uses the whole screen. Elsewhere it prints one report
after the other. If the service ends, the command waits for it.

  q, Esc, Ctrl-C  end the command
  s               sort heaps by another column
  Tab             switch between heaps and users
  arrow keys      scroll

HISTORY shows the bytes that clients held at each interval, with a scale of its
own for each heap. P99 is an upper bound of the duration of 99 of 100 calls since
the last interval. The memory pressure is none, moderate or critical; the command
also shows a higher level that occurred since the last interval. The second table
counts since the service started: pool hits and misses, and discarded buffers with
the causes.

JSON, one line per interval:
  {\"look\", \"elapsed_ms\", \"pressure\", \"pressure_peak\", \"heaps\": [the keys of
    stats, and \"live_bytes_per_s\", \"allocations_per_s\", \"frees_per_s\",
    \"interval_p99_us\"], \"usage\": [the keys of usage, and \"bytes_per_s\"]}
  The rates are null in the first line.";

/// After `metrics --help`.
pub(crate) const METRICS: &str = "\
The format is OpenMetrics 1.0: heaps, pools, latencies, refusals by cause, memory
pressure, and usage by uid (all uids for privileged callers). Counters count since
the service started.

--listen answers each connection with HTTP/1.0, for any path. It connects to the
service for each answer; while the service does not run, the status is 503. The
umask determines the permissions of the socket.

Examples:
  anionctl metrics
  anionctl metrics --listen /run/anion-metrics.sock
  curl --unix-socket /run/anion-metrics.sock http://localhost/metrics";

/// After `trace --help`.
pub(crate) const TRACE: &str = "\
The file is a Perfetto trace. For each heap it has a counter of the bytes that
clients hold, a slice for each served call with its duration within the service,
and an instant for each refusal and release. It also has the levels of memory
pressure. Calls, refusals and releases have bytes, count, uid and pid. Privileged
callers record all calls, others their own. The service keeps the last 16384
events; --past begins with these. If the service ends, the command waits for it.

JSON:
  {\"events\", \"lost\", \"bytes\", \"file\"}

Examples:
  anionctl trace -o anion.pftrace --seconds 10
  anionctl trace -o last.pftrace --past --seconds 0";

/// After `report --help`.
#[cfg(not(soong))]
pub(crate) const REPORT: &str = "\
The command writes one page without scripts, which needs no other file. The page
shows:

  - the bytes of each heap over time, from the service's journal of its last
    16384 events (those of the caller, for privileged callers all);
  - hits and misses of the pools and the duration of calls, since the service
    started;
  - held (dark), pooled and free ranges of memory that is set aside.

JSON:
  {\"file\", \"heaps\", \"events\"}

Examples:
  anionctl report --html anion.html";

/// After `doctor --help`.
pub(crate) const DOCTOR: &str = "\
The command starts `aniond --doctor`, from the directory of anionctl or else from
PATH, which examines the machine with the rights of its user: run it as the user
of the service. It needs no running service. If one answers, the report has its
version and the heaps that it cannot serve.

The doctor builds every heap of the configuration as the service does, with one
page of each source, and sets no memory aside. The report shows what the machine
lacks for the configuration, and the user and configuration of the running
service. --all shows every check: its state, what it means for Anion, and the
command that changes it. Most of these commands need root. The states are:

  ok       the machine has it
  limited  it works, but could do more
  missing  the machine does not have it, or this user may not use it

Never permit clients to open a device: a client that opens one has no quota.

Exit status:
  0  the machine has everything that the configuration needs
  4  a heap would not be available, the configuration has errors, or the service
     would not start (leases, inotify)
  5  the configuration cannot be read, or aniond was not found

JSON:
  {\"ok\", \"findings\": [{\"what\", \"state\", \"found\", \"means\", \"change\", \"required\"}],
   \"config\": {\"origin\", \"heaps\": [{\"id\", \"name\", \"type\", \"device\", \"backing\",
     \"passed_over\", \"available\", \"unavailable_reason\"}], \"errors\": []},
   \"service\": {\"endpoint\", \"version\", \"heaps\", \"uid\", \"pid\",
     \"configuration\", \"unavailable\":
     [{\"heap\", \"reason\"}]}}
  change is null if there is nothing to change, service if no service answers.
  The service does not start if a finding with \"required\" is missing.

Examples:
  anionctl doctor
  anionctl doctor --config board.dts
  anionctl --json doctor | jq -r '.findings[] | select(.state != \"ok\") | .change'";

/// After `run --help`.
#[cfg(not(soong))]
pub(crate) const RUN: &str = "\
The program can open, list and use /dev/ion and /dev/dma_heap/NAME as on a machine
that has them, and gets buffers of Anion's heaps. If the machine has a node and
permits the program to open it, the program gets the machine's node. Programs that
this program starts find the nodes, too. docs/porting.md lists the answers.

LD_PRELOAD loads the library before those of the program, and before libraries that
the variable already names. So the program must be linked dynamically, for the same
architecture as the library, and must not be setuid, setgid or have capabilities.

--trap serves programs that a preloaded library cannot: static programs, and
programs that make system calls directly (x86-64 and 64-bit ARM, Linux 5.14).
anionctl stays the program's parent. The kernel passes it the calls that name a
file and the requests to devices, so each call that opens a file or reads its
status takes microseconds longer. anionctl forwards signals to the program, and
ends when the program and all its descendants have ended. None of them gains
rights from a setuid file. --trap is no sandbox.

Environment of the program (not with --trap):
  LD_PRELOAD           the library, then the former value
  ANION_SOCKET         the socket of the service that anionctl found
  ANION_ION_INTERFACE  the value of --ion

Exit status:
  that of the program (with --trap 128 + n after signal n), or
  3    the service cannot be reached
  5    the library was not found, or the kernel cannot trap system calls
  126  the program cannot be run, or this command cannot serve it
  127  the program does not exist

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

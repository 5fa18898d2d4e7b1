# SPDX-License-Identifier: Apache-2.0
"""What the service answers, and how calls fail."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypedDict


class Error(OSError):
    """Why a call did not succeed.

    ``errno`` says it to code, ``strerror`` to people; where heaps were tried, it has the answer of
    every one. Beside those of refusals: ENOTCONN, there is no service, or it did not come back within
    the patience; ETIMEDOUT, it is there and did not answer; EPROTO, its answer is not what the
    interface promises; EMFILE, this process has no descriptor left for the answer; ECHILD, the object
    is of this process's parent; else that of a system call.
    """

    refusal: str | None = None
    """The service's reason, if it gave one: "BAD_REQUEST" (EINVAL), "UNKNOWN_HEAP" (ENODEV),
    "NOT_PERMITTED" (EPERM), "UNSUPPORTED" (EOPNOTSUPP), "NO_MEMORY" (ENOMEM), "QUOTA_EXCEEDED"
    (EDQUOT), "NOT_OURS" (ENOENT), "BACKEND" (EIO)."""


Error.__module__ = "anion"


class Options(TypedDict, total=False):
    """What a request asks for beside its bytes: the keywords of allocate() and explain()."""

    heaps: str | Iterable[str] | int
    """A name or alias, several in the order in which they are tried, or the ids of heaps as bits of a
    mask, highest first. Without it all heaps are tried, by descending id."""
    label: str
    """At most 31 bytes of printable ASCII, for dumps."""
    alignment: int
    """Bytes: physical pieces of at least so many, at multiples of it. A power of two, or 0 for the
    heap's own."""
    cached: bool
    """Asks only heaps that the CPU maps cached."""
    dma_buf: bool
    """Asks only heaps whose buffers are dma-bufs."""
    unzeroed: bool
    """Accepts what clients of the caller's own trust domain left in the memory."""
    read_only: bool
    """Asks for descriptors that permit reading alone; the kernel enforces it."""


class PressureLevel(IntEnum):
    """How scarce memory is."""

    NONE = 0
    """Nothing is known to be scarce."""
    MODERATE = 1
    """The service gives back what it keeps for reuse, in part."""
    CRITICAL = 2
    """The service keeps nothing for reuse."""


@dataclass(frozen=True, slots=True)
class Heap:
    """A heap that the service is configured to have."""

    id: int
    """Its bit in masks, and its rank: higher ids are tried first."""
    name: str
    aliases: tuple[str, ...]
    """Other names that it answers to."""
    kind: str | None
    """"system", "system-contig", "carveout", "chunk", "cma" or "custom"; None if newer."""
    backing: str | None
    """The kind of descriptor that it gives first: "memfd", "ashmem", "udmabuf", "dma-heap", "ion" or
    "hugetlb"; None if newer."""
    unavailable: str | None
    """Why nothing can come from it on this machine; None if something can."""
    capacity: int | None
    """Most bytes that it holds at once; None if only the machine's memory limits it."""
    granule: int
    """Bytes: sizes are rounded up to a multiple of it."""
    max_alignment: int
    """Largest alignment in bytes that a request may ask for."""
    stride_align: int
    """Bytes that rows of images in its buffers should begin at multiples of, as its devices need it."""
    is_cached: bool
    """The CPU maps its buffers cached."""
    is_zeroed: bool
    """Its buffers are zero when they are handed out."""
    is_secure: bool
    """The CPU can never map its buffers."""
    gives_read_only: bool
    """Its buffers can be had read-only."""
    is_held_by_token: bool
    """The kernel does not tell when its buffers are released: they belong to the process that
    allocated them as long as it keeps the Buffer."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one uid holds."""

    uid: int
    policy: str
    """The name of its policy in the configuration; "default" if none names the uid."""
    bytes: int
    """Bytes of its live buffers."""
    buffers: int
    """How many live buffers it has."""
    reserved_bytes: int
    """Bytes of its reserved buffers that are not drawn."""
    peak_bytes: int
    """Highest ``bytes`` since the service started."""
    quota_bytes: int | None
    """Limit of bytes and reserved bytes together; None if unlimited."""
    quota_buffers: int | None
    """Limit of buffers, reserved ones included; None if unlimited."""


@dataclass(frozen=True, slots=True)
class Description:
    """What the service knows of a live buffer."""

    id: int
    bytes: int
    heap: str
    heap_id: int
    backing: str | None
    label: str
    """That of the request that it was allocated by."""
    owner_uid: int
    """That of the process that allocated it, wherever its descriptors are now."""
    owner_pid: int
    inode: int
    """The key that /proc and other tools show for it."""
    age_ms: int
    """Milliseconds since it was allocated."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one heap would do with a request."""

    heap_id: int | None
    """None if no heap has the name."""
    heap: str
    verdict: str | None
    """"would serve", "unknown heap", "unavailable", "not permitted", "unsupported", "no room" or
    "quota exceeded"; None if newer."""
    reason: str
    """The verdict in words: the request, and the limit that it exceeds."""
    fits_bytes: int
    """Largest bytes that it could give the caller now, for the count that was asked for."""


VERDICTS = (
    "would serve",
    "unknown heap",
    "unavailable",
    "not permitted",
    "unsupported",
    "no room",
    "quota exceeded",
)
"""By the numbers of the interface (Verdict.aidl)."""

BACKINGS = ("memfd", "ashmem", "udmabuf", "dma-heap", "ion", "hugetlb")
"""By the numbers of the interface (Backing.aidl)."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an allocation would do. Another caller may take the memory before the real call."""

    possible: bool
    heap: str | None
    """The heap that would serve it."""
    refusal: str | None
    """What it would fail with: as Error.refusal."""
    summary: str
    """The whole answer as text."""
    verdicts: tuple[Verdict, ...]
    """Every heap that the request selects, in the order in which they are tried."""


for _record in (Options, PressureLevel, Heap, Usage, Description, Verdict, Explanation):
    _record.__module__ = "anion"

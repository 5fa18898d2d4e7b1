# SPDX-License-Identifier: Apache-2.0
"""The dataclasses of the service's answers, the keywords of requests, and errors."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypedDict


class Error(OSError):
    """Cause of a failed call.

    ``errno`` is its number. ``strerror`` is the reason in words; for an allocation, it has the
    answer of every heap. In addition to the numbers of refusals: ENOTCONN, no service answers, or
    it did not start again within the patience; ETIMEDOUT, the service runs and did not answer;
    EPROTO, its answer violates the interface; EMFILE, this process has no free descriptor for the
    answer; ECHILD, the object belongs to this process's parent; else the errno of a system call.
    """

    refusal: str | None = None
    """The service's refusal; None if there is none: "BAD_REQUEST" (EINVAL), "UNKNOWN_HEAP"
    (ENODEV), "NOT_PERMITTED" (EPERM), "UNSUPPORTED" (EOPNOTSUPP), "NO_MEMORY" (ENOMEM),
    "QUOTA_EXCEEDED" (EDQUOT), "NOT_OURS" (ENOENT), "BACKEND" (EIO)."""


Error.__module__ = "anion"


class Options(TypedDict, total=False):
    """Keywords of allocate(), allocate_many() and explain()."""

    heaps: str | Iterable[str] | int
    """A name or alias; several, which the service tries in their order; or a mask of heap ids,
    which it tries by descending id. By default the service tries all heaps, by descending id."""
    label: str
    """The buffers' label in dumps: at most 31 bytes of printable ASCII."""
    alignment: int
    """Alignment: physical pieces of at least this many bytes, at multiples of it. A power of two,
    or 0 for the heap's own."""
    cached: bool
    """Skips heaps that the CPU maps uncached."""
    dma_buf: bool
    """Skips heaps whose buffers are not dma-bufs."""
    unzeroed: bool
    """Accepts buffers that contain data of clients of the caller's own trust domain: for callers
    that overwrite every byte."""
    read_only: bool
    """Descriptors permit only reading; the kernel enforces it."""


class PressureLevel(IntEnum):
    """Level of memory pressure."""

    NONE = 0
    """No memory pressure is known."""
    MODERATE = 1
    """The service returns a part of its pooled memory to the kernel."""
    CRITICAL = 2
    """The service pools no memory."""


@dataclass(frozen=True, slots=True)
class Heap:
    """A configured heap."""

    id: int
    """Its bit in masks, 0 to 31, and its rank: the service tries higher ids first."""
    name: str
    aliases: tuple[str, ...]
    """Its other names."""
    kind: str | None
    """"system", "system-contig", "carveout", "chunk", "cma" or "custom"; None if it is
    newer than this package."""
    backing: str | None
    """The backing of the buffers of its first source: "memfd", "ashmem", "udmabuf", "dma-heap",
    "ion" or "hugetlb"; None if it is newer than this package."""
    unavailable: str | None
    """The reason why it is unavailable on this machine; None if it is available."""
    capacity: int | None
    """Bytes that it can give at once; None if only the machine's memory limits it."""
    granule: int
    """Bytes: the service rounds sizes up to a multiple of it."""
    max_alignment: int
    """Largest alignment in bytes of a request."""
    stride_align: int
    """Bytes: rows of images should begin at multiples of it, as the heap's devices require."""
    is_cached: bool
    """CPU mappings are cached."""
    is_zeroed: bool
    """Every buffer is zero when the service hands it out."""
    is_secure: bool
    """The CPU can never map the buffers."""
    gives_read_only: bool
    """The heap can give buffers with ``read_only``."""
    is_held_by_token: bool
    """The kernel cannot report releases: the process that allocated a buffer is charged until it
    closes the Buffer."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes and buffers that one uid holds."""

    uid: int
    policy: str
    """The name of its policy in the configuration; "default" if none names the uid."""
    bytes: int
    """Bytes of its live buffers."""
    buffers: int
    """The number of its live buffers."""
    reserved_bytes: int
    """Bytes of its reserved buffers that are not drawn."""
    peak_bytes: int
    """The highest value of ``bytes`` since the service started."""
    quota_bytes: int | None
    """Limit of bytes and reserved bytes together; None if unlimited."""
    quota_buffers: int | None
    """Limit of buffers, reserved ones included; None if unlimited."""


@dataclass(frozen=True, slots=True)
class Description:
    """Description of a live buffer."""

    id: int
    bytes: int
    heap: str
    heap_id: int
    backing: str | None
    label: str
    """The label of its request."""
    owner_uid: int
    """The uid of the process that allocated it; ``owner_pid`` is the pid of that process."""
    owner_pid: int
    inode: int
    """The inode that /proc and other tools show for it."""
    age_ms: int
    """Milliseconds since the allocation."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer of one heap to a request."""

    heap_id: int | None
    """Its id; None if no heap has the name."""
    heap: str
    verdict: str | None
    """"would serve", "unknown heap", "unavailable", "not permitted", "unsupported", "no room" or
    "quota exceeded"; None if it is newer than this package."""
    reason: str
    """The verdict in words: the request, and the limit that it exceeds."""
    fits_bytes: int
    """Largest size in bytes of a buffer that it could give the caller now, for the requested count;
    0 if none."""


VERDICTS = (
    "would serve",
    "unknown heap",
    "unavailable",
    "not permitted",
    "unsupported",
    "no room",
    "quota exceeded",
)
"""Words for the values of Verdict.aidl, in their order."""

BACKINGS = ("memfd", "ashmem", "udmabuf", "dma-heap", "ion", "hugetlb")
"""Words for the values of Backing.aidl, in their order."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an allocation would do now. Another client may take the memory before the allocation."""

    possible: bool
    heap: str | None
    """The heap that would serve it."""
    refusal: str | None
    """The refusal that it would fail with, as Error.refusal; None if it is possible."""
    summary: str
    """The whole answer in words."""
    verdicts: tuple[Verdict, ...]
    """The answers of the selected heaps, in the order in which the service tries them."""


for _record in (Options, PressureLevel, Heap, Usage, Description, Verdict, Explanation):
    _record.__module__ = "anion"

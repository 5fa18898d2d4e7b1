# SPDX-License-Identifier: Apache-2.0
from os import PathLike
from types import TracebackType
from typing import Final, Literal, Self, Unpack, final

from _typeshed import FileDescriptorLike

from anion._records import Description, Explanation, Heap, Options, PressureLevel, Usage

__all__ = [
    "Buffer",
    "Client",
    "CpuAccess",
    "Mapping",
    "PressureWatch",
    "Reservation",
    "__version__",
    "connect",
    "map_fd",
]

__version__: Final[str]

def connect(
    endpoint: str | PathLike[str] | None = None, *, patience: float = 5.0, connections: int = 1
) -> Client:
    """Connects to the service.

    ``endpoint`` is a socket's path, "unix:PATH", "binder" or "binder:DEVICE". With None the library
    looks for the service as anionctl does: the socket that ANION_SOCKET names, else kernel binder,
    else $XDG_RUNTIME_DIR/anion/allocator.sock, else /run/anion/allocator.sock. ``patience`` is the
    number of seconds for which a call waits for a service that has ended to start again.
    ``connections`` is the number of calls that the service answers at once over a socket.

    Raises Error (ENOTCONN) if no service answers; ValueError if the endpoint is none of these, if
    ``patience`` is negative or too large, or if ``connections`` is 0.
    """

def map_fd(
    fd: FileDescriptorLike, bytes: int | None = None, access: Literal["r", "rw"] = "rw"
) -> Mapping:
    """Maps a buffer by one of its descriptors, whichever process allocated it: the whole buffer, or
    its first ``bytes`` bytes. The descriptor still belongs to the caller, who may close it. Buffers
    of the service never shrink. If another file shrinks, an access beyond its end ends the process
    (SIGBUS).

    Raises Error: EBADF if the descriptor is not open, EACCES if it does not permit ``access``,
    EINVAL if the buffer is shorter than ``bytes``.
    """

@final
class Client:
    """A client of the allocator service. Threads can share it.

    If a call finds that the service has ended, it connects again and is repeated once. Calls raise
    Error: with ``refusal`` if the service refuses the request; ENOTCONN if the service has ended
    and does not start again within the patience; ETIMEDOUT if it does not answer. They raise
    ValueError after the client was closed.
    """

    @property
    def endpoint(self) -> str:
        """The address of the service: a socket's path or "binder:DEVICE"."""

    @property
    def generation(self) -> int:
        """The number of services that the client was connected to so far. While it stays the same,
        reservations still exist. In a child of os.fork() it is higher by one than in the parent."""

    def allocate(self, bytes: int, **options: Unpack[Options]) -> Buffer:
        """Allocates a buffer of at least ``bytes`` bytes. Every byte is zero, unless the heap is
        secure or the request has ``unzeroed``. The service charges the buffer to this process's uid
        until all processes have closed its descriptors and removed its mappings."""

    def allocate_many(self, bytes: int, count: int, **options: Unpack[Options]) -> list[Buffer]:
        """Allocates ``count`` equal buffers of one heap, 1 to 64. On failure, it allocates none."""

    def explain(self, bytes: int, count: int = 1, **options: Unpack[Options]) -> Explanation:
        """Explains what an allocation would do, heap by heap, without changing memory or counters.
        Raises Error for a malformed request, but not if no heap can serve the request."""

    def reserve(self, heap: str, bytes: int, count: int) -> Reservation:
        """Reserves ``count`` buffers of ``bytes`` bytes of a heap. Requests for the same size draw
        them. The call does not wait until the service has made them."""

    def describe(self, fd: FileDescriptorLike) -> Description:
        """Identifies a buffer by one of its descriptors, whichever process allocated it. Raises
        Error with refusal "NOT_OURS" (ENOENT) if it is no live buffer of the service."""

    def heaps(self) -> list[Heap]:
        """Returns all configured heaps, also unavailable ones, in the order in which the service
        tries them."""

    def usage(self) -> list[Usage]:
        """Returns how much each uid holds. Privileged callers get every uid since the service
        started, others only their own."""

    def pressure(self) -> PressureLevel:
        """Returns the present level of memory pressure."""

    def watch_pressure(self) -> PressureWatch:
        """Registers for levels of memory pressure. The first one is the present level."""

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Ends the connection. Buffers, mappings, watches and reservations stay valid."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Buffer:
    """A buffer that this process holds: a file descriptor, which the object closes with itself.

    It has the buffer protocol: memoryview(buffer) and numpy.asarray(buffer) are views of the memory
    without a copy. They keep the memory, also after the descriptor is closed or the object is
    collected.
    """

    @property
    def id(self) -> int:
        """A number that is unique until the machine reboots."""

    @property
    def heap(self) -> str:
        """The name of the heap that it came from."""

    @property
    def heap_id(self) -> int: ...
    @property
    def backing(self) -> str | None:
        """The kind of its descriptor, as Heap.backing; None if it is newer than this package."""

    @property
    def read_only(self) -> bool:
        """Whether its descriptor and its views permit only reading."""

    def fileno(self) -> int:
        """Returns the close-on-exec descriptor, which still belongs to the buffer. Raises
        ValueError after the buffer was closed."""

    def detach(self) -> int:
        """Closes the object and returns its descriptor, which the caller closes. A buffer of a heap
        with Heap.is_held_by_token is released: its memory stays usable, and is charged to no
        uid."""

    def map(self, access: Literal["r", "rw"] | None = None) -> Mapping:
        """Maps the whole buffer. The mapping stays valid without this object. The default of
        ``access`` is the access that the descriptor permits. Raises Error (EACCES) if the
        descriptor does not permit ``access``, or the heap is secure."""

    def cpu(self, access: Literal["r", "w", "rw"] = "rw") -> CpuAccess:
        """Returns a context manager for a CPU access, as Mapping.cpu()."""

    def __len__(self) -> int:
        """Returns its usable bytes: the requested size, rounded up to the heap's granule."""

    def __bool__(self) -> Literal[True]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Closes the descriptor. Copies of the descriptor and mappings keep the memory. While views
        of this object exist, it raises BufferError and closes nothing."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Mapping:
    """A mapping of a buffer, with its pages present. It has the buffer protocol."""

    @property
    def read_only(self) -> bool:
        """Whether it permits only reading."""

    def cpu(self, access: Literal["r", "w", "rw"] = "rw") -> CpuAccess:
        """Returns a context manager for a CPU access: reading, writing or both. At its start, data
        that devices wrote becomes visible to the CPU. At its end, data that the CPU wrote becomes
        visible to devices. Dma-bufs require it. It has no effect on shared memory, which no device
        accesses."""

    def __len__(self) -> int:
        """Returns the number of mapped bytes."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, buffer: memoryview, /) -> None: ...

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Unmaps the memory. Raises BufferError while views of it exist."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class CpuAccess:
    """A CPU access to a mapping, which lasts for a ``with`` block. The block gets a view of the
    memory, read-only for "r". The end of the block releases the view, unless another object uses
    it."""

    def __enter__(self) -> memoryview: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Reservation:
    """Buffers that the service preallocates and charges to this process's uid, until the object is
    closed or the service ends."""

    def ready(self) -> int:
        """Returns how many of its buffers are ready now, without those that were drawn and not yet
        released. Raises Error: ENOTCONN if the service that made it has ended, ECHILD in a child of
        os.fork()."""

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Releases the buffers that were not drawn. Drawn buffers stay with their holders."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class PressureWatch:
    """Receives the level of memory pressure, over a connection of its own, until it is closed. When
    the service restarts, it connects to the new one."""

    def next(self) -> PressureLevel | None:
        """Returns the last level that arrived since the last call, or None. It does not wait.
        Raises Error (ECHILD) in a child of os.fork()."""

    def fileno(self) -> int:
        """Returns a descriptor that is readable while there is a level to return, for select and
        asyncio."""

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Ends the registration."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

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

    ``endpoint`` is a socket's path, "unix:PATH", "binder" or "binder:DEVICE". Without it the service is
    looked for as anionctl does: the socket that ANION_SOCKET names, else kernel binder, else
    $XDG_RUNTIME_DIR/anion/allocator.sock, else /run/anion/allocator.sock. ``patience`` is how many seconds a call waits for a service that was there and is
    gone; ``connections`` is how many calls are answered at once over a socket.

    Raises Error (ENOTCONN) if no service answers; ValueError for an endpoint that is none, or a
    patience that is negative.
    """

def map_fd(
    fd: FileDescriptorLike, bytes: int | None = None, access: Literal["r", "rw"] = "rw"
) -> Mapping:
    """Maps a buffer by a descriptor of it, whichever process allocated it: all of it, or its first
    ``bytes`` bytes. The descriptor stays the caller's and may be closed. The service's buffers never
    shrink; of any other file that does, touching what is gone ends the process (SIGBUS).

    Raises Error: EBADF, it is not open; EACCES, it does not permit the access; EINVAL, it is shorter.
    """

@final
class Client:
    """A client of the allocator service. Threads can share it.

    A call that finds the service gone connects again and is made once more. Calls raise Error with
    ``refusal`` if the service says no; ENOTCONN if it is gone and does not come back within the patience;
    ETIMEDOUT if it does not answer. ValueError once the client is closed.
    """

    @property
    def endpoint(self) -> str:
        """Where the service is: a socket's path or "binder:DEVICE"."""

    @property
    def generation(self) -> int:
        """How many services it was connected to so far, one after the other. While that is the same,
        reservations are still there. A child of os.fork() has one more than its parent."""

    def allocate(self, bytes: int, **options: Unpack[Options]) -> Buffer:
        """Allocates a buffer of at least so many bytes: zero unless its heap is secure or ``unzeroed``
        was asked for, and charged to this process's uid until every descriptor, copy and mapping of it
        is gone, in any process."""

    def allocate_many(self, bytes: int, count: int, **options: Unpack[Options]) -> list[Buffer]:
        """Allocates so many equal buffers, 1 to 64, all of one heap: all of them, or none."""

    def explain(self, bytes: int, count: int = 1, **options: Unpack[Options]) -> Explanation:
        """Explains what an allocation would do, heap by heap, without changing memory or counters. It is
        no error if no heap can serve it; a malformed request is an error."""

    def reserve(self, heap: str, bytes: int, count: int) -> Reservation:
        """Reserves ``count`` buffers of a heap: requests for the same size draw them. It does not wait
        until they are made."""

    def describe(self, fd: FileDescriptorLike) -> Description:
        """Identifies a buffer by one of its descriptors, whichever process allocated it. Error with refusal
        "NOT_OURS" (ENOENT) if it is no live buffer of the service."""

    def heaps(self) -> list[Heap]:
        """Lists the configured heaps in the order in which they are tried, unavailable ones included."""

    def usage(self) -> list[Usage]:
        """Lists what clients hold: for privileged callers every uid that was seen since the service
        started, for others their own alone."""

    def pressure(self) -> PressureLevel:
        """Returns how scarce memory is."""

    def watch_pressure(self) -> PressureWatch:
        """Begins to listen for levels of memory pressure; the level now is the first that is told."""

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Ends the connection. Buffers, mappings, watches and reservations go on without it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Buffer:
    """A buffer that this process holds: a file descriptor, which closes with it.

    It has the buffer protocol: memoryview(buffer) and numpy.asarray(buffer) are views of the memory
    without a copy. They keep the memory, also when the descriptor is closed or the object is gone.
    """

    @property
    def id(self) -> int:
        """What no other buffer has had or will have until the machine reboots."""

    @property
    def heap(self) -> str:
        """The name of the heap that it came from."""

    @property
    def heap_id(self) -> int: ...
    @property
    def backing(self) -> str | None:
        """The kind of its descriptor, as Heap.backing; None if newer."""

    @property
    def read_only(self) -> bool:
        """Whether its descriptor and its views permit reading alone."""

    def fileno(self) -> int:
        """Returns the descriptor, close-on-exec, which stays the buffer's. ValueError once it is
        closed."""

    def detach(self) -> int:
        """Closes the object without closing its descriptor, and returns that: the caller closes it. A
        buffer of a heap that is held by a token is given up: it stays usable, and is charged to no
        uid."""

    def map(self, access: Literal["r", "rw"] | None = None) -> Mapping:
        """Maps all of it, independently of this object; by default with the access that its descriptor
        permits. Error with EACCES if that does not permit it, or the heap is secure."""

    def cpu(self, access: Literal["r", "w", "rw"] = "rw") -> CpuAccess:
        """Returns a context manager around accesses of the CPU: as Mapping.cpu()."""

    def __len__(self) -> int:
        """Returns its usable bytes: those of the request, rounded up to the heap's granule."""

    def __bool__(self) -> Literal[True]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Closes the descriptor. BufferError, and nothing is closed, while there are views of this
        object. Copies of the descriptor and mappings keep the memory."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Mapping:
    """Memory of a buffer in this process, with its pages present. It has the buffer protocol."""

    @property
    def read_only(self) -> bool:
        """Whether it permits reading alone."""

    def cpu(self, access: Literal["r", "w", "rw"] = "rw") -> CpuAccess:
        """Returns a context manager around accesses of the CPU, reading, writing or both: what devices
        wrote before is seen within, and what is written within is seen by devices after. Shared memory
        needs no such brackets, dma-bufs do; on both they are right."""

    def __len__(self) -> int:
        """Returns the bytes mapped."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, buffer: memoryview, /) -> None: ...

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Unmaps it. BufferError while there are views of it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class CpuAccess:
    """Accesses of the CPU to a mapping, from where a ``with`` begins to where it ends. It gives a view of
    the memory, read-only for "r", and releases that view at the end unless something was made of it."""

    def __enter__(self) -> memoryview: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Reservation:
    """Buffers that are charged to this process's uid and preallocated, until this is closed or the
    service ends."""

    def ready(self) -> int:
        """Returns how many of them are ready now, without those that were drawn and not yet released.
        Error: ENOTCONN, its service has ended; ECHILD, in a child of os.fork()."""

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Ends the reservation."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class PressureWatch:
    """Hears of the pressure level, over a connection of its own, until it is closed. When the service
    restarts, it listens to the new one."""

    def next(self) -> PressureLevel | None:
        """Returns the last level that was told since the last call, without waiting. Error with ECHILD in
        a child of os.fork()."""

    def fileno(self) -> int:
        """Returns the descriptor that is readable while there is a level, for select and asyncio."""

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def close(self) -> None:
        """Ends the watch."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

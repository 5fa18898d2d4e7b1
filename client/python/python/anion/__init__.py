# SPDX-License-Identifier: Apache-2.0
"""Buffers of the Anion allocator service.

    import anion

    with anion.connect() as client, client.allocate(3110400, heaps="camera", label="preview") as frame:
        with frame.cpu("w") as memory:
            memory[:6] = b"pixels"

A buffer is a file descriptor. No call frees it: the kernel reports to the service that the last
copy of the descriptor is closed and the last mapping is removed, in all processes.

If a call finds that the service has ended, it connects again and is repeated once. A child of
os.fork() connects again by itself, and does not end objects of its parent.
"""

from anion._anion import (
    Buffer,
    Client,
    CpuAccess,
    Mapping,
    PressureWatch,
    Reservation,
    __version__,
    connect,
    map_fd,
)
from anion._records import Description, Error, Explanation, Heap, Options, PressureLevel, Usage, Verdict

__all__ = [
    "Buffer",
    "Client",
    "CpuAccess",
    "Description",
    "Error",
    "Explanation",
    "Heap",
    "Mapping",
    "Options",
    "PressureLevel",
    "PressureWatch",
    "Reservation",
    "Usage",
    "Verdict",
    "__version__",
    "connect",
    "map_fd",
]

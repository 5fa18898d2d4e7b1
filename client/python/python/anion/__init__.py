# SPDX-License-Identifier: Apache-2.0
"""Buffers of the Anion allocator service.

    import anion

    with anion.connect() as client, client.allocate(3110400, heaps="camera", label="preview") as frame:
        with frame.cpu("w") as memory:
            memory[:6] = b"pixels"

A buffer is a file descriptor. No call frees it: when its last copy and the last mapping of it are
gone, in whatever process, the service learns that from the kernel.

A call that finds the service gone connects again and is made once more. A child of os.fork()
connects for itself, and ends nothing of its parent's.
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

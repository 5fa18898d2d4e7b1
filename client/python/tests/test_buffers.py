# SPDX-License-Identifier: Apache-2.0
"""Tests buffers, their views, and the lifetime of their memory."""

import errno
import gc
import io
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Literal

import anion
import numpy
import pytest
from conftest import Service

MIB = 1 << 20

RECEIVER = """
import socket, sys
import anion, numpy
channel = socket.socket(fileno=int(sys.argv[1]))
_, [fd], _, _ = socket.recv_fds(channel, 1, 1)
with anion.map_fd(fd, access="r") as mapping:
    with mapping.cpu("r") as memory:
        pixels = numpy.asarray(memory).view(numpy.uint32)
        print(len(mapping), int(pixels.sum(dtype=numpy.uint64)), int(pixels[-1]))
        del pixels
"""
"""A program that receives a descriptor, maps it, and prints its length, sum and last element."""


def test_another_process_sees_what_numpy_wrote(service: Service, client: anion.Client) -> None:
    buffer = client.allocate(8 * MIB, heaps="system", label="frame")
    pixels = numpy.asarray(buffer).view(numpy.uint32)
    assert (pixels.size, int(pixels.max())) == (2 * MIB, 0)
    pixels[:] = numpy.arange(2 * MIB, dtype=numpy.uint32)
    assert service.held() == (8 * MIB, 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receiver = subprocess.Popen(
            [sys.executable, "-c", RECEIVER, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        socket.send_fds(ours, [b"f"], [buffer.fileno()])
        said, _ = receiver.communicate()
    assert receiver.returncode == 0
    assert said.split() == [str(8 * MIB), str(MIB * (2 * MIB - 1)), str(2 * MIB - 1)]
    assert service.held() == (8 * MIB, 1)
    del pixels
    buffer.close()
    service.holds_nothing()


def test_a_view_is_the_memory_and_keeps_it(service: Service, client: anion.Client) -> None:
    buffer = client.allocate(1)
    assert (len(buffer), bool(buffer), buffer.heap, buffer.heap_id) == (4096, True, "system", 25)
    assert (buffer.backing, buffer.read_only, buffer.closed) == ("memfd", False, False)
    view = memoryview(buffer)
    assert (view.format, view.ndim, view.nbytes, view.readonly) == ("B", 1, 4096, False)
    array = numpy.asarray(buffer)
    view[7] = 42
    assert array[7] == 42
    with pytest.raises(BufferError, match="2 views"):
        buffer.close()
    assert not buffer.closed
    # The array keeps the memory after the buffer object and its descriptor are gone.
    del buffer, view
    assert service.held() == (4096, 1)
    assert array[7] == 42
    del array
    service.holds_nothing()


def test_buffers_that_are_forgotten_are_released(service: Service, client: anion.Client) -> None:
    buffers = client.allocate_many(MIB - 1, 3, heaps=["system"], label="frames")
    assert [len(buffer) for buffer in buffers] == [MIB] * 3
    assert len({buffer.id for buffer in buffers}) == 3
    assert service.held() == (3 * MIB, 3)
    cycle = [buffers]
    cycle.append(cycle)  # type: ignore[arg-type]
    del buffers, cycle
    gc.collect()
    service.holds_nothing()


def test_a_with_closes_what_it_opened(service: Service) -> None:
    with service.connect() as client:
        with client.allocate(4096) as buffer, buffer.map() as mapping:
            with buffer.cpu("w") as memory:
                memory[:6] = b"pixels"
            with mapping.cpu("r") as seen:
                assert bytes(seen[:6]) == b"pixels"
        assert buffer.closed and mapping.closed
        assert "closed" in repr(buffer)
    assert client.closed
    calls: list[Callable[[], object]] = [
        client.heaps,
        client.__enter__,
        buffer.fileno,
        buffer.map,
        buffer.detach,
        buffer.__enter__,
        lambda: memoryview(buffer),
        mapping.__enter__,
        mapping.cpu().__enter__,
        lambda: memoryview(mapping),
        lambda: memory[0],
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed|released"):
            call()
    # A second close() has no effect.
    for closed in (client, buffer, mapping):
        closed.close()
    service.holds_nothing()


def test_an_access_permits_what_it_was_begun_for(client: anion.Client) -> None:
    with client.allocate(4096) as buffer:
        access = buffer.cpu("r")
        with access as memory:
            assert memory.readonly
            with pytest.raises(ValueError, match="begun already"):
                access.__enter__()
        with pytest.raises(ValueError, match="not begun"):
            access.__exit__(None, None, None)
        words: list[Literal["w", "rw"]] = ["w", "rw"]
        for word in words:
            with buffer.cpu(word) as memory:
                assert not memory.readonly
        with pytest.raises(ValueError, match="access is 'x', but it must be 'r', 'w' or 'rw'"):
            buffer.cpu("x")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="access is 'w', but it must be 'r' or 'rw'"):
            buffer.map("w")  # type: ignore[arg-type]


def test_what_was_made_of_an_accesss_memory_outlives_it(client: anion.Client) -> None:
    buffer = client.allocate(4096)
    with buffer.cpu("w") as memory:
        array = numpy.asarray(memory)
    array[0] = 1
    with pytest.raises(BufferError):
        buffer.close()
    del array, memory
    buffer.close()


def test_read_only_buffers_give_read_only_views(client: anion.Client) -> None:
    with client.allocate(4096, read_only=True) as buffer:
        assert buffer.read_only
        with memoryview(buffer) as view:
            assert view.readonly
        array = numpy.asarray(buffer)
        assert not array.flags.writeable
        del array
        with pytest.raises(TypeError, match="read-write"):
            io.BytesIO(b"pixels").readinto(buffer)
        with pytest.raises(anion.Error, match="read-only") as failed, buffer.cpu("w"):
            pass
        assert failed.value.errno == errno.EACCES
        with pytest.raises(anion.Error) as failed:
            buffer.map("rw")
        assert failed.value.errno == errno.EACCES
        with buffer.map() as mapping, buffer.cpu("r") as memory:
            assert mapping.read_only and memory[0] == 0


def test_a_mapping_may_permit_less_than_the_buffer(client: anion.Client) -> None:
    with client.allocate(4096) as buffer, buffer.map("r") as mapping, memoryview(mapping) as view:
        assert view.readonly
        with pytest.raises(TypeError):
            view[0] = 1
        with pytest.raises(BufferError, match="1 views"):
            mapping.close()


def test_a_detached_descriptor_is_the_callers(service: Service, client: anion.Client) -> None:
    buffer = client.allocate(MIB, label="passed on")
    with buffer.cpu("w") as memory:
        memory[:6] = b"pixels"
    fd = buffer.detach()
    assert buffer.closed
    assert not os.get_inheritable(fd)
    assert client.describe(fd).label == "passed on"
    with anion.map_fd(fd) as whole, anion.map_fd(fd, 4096, "r") as start:
        assert (len(whole), len(start)) == (MIB, 4096)
        os.close(fd)
        with start.cpu("r") as memory:
            assert bytes(memory[:6]) == b"pixels"
        assert service.held() == (MIB, 1)
    service.holds_nothing()


def test_views_stay_when_the_descriptor_is_detached(service: Service, client: anion.Client) -> None:
    buffer = client.allocate(4096)
    with memoryview(buffer) as view:
        os.close(buffer.detach())
        view[0] = 1
        assert service.held() == (4096, 1)
    service.holds_nothing()


def test_a_watch_is_readable_once_there_is_a_level(client: anion.Client) -> None:
    assert client.pressure() == anion.PressureLevel.NONE
    with client.watch_pressure() as watch:
        assert select.select([watch], [], [], 180.0)[0] == [watch]
        assert watch.next() is anion.PressureLevel.NONE
        assert watch.next() is None
    with pytest.raises(ValueError, match="closed"):
        watch.next()

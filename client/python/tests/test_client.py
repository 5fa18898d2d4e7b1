# SPDX-License-Identifier: Apache-2.0
"""Tests the client: answers of the service, errors, restarts, threads and fork."""

import errno
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anion
import pytest
from conftest import DEADLINE, Service, eventually

MIB = 1 << 20


def test_heaps_have_their_facts(service: Service, client: anion.Client) -> None:
    system, camera = client.heaps()
    assert (system.name, system.id, system.kind, system.backing) == ("system", 25, "system", "memfd")
    assert system.aliases == ("ion_system_heap",) and system.capacity is None
    assert (camera.kind, camera.capacity, camera.unavailable) == ("carveout", 64 * MIB, None)
    assert camera.is_cached and camera.is_zeroed and not camera.is_secure
    assert (system.stride_align, camera.stride_align) == (64, 256)
    assert client.endpoint == str(service.socket)
    assert anion.__version__.count(".") == 2


def test_heaps_are_chosen_by_name_in_order_and_by_mask(client: anion.Client) -> None:
    assert client.allocate(1, heaps="ion_system_heap").heap == "system"
    assert client.allocate(1, heaps=1 << 20).heap == "camera"
    assert client.allocate(128 * MIB, heaps=("camera", "system")).heap == "system"
    assert client.allocate(1, heaps=(name for name in ["camera"]), cached=True).heap == "camera"


def test_a_buffer_is_described_by_any_descriptor_of_it(client: anion.Client) -> None:
    with client.allocate(5000, label="preview") as buffer:
        found = client.describe(buffer)
        assert (found.id, found.bytes, found.heap, found.heap_id) == (buffer.id, 8192, "system", 25)
        assert (found.label, found.backing) == ("preview", buffer.backing)
        assert (found.owner_uid, found.owner_pid) == (os.getuid(), os.getpid())
        assert found.inode == os.fstat(buffer.fileno()).st_ino
        assert client.describe(buffer.fileno()).id == buffer.id


def test_usage_is_exact(client: anion.Client) -> None:
    with client.allocate(MIB), client.allocate(2 * MIB):
        [row] = [row for row in client.usage() if row.uid == os.getuid()]
        assert (row.bytes, row.buffers, row.reserved_bytes) == (3 * MIB, 2, 0)
        assert (row.policy, row.quota_bytes, row.peak_bytes) == ("default", 1 << 30, 3 * MIB)

    def is_given_back() -> bool:
        return all((row.bytes, row.buffers) == (0, 0) for row in client.usage())

    eventually("nothing is held", is_given_back)


def test_an_explanation_has_the_verdict_of_every_heap(client: anion.Client) -> None:
    good = client.explain(MIB, heaps=["camera", "system"])
    assert (good.possible, good.heap, good.refusal) == (True, "camera", None)
    bad = client.explain(48 * MIB, 2, heaps=["camera", "nowhere"])
    assert (bad.possible, bad.heap, bad.refusal) == (False, None, "NO_MEMORY")
    camera, nowhere = bad.verdicts
    assert (camera.heap_id, camera.verdict, camera.fits_bytes) == (20, "no room", 32 * MIB)
    assert (nowhere.heap_id, nowhere.verdict) == (None, "unknown heap")
    assert "100663296" in camera.reason and camera.reason in bad.summary
    assert client.usage() == [] or client.usage()[0].buffers == 0


def test_reserved_buffers_are_drawn(service: Service, client: anion.Client) -> None:
    with client.reserve("system", MIB, 2) as reservation:
        eventually("they are ready", lambda: reservation.ready() == 2)
        with client.allocate(MIB, heaps="system"):
            assert reservation.ready() == 1
        eventually("they are ready again", lambda: reservation.ready() == 2)
    with pytest.raises(ValueError, match="closed"):
        reservation.ready()
    eventually("nothing is reserved", lambda: all(row.reserved_bytes == 0 for row in client.usage()))


REFUSALS: list[tuple[str, int, str, Callable[[anion.Client], object]]] = [
    ("UNKNOWN_HEAP", errno.ENODEV, "nowhere", lambda client: client.allocate(1, heaps="nowhere")),
    ("BAD_REQUEST", errno.EINVAL, "size is 0", lambda client: client.allocate(0)),
    ("BAD_REQUEST", errno.EINVAL, "count is 65", lambda client: client.allocate_many(1, 65)),
    ("BAD_REQUEST", errno.EINVAL, "name", lambda client: client.allocate(1, label="a\nb")),
    ("BAD_REQUEST", errno.EINVAL, "alignment is 3", lambda client: client.explain(1, alignment=3)),
    ("NO_MEMORY", errno.ENOMEM, "67108864", lambda client: client.allocate(65 * MIB, heaps="camera")),
    ("UNSUPPORTED", errno.EOPNOTSUPP, "dma-buf", lambda client: client.allocate(1, dma_buf=True)),
    (
        "QUOTA_EXCEEDED",
        errno.EDQUOT,
        "1073741824",
        lambda client: client.allocate_many(300 * MIB, 4, heaps="system"),
    ),
    ("NOT_OURS", errno.ENOENT, "", lambda client: client.describe(os.open("/dev/null", os.O_RDONLY))),
    ("UNKNOWN_HEAP", errno.ENODEV, "nowhere", lambda client: client.reserve("nowhere", 1, 1)),
]


@pytest.mark.parametrize(("refusal", "code", "text", "call"), REFUSALS)
def test_a_refusal_says_what_the_service_said(
    client: anion.Client,
    refusal: str,
    code: int,
    text: str,
    call: Callable[[anion.Client], object],
) -> None:
    with pytest.raises(anion.Error) as failed:
        call(client)
    error = failed.value
    assert (error.refusal, error.errno) == (refusal, code)
    assert isinstance(error, OSError) and text in str(error) and refusal in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.refusal, str(again)) == (anion.Error, refusal, str(error))
    assert client.generation == 1


def test_a_failing_allocation_has_the_answer_of_every_heap(client: anion.Client) -> None:
    with pytest.raises(anion.Error, match="camera.*system|system.*camera"):
        client.allocate(2 << 30)


def test_what_the_library_refuses_itself(client: anion.Client, tmp_path: Path) -> None:
    any_client: Any = client
    cases: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (TypeError, "unexpected keyword argument 'heap'", lambda: any_client.allocate(1, heap="system")),
        (TypeError, "while processing 'label'", lambda: any_client.allocate(1, label=1)),
        (TypeError, "float(.|\n)*while processing 'heaps'", lambda: any_client.allocate(1, heaps=1.5)),
        (TypeError, "while processing 'bytes'", lambda: any_client.allocate("1")),
        (OverflowError, "negative", lambda: client.allocate(-1)),
        (OverflowError, "while processing 'heaps'", lambda: client.allocate(1, heaps=1 << 32)),
        (ValueError, "endpoint is", lambda: anion.connect("nowhere:")),
        (ValueError, "connections is 0", lambda: anion.connect(connections=0)),
        (ValueError, "patience is -1", lambda: anion.connect(patience=-1)),
    ]
    for kind, text, call in cases:
        with pytest.raises(kind, match=text):
            call()
    with pytest.raises(anion.Error) as failed:
        anion.connect(tmp_path / "no-socket")
    assert (failed.value.errno, failed.value.refusal) == (errno.ENOTCONN, None)
    with pytest.raises(anion.Error) as failed:
        anion.map_fd(-1)
    assert failed.value.errno == errno.EBADF
    with client.allocate(4096) as buffer, pytest.raises(anion.Error) as failed:
        anion.map_fd(buffer, 4097)
    assert failed.value.errno == errno.EINVAL


def test_a_restart_is_survived(service: Service, client: anion.Client) -> None:
    kept = client.allocate(MIB, label="kept")
    view = memoryview(kept)
    view[:6] = b"before"
    reservation = client.reserve("system", MIB, 1)
    watch = client.watch_pressure()
    assert client.generation == 1
    service.kill()
    service.start()
    # The service may not serve yet: the call waits for it.
    fresh = client.allocate(MIB, label="fresh")
    assert client.generation == 2 and fresh.id != kept.id
    assert bytes(view[:6]) == b"before"
    # The client has presented its buffer to the new service, and reserved again.
    assert client.describe(kept).id == kept.id
    assert client.describe(fresh).label == "fresh"
    assert service.held() == (2 * MIB, 2)
    # The new buffer was the reserved one; the service makes another one after its release.
    assert reservation.ready() == 0
    fresh.close()
    eventually("the reservation is ready", lambda: reservation.ready() == 1)
    watch.close()


def test_a_service_that_stays_away_is_reported(service: Service) -> None:
    with anion.connect(service.socket, patience=0) as client:
        service.kill()
        with pytest.raises(anion.Error) as failed:
            client.heaps()
        assert failed.value.errno == errno.ENOTCONN


def test_threads_share_a_client_while_the_service_restarts(service: Service, client: anion.Client) -> None:
    allocated = [0] * 4
    faults: list[BaseException] = []
    stop = threading.Event()

    def work(index: int) -> None:
        try:
            while not stop.is_set():
                with client.allocate(64 << 10, heaps="system") as buffer:
                    with buffer.cpu("rw") as memory:
                        assert memory[0] == 0
                        memory[0] = 1 + index
                        assert memory[0] == 1 + index
                allocated[index] += 1
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            before = list(allocated)

            def is_ahead(before: list[int] = before) -> bool:
                return bool(faults) or all(now > then for now, then in zip(allocated, before))

            eventually("every thread has allocated", is_ahead)
            service.kill()
            service.start()
        eventually("the new service is found", lambda: bool(faults) or client.generation == 3)
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert faults == []
    service.holds_nothing()


def test_other_threads_run_while_a_call_waits(service: Service, client: anion.Client) -> None:
    service.kill()
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(client.allocate(1).heap))
    thread.start()
    # The waiting call released the interpreter's lock, so this thread can start the service.
    service.start()
    thread.join(DEADLINE)
    assert found == ["system"]


def test_a_child_of_fork_has_a_connection_of_its_own(service: Service, client: anion.Client) -> None:
    kept = client.allocate(MIB, label="kept")
    view = memoryview(kept)
    view[0] = ord("p")
    reservation = client.reserve("system", MIB, 1)
    watch = client.watch_pressure()

    def in_child() -> None:
        assert client.generation == 2
        with client.allocate(MIB, heaps="camera") as own:
            assert client.describe(own).owner_pid == os.getpid()
            assert client.describe(kept).owner_pid == os.getppid()
        assert view[0] == ord("p")
        view[0] = ord("c")
        for inherited in (reservation.ready, watch.next):
            with pytest.raises(anion.Error) as failed:
                inherited()
            assert failed.value.errno == errno.ECHILD
        reservation.close()
        watch.close()

    child = os.fork()
    if child == 0:
        status = 1
        try:
            in_child()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert view[0] == ord("c")
    # Objects that the child closed still belong to the parent.
    eventually("it is ready", lambda: reservation.ready() == 1)
    assert watch.next() is anion.PressureLevel.NONE
    assert client.generation == 1
    assert service.held() == (MIB, 1)

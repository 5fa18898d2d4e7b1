# SPDX-License-Identifier: Apache-2.0
"""Starts a service for each test, with its own socket and directory."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anion
import pytest

DEADLINE = 180.0
"""Most seconds of an operation that takes milliseconds on an idle machine."""

HEAPS = """/dts-v1/;
/ { anion { compatible = "anion,heaps-v1";
    system { type = "system"; heap-id = <25>; aliases = "ion_system_heap"; device = "memfd"; cached; };
    camera { type = "carveout"; heap-id = <20>; size = <0x4000000>; device = "memfd"; cached; stride-align = <256>; };
    clients { max-bytes = <0x40000000>; };
}; };"""
"""Heaps that every machine can serve, since they need no device."""

INHERITED_SETTINGS = ("ANION_CGROUP", "ANION_CONFIG", "ANION_LOG", "ANION_SOCKET", "ANION_TRANSPORT")
"""Variables that the service must not inherit from the environment of the tests."""


def eventually(what: str, condition: Callable[[], bool]) -> None:
    """Waits until the condition holds. Fails with the text ``what`` after DEADLINE seconds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE} s, but not: {what}"
        time.sleep(0.001)


class Service:
    """A running aniond. ANION_TEST_SERVICE names the program."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "socket"
        (directory / "heaps.dts").write_text(HEAPS)
        self.start()
        eventually("the service accepts connections", self._accepts)

    def start(self) -> None:
        """Starts the service, also after kill(). It may not serve yet when this function returns."""
        words = [os.environ["ANION_TEST_SERVICE"], "--transport", "socket", "--socket", str(self.socket)]
        words += ["--config", str(self.directory / "heaps.dts")]
        variables = {name: value for name, value in os.environ.items() if name not in INHERITED_SETTINGS}
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables
            )

    def kill(self) -> None:
        """Kills the service by SIGKILL, so that it cannot clean up."""
        self.process.kill()
        self.process.wait()

    def connect(self) -> anion.Client:
        """Returns a client that waits up to DEADLINE for the service to start again."""
        return anion.connect(self.socket, patience=DEADLINE)

    def held(self) -> tuple[int, int]:
        """Returns the bytes and buffers that all clients hold together."""
        with self.connect() as client:
            rows = client.usage()
        return sum(row.bytes for row in rows), sum(row.buffers for row in rows)

    def holds_nothing(self) -> None:
        """Waits until all buffers are released."""
        eventually("nothing is held", lambda: self.held() == (0, 0))

    def _accepts(self) -> bool:
        assert self.process.poll() is None, (self.directory / "log").read_text()
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    try:
        yield service
    finally:
        service.kill()
        # pytest shows it only if the test fails.
        print((tmp_path / "log").read_text())


@pytest.fixture
def client(service: Service) -> Iterator[anion.Client]:
    with service.connect() as client:
        yield client

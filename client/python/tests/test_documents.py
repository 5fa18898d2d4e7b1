# SPDX-License-Identifier: Apache-2.0
"""Runs the Python code of the documents."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Service

ROOT = Path(__file__).parents[3]
BLOCKS = {"README.md": 1, "docs/python.md": 4}
"""The number of blocks in each document."""


def blocks(document: str) -> list[str]:
    """Returns the Python blocks of a document."""
    parts = (ROOT / document).read_text().split("\n```python\n")[1:]
    found = [part.split("\n```")[0] for part in parts]
    assert len(found) == BLOCKS[document], f"{document} has so many blocks of Python"
    return found


CASES = [(name, at) for name, count in BLOCKS.items() for at in range(count)]


@pytest.mark.parametrize(("document", "at"), CASES)
def test_a_block_of_a_document_runs(service: Service, document: str, at: int) -> None:
    variables = {**os.environ, "ANION_SOCKET": str(service.socket)}
    block = blocks(document)[at]
    subprocess.run([sys.executable, "-W", "error", "-c", block], check=True, env=variables)
    service.holds_nothing()

"""The process that servers are copies of has imported what they need."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from tests.prepared_python import _PRELOADED


@pytest.mark.parametrize("module", _PRELOADED)
def test_what_is_to_be_imported_is_there(module: str) -> None:
    """A missing import would only make the tests slower."""
    assert importlib.util.find_spec(module) is not None


def test_a_copy_compresses_no_file_of_the_page_again_and_reads_its_own_environment() -> None:
    """Long cookies of a login need longer lines than websockets accepts by default, and it reads
    their length as it is imported.
    """
    program = f"""
import {", ".join(_PRELOADED)}
import sys
from queuescope.dashboard.assets import Assets, compressed
assert "websockets" not in sys.modules
before = compressed.cache_info().misses
Assets()
assert compressed.cache_info().misses == before > 0
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

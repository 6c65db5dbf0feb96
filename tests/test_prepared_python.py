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


def test_what_reads_its_environment_as_it_is_imported_is_left_to_the_copies() -> None:
    """Long cookies of a login need longer lines than websockets accepts by default."""
    program = f"import sys, {', '.join(_PRELOADED)}; sys.exit('websockets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_copy_compresses_no_file_of_the_page_again() -> None:
    program = """
import tests.prepared_results
from queuescope.dashboard.assets import Assets, compressed
before = compressed.cache_info().misses
Assets()
assert compressed.cache_info().misses == before > 0
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

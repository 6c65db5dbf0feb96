"""The process that servers are copies of has imported what they need."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from tests.prepared_python import _PRELOADED, run_python


@pytest.mark.parametrize("module", _PRELOADED)
def test_what_is_to_be_imported_is_there(module: str) -> None:
    """A missing import would only make the tests slower."""
    assert importlib.util.find_spec(module) is not None


def test_a_copy_compresses_no_file_of_the_page_again_and_reads_its_own_environment() -> None:
    """Long cookies of a login need longer lines than websockets accepts by default, and it reads
    their length as it is imported.
    """
    done = run_python("tests.test_prepared_python")
    assert done.returncode == 0, done.stderr


def main() -> None:
    """What is true in a copy."""
    assert "websockets" not in sys.modules
    assets = sys.modules["queuescope.dashboard.assets"]
    before = assets.compressed.cache_info().misses
    assets.Assets()
    assert assets.compressed.cache_info().misses == before > 0

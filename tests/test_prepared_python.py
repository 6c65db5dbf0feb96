"""The process that servers are copies of has imported what they need."""

from __future__ import annotations

import importlib.util

import pytest
from tests.prepared_python import _PRELOADED


@pytest.mark.parametrize("module", _PRELOADED)
def test_what_is_to_be_imported_is_there(module: str) -> None:
    """Of what is not, nobody would be told but by the time that the tests take."""
    assert importlib.util.find_spec(module) is not None

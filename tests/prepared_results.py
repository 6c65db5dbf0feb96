"""What a dashboard works out as it starts and is the same for all of them, worked out once for the
copies of the process that imports this: compressed files, and which packages bring components.
"""

from __future__ import annotations

import functools
import gc
from pathlib import Path

import streamlit
from streamlit.components.v2 import manifest_scanner

from queuescope.dashboard.assets import Assets, compressed_file

_STATIC = Path(streamlit.__file__).parent / "static/static"
# The larger ones hold elements that the pages do not have.
_LARGEST_ASKED_BYTES = 900_000

Assets()
for file in _STATIC.rglob("*"):
    if file.suffix in {".js", ".css"} and file.stat().st_size < _LARGEST_ASKED_BYTES:
        compressed_file(file)
manifest_scanner.scan_component_manifests = functools.cache(
    manifest_scanner.scan_component_manifests
)
manifest_scanner.scan_component_manifests()
gc.collect()
gc.freeze()

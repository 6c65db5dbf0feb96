"""The decoder under Atheris, a coverage-guided fuzzer, which is not part of the project.

    uv run --no-sync --with atheris python -m tests.prometheus.guided_fuzz -runs=1000000 DIRECTORY

keeps inputs that reached a new branch in the directory; further options are those of libFuzzer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["queuescope.prometheus"]):
    from queuescope.prometheus import matrix, wire  # noqa: F401

from tests.prometheus import recorded_bodies
from tests.prometheus.decoder_fuzz import Tally, check

_TALLY = Tally()


def _one_input(body: bytes) -> None:
    check(body, _TALLY)


def main() -> None:
    corpus = next((Path(text) for text in sys.argv[1:] if not text.startswith("-")), None)
    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
        for name, body in (recorded_bodies.ranges() | recorded_bodies.instants()).items():
            (corpus / name).write_bytes(body)
    atheris.Setup(sys.argv, _one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Makes the past of the local stack, once: ``python -m queuescope.demo.backfill write|load …``.

Two steps, so that the stack can start its workers in between: ``write`` makes the job history and
the samples that belong to it, ``load`` turns the samples into Prometheus blocks.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from queuescope.demo.history import import_history, write_history
from queuescope.errors import QueuescopeError

SEED = 20_240_229


def main(argv: Sequence[str]) -> int:
    """Run one step; progress goes to standard output."""
    parser = argparse.ArgumentParser(prog="queuescope.demo.backfill")
    steps = parser.add_subparsers(dest="step", required=True)
    write = steps.add_parser("write")
    write.add_argument("--samples", type=Path, required=True)
    write.add_argument("--job-store-url", required=True)
    write.add_argument("--days", type=int, required=True)
    load = steps.add_parser("load")
    load.add_argument("--samples", type=Path, required=True)
    load.add_argument("--tsdb", type=Path, required=True)
    load.add_argument("--promtool", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        if arguments.step == "write":
            write_history(
                arguments.samples,
                arguments.job_store_url,
                days=arguments.days,
                end=int(time.time()),
                seed=SEED,
                progress=_say,
            )
        else:
            files = sorted(path for path in arguments.samples.iterdir() if path.is_file())
            import_history(arguments.tsdb, files, arguments.promtool, _say)
    except QueuescopeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _say(line: str) -> None:
    print(f"    {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

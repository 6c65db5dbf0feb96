"""Creates the history of the demo once: ``python -m queuescope.demo.backfill write|load …``.

There are two steps, so that the stack can start its workers in between: ``write`` creates the job
history and the samples that match it, ``load`` turns the samples into Prometheus blocks.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from queuescope.demo.blocks import Progress, load_blocks, write_blocks
from queuescope.demo.job_rows import job_rows
from queuescope.demo.past import DEFAULT_TARGETS, Targets, make_past
from queuescope.errors import DemoError, QueuescopeError
from queuescope.jobs.store import JobStore

SEED = 20_240_229


def write_history(
    directory: Path,
    job_store_url: str,
    *,
    days: float,
    end: int,
    seed: int,
    progress: Progress = lambda _: None,
    targets: Targets = DEFAULT_TARGETS,
) -> list[Path]:
    """Create ``days`` days of history until ``end`` (epoch seconds, floored to the minute).

    Writes the job history to ``job_store_url``, which must not contain these jobs yet, and one file
    of samples per block into ``directory``; returns these files, newest first, for ``load_blocks``.
    The samples are 15 s apart in the last two days, 30 s before.

    Raises ``JobStoreError``, and ``DemoError`` if the files cannot be written.
    """
    past = make_past(days=days, end=end, seed=seed)
    progress(f"{len(past.jobs):,} jobs of {days:g} days simulated")
    store = JobStore(job_store_url)
    with ThreadPoolExecutor(1) as background:
        rows = background.submit(store.load, job_rows(past, targets))
        try:
            directory.mkdir(parents=True, exist_ok=True)
            files = write_blocks(directory, past, targets)
        except OSError as exc:
            raise DemoError(
                f"cannot write the history to {directory}: {exc.strerror}; free some space"
            ) from exc
        progress(f"{rows.result():,} rows of job history written")
    store.close()
    return files[::-1]


def main(argv: Sequence[str]) -> int:
    """Run one step; progress goes to standard output."""
    parser = argparse.ArgumentParser(prog="queuescope.demo.backfill")
    steps = parser.add_subparsers(dest="step", required=True)
    write = steps.add_parser("write")
    write.add_argument("--samples", type=Path, required=True)
    write.add_argument("--job-store-url", required=True)
    write.add_argument("--days", type=float, required=True)
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
            load_blocks(arguments.tsdb, files, arguments.promtool, _say)
    except QueuescopeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _say(line: str) -> None:
    print(f"    {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

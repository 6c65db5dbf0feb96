"""Loads samples into Prometheus: files of arrays, one for each block, and promtool.

They are written as OpenMetrics text only for promtool: two weeks as text would take gigabytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import numpy as np

from queuescope.demo.past import Past, Targets, sample_times, worker_is_present
from queuescope.demo.samples import samples
from queuescope.errors import DemoError
from queuescope.instrument.metrics import Kind

# One of Prometheus' own block sizes (2 h · 3ⁿ), aligned to the epoch like its blocks.
BLOCK_SECONDS = 18 * 3600

Progress = Callable[[str], None]


def write_blocks(directory: Path, past: Past, targets: Targets) -> list[Path]:
    """One file per block, oldest first."""
    grid = sample_times(past)
    everything = list(samples(past, grid, targets))
    heads = []
    for one in everything:
        labels = ",".join(f'{name}="{value}"' for name, value in one.labels)
        heads.append(f"{one.metric.name()}\t{one.metric.kind}\t{one.name}{{{labels}}}")
    is_there = worker_is_present(past, grid)
    cuts = np.flatnonzero(np.diff(grid // BLOCK_SECONDS)) + 1
    files = []
    for part in np.split(np.arange(len(grid)), cuts):
        files.append(directory / f"{int(grid[part[0]]):012d}.npz")
        np.savez(
            files[-1],
            heads=np.array(heads),
            values=np.array([one.values[part[0] : part[-1] + 1] for one in everything]),
            stamps=grid[part],
            may_be_absent=np.array([one.is_present is not None for one in everything]),
            is_there=is_there[part],
        )
    return files


def write_openmetrics(file: Path, to: TextIO) -> None:
    """Write one file of ``write_history`` as OpenMetrics text."""
    with np.load(file, allow_pickle=False) as kept:
        heads, values, stamps = kept["heads"].tolist(), kept["values"], kept["stamps"]
        may_be_absent, is_there = kept["may_be_absent"].tolist(), kept["is_there"]
    stamps_all = stamps.tolist()
    stamps_present = stamps[is_there].tolist()
    family = ""
    for head, row, is_partial in zip(heads, values, may_be_absent, strict=True):
        name, kind, series = head.split("\t")
        if name != family:
            family = name
            base = name.removesuffix("_total") if kind == Kind.COUNTER.value else name
            to.write(f"# TYPE {base} {kind}\n")
        present = row[is_there] if is_partial else row
        at = stamps_present if is_partial else stamps_all
        if not at:
            continue
        if np.isnan(present).any():
            texts = ["NaN" if np.isnan(value) else value for value in present.tolist()]
        elif np.all(present == np.floor(present)):
            texts = present.astype(np.int64).tolist()
        else:
            texts = present.tolist()
        lines = [f"{value} {stamp}" for value, stamp in zip(texts, at, strict=True)]
        to.write(f"{series} " + f"\n{series} ".join(lines) + "\n")
    to.write("# EOF\n")


def load_blocks(
    tsdb_dir: Path,
    files: Sequence[Path],
    promtool: str | Path = "promtool",
    progress: Progress = lambda _: None,
) -> None:
    """Turn the files of ``write_blocks`` into blocks in ``tsdb_dir``, two at a time.

    Blocks are moved there when complete, so Prometheus may already be running. Raises ``DemoError``
    if promtool fails or cannot be started.
    """
    tsdb_dir.mkdir(parents=True, exist_ok=True)
    newest_first = sorted(files, reverse=True)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        pending = [pool.submit(_import, tsdb_dir, file, str(promtool)) for file in newest_first]
        try:
            for done, future in enumerate(pending, 1):
                future.result()
                if done % 4 == 0 or done == len(pending):
                    progress(f"block {done} of {len(pending)} loaded")
        finally:
            for future in pending:
                future.cancel()


def _import(tsdb_dir: Path, file: Path, promtool: str) -> None:
    with tempfile.TemporaryDirectory(prefix="import-", dir=file.parent) as folder:
        text, blocks = Path(folder) / "samples.om", Path(folder) / "blocks"
        try:
            with text.open("w", encoding="ascii") as to:
                write_openmetrics(file, to)
            done = subprocess.run(
                # Without this hidden flag promtool reads the whole text once per 2 h.
                [
                    *(promtool, "tsdb", "create-blocks-from"),
                    *(f"--max-block-duration={BLOCK_SECONDS // 3600}h", "--quiet"),
                    *("openmetrics", str(text), str(blocks)),
                ],
                capture_output=True,
                text=True,
                check=False,
                # One core each and less garbage collection take a quarter less time.
                env={**os.environ, "GOMAXPROCS": "1", "GOGC": "400"},
            )
        except OSError as exc:
            raise DemoError(
                f"cannot load the history with {promtool}: {exc.strerror}; "
                "is Prometheus' promtool installed, and is there enough space?"
            ) from exc
        if done.returncode != 0:
            raise DemoError(f"promtool refused the history: {done.stderr.strip()[-500:]}")
        for block in blocks.iterdir():
            if block.is_dir() and (block / "meta.json").exists():
                shutil.move(block, tsdb_dir / block.name)

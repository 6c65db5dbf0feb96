"""Files of jobs with hostile texts, opened by a real spreadsheet: no cell becomes a formula.

    python -m tests.jobs.spreadsheet --result benchmarks/results/csv-in-a-spreadsheet.md

Needs LibreOffice Calc as `soffice` (`apt-get install --no-install-recommends libreoffice-calc`),
which is why it is no test. Each file is opened as it is in four ways, since other countries
separate cells by semicolons; the same texts without their apostrophes are opened beside it, and
must become formulas, or the look at them would see nothing.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.jobs.conftest import FAILED, T0
from tests.long_proof import Outcome
from tests.test_csv_cells import FORMULAS, SIGNS

from queuescope.jobs.export import COLUMNS, csv_of
from queuescope.jobs.job import Job

WAYS = {
    "commas, as the file says": "44",
    "semicolons, as in much of Europe": "59",
    "tabs": "9",
    "commas, semicolons and tabs": "44/59/9",
}
_PIECES = [*SIGNS, *"=+-@=;;,\t\r\n \"'", "1+1", "SUM(1;1)", "A1", "cmd|'/c calc'!A0", "x"]
_FORMULA = re.compile(r'table:formula="([^"]*)"')
_FLOAT = re.compile(r'office:value-type="float" office:value="([^"]*)"')


def hostile_jobs(count: int, seed: int) -> list[Job]:
    """Jobs in which every text is a payload, known ones first; their numbers tell them apart."""
    rng = random.Random(seed)
    made = ["".join(rng.choices(_PIECES, k=rng.randrange(1, 9))) for _ in range(count)]
    return [
        replace(
            FAILED,
            id=text,
            name=text,
            tenant=text,
            queue=text,
            worker=text,
            error_class=text,
            error_message=text,
            wait_seconds=-1.5 - number,
            runtime_seconds=number / 8,
            finished_at=T0 + number,
        )
        for number, text in enumerate([*FORMULAS, *made])
    ]


def undefended(jobs: Sequence[Job]) -> bytes:
    """The same as a plain writer would write it."""
    held = io.StringIO()
    writer = csv.writer(held)
    writer.writerow(COLUMNS)
    for job in jobs:
        writer.writerow([getattr(job, name) for name in COLUMNS])
    return held.getvalue().encode()


def opened(folder: Path, content: bytes, separators: str) -> str:
    """What the spreadsheet makes of a file, as flat XML."""
    file = folder / "jobs.csv"
    file.write_bytes(content)
    subprocess.run(
        [
            *("soffice", "--headless", f"-env:UserInstallation=file://{folder / 'profile'}"),
            f"--infilter=CSV:{separators},34,76,1,,0,false,true,false,false,false,-1",
            *("--convert-to", "fods", "--outdir", str(folder), str(file)),
        ],
        check=True,
        capture_output=True,
        timeout=600,
    )
    return (folder / "jobs.fods").read_text("utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="made-up texts [%(default)s]")
    parser.add_argument("--seed", type=int, default=7, help="[%(default)s]")
    parser.add_argument("--result", type=Path, help="where to keep the outcome")
    given = parser.parse_args()
    begun = time.monotonic()
    jobs = hostile_jobs(given.count, given.seed)
    version = subprocess.run(
        ["soffice", "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    opener = version.rsplit(" ", 1)[0]
    lines = [
        f"{len(jobs):,} jobs in which every text is a payload, opened by {opener}: formulas found.",
        "",
        "| cells separated by | written without protection | as exported |",
        "|---|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for way, separators in WAYS.items():
            bare = _FORMULA.findall(opened(folder, undefended(jobs), separators))
            seen = opened(folder, b"".join(csv_of(jobs)), separators)
            formulas = _FORMULA.findall(seen)
            lines.append(f"| {way} | {len(bare):,} | {len(formulas):,} |")
            print(lines[-1])
            assert bare, f"no formula at all: {way} sees nothing"
            assert not formulas, f"{way}: {formulas[:5]}"
            if separators == "44":
                numbers = {float(text) for text in _FLOAT.findall(seen)}
                for job in jobs:
                    assert {job.wait_seconds, job.runtime_seconds} <= numbers, job
    lines += ["", f"All {2 * len(jobs):,} wait and run times, half of them negative, are numbers."]
    Outcome(
        "Files of jobs in a spreadsheet",
        f"python -m tests.jobs.spreadsheet --count {given.count} --seed {given.seed}",
        lines,
        time.monotonic() - begun,
    ).tell(given.result)


if __name__ == "__main__":
    main()

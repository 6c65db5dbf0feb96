"""How failed jobs are sent again: what is kept of them, and what a worker answers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from queuescope.broker.reports import parse

KEPT_SECONDS = 7 * 86_400
"""For so long the arguments of a failed job are kept, where they are."""
KEPT_JOB_LIMIT_BYTES = 65_536


class RetryAnswer(StrEnum):
    """What a worker says of a job that it was told to send again.

    ``NOT_MINE`` is said of jobs of another project, and where nobody was there to be asked.
    The order is that of weight: of several answers on one job, the first here is the truth.
    ``ALREADY`` of one worker may be what the ``FAILED`` of its namesake was when it began.
    """

    SENT = "sent"
    UNKNOWN = "unknown"
    FAILED = "failed"
    ALREADY = "already"
    NOT_KEPT = "not_kept"
    NOT_MINE = "not_mine"


def weightiest(answers: Iterable[RetryAnswer]) -> RetryAnswer:
    """What is true of one job of which several workers, at least one, have said this."""
    return min(answers, key=list(RetryAnswer).index)


class KeptJob(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to send a failed job again.

    ``headers`` are those that the project gave it, such as its tenant; ``time_limit`` and
    ``soft_time_limit`` are in seconds, and ``None`` is as the task has it.
    """

    id: str
    name: str
    queue: str
    args: list[object]
    kwargs: dict[str, object]
    priority: int | None = None
    headers: dict[str, object] = {}
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(KeptJob)


def encode_kept_job(job: KeptJob) -> bytes:
    return _encoder.encode(job)


def decode_kept_job(raw: bytes | str) -> KeptJob:
    """Raises ``ValueError`` when it is none."""
    return parse(raw, _decoder, limit_bytes=KEPT_JOB_LIMIT_BYTES)

"""Sending failed jobs again: what is kept of a job, and what a worker answers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from queuescope.broker.reports import parse

KEPT_SECONDS = 7 * 86_400
"""How long the arguments of a failed job are kept, if they are."""
KEPT_JOB_LIMIT_BYTES = 65_536


class RetryAnswer(StrEnum):
    """A worker's answer about a job that it was asked to send again.

    ``NOT_MINE`` means that the job belongs to another project, or that no worker could be asked.
    Of several answers about one job, the one that comes first in this order is right: ``FAILED``
    of one worker goes before ``ALREADY`` of another of its name, which saw the attempt.
    """

    SENT = "sent"
    UNKNOWN = "unknown"
    FAILED = "failed"
    ALREADY = "already"
    NOT_KEPT = "not_kept"
    NOT_MINE = "not_mine"


def decisive_answer(answers: Iterable[RetryAnswer]) -> RetryAnswer:
    """The one of ``answers`` about one job that is right; there must be at least one."""
    return min(answers, key=list(RetryAnswer).index)


class KeptJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to send a failed job again.

    ``headers`` are the project's own, such as the tenant; ``time_limit`` and ``soft_time_limit``
    are in seconds, and ``None`` means the task's own.
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
    """Raises ``ValueError`` if ``raw`` is not a kept job."""
    return parse(raw, _decoder, limit_bytes=KEPT_JOB_LIMIT_BYTES)

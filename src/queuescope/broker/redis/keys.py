"""Where everything of ours lies in a Redis or Valkey server, below the project's prefix.

    queuescope:workers     hash     worker, and which life of it → ``WorkerReport`` as JSON
    queuescope:desired     hash     revision, paused (JSON list), revocations (a counter)
    queuescope:revoked     zset     job id → until when it is remembered
    queuescope:arguments   zset     job id → until when its arguments are kept
    queuescope:arguments:… string   ``KeptJob`` as JSON, expires by itself
    queuescope:purged:…    hash, lists   what a purge took out, until it is exported
    queuescope:probe       string   nothing; the dashboard proves with it that it may write

The prefix is Celery's ``global_keyprefix``. Nothing here talks to the server.
"""

from __future__ import annotations

_PREFIX = "queuescope:"


class Keys:
    """The names of everything, below a project's ``global_keyprefix``."""

    def __init__(self, key_prefix: str = "") -> None:
        own = f"{key_prefix}{_PREFIX}"
        self.workers = f"{own}workers"
        self.desired = f"{own}desired"
        self.revoked = f"{own}revoked"
        self.arguments = f"{own}arguments"
        self.probe = f"{own}probe"
        self._own = own

    def arguments_of(self, job_id: str) -> str:
        return f"{self._own}arguments:{job_id}"

    def sent_again(self, act_id: str, job_id: str) -> str:
        """Marks that an act has sent a job again, so that it does so once."""
        return f"{self._own}sent:{act_id}:{job_id}"

    def purged(self, purge_id: str) -> str:
        """The record of a purge; its lists stand below it."""
        return f"{self._own}purged:{purge_id}"

    def purges(self) -> str:
        """The ids of purges that are not exported yet, a set."""
        return f"{self._own}purges"

    def purged_list(self, purge_id: str, step: int) -> str:
        return f"{self._own}purged:{purge_id}:{step}"


def report_field(worker: str, boot_id: str) -> str:
    """Where a worker's report stands among the others: two of one name do not overwrite each
    other's. Earlier versions used the bare name.
    """
    return f"{worker} {boot_id}"


def list_key(queue: str, step: int, *, key_prefix: str, separator: str) -> str:
    """Where kombu keeps the messages of one priority step of ``queue``."""
    return f"{key_prefix}{queue}{separator}{step}" if step else f"{key_prefix}{queue}"

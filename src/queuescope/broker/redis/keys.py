"""The names of Queuescope's keys in a Redis or Valkey server.

    queuescope:workers     hash     worker and run → ``WorkerReport`` as JSON
    queuescope:desired     hash     revision, paused (JSON list), revocations (a counter), ledger
    queuescope:revoked     zset     job id → until when it stays revoked
    queuescope:arguments   zset     job id → until when its arguments are kept
    queuescope:arguments:… string   ``KeptJob`` as JSON, expires
    queuescope:purges      set      ids of purges that are not exported yet
    queuescope:purged:…    hash, lists   record of a purge, and its messages until they are exported
    queuescope:sent:…      string   marks a job that an operation has sent again, expires
    queuescope:probe       string   empty; written to check that writing is possible, expires

All of them begin with Celery's ``global_keyprefix``. Nothing here talks to the server.
"""

from __future__ import annotations

_PREFIX = "queuescope:"


class Keys:
    """The names of the keys, with a project's ``global_keyprefix``."""

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

    def sent_again(self, operation_id: str, job_id: str) -> str:
        """Marks that an operation has sent a job again, so that it does so once."""
        return f"{self._own}sent:{operation_id}:{job_id}"

    def purged(self, purge_id: str) -> str:
        """The record of a purge; the names of its lists begin with it."""
        return f"{self._own}purged:{purge_id}"

    def purges(self) -> str:
        """The set of ids of purges that are not exported yet."""
        return f"{self._own}purges"

    def purged_list(self, purge_id: str, step: int) -> str:
        return f"{self._own}purged:{purge_id}:{step}"


def report_field(worker: str, boot_id: str) -> str:
    """The field of a worker's report in the hash: workers of one name have different ones. Earlier
    versions used the bare name.
    """
    return f"{worker} {boot_id}"


def list_key(queue: str, step: int, *, key_prefix: str, separator: str) -> str:
    """The key of kombu's list for one priority step of ``queue``."""
    return f"{key_prefix}{queue}{separator}{step}" if step else f"{key_prefix}{queue}"

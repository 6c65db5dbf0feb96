"""A job history in PostgreSQL that fails in the ways in which databases fail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Self

from tests.browser.jobs_page import some_jobs
from tests.real_postgresql import RealPostgreSQL

from queuescope.jobs.store import JobStore

CANARY = "c4n4ry-Ungeheuer"
# Every row takes longer than a page waits.
_SLOW_VIEW = """
ALTER TABLE jobs RENAME TO jobs_of_old;
CREATE VIEW jobs AS SELECT * FROM jobs_of_old WHERE pg_sleep(30) IS NOT NULL;
GRANT SELECT ON jobs TO reader
"""
_NO_SLOW_VIEW = "DROP VIEW jobs; ALTER TABLE jobs_of_old RENAME TO jobs"


class FaultyHistory:
    """A history with known jobs in PostgreSQL that the user ``reader`` may read."""

    def __init__(self, server: RealPostgreSQL) -> None:
        self.server = server
        self.url = server.url("faulty", user="reader", password=CANARY)

    @classmethod
    @contextmanager
    def on(cls, server: RealPostgreSQL) -> Iterator[Self]:
        """With its jobs, user and rights."""
        server.execute("CREATE DATABASE faulty")
        server.execute(f"CREATE ROLE reader LOGIN PASSWORD '{CANARY}'")
        with closing(JobStore(server.url("faulty"))) as store:
            store.record(some_jobs(time.time()))
        made = cls(server)
        made.execute("GRANT SELECT ON jobs TO reader")
        yield made
        server.execute("DROP DATABASE faulty WITH (FORCE)")
        server.execute("DROP ROLE reader")

    def execute(self, sql: str) -> None:
        for statement in sql.split(";"):
            self.server.execute(statement, database="faulty")

    @contextmanager
    def trouble(self, kind: str) -> Iterator[None]:
        match kind:
            case "down":
                self.server.kill()
            case "no permission":
                self.execute("REVOKE SELECT ON jobs FROM reader")
            case "slow":
                self.execute(_SLOW_VIEW)
        try:
            with self.server.frozen() if kind == "frozen" else nullcontext():
                yield
        finally:
            match kind:
                case "down":
                    self.server.start()
                case "no permission":
                    self.execute("GRANT SELECT ON jobs TO reader")
                case "slow":
                    self.execute(_NO_SLOW_VIEW)

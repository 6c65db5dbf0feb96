"""Turns the notes of a worker's main process into observations of its jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import msgspec

from queuescope.broker.clock import CorrectedClock
from queuescope.instrument.attempts import Note, Started, Succeeded, end_of_attempt, succeeded_at
from queuescope.instrument.collector import Running
from queuescope.instrument.messages import MessageReader
from queuescope.instrument.observation import ERROR_MESSAGE_LIMIT, Event, Observation

Redact = Callable[[str], str]

logger = logging.getLogger(__name__)


class MessageEnd(msgspec.Struct, frozen=True):
    """The end of a job that never reached the pool, taken from its message."""

    event: Event
    message: Mapping[str, Any]
    at: float
    error: tuple[str, ...]


class NoteInterpreter:
    """Interprets notes for the collector of one worker."""

    def __init__(
        self, messages: MessageReader, clock: CorrectedClock, redact: Redact | None
    ) -> None:
        self._messages = messages
        self._clock = clock
        self._redact = redact
        self.keep: Callable[[str], None] | None = None
        """Receives what is kept of a failed job; ``None`` if nothing is kept."""

    def interpret(
        self, note: Note | MessageEnd, running: Running
    ) -> tuple[Hashable, Observation] | None:
        """The key of a note's attempt, and its observation; ``None`` if it adds nothing. Notes must
        come in order and one at a time.
        """
        if isinstance(note, Started):
            at = self._clock.corrected(note.at)
            return note.key, self._messages.observation(
                Event.STARTED, note.message, at, started_at=at
            )
        if isinstance(note, MessageEnd):
            return self._ended_by_message(note, running)
        start = running.get(note.key)
        if isinstance(note, Succeeded):
            if start is None:
                return None
            noted_at = self._clock.corrected(note.at)
            at = succeeded_at(noted_at, note.runtime_seconds, start.started_at)
            return note.key, _end_of(start, Event.SUCCEEDED, at)
        if start is None and note.has_started:
            # The end was noted before: a time limit, or the death of a revoked job's process.
            return None
        request = note.request
        event, at, *error = end_of_attempt(note)
        at = self._clock.corrected(at)
        start = start or self._messages.observation(Event.STARTED, request.request_dict, at)
        if event is Event.FAILED and self.keep is not None:
            kept = self._messages.kept_job(request)
            if kept:
                self.keep(kept)
        return note.key, self._end_of(start, event, at, *error)

    def _ended_by_message(self, note: MessageEnd, running: Running) -> tuple[Hashable, Observation]:
        job_id, at = str(note.message["id"]), self._clock.corrected(note.at)
        for key, start in running.items():
            if start.id == job_id:
                return key, self._end_of(start, note.event, at, *note.error)
        start = self._messages.observation(note.event, note.message, at)
        return None, self._end_of(start, note.event, at, *note.error)

    def _end_of(
        self,
        start: Observation,
        event: Event,
        at: float,
        error_class: str = "",
        error_message: str = "",
    ) -> Observation:
        if self._redact is not None and error_message:
            try:
                error_message = str(self._redact(error_message))[:ERROR_MESSAGE_LIMIT]
            except Exception:  # a project's own function may raise anything
                logger.exception("redact failed; the text of an error was left out")
                error_message = "(the text was left out: the project's redact failed)"
        return _end_of(start, event, at, error_class, error_message)


def _end_of(
    start: Observation, event: Event, at: float, error_class: str = "", error_message: str = ""
) -> Observation:
    started_at = start.started_at
    # A clock may have been set back in between; no job ends before it starts.
    at = at if started_at is None else max(at, started_at)
    return msgspec.structs.replace(
        start,
        event=event,
        at=at,
        runtime_seconds=None if started_at is None else at - started_at,
        error_class=error_class,
        error_message=error_message,
    )

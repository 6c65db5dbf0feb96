"""What the notes of a worker's main process come to: observations of its jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import msgspec

from queuescope.broker.clock import CorrectedClock
from queuescope.instrument.attempts import Begun, Note, Succeeded, succeeded_at, what_became
from queuescope.instrument.collector import Running
from queuescope.instrument.messages import MessageReader
from queuescope.instrument.observation import ERROR_MESSAGE_LIMIT, Event, Observation

Redact = Callable[[str], str]

logger = logging.getLogger(__name__)


class MessageEnd(msgspec.Struct, frozen=True):
    """The end of a job that its message says, and no pool."""

    event: Event
    message: Mapping[str, Any]
    at: float
    error: tuple[str, ...]


class NoteInterpreter:
    """For the collector of one worker."""

    def __init__(
        self, messages: MessageReader, clock: CorrectedClock, redact: Redact | None
    ) -> None:
        self._messages = messages
        self._clock = clock
        self._redact = redact
        self.keep: Callable[[str], None] | None = None
        """Takes what is kept of a failed job, if anything is."""

    def interpret(
        self, note: Note | MessageEnd, running: Running
    ) -> tuple[Hashable, Observation] | None:
        """What a note says, and of which attempt; nothing where that is known already. In order and
        one at a time.
        """
        if isinstance(note, Begun):
            at = self._clock.corrected(note.at)
            return note.key, self._messages.observation(
                Event.STARTED, note.message, at, started_at=at
            )
        if isinstance(note, MessageEnd):
            return self._ended_by_message(note, running)
        begun = running.get(note.key)
        if isinstance(note, Succeeded):
            if begun is None:
                return None
            noted_at = self._clock.corrected(note.at)
            at = succeeded_at(noted_at, note.runtime_seconds, begun.started_at)
            return note.key, _end_of(begun, Event.SUCCEEDED, at)
        if begun is None and note.has_begun:
            # A time limit, or the process of a revoked job that died: it was noted before.
            return None
        request = note.request
        event, at, *error = what_became(note)
        at = self._clock.corrected(at)
        begun = begun or self._messages.observation(Event.STARTED, request.request_dict, at)
        if event is Event.FAILED and self.keep is not None:
            kept = self._messages.kept_job(request)
            if kept:
                self.keep(kept)
        return note.key, self._end_of(begun, event, at, *error)

    def _ended_by_message(self, note: MessageEnd, running: Running) -> tuple[Hashable, Observation]:
        job_id, at = str(note.message["id"]), self._clock.corrected(note.at)
        for key, begun in running.items():
            if begun.id == job_id:
                return key, self._end_of(begun, note.event, at, *note.error)
        begun = self._messages.observation(note.event, note.message, at)
        return None, self._end_of(begun, note.event, at, *note.error)

    def _end_of(
        self,
        begun: Observation,
        event: Event,
        at: float,
        error_class: str = "",
        error_message: str = "",
    ) -> Observation:
        if self._redact is not None and error_message:
            try:
                error_message = str(self._redact(error_message))[:ERROR_MESSAGE_LIMIT]
            except Exception:  # a project's own function may raise anything
                logger.exception("redact failed, and the text of an error was left out")
                error_message = "(the text was left out: the project's redact failed)"
        return _end_of(begun, event, at, error_class, error_message)


def _end_of(
    begun: Observation, event: Event, at: float, error_class: str = "", error_message: str = ""
) -> Observation:
    started_at = begun.started_at
    # A clock may have been set back meanwhile; no job ends before it begins.
    at = at if started_at is None else max(at, started_at)
    return msgspec.structs.replace(
        begun,
        event=event,
        at=at,
        runtime_seconds=None if started_at is None else at - started_at,
        error_class=error_class,
        error_message=error_message,
    )

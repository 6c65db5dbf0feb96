"""The page of operations, driven by the frames that its buttons and fields would send."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from tests.dashboard.page_socket import PageSocket, elements, pressed

QUEUES, RECORDS = "queuescope_queues", "queuescope_records"
JOBS, FAILURES = "queuescope_jobs", "queuescope_failures"


def chosen(component: str, value: Any) -> WidgetState:
    """The frame that the component with this id sends when one of its buttons is pressed."""
    event = [{"event": "chosen", "value": value}]
    return WidgetState(
        id=f"$$STREAMLIT_INTERNAL_KEY_{component}__events", json_trigger_value=json.dumps(event)
    )


class OperationsPage:
    """One visitor's page, that of operations or another with operations (``at``). ``drawn`` is all
    that the last run has put on it, ``query`` that of its address.
    """

    def __init__(self, socket: PageSocket, at: str = "operations", query: str = "") -> None:
        self.socket, self.at = socket, at
        pages = {
            page.url_pathname: page.page_script_hash
            for message in socket.run()
            if message.WhichOneof("type") == "navigation"
            for page in message.navigation.app_pages
        }
        self.hash = pages[at]
        self.drawn = socket.run(page=self.hash, query=query)
        self.first = self.drawn

    @property
    def said(self) -> str:
        """All text of the last run."""
        html = [element.body for element in elements(self.drawn, "html")]
        live = [json.loads(element.json)["html"] for element in self._live() if element.json]
        return "\n".join([*html, *live])

    def press(self, operation: str, subject: str) -> None:
        """The button of an operation: of a queue, a worker or a purge."""
        is_of_records = operation in ("restore", "verify")
        self.choose([operation, subject], key=RECORDS if is_of_records else QUEUES)

    def choose(self, value: Any, *, key: str = QUEUES) -> None:
        """Send a frame of our component, or any other content."""
        (component,) = [one for one in self._live(self.first) if f"-{key}" in one.id]
        self._run([chosen(component.id, value)], component.id, self.first)

    def retry(self, job_id: str) -> None:
        """Tick a failed job on the page of jobs, and press the button."""
        (component,) = [one for one in self._live(self.first) if f"-{JOBS}" in one.id]
        ticked = WidgetState(id=component.id, json_value=json.dumps({"ticked": [job_id]}))
        self._run([ticked], component.id, self.first)
        pressed_there = chosen(component.id, ["retry-chosen", ""])
        self._run([ticked, pressed_there], component.id, self.first)

    def retry_group(self, fingerprint: str) -> None:
        """The button of a group of failures on the page of jobs."""
        self.choose(["retry-group", fingerprint], key=FAILURES)

    def ask_to_revoke(self, job_id: str, *, terminate: bool) -> None:
        """By the form; if its button is disabled, Streamlit ignores the press, and
        nothing opens.
        """
        field = self._labelled("text_input", "Id of a job to be revoked", self.first)
        button = self._labelled("button", "Revoke", self.first)
        typed = WidgetState(id=field.id, string_value=job_id)
        self._run([typed, pressed(button.id)], button.id, self.first)
        if not elements(self.drawn, "checkbox"):
            return
        box = self._labelled("checkbox", "End it if it is running (terminate)")
        ticked = WidgetState(id=box.id, bool_value=terminate)
        self._go_on([ticked])

    def choose_size(self, size: int) -> None:
        field = self._labelled("number_input", "New number of places")
        self._go_on([WidgetState(id=field.id, double_value=float(size))])

    def _go_on(self, states: list[WidgetState]) -> None:
        button = self._labelled("button", "Continue")
        self._run([*states, pressed(button.id)], button.id)

    def confirm(self, button: str, typed: str = "") -> None:
        """Send the form of the dialog."""
        states = []
        if typed:
            field = self._labelled("text_input", "Type it here")
            states.append(WidgetState(id=field.id, string_value=typed))
        submit = self._labelled("button", button)
        self._run([*states, pressed(submit.id)], submit.id)

    def _live(self, drawn: Iterable[ForwardMsg] | None = None) -> list[Any]:
        return elements(self.drawn if drawn is None else drawn, "bidi_component")

    def _labelled(self, kind: str, label: str, drawn: list[ForwardMsg] | None = None) -> Any:
        found = [
            element
            for element in elements(self.drawn if drawn is None else drawn, kind)
            if element.label == label
        ]
        assert found, f"no {kind} “{label}”; the page says: {self.said}"
        return found[-1]

    def _run(
        self, states: list[WidgetState], of: str, drawn: list[ForwardMsg] | None = None
    ) -> None:
        """A run of the fragment in which the element with this id was drawn."""
        fragments = [
            message.delta.fragment_id
            for message in (self.drawn if drawn is None else drawn)
            if message.WhichOneof("type") == "delta" and _id(message) == of
        ]
        self.drawn = self.socket.run(widgets=states, fragment=fragments[-1], page=self.hash)


def _id(message: ForwardMsg) -> str:
    element = message.delta.new_element
    kind = element.WhichOneof("type")
    return getattr(getattr(element, kind), "id", "") if kind else ""

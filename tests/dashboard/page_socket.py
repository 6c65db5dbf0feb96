"""Streamlit's websocket by hand: frames that a page sends, and frames that no page would send."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

_WITHIN_SECONDS = 60.0
# The script will start again, and end later.
_EARLY = ForwardMsg.ScriptFinishedStatus.FINISHED_EARLY_FOR_RERUN


class PageSocket:
    """One page's connection, with a session of its own.

    ``headers`` are sent as they are, duplicates among them; ``source`` is the address that it
    comes from. ``session`` asks to take over one that exists.
    """

    def __init__(
        self,
        port: int,
        *,
        headers: Sequence[tuple[str, str]] = (),
        source: str = "127.0.0.1",
        host: str = "127.0.0.1",
        origin: str | None = None,
        xsrf: str = "none",
        session: str | None = None,
    ) -> None:
        offered = ["streamlit", xsrf, *([] if session is None else [session])]
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(
                f"ws://{host}:{port}/_stcore/stream",
                additional_headers=list(headers),
                origin=None if origin is None else Origin(origin),
                subprotocols=[Subprotocol(name) for name in offered],
                source_address=(source, 0),
                open_timeout=_WITHIN_SECONDS,
                max_size=None,
                proxy=None,
            )
        )
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        self.session = ""

    def run(
        self,
        *,
        widgets: Iterable[WidgetState] = (),
        fragment: str = "",
        page: str = "",
        query: str = "",
    ) -> list[ForwardMsg]:
        """Ask for a run as the page does; returns what was drawn."""
        message = BackMsg()
        state = message.rerun_script
        state.query_string = query
        state.page_script_hash = page
        state.fragment_id = fragment
        state.widget_states.widgets.extend(widgets)
        return self.send(message.SerializeToString())

    def send(self, frame: bytes, *, patience_seconds: float = _WITHIN_SECONDS) -> list[ForwardMsg]:
        """Send a frame as it is, and wait until the script that it starts has ended.

        A frame that starts none is waited for as long as ``patience_seconds``.
        """
        self.sent.append(frame)
        self._socket.send(frame)
        return self.run_to_its_end(patience_seconds=patience_seconds)

    def run_to_its_end(self, *, patience_seconds: float = _WITHIN_SECONDS) -> list[ForwardMsg]:
        """What the run draws that is under way or has been requested otherwise."""
        drawn: list[ForwardMsg] = []
        while True:
            try:
                message = self._next(patience_seconds)
            except TimeoutError:
                assert patience_seconds < _WITHIN_SECONDS, "no script has run"
                return drawn
            drawn.append(message)
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.session = message.new_session.initialize.session_id or self.session
            if kind == "script_finished" and message.script_finished != _EARLY:
                return drawn

    def _next(self, patience_seconds: float) -> ForwardMsg:
        frame = self._socket.recv(patience_seconds)
        assert isinstance(frame, bytes)
        self.received.append(frame)
        message = ForwardMsg()
        message.ParseFromString(frame)
        return message

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def elements(drawn: Iterable[ForwardMsg], kind: str) -> list[Any]:
    """The elements of one kind, such as ``button``, in the order in which they were drawn."""
    return [
        getattr(message.delta.new_element, kind)
        for message in drawn
        if message.WhichOneof("type") == "delta"
        and message.delta.WhichOneof("type") == "new_element"
        and message.delta.new_element.WhichOneof("type") == kind
    ]


def pressed(button_id: str) -> WidgetState:
    """The state of a button at the moment in which it is pressed."""
    return WidgetState(id=button_id, trigger_value=True)


def texts(drawn: Iterable[ForwardMsg]) -> list[str]:
    drawn = list(drawn)
    return [element.body for kind in ("text", "markdown") for element in elements(drawn, kind)]


def seen(page: PageSocket) -> str:
    """All that a run of the page's script puts on it as HTML."""
    return "".join(element.body for element in elements(page.run(), "html"))

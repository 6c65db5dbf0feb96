"""Streamlit's runs of the script: what one has drawn is sent before the next begins.

Streamlit 1.67 loses a drawing if a fragment is requested just after a run has ended: it begins a
new run at once, and ignores what the last one has drawn and the event loop has not sent yet. As
parts of the pages are drawn again every few seconds, the effect of a press was sometimes not shown.
The methods for that are private: all use of them is in this module, and
``tests/dashboard/test_script_runs.py`` fails when they change.
"""

# ruff: noqa: SLF001 - see above

from __future__ import annotations

from typing import TYPE_CHECKING

from streamlit.runtime.app_session import AppSession, AppSessionState

if TYPE_CHECKING:
    from streamlit.runtime.scriptrunner_utils.script_requests import RerunData

_begin = AppSession._create_scriptrunner


def send_each_before_the_next() -> None:
    """From now on, each session of this process sends what a run has drawn, and then begins the
    next.
    """
    AppSession._create_scriptrunner = _begin_after_the_last  # type: ignore[method-assign, assignment]


def _begin_after_the_last(session: AppSession, initial_rerun_data: RerunData) -> None:
    last = session._scriptrunner
    if last is None:
        _begin(session, initial_rerun_data)
        return

    def begin_now() -> None:
        if session._state is AppSessionState.SHUTDOWN_REQUESTED:
            return
        runner = session._scriptrunner
        if runner is None or runner is last:
            _begin(session, initial_rerun_data)
        elif not runner.request_rerun(initial_rerun_data):
            # Another request came first, and its run has ended, too.
            _begin_after_the_last(session, initial_rerun_data)

    # The last run has ended, so everything that it has drawn waits in the event loop, which calls
    # in the order of the requests.
    session._event_loop.call_soon(begin_now)

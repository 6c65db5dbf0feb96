"""Dashboards and Celery workers that are forked from a process with all imports done.

These imports take seconds of CPU time, and the tests start both a hundred times. Each test process
keeps one process that has imported everything and done nothing else. Each server starts as its
copy, with its own environment, folder and log.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tests.machine import Machine

# Not websockets: it reads the length of its longest line from the environment as it is imported.
_PRELOADED = [
    "tests.shifted_time",  # First: the others keep the clock that they find.
    *("queuescope.cli", "queuescope.cli.audit", "queuescope.cli.check", "queuescope.cli.serve"),
    *("queuescope.dashboard.routes", "queuescope.dashboard.bounded_http", "uvicorn.loops.uvloop"),
    *("uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on", "streamlit.web.bootstrap"),
    *("anyio._backends._asyncio", "httpcore2", "truststore", "itsdangerous", "PIL.Image"),
    "queuescope.watch.workers",
    *("queuescope.instrument", "celery.__main__", "celery.bin.celery", "celery.apps.worker"),
    *("celery.worker.consumer", "celery.concurrency.prefork", "kombu.transport.redis"),
    # After all others: what it holds is not looked at again.
    "tests.prepared_results",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)
_THIS_MACHINE = Machine()


def start_python(
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    command: Sequence[str] | None = None,
    machine: Machine = _THIS_MACHINE,
) -> PythonProcess:
    """``python -m module arguments`` in ``folder``, which leads a group of processes of its own;
    what it says goes to the end of ``log``. The module has a ``main()``.

    A copy of the prepared process, unless ``command`` says what runs it: such as
    ``[sys.executable]``, where its command line matters. Python reads its ``PYTHON…`` variables as
    it starts, and a copy has started already: where they are others than here, it is none. Such a
    process may have the clock of another ``machine``, a copy all of it.
    """
    if command is None and _read_at_start(environment) != _read_at_start(os.environ):
        command = [sys.executable]
    if command is None:
        return _Copy(
            module, arguments, environment=environment, folder=folder, log=log, machine=machine
        )
    assert machine == Machine(machine.clock)
    if machine.clock is not None:
        environment = {**environment, "PYTHONPATH": machine.clock.path}
    with log.open("ab") as file:
        return subprocess.Popen(
            [*command, "-m", module, *arguments],
            env=environment,
            cwd=folder,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def run_python(
    module: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module arguments`` to its end, as a copy of the prepared process, with this
    environment and the variables of ``environment``.
    """
    with tempfile.TemporaryDirectory(prefix="said-") as said:
        out, err = Path(said, "out"), Path(said, "err")
        process = _Copy(
            module,
            arguments,
            environment={**os.environ, **environment},
            folder=Path.cwd(),
            log=out,
            errors=err,
        )
        status = process.wait()
        return subprocess.CompletedProcess(
            [module, *arguments], status, out.read_text("utf-8"), err.read_text("utf-8")
        )


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


class _Copy:
    """A copy of the prepared process. Has what is needed of ``subprocess.Popen``."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        errors: Path | None = None,
        machine: Machine = _THIS_MACHINE,
    ) -> None:
        files = (str(folder), str(log), str(errors or log))
        self._process = _context.Process(
            target=_run,
            args=(module, list(arguments), dict(environment), files, machine),
            daemon=True,
        )
        with _no_main_module():
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a prepared process", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


@contextmanager
def _no_main_module() -> Iterator[None]:
    """A copy runs the main module of this process anew. It needs none, and Streamlit leaves the
    script there that it ran last.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


PythonProcess = _Copy | subprocess.Popen[bytes]


def _run(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    files: tuple[str, str, str],
    machine: Machine,
) -> None:
    folder, *said = files
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for number, path in enumerate(said, 1):
        with Path(path).open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.argv = [module.partition(".")[0], *arguments]
    sys.path.insert(0, folder)
    machine.enter()
    try:
        importlib.import_module(module).main()
    finally:
        # A copy exits without them.
        atexit._run_exitfuncs()

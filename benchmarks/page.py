"""The page's speed against a plain Streamlit page and a static one, as ratios within one run."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.browser import chromium, chromium_words, load, new_viewer, switch_range
from benchmarks.report import Ratio, Results, busy_cores, versions
from benchmarks.samples import platform_samples
from benchmarks.servers import PROJECT, Server, line_to
from playwright.sync_api import Browser, Page, Response
from tests.real_prometheus import RealPrometheus

PLAIN, STATIC, OURS = "plain Streamlit", "static page", "Queuescope"
COLD = "cold load to all charts drawn"
COLD_NEW = "cold load, view not cached"
COLD_LINE = "cold load, 20 Mbit/s and 20 ms"
SWITCH = "range switch to redrawn"
SWITCH_NEW = "range switch, view not cached"
FIRST = "first load after the server's start"
BYTES = "HTTP bytes of a cold load"

DAY_STEP_SECONDS = 86
WEEK_STEP_SECONDS = 604
"""The steps at which a day and a week have 1,000 points."""
_MEGABITS, _ROUND_TRIP_MS = 20.0, 20.0
_REFRESH_SECONDS = 10
_IDLE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Options:
    repetitions: int
    first_loads: int
    refreshes: int
    output: Path


def plain_server(prometheus: str, directory: Path, refresh_seconds: int = 60) -> Server:
    script = str(PROJECT / "benchmarks/contenders/plain_streamlit.py")
    return Server(
        f"plain-{refresh_seconds}",
        (
            *("-m", "streamlit", "run", script, "--server.port", "{port}"),
            # No window on this machine, and no usage reports.
            *("--server.headless", "true", "--browser.gatherUsageStats", "false"),
        ),
        directory,
        environment={"PROMETHEUS_URL": prometheus, "REFRESH_SECONDS": str(refresh_seconds)},
        ready_path="/_stcore/health",
    )


def static_server(prometheus: str, directory: Path) -> Server:
    data = directory / "static.json"
    data.write_text(json.dumps(_static_data(prometheus)), "utf-8")
    return Server(
        "static",
        _uvicorn("benchmarks.contenders.static_page:app"),
        directory,
        environment={"STATIC_PAGE_DATA": str(data)},
    )


def our_server(prometheus: str, directory: Path, name: str = "queuescope") -> Server:
    return Server(
        name,
        _uvicorn("queuescope.dashboard.routes:app"),
        directory,
        environment={
            "PROMETHEUS_URL": prometheus,
            "QUEUESCOPE_DATA_DIR": str(directory / f"{name}-data"),
        },
        ready_path="/healthz",
    )


def _uvicorn(app: str) -> tuple[str, ...]:
    return ("-m", "uvicorn", app, "--port", "{port}", "--log-level", "warning")


def _ask(url: str, **parameters: str | float) -> Any:
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{url}?{query}", timeout=60) as answer:  # noqa: S310
        return json.load(answer)


def _static_data(prometheus: str) -> list[dict[str, Any]]:
    buckets = "sum by (le) (rate(ai_agents_enhancement_latency_seconds_bucket[5m]))"
    charts = {
        ("Queue depth", "jobs"): {"Queue depth": "sum(ai_agents_queue_depth)"},
        ("Success rate", "%"): {"Success rate": "avg(ai_agents_enhancement_success_rate)"},
        ("Latency", "ms"): {
            f"P{quantile}": f"histogram_quantile({quantile / 100}, {buckets}) * 1000"
            for quantile in (50, 95, 99)
        },
    }
    end = int(time.time())

    def curve(name: str, query: str) -> dict[str, Any]:
        answer = _ask(
            f"{prometheus}/api/v1/query_range",
            query=query,
            start=end - 86_400,
            end=end,
            step=DAY_STEP_SECONDS,
        )
        points = answer["data"]["result"][0]["values"]
        values = [float(f"{float(value):.7g}") for _, value in points]
        return {
            "name": name,
            "x0": points[0][0] * 1000,
            "dx": DAY_STEP_SECONDS * 1000,
            "y": values,
        }

    return [
        {"title": title, "unit": unit, "curves": [curve(*item) for item in curves.items()]}
        for (title, unit), curves in charts.items()
    ]


class Run:
    """One run: all contenders on one Prometheus, measured in turns."""

    def __init__(self, prometheus: str, directory: Path, browser: Browser, given: Options) -> None:
        self._prometheus = prometheus
        self._directory = directory
        self._browser = browser
        self._given = given
        options = {"points": 1000, "repetitions": given.repetitions, "refreshes": given.refreshes}
        machine = versions("streamlit", "plotly", "pandas", "uvicorn", "playwright")
        self.results = Results(
            "page", "The page's speed", options, machine | {"chromium": chromium_words(browser)}
        )

    def loads(self) -> None:
        """Cold loads and range switches."""
        taken: dict[tuple[str, str], list[float]] = {}
        with ExitStack() as running:
            plain = running.enter_context(plain_server(self._prometheus, self._directory))
            static = running.enter_context(static_server(self._prometheus, self._directory))
            ours = running.enter_context(our_server(self._prometheus, self._directory))
            slow = {
                server.name: running.enter_context(
                    line_to(
                        server,
                        self._directory,
                        megabits=_MEGABITS,
                        round_trip_ms=_ROUND_TRIP_MS,
                    )
                )
                for server in (plain, static, ours)
            }
            contenders = [(PLAIN, plain), (STATIC, static), (OURS, ours)]
            for turn in range(-1, self._given.repetitions):
                # The first turn is a warm-up; each later one starts with another contender.
                first = turn % len(contenders)
                for name, server in contenders[first:] + contenders[:first]:
                    found = self._turn(name, server, slow[server.name], turn)
                    for title, value in found.items() if turn >= 0 else ():
                        taken.setdefault((title, name), []).append(value)
        for title in (COLD, COLD_NEW, COLD_LINE, SWITCH, SWITCH_NEW, BYTES):
            for name, _ in contenders:
                if values := taken.get((title, name)):
                    self.results.add(title, name, "kB" if title == BYTES else "ms", values)

    def _turn(self, name: str, server: Server, slow: Server, turn: int) -> dict[str, float]:
        found: dict[str, float] = {}
        path = f"/?range=24h&step={DAY_STEP_SECONDS}" if name == OURS else "/"
        with new_viewer(self._browser) as page:
            self._others_look(name, server)
            self._note_load(COLD)
            seen = load(page, server.url + path)
            found[COLD] = seen.drawn_ms
            found[BYTES] = seen.transferred_bytes / 1000
            if name == PLAIN:
                found[SWITCH] = switch_range(page, _click_on("7d"))
            elif name == OURS:
                self._others_look(name, server)
                found[SWITCH] = switch_range(page, _choose_week(WEEK_STEP_SECONDS))
        if name == OURS:
            # Another step is another view of the same size, which is not cached yet.
            with new_viewer(self._browser) as page:
                self._note_load(COLD_NEW)
                new = f"/?range=24h&step={DAY_STEP_SECONDS - 2 - turn % 8}"
                found[COLD_NEW] = load(page, server.url + new).drawn_ms
                week = _choose_week(WEEK_STEP_SECONDS - 2 - turn)
                found[SWITCH_NEW] = switch_range(page, week)
        with new_viewer(self._browser) as page:
            self._others_look(name, server)
            self._note_load(COLD_LINE)
            found[COLD_LINE] = load(page, slow.url + path).drawn_ms
        return found

    def _others_look(self, name: str, server: Server) -> None:
        """Other viewers keep a shared view fresh; the plain page and the static one share none."""
        if name == OURS:
            view = f"{server.url}/queuescope/view"
            _ask(view, range="24h", step=DAY_STEP_SECONDS)
            _ask(view, range="7d", step=WEEK_STEP_SECONDS)

    def _note_load(self, part: str) -> None:
        self.results.load.setdefault(part, []).append(busy_cores())

    def first_loads(self) -> None:
        """The very first page of a server that has just started, with nothing cached."""
        taken: dict[str, list[float]] = {PLAIN: [], OURS: []}
        for turn in range(self._given.first_loads):
            for name in (PLAIN, OURS):
                if name == PLAIN:
                    server, path = plain_server(self._prometheus, self._directory), "/"
                else:
                    server = our_server(self._prometheus, self._directory, f"first-{turn}")
                    path = f"/?range=24h&step={DAY_STEP_SECONDS}"
                with server, new_viewer(self._browser) as page:
                    self._note_load(FIRST)
                    taken[name].append(load(page, server.url + path).drawn_ms)
        for name, values in taken.items():
            self.results.add(FIRST, name, "ms", values)

    def refreshes(self) -> None:
        """Server CPU time of automatic refreshes, by one viewer and by five."""
        with ExitStack() as running:
            plain = running.enter_context(
                plain_server(self._prometheus, self._directory, _REFRESH_SECONDS)
            )
            ours = running.enter_context(our_server(self._prometheus, self._directory, "refreshed"))
            servers = {PLAIN: plain, OURS: ours}
            for viewers in (1, 5):
                self._refreshes_by(viewers, servers)

    def _refreshes_by(self, viewers: int, servers: dict[str, Server]) -> None:
        path = {PLAIN: "/", OURS: f"/?range=24h&step={DAY_STEP_SECONDS}&refresh={_REFRESH_SECONDS}"}
        # Memory of earlier viewers must not count: their sessions are released first.
        time.sleep(5)
        idle = {name: server.cpu_seconds() for name, server in servers.items()}
        time.sleep(_IDLE_SECONDS)
        title = f"server CPU per viewer and refresh, {_viewers(viewers)}"
        self._note_load(title)
        for name, server in servers.items():
            idle[name] = (server.cpu_seconds() - idle[name]) / (_IDLE_SECONDS + 0.5)
        with ExitStack() as open_pages:
            counters = {name: _Refreshes() for name in servers}
            for _ in range(viewers):
                for name, server in servers.items():
                    page = open_pages.enter_context(new_viewer(self._browser))
                    load(page, server.url + path[name])
                    counters[name].watch(page, name)
            page.wait_for_timeout(1_500 * _REFRESH_SECONDS)
            before = {name: server.cpu_seconds() for name, server in servers.items()}
            seen = {name: counter.count() for name, counter in counters.items()}
            start = time.monotonic()
            page.wait_for_timeout(1_000 * _REFRESH_SECONDS * self._given.refreshes)
            for name, server in servers.items():
                spent = server.cpu_seconds() - before[name]
                refreshes = counters[name].count() - seen[name]
                rest = idle[name] * (time.monotonic() - start)
                net = (spent - rest) / refreshes * 1000
                self.results.add(title, name, "ms", [net])
                self.results.add(
                    f"{title}, idle time included", name, "ms", [spent / refreshes * 1000]
                )
                self.results.add(f"refreshes seen, {_viewers(viewers)}", name, "", [refreshes])

    def judge(self) -> None:
        """The ratios with the project's targets."""
        of = self.results.median
        ratios = self.results.ratios

        def faster(title: str, theirs: str, ours: str, target: float) -> None:
            ratios.append(Ratio(title, of(theirs, PLAIN) / of(ours, OURS), target, at_least=True))

        faster("cold load: times faster than plain", COLD, COLD, 2.5)
        static = of(COLD, OURS) / of(COLD, STATIC)
        ratios.append(Ratio("cold load: times the static page", static, 1.2, at_least=False))
        faster("20 Mbit/s line: times faster than plain", COLD_LINE, COLD_LINE, 4)
        faster("range switch: times faster than plain", SWITCH, SWITCH, 4)
        faster("range switch, view not cached: times faster than plain", SWITCH, SWITCH_NEW, 4)
        slowest = max(
            value
            for measure in self.results.measures
            if measure.contender == OURS and measure.title in (COLD, COLD_NEW, FIRST)
            for value in measure.values
        )
        ratios.append(Ratio("slowest first load, in s", slowest / 1000, 2, at_least=False))
        for viewers in (1, 5) if self._given.refreshes else ():
            title = f"server CPU per viewer and refresh, {_viewers(viewers)}"
            faster(f"{title}: times less than plain", title, title, 30)


class _Refreshes:
    """Counts the refreshes that viewers received."""

    def __init__(self) -> None:
        self._answers = 0
        self._plain: list[Page] = []

    def watch(self, page: Page, name: str) -> None:
        if name == OURS:
            page.on("response", self._answered)
            return
        # The plain page shows the time of each of its refreshes.
        page.evaluate(
            """() => {
              const shown = new Set();
              window.refreshesShown = shown;
              setInterval(() => {
                const text = document.querySelector("[data-testid=stCaptionContainer]")?.innerText;
                if (text) shown.add(text);
              }, 250);
            }"""
        )
        self._plain.append(page)

    def _answered(self, response: Response) -> None:
        self._answers += "/queuescope/view" in response.url

    def count(self) -> int:
        return self._answers + sum(int(p.evaluate("refreshesShown.size")) for p in self._plain)


def _viewers(number: int) -> str:
    return "1 viewer" if number == 1 else f"{number} viewers"


def _click_on(choice: str) -> str:
    return f"""[...document.querySelectorAll("[data-testid=stRadio] label")]
      .find((label) => label.innerText.trim() === "{choice}").querySelector("input").click()"""


def _choose_week(step_seconds: int) -> str:
    # Like the button, but with 1,000 points instead of the range's own step.
    chosen = f'{{ range: "7d", custom: null, step: "{step_seconds}" }}'
    return f"window.queuescope.page().chooseView({chosen})"


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="./benchmarks/run page", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7, help="turns of loads [%(default)s]")
    parser.add_argument(
        "--first-loads", type=int, default=3, help="starts of each server [%(default)s]"
    )
    parser.add_argument(
        "--refreshes", type=int, default=20, help="refreshes of each viewer [%(default)s]"
    )
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    return Options(given.repetitions, given.first_loads, given.refreshes, given.output)


def main() -> None:
    given = _options()
    # A run that is stopped also stops its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="queuescope-benchmark-") as name:
        directory = Path(name)
        print("Backfilling Prometheus …", flush=True)
        prometheus = RealPrometheus(
            directory / "prometheus",
            series=platform_samples(time.time()),
            scrape_interval_seconds=15,
        )
        with prometheus, chromium() as browser:
            run = Run(prometheus.url, directory, browser, given)
            print("Loads and range switches …", flush=True)
            run.loads()
            run.results.write(given.output)
            if given.first_loads:
                print("First loads …", flush=True)
                run.first_loads()
            if given.refreshes:
                print("Refreshes …", flush=True)
                run.refreshes()
            run.judge()
    run.results.write(given.output)
    print((given.output / "page.md").read_text("utf-8"))


if __name__ == "__main__":
    main()

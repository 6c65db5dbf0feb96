"""The lower bound: one HTML file that contains the data, and plotly-basic, compressed in advance.

Run with ``uvicorn benchmarks.contenders.static_page:app`` and the data in ``$STATIC_PAGE_DATA``
(a JSON file: ``[{"title", "unit", "curves": [{"name", "x0", "dx", "y"}]}]``).
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import brotli
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import queuescope.dashboard

_LIBRARY = Path(queuescope.dashboard.__file__).parent / "static/vendor/plotly-basic.min.js"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Performance Trends</title>
<script src="plotly-basic.min.js"></script>
<style>
body { font-family: sans-serif; margin: 1rem; }
main { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; }
main > div { height: 320px; }
</style>
</head>
<body>
<h1>Performance Trends</h1>
<main><div></div><div></div><div></div></main>
<script>
const charts = $data;
charts.forEach(({ title, unit, curves }, i) => {
  Plotly.newPlot(
    document.querySelectorAll("main > div")[i],
    curves.map((curve) => ({ type: "scatter", mode: "lines", ...curve })),
    {
      title: { text: title }, hovermode: "x unified",
      margin: { l: 50, r: 10, t: 40, b: 40 },
      xaxis: { type: "date" }, yaxis: { title: { text: unit } },
    },
  );
});
</script>
</body>
</html>
"""


class _File:
    def __init__(self, content: bytes, media_type: str) -> None:
        self._media_type = media_type
        self._brotli = brotli.compress(content, quality=9)
        self._gzip = gzip.compress(content, 6)

    async def serve(self, request: Request) -> Response:
        accepted = request.headers.get("accept-encoding", "")
        body, encoding = (self._brotli, "br") if "br" in accepted else (self._gzip, "gzip")
        return Response(
            body,
            media_type=self._media_type,
            headers={"Content-Encoding": encoding, "Cache-Control": "max-age=3600"},
        )


def _create_app() -> Starlette:
    data = Path(os.environ["STATIC_PAGE_DATA"]).read_text("utf-8")
    page = _File(_PAGE.replace("$data", data).encode(), "text/html")
    library = _File(_LIBRARY.read_bytes(), "text/javascript")
    return Starlette(
        routes=[Route("/", page.serve), Route("/plotly-basic.min.js", library.serve)],
    )


app = _create_app()

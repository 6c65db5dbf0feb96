"""Files for the browser: compressed once, immutable, named by their content."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import brotli
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from queuescope.dashboard.joined_script import join_modules

STATIC = Path(__file__).parent / "static"
PREFIX = "/queuescope/static"
_IMMUTABLE = "public, max-age=31536000, immutable"
_STYLES = (
    *("overview/page", "overview/overview", "ui/widgets", "charts/overlays", "ui/visitor"),
    *("operations/operations", "overview/failures", "jobs/jobs", "workers/workers"),
    "overview/print",
)
_COLOUR = re.compile(r"(--qs-[\w-]+): (#[0-9a-f]{6});")
# Content types from the system's list differ between machines.
_CONTENT_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}
_COMPRESSED_SUFFIXES = frozenset({".js", ".css", ".json", ".svg"})


def accepts(coding: str, accept_encoding: str) -> bool:
    """Whether the header accepts ``coding``, that is, names it without a quality of 0."""
    for offer in accept_encoding.lower().split(","):
        name, _, quality = offer.partition(";")
        if name.strip() == coding:
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", quality)
    return False


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent: its content type and its bytes in each encoding."""

    content_type: str
    plain: bytes
    brotli: bytes
    gzip: bytes

    def response(self, accept_encoding: str, cache_control: str) -> Response:
        headers = {"Cache-Control": cache_control, "Vary": "Accept-Encoding"}
        body = self.plain
        if accepts("br", accept_encoding):
            body, headers["Content-Encoding"] = self.brotli, "br"
        elif accepts("gzip", accept_encoding):
            body, headers["Content-Encoding"] = self.gzip, "gzip"
        return Response(body, media_type=self.content_type, headers=headers)


@cache
def compressed(content: bytes, content_type: str, quality: int) -> Asset:
    """``content`` in each encoding, with brotli's ``quality`` of 0 to 11; made once a process."""
    return Asset(
        content_type,
        content,
        brotli.compress(content, quality=quality),
        gzip.compress(content, 6, mtime=0),
    )


class Assets:
    """Queuescope's own files: the page's script, its style, and the chart library."""

    def __init__(self, base_path: str = "") -> None:
        """``base_path`` is the path below which a proxy shows this server."""
        self._base_path = base_path
        library = _compiled_at_once((STATIC / "vendor" / "plotly-basic.min.js").read_bytes())
        self._assets: dict[str, Asset] = {}
        self.plotly = self._add("plotly-basic", ".js", library, 9)
        self.script = self._add("page", ".js", join_modules(STATIC / "boot.js").encode(), 11)
        style = "".join((STATIC / f"{name}.css").read_text("utf-8") for name in _STYLES)
        self.style = _colours_of_sheets(style) + style
        self.icon = self._add("queuescope", ".svg", (STATIC / "queuescope.svg").read_bytes(), 11)

    def _add(self, name: str, suffix: str, content: bytes, quality: int) -> str:
        digest = hashlib.sha256(content).hexdigest()[:12]
        file = f"{name}.{digest}{suffix}"
        self._assets[file] = compressed(content, _CONTENT_TYPES[suffix], quality)
        return f"{self._base_path}{PREFIX}/{file}"

    async def serve(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["file"])
        if asset is None:
            return Response("No such file.\n", status_code=404, media_type="text/plain")
        return asset.response(request.headers.get("accept-encoding", ""), _IMMUTABLE)


def _colours_of_sheets(style: str) -> str:
    """The colours of the other pages: those of the overview, by the current theme.

    The overview has the theme in an attribute, which its script sets; Streamlit's elements and
    everything among them have it in `color-scheme`.
    """
    first, _, rest = style.partition('[data-theme="dark"]')
    dark = dict(_COLOUR.findall(rest.partition("}")[0]))
    light = dict(_COLOUR.findall(first))
    pairs = "".join(f"{name}:light-dark({light[name]},{dark[name]});" for name in dark)
    return f".qs-sheet{{{pairs}}}"


def _compiled_at_once(library: bytes) -> bytes:
    """The chart library with brackets around the one function that holds it all.

    Browsers assume that a function in brackets is called at once. They compile it while it arrives,
    instead of skipping it first and parsing it again before anything can be drawn.
    """
    before, opening, rest = library.partition(b"this, () => {")
    body, closing, after = rest.rpartition(b"}));")
    if not opening or not closing:
        return library
    return before + b"this, (() => {" + body + b"})));" + after


class CompressedStatic:
    """ASGI middleware: Streamlit's own scripts and styles, which it serves uncompressed.

    Their names contain a hash of their content, so each is read and compressed once.
    """

    def __init__(self, app: ASGIApp, directory: Path) -> None:
        self._app = app
        # Only the listed files can be requested, each by one spelling of its path.
        self._files = {
            f"/static/{file.relative_to(directory / 'static').as_posix()}": file
            for file in (directory / "static").rglob("*")
            if file.suffix in _COMPRESSED_SUFFIXES
        }
        self._assets: dict[str, Asset] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            path = str(scope["path"])
            file = self._files.get(path)
            if file is not None:
                asset = self._assets.get(path)
                if asset is None:
                    asset = await asyncio.to_thread(compressed_file, file)
                    self._assets[path] = asset
                encodings = Request(scope).headers.get("accept-encoding", "")
                await asset.response(encodings, _IMMUTABLE)(scope, receive, send)
                return
        await self._app(scope, receive, send)


@cache
def compressed_file(file: Path) -> Asset:
    """A file that never changes, in each encoding; read and made once a process."""
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return compressed(file.read_bytes(), kind, 5)

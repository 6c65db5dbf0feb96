"""Damaged responses for the decoder: ``python -m tests.prometheus.decoder_fuzz --help``.

Real bodies are cut, spliced and rewritten at random. The decoder must read each one like a simple
decoder, or reject it with a ``SourceError`` of kind ``DECODE``; nothing else may happen. An input
depends only on the seed and its number.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import math
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from tests.long_proof import Outcome, table
from tests.prometheus import plain_decoder, recorded_bodies
from tests.prometheus.recorded_bodies import GRID

from queuescope.errors import SourceError, SourceErrorKind
from queuescope.prometheus import wire
from queuescope.prometheus.compiled_points import compiled_reader
from queuescope.prometheus.matrix import read_matrix
from queuescope.prometheus.points import PointsReader, read_points
from queuescope.timeseries import Frame, sampled

SEED = 20261124
_AT_ONCE = 2_000
_HANGS_AFTER_SECONDS = 60.0
_RANGES = tuple(recorded_bodies.ranges().values())
_INSTANTS = tuple(recorded_bodies.instants().values())
_TOKENS = (
    *(b'"', b",", b":", b"[", b"]", b"{", b"}", b"],[", b'","', b'"],["', b"[[", b"]]", b"]]}"),
    *(b"\\", b'\\"', b"\\u0022", b"\\ud800", b"\\u0000", b"\0", b"\xff", b"\xc3\xa9", b"\n", b" "),
    *(b"NaN", b"+Inf", b"-Inf", b"Infinity", b"nan", b"null", b"true", b"1e999", b"-1e999", b"-0"),
    *(b"0x10", b"1_0", b"1e5", b".5", b"5.", b"01", b"--1", b"+1", b"1,2", b"18446744073709551616"),
    *(b"-1.7976931348623157e308", b"9" * 400, b"0.%b1" % (b"0" * 400), b"1700000040", b"0", b"-"),
    *(
        b'"values":[[',
        b',"values":[[',
        b'"metric":{',
        b'{"metric":',
        b'"histograms":[]',
        b'"data":',
    ),
    *(
        b'"data":',
        b'"status":"error"',
        b'"warnings":["w"]',
        b'"isPartial":true',
        b'"error":"e"',
        b'{"a":"b"}',
    ),
)


_COMPILED = compiled_reader()
READERS: dict[str, PointsReader] = {"libraries alone": read_points}
if _COMPILED is not None:
    READERS["compiled code"] = _COMPILED
_PARTS: tuple[Any, ...] = (None, True, 0, 1.5, "", "1", "x", [], {}, [1, "1"], -(2**70))


class DecoderError(AssertionError):
    """The decoder did something that it must not do."""


@dataclass(slots=True)
class Tally:
    """The inputs, the results, and the duration of the slowest."""

    inputs: int = 0
    slowest_seconds: float = 0.0
    made: Counter[str] = field(default_factory=collections.Counter)
    became: Counter[str] = field(default_factory=collections.Counter)

    def add(self, other: Tally) -> None:
        self.inputs += other.inputs
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)
        self.made.update(other.made)
        self.became.update(other.became)


def damaged(chance: Random, tally: Tally) -> bytes:
    """A body of the corpus after one to four changes."""
    body = chance.choice(_RANGES if chance.random() < 0.85 else _INSTANTS)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        change = chance.choice(_CHANGES)
        tally.made[change.__name__.strip("_").replace("_", " ")] += 1
        body = change(chance, body)
    return body


def _flip_a_bit(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    flipped = bytes(byte ^ 1 << chance.randrange(8) for byte in body[at : at + 1])
    return body[:at] + flipped + body[at + 1 :]


def _remove_a_piece(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    return body[:at] + body[at + chance.choice((1, 1, 2, 3, 17, 100)) :]


def _repeat_a_piece(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    end = at + chance.choice((1, 2, 3, 17, 100, 1000))
    return body[:end] + body[at:]


def _cut_the_end(chance: Random, body: bytes) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _put_in_a_token(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice(_TOKENS) + body[at + chance.choice((0, 0, 1, 5)) :]


def _replace_a_number(chance: Random, body: bytes) -> bytes:
    marks = [at for at, (a, b) in enumerate(pairwise(body)) if a == 0x22 and b in b"0123456789-+"]
    if not marks:
        return body
    start = chance.choice(marks) + 1
    end = body.find(b'"', start)
    return body[:start] + chance.choice(_TOKENS[23:56]) + body[end:]


def _replace_a_time(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    start = body.find(b"[17", at) + 1
    if not start:
        return body
    new = chance.choice((b"%d" % chance.choice(range(GRID.start - 60, GRID.end + 61, 60)), b"NaN"))
    more = chance.choice((b"", b"", b".0", b".000", b".5", b"e0", b"0"))
    return body[:start] + new + more + body[start + 10 :]


def _splice_two(chance: Random, body: bytes) -> bytes:
    other = chance.choice(_RANGES)
    return body[: chance.randrange(len(body) + 1)] + other[chance.randrange(len(other)) :]


def _join_at_a_seam(chance: Random, body: bytes) -> bytes:
    """Splice where both have the same bytes, so that more of the form survives."""
    other, seam = chance.choice(_RANGES), chance.choice((b"],[", b'"]]},{', b'","', b'":', b"[[17"))
    at = body.find(seam, chance.randrange(len(body) + 1))
    there = other.find(seam, chance.randrange(len(other)))
    return body if at < 0 or there < 0 else body[:at] + other[there:]


def _say_a_key_twice(chance: Random, body: bytes) -> bytes:
    keys = [*re.finditer(rb'"(\w+)":', body)]
    if not keys:
        return body
    key = chance.choice(keys)
    name = key[1]
    if chance.random() < 0.3:
        at = chance.randrange(len(name))
        name = name[:at] + b"\\u%04x" % name[at] + name[at + 1 :]
    value = chance.choice((b"[]", b'"x"', b"null", b"{}", b'[[1700000040,"1"]]', b'{"a":"b"}'))
    return body[: key.start()] + b'"%b":%b,' % (name, value) + body[key.start() :]


def _write_anew(chance: Random, body: bytes) -> bytes:
    """The same JSON in another form, or with a part of it changed."""
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if chance.random() < 0.7:
        _change_a_part(chance, tree)
    indent = chance.choice((None, None, None, 1))
    between = chance.choice(((",", ":"), (",", ":"), (", ", ": ")))
    text = json.dumps(tree, indent=indent, separators=between, ensure_ascii=chance.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def _change_a_part(chance: Random, part: Any) -> None:
    """Descend at random, and change, remove or repeat a part."""
    new: Any
    while isinstance(part, dict | list) and part:
        keys = [*part] if isinstance(part, dict) else [*range(len(part))]
        key = chance.choice(keys)
        if isinstance(part[key], dict | list) and part[key] and chance.random() < 0.85:
            part = part[key]
            continue
        new = chance.choice(
            (None, True, 0, 1.5, "", "1", "x", [], {}, [1, "1"], -(2**70), part[key])
        )
        if chance.random() < 0.3:
            del part[key]
        elif isinstance(part, list):
            part.insert(key, new)
        else:
            part[chance.choice((key, "values", "metric", "é"))] = new
        return


def _nest_deeply(chance: Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice((b"[", b'{"a":', b"[[", b"{")) * 3000 + body[at:]


_CHANGES = (
    *(_flip_a_bit, _remove_a_piece, _repeat_a_piece, _put_in_a_token, _replace_a_number) * 4,
    *(_replace_a_time, _splice_two, _join_at_a_seam, _write_anew) * 3,
    _say_a_key_twice,
    _say_a_key_twice,
    _cut_the_end,
    _nest_deeply,
)


def check(body: bytes, tally: Tally) -> None:
    """Pass ``body`` to every decoder. Raises ``DecoderError`` if one does something wrong."""
    _check_matrix(body, tally)
    _check_vector(body)
    for read in (wire.parse_error, partial(wire.parse_data, kind=dict[str, msgspec.Raw])):
        try:
            read(body)
        except SourceError as exc:
            _is_told_as_it_must_be(exc)


def _check_matrix(body: bytes, tally: Tally) -> None:
    quick = {way: read_matrix(body, GRID, points=points) for way, points in READERS.items()}
    ways = [way for way, frame in quick.items() if frame is not None]
    try:
        answer = wire.parse_matrix(body, GRID)
    except SourceError as exc:
        _is_told_as_it_must_be(exc)
        tally.became[f"range answer refused: {exc.detail.partition(':')[0]}"] += 1
        if ways or plain_decoder.is_valid(body, GRID):
            raise DecoderError(f"only some refuse the body: {exc.detail}, but not {ways}") from exc
        return
    said = plain_decoder.matrix(body, GRID)
    for way in ways or ["the general way"]:
        tally.became[f"range answer read by {way}"] += 1
    for way, frame in quick.items():
        if frame is not None and _points(frame) != said:
            raise DecoderError(f"{way} read {_points(frame)}, not {said}")
    if _points(answer.frame) != said:
        raise DecoderError(f"the decoder read {_points(answer.frame)}, not {said}")
    if answer.warnings != plain_decoder.warnings(body):
        raise DecoderError(f"the decoder read the warnings {answer.warnings}")
    if answer.frame.series != tuple(sorted(answer.frame.series)):
        raise DecoderError("the series are not in label order")


def _check_vector(body: bytes) -> None:
    try:
        answer = wire.parse_vector(body)
    except SourceError as exc:
        _is_told_as_it_must_be(exc)
        return
    said = plain_decoder.vector(body)
    found = [(sample.labels, sample.timestamp, sample.value) for sample in answer.samples]
    same = len(said) == len(found) and all(
        a[:2] == b[:2] and (a[2] == b[2] or (math.isnan(a[2]) and math.isnan(b[2])))
        for a, b in zip(said, found, strict=True)
    )
    if not same:
        raise DecoderError(f"an instant answer was read as {found}, not {said}")


def _points(frame: Frame) -> dict[Any, list[plain_decoder.Point]]:
    missing, undefined = plain_decoder.MISSING, plain_decoder.UNDEFINED
    return {
        labels: [
            value if math.isfinite(value) else undefined if here else missing
            for value, here in zip(row.tolist(), sampled(row).tolist(), strict=True)
        ]
        for labels, row in zip(frame.series, frame.values, strict=True)
    }


def _is_told_as_it_must_be(error: SourceError) -> None:
    if error.kind is not SourceErrorKind.DECODE:
        raise DecoderError(f"the error is of the kind {error.kind}") from error


def fuzz(seed: int, numbers: Iterable[int]) -> Tally:
    """Check the inputs with these numbers. Raises ``DecoderError`` for the first wrong one.

    Ends the process, with a trace on standard error, when a batch of inputs takes a minute.
    """
    tally = Tally()
    with _ended_when_it_hangs(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in numbers:
            body = damaged(Random(f"{seed} {number}"), tally)
            begun = time.perf_counter()
            try:
                check(body, tally)
            except Exception as exc:
                raise DecoderError(
                    f"input {number} of seed {seed}, {body[:3000]!r}: {exc!r}"
                ) from exc
            tally.slowest_seconds = max(tally.slowest_seconds, time.perf_counter() - begun)
            tally.inputs += 1
    return tally


@contextmanager
def _ended_when_it_hangs() -> Iterator[None]:
    """A hanging decoder in C blocks all other threads of Python."""
    faulthandler.dump_traceback_later(_HANGS_AFTER_SECONDS, exit=True)
    try:
        yield
    finally:
        # Otherwise it would end this process a minute later.
        faulthandler.cancel_dump_traceback_later()


def refuse_every_prefix() -> int:
    """Check that no cut of a real body is read; how many there are."""
    count = 0
    for bodies, read in ((_RANGES, partial(wire.parse_matrix, grid=GRID)), (_INSTANTS, _vector)):
        for body in map(bytes.rstrip, bodies):
            for length in range(len(body)):
                count += 1
                try:
                    read(body[:length])
                except SourceError as exc:
                    _is_told_as_it_must_be(exc)
                    continue
                raise DecoderError(f"a cut of a body is read: {body[:length]!r}")
    return count


def _vector(body: bytes) -> wire.InstantAnswer:
    return wire.parse_vector(body)


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged responses for the decoder, at length.")
    parser.add_argument("--count", type=int, default=1_000_000, help="how many inputs")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--result", type=Path, help="keep the outcome as this section's file")
    options = parser.parse_args()
    begun, tally, end = time.monotonic(), Tally(), options.first + options.count
    prefixes = refuse_every_prefix()
    starts = range(options.first, end, _AT_ONCE)
    spans = [range(start, min(start + _AT_ONCE, end)) for start in starts]
    with ProcessPoolExecutor(options.processes) as pool:
        for done in pool.map(partial(fuzz, options.seed), spans):
            tally.add(done)
    summary = (
        f"{tally.inputs:,} inputs: no crash, no hang, no wrong answer, no valid one refused."
        f" The slowest took {1000 * tally.slowest_seconds:,.0f} ms. All {prefixes:,} proper"
        f" prefixes of {len(_RANGES) + len(_INSTANTS)} real bodies were refused."
    )
    lines = [
        summary,
        "",
        *table("changes to the bodies", tally.made),
        *table("results", tally.became),
    ]
    command = f"python -m tests.prometheus.decoder_fuzz --count {options.count}"
    Outcome(
        title="Damaged answers by chance",
        command=f"{command} --seed {options.seed}",
        lines=lines,
        seconds=time.monotonic() - begun,
    ).tell(options.result)


if __name__ == "__main__":
    main()

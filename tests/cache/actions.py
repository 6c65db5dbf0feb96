"""What can happen to a cache and to the source behind it, and random histories of it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.cache.model_source import queue

from queuescope.timeseries import UNDEFINED, Labels

STEP = 10
HORIZON = 125
MAX_STEPS = 60
MAX_STEPS_AGO = 40
QUEUES = (queue("a"), queue("b"), queue("c"))
VALUES = (0.0, 1.0, 2.5, UNDEFINED)
KEYS = 4
"""Two queries at two steps: keys share only the limits of the store."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes, and each of these series is scraped at each step, or not at all."""

    seconds: int
    scraped: tuple[tuple[Labels, float], ...]


@dataclass(frozen=True, slots=True)
class Late:
    """A sample arrives, changes or (None) disappears, within the horizon or beyond it."""

    series: Labels
    age_steps: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """A range that ends some steps before (or after) now is read.

    ``fails_from`` is the number of the first query of this read that fails; with ``warns`` the
    source answers in part.
    """

    end_steps_ago: int
    steps: int
    key: int = 0
    fails_from: int | None = None
    is_busy: bool = False
    warns: bool = False


@dataclass(frozen=True, slots=True)
class ReadTogether:
    """Several ranges are read at once."""

    reads: tuple[Read, ...]


Disk = Literal["kept", "killed", "lost", "damaged"]
_DISK: tuple[Disk, ...] = ("kept", "killed", "lost", "damaged")


@dataclass(frozen=True, slots=True)
class Restart:
    """The dashboard restarts. ``killed``: unwritten data are lost."""

    disk: Disk
    damage: int = 0


@dataclass(frozen=True, slots=True)
class Switch:
    """Another server answers: the first, one with other values, or one that lost its history."""

    to: Literal["first", "other", "wiped"]


Action = Pass | Late | Read | ReadTogether | Restart | Switch


def random_actions(chance: Random, *, others: bool, rewrites: bool = True) -> list[Action]:
    """A history of 10 to 50 turns, most of which are one action.

    With ``others`` the server changes; then the first series has a number at every step, because
    servers without data cannot be distinguished. Without ``rewrites`` no sample is changed
    or removed, as in a source that refuses that.
    """
    actions: list[Action] = []
    for _ in range(chance.randint(10, 50)):
        actions += _random_turn(chance, others=others, rewrites=rewrites)
    return actions


_TURNS = {
    "read": 40,
    "read together": 5,
    "pass": 30,
    "late": 10,
    "late at the horizon": 3,
    "restart": 5,
}
_TURNS_OF_OTHERS = {"switch": 4, "switch between neighbours": 2}


def _random_turn(chance: Random, *, others: bool, rewrites: bool) -> tuple[Action, ...]:
    turns = _TURNS | _TURNS_OF_OTHERS if others else _TURNS
    (turn,) = chance.choices(list(turns), list(turns.values()))
    late_ones = QUEUES[1:] if others else QUEUES
    match turn:
        case "read":
            return (_random_read(chance),)
        case "read together":
            return (ReadTogether(tuple(_random_read(chance) for _ in range(chance.randint(2, 4)))),)
        case "pass":
            seconds = chance.randint(1, 30 if chance.random() < 0.7 else 400)
            scraped = {q: chance.choice(VALUES) for q in QUEUES if chance.random() < 0.6}
            if others:
                scraped[QUEUES[0]] = chance.choice(VALUES[:-1])
            return (Pass(seconds, tuple(scraped.items())),)
        case "late":
            age_steps = chance.randint(0, 12 if chance.random() < 0.9 else 60)
            vanishes = rewrites and chance.random() < 0.2
            value = None if vanishes else chance.choice(VALUES)
            return (Late(chance.choice(late_ones), age_steps, value),)
        case "late at the horizon":
            late = Late(chance.choice(late_ones), chance.choice((11, 12)), chance.choice(VALUES))
            # A read that fetches anything would notice it at the seam; one that fetches nothing
            # ends there.
            return (Read(0, 30), late, Read(chance.choice((0, 11, 12, 12)), chance.randint(3, 20)))
        case "restart":
            (disk,) = chance.choices(_DISK, (4, 2, 1, 3))
            return (Restart(disk, chance.randrange(1 << 16)),)
        case "switch":
            return (_random_switch(chance),)
        case _:
            ago, steps = chance.randint(13, 20), chance.randint(3, 15)
            older = Read(ago + steps + 1, steps)
            both = Read(ago, 2 * steps + 1)
            pair = chance.choice(((Read(ago, steps), older), (older, Read(ago, steps))))
            return (pair[0], _random_switch(chance), pair[1], both)


def _random_switch(chance: Random) -> Switch:
    return Switch(chance.choice(("first", "other", "wiped")))


def _random_read(chance: Random) -> Read:
    trouble = chance.random()
    return Read(
        end_steps_ago=0 if chance.random() < 0.6 else chance.randint(-2, MAX_STEPS_AGO),
        steps=30 if chance.random() < 0.5 else chance.randint(0, MAX_STEPS),
        key=0 if chance.random() < 0.7 else chance.randrange(KEYS),
        fails_from=chance.choice((0, 0, 1)) if trouble < 0.15 else None,
        is_busy=trouble < 0.03,
        warns=0.15 <= trouble < 0.3,
    )


def name_of(action: Action) -> str:
    """The kind of an action, as in a report."""
    match action:
        case Pass():
            return "time passes"
        case Late(_, age_steps, value):
            what = "arrives or changes" if value is not None else "vanishes"
            beyond = age_steps * STEP >= HORIZON
            return f"a sample {what} late, {'beyond' if beyond else 'within'} the horizon"
        case Read(fails_from=number) if number is not None:
            return (
                "a range is read, the source is busy"
                if action.is_busy
                else ("a range is read, the source fails")
            )
        case Read(warns=True):
            return "a range is read, the source answers in part"
        case Read():
            return "a range is read"
        case ReadTogether():
            return "several ranges are read at once"
        case Restart(disk):
            return f"restart, files {disk}"
        case Switch(to):
            return f"the {to} server answers"

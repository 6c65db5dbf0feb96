"""What may happen to a cache and to the source behind it, and histories of it by chance."""

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
"""Two queries at two steps: keys share the bounds of the store and nothing else."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Time goes by, and each of these series is scraped at each step, or not at all."""

    seconds: int
    scraped: tuple[tuple[Labels, float], ...]


@dataclass(frozen=True, slots=True)
class Late:
    """A sample arrives, changes or (None) vanishes, within the horizon or beyond it."""

    series: Labels
    age_steps: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """A range that ends some steps before (or after) now is read.

    ``fails_from`` is the number of the first question of this read that fails, ``warns`` lets the
    source answer half.
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
    """The dashboard starts anew. ``killed``: what was not yet written is lost."""

    disk: Disk
    damage: int = 0


@dataclass(frozen=True, slots=True)
class Forget:
    """A key is forgotten on purpose."""

    key: int


@dataclass(frozen=True, slots=True)
class Switch:
    """Another server answers: the first, one of other values, or one that lost its history."""

    to: Literal["first", "other", "wiped"]


Action = Pass | Late | Read | ReadTogether | Restart | Forget | Switch


def random_actions(chance: Random, *, others: bool, rewrites: bool = True) -> list[Action]:
    """A history of 10 to 50 actions.

    With ``others`` the server changes; then the first series is a number at every step, because
    nobody can tell servers apart where both hold nothing. Without ``rewrites`` no sample is changed
    or removed, as in a source that refuses that.
    """
    return [_random_action(chance, others, rewrites) for _ in range(chance.randint(10, 50))]


def _random_action(chance: Random, others: bool, rewrites: bool) -> Action:
    kinds = ("read", "together", "pass", "late", "restart", "forget", "switch")
    (kind,) = chance.choices(kinds, (40, 5, 30, 14, 5, 1, 5 if others else 0))
    match kind:
        case "read":
            return _random_read(chance)
        case "together":
            return ReadTogether(tuple(_random_read(chance) for _ in range(chance.randint(2, 4))))
        case "pass":
            seconds = chance.randint(1, 30 if chance.random() < 0.7 else 400)
            scraped = {q: chance.choice(VALUES) for q in QUEUES if chance.random() < 0.6}
            if others:
                scraped[QUEUES[0]] = chance.choice(VALUES[:-1])
            return Pass(seconds, tuple(scraped.items()))
        case "late":
            age_steps = chance.randint(0, 12 if chance.random() < 0.9 else 60)
            series = chance.choice(QUEUES[1:] if others else QUEUES)
            vanishes = rewrites and chance.random() < 0.2
            return Late(series, age_steps, None if vanishes else chance.choice(VALUES))
        case "restart":
            (disk,) = chance.choices(_DISK, (4, 2, 1, 2))
            return Restart(disk, chance.randrange(1 << 16))
        case "forget":
            return Forget(chance.randrange(KEYS))
        case _:
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
    """The kind of an action, in the words of a report."""
    match action:
        case Pass():
            return "time goes by"
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
            return "a range is read, the source answers half"
        case Read():
            return "a range is read"
        case ReadTogether():
            return "several ranges are read at once"
        case Restart(disk):
            return f"restart, files {disk}"
        case Forget():
            return "a key is forgotten"
        case Switch(to):
            return f"the {to} server answers"

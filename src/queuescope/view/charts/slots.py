"""Which colour a value of a breakdown has: the same on all charts and in all ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cachetools import FIFOCache

_MAX_KEPT = 10_000


class ColourSlots:
    """Gives the values of each label one of ``size`` colours, and remembers it.

    Values that are shown together have different ones, as long as there are so many. A value
    gives its colour up only to one that has had the same for longer.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[str, FIFOCache[str, int]] = {}

    def of(self, label: str, shown: Iterable[str]) -> Mapping[str, int]:
        """By value, for all that are ``shown`` together, the number of its colour."""
        known = self._known.setdefault(label, FIFOCache(_MAX_KEPT))
        values = sorted(set(shown))
        found: dict[str, int] = {}
        taken: set[int] = set()
        for value in [value for value in known if value in set(values)]:
            if known[value] not in taken:
                found[value] = known[value]
                taken.add(known[value])
        # Colours that no other value has are given before those of values that are out of sight.
        used = set(known.values())
        for number, value in enumerate(value for value in values if value not in found):
            free = [slot for slot in range(self._size) if slot not in taken]
            unused = [slot for slot in free if slot not in used]
            slot = (unused or free or [number % self._size])[0]
            found[value] = known[value] = slot
            taken.add(slot)
        return found

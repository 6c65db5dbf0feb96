"""The colours of a breakdown's values: the same on all charts and in all ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cachetools import FIFOCache

_MAX_KEPT = 10_000


class ColourSlots:
    """Gives each value of a label one of ``size`` colours, and remembers it.

    Values that are shown together get different colours while there are enough. A value loses its
    colour only to a value that has had the same one for longer.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[str, FIFOCache[str, int]] = {}

    def of(self, label: str, shown: Iterable[str]) -> Mapping[str, int]:
        """The number of the colour of each value, for those that are ``shown`` together."""
        known = self._known.setdefault(label, FIFOCache(_MAX_KEPT))
        values = sorted(set(shown))
        found: dict[str, int] = {}
        taken: set[int] = set()
        for value in [value for value in known if value in set(values)]:
            if known[value] not in taken:
                found[value] = known[value]
                taken.add(known[value])
        # Unused colours are given before those of values that are not shown.
        used = set(known.values())
        for number, value in enumerate(value for value in values if value not in found):
            free = [slot for slot in range(self._size) if slot not in taken]
            unused = [slot for slot in free if slot not in used]
            slot = (unused or free or [number % self._size])[0]
            found[value] = known[value] = slot
            taken.add(slot)
        return found

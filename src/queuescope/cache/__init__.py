"""A cache that fetches nothing twice and keeps the last good answer."""

from queuescope.cache.reader import CachedReader, state_of
from queuescope.cache.store import Extent, FrameKey, FrameStore

__all__ = ["CachedReader", "Extent", "FrameKey", "FrameStore", "state_of"]

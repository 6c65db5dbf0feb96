"""Never ask twice, never forget the last good answer."""

from queuescope.cache.reader import CachedReader
from queuescope.cache.store import Extent, FrameKey, FrameStore

__all__ = ["CachedReader", "Extent", "FrameKey", "FrameStore"]

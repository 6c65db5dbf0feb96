"""Queuescope: one page that answers how a job queue is doing."""

__all__ = ["__version__"]

__version__ = "0.1.0"

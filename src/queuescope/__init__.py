"""Queuescope: one page that answers how a job queue is doing."""

__version__ = "0.1.0"

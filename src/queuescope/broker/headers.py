"""Message headers from which the age of a job is computed, with any broker."""

DUE_HEADER = "queuescope_enqueued_at"
"""When the message became due, in epoch seconds."""
CLOCK_HEADER = "queuescope_clock"
"""The ``clock_mark`` of the clock that gave that time."""

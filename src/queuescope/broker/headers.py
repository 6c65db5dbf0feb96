"""Headers of a message by which the age of a job is known, whatever the broker."""

DUE_HEADER = "queuescope_enqueued_at"
"""When the message became due, in epoch seconds."""
CLOCK_HEADER = "queuescope_clock"
"""By which clock that was said: its ``clock_mark``."""

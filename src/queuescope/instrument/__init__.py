"""What workers report: two lines make any Celery project visible.

from queuescope.instrument import instrument
instrument(app)
"""

from queuescope.broker.timings import WorkerTimings
from queuescope.instrument.celery import instrument

__all__ = ["WorkerTimings", "instrument"]

"""What the dialog says about an operation before it is confirmed."""

from __future__ import annotations

from dataclasses import dataclass

from queuescope.operations.request import Operation


@dataclass(frozen=True, slots=True)
class Wording:
    """What the dialog says about an operation before it is confirmed; docs/operations.md says the
    same.
    """

    title: str
    button: str
    does: str
    does_not: str


WORDINGS = {
    Operation.PAUSE: Wording(
        "Pause a queue, or all",
        "Pause",
        "No job of the queue starts in any instrumented worker. Waiting jobs stay in the broker; "
        "jobs that a worker had fetched but not started go back to the front, in their old order. "
        "A pause is durable: workers that start later, restarted workers, and workers whose "
        "broker was restarted stay paused.",
        "It does not end running jobs. It does not stop producers: the queue grows. It does not "
        "affect workers that do not call instrument, which the page cannot count.",
    ),
    Operation.RESUME: Wording(
        "Resume a queue, or all",
        "Resume",
        "Workers fetch again, within about two seconds.",
        "It does not speed anything up.",
    ),
    Operation.PURGE: Wording(
        "Purge a queue",
        "Purge",
        "Removes all waiting jobs, of every priority, from that queue alone. They are written to "
        "a file before they are deleted from the broker.",
        "It does not touch jobs that workers have fetched: it says how many are still reserved, "
        "and those may run. It does not touch jobs that wait for a countdown in a worker.",
    ),
    Operation.RESTORE: Wording(
        "Restore a purge",
        "Restore",
        "Puts every message back, byte for byte and in the old order, ahead of newer ones; once, "
        "however often it is requested.",
        "Above 2,000 messages it is not a single step: workers may start with the first messages "
        "that are back.",
    ),
    Operation.REVOKE: Wording(
        "Revoke a job",
        "Revoke",
        "No worker starts the job, now or later, for seven days. With terminate it is ended if it "
        "is running.",
        "Without terminate it does not end a running job. Thread and solo pools cannot end one.",
    ),
    Operation.SCALE: Wording(
        "Scale a worker",
        "Scale",
        "Sets the size of its process pool.",
        "It ends only idle processes and says how many are left. It does not survive a restart of "
        "the worker. Thread pools, solo pools and --autoscale refuse.",
    ),
    Operation.RETRY: Wording(
        "Retry failed jobs",
        "Retry",
        "Lets a worker send them again through the project's own code, once per operation.",
        "Nothing is sent without that code.",
    ),
}

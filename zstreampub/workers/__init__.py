"""Further processes that read the same log and serve subscribers, so that fan-out uses more than one core.

The process that has the store open is the *writer*; it starts the workers and wakes them after each commit. What
changes anything, and every durable consumer, is the writer's.
"""

from .workers import Workers

__all__ = ["Workers"]

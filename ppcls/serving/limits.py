"""Bounds on what is in memory."""

from __future__ import annotations

import threading

from ppcls.serving.problems import Busy


class Budget:
    """An amount that may be in use at once (images, bytes); may be shared by threads.

    Args:
        limit: the largest sum.
        what: of the message when it is used up.
    """

    def __init__(self, limit: int, what: str) -> None:
        self.limit, self.what = limit, what
        self._used, self._lock = 0, threading.Lock()

    @property
    def used(self) -> int:
        """In use now."""
        return self._used

    def take(self, amount: int) -> None:
        """Busy, with nothing taken, if it is not to be had."""
        with self._lock:
            if self._used + amount > self.limit:
                raise Busy(f"the service is busy: {self.what} used up; try again in a moment")
            self._used += amount

    def give_back(self, amount: int) -> None:
        """What was taken."""
        with self._lock:
            self._used -= amount


class Share:
    """What one request holds of a budget; all of it is given back at the end of ``with``."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._held, self._lock = budget, 0, threading.Lock()
        self._closed = False

    def take(self, amount: int) -> None:
        """As :meth:`Budget.take`; nothing is taken for a request that has ended."""
        with self._lock:
            if self._closed:
                return
            self._budget.take(amount)
            self._held += amount

    def give_back(self, amount: int) -> None:
        """A part, before the end."""
        with self._lock:
            if not self._closed:
                self._budget.give_back(amount)
                self._held -= amount

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._closed = True
            self._budget.give_back(self._held)

"""Hints between machines that a journal grew: over memory, or by looking at the store."""

from sync.events.base import Events

__all__ = ["Events"]

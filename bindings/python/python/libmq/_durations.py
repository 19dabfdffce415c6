"""Durations, as everywhere in the package."""

from datetime import timedelta

Duration = float | timedelta
"""Seconds, or a timedelta."""

"""The plugin of pytest: the fixture `libmq_broker`. It is there wherever libmq is installed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from libmq.testing.broker import TestBroker


@pytest.fixture
def libmq_broker() -> "Iterator[TestBroker]":
    """A broker in memory whose clock stands still; see `libmq.testing`. Closed at the end of the test."""
    # Here, so that nothing of it is imported where no test asks for it.
    from libmq.testing.broker import open

    with open() as broker:
        yield broker

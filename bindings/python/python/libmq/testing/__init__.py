"""Testing what is built on libmq, without files, threads of one's own, or sleeping.

    from libmq import testing

    def test_an_order_is_paid_for(libmq_broker):  # a fixture of pytest; elsewhere `with testing.open() as broker:`
        shop.register(libmq_broker)
        shop.order(libmq_broker, "ORD-001")
        libmq_broker.assert_enqueued("orders", id="ORD-001")
        assert libmq_broker.drain().failed == 0
        libmq_broker.assert_enqueued("payments", order="ORD-001", count=1)

The broker is a real one, in memory. Its clock stands still until `advance`, or until `drain(advance=True)` moves it
over delays and backoffs. `testing.call(handler, body)` runs one handler in the test's own thread.

A handler's `timeout` is time of that clock, too: while it runs, it is over when the test moves the clock beyond it, and
never by itself. A drain moves the clock while no handler runs. `broker.start()` and then `broker.advance(timeout)`
cancels one that runs; `testing.call(handler, body, cancelled="timeout")` shows it a cancellation.
"""

from libmq.testing.broker import TestBroker, open
from libmq.testing.calling import CallContext, acall, call
from libmq.testing.draining import Drained
from libmq.testing.looking import Enqueued

__all__ = ["CallContext", "Drained", "Enqueued", "TestBroker", "acall", "call", "open"]

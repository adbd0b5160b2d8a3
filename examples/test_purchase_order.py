"""Tests of `purchase_order.py`: in memory, on a virtual clock, in milliseconds.

::

    pytest examples/test_purchase_order.py

The fixture `wfq_env` comes with wfq; docs/testing.md tells what else there is.
"""

import purchase_order
from purchase_order import Order

from wfq.testing import Env, Outcome, fuzz

LATHE = Order("lathe", 9000)


def test_a_small_order_needs_nobody(wfq_env: Env):
    output = wfq_env.start(purchase_order.purchase, Order("pens", 20)).result()

    assert output["approved_by"] == "nobody: below the limit"


def test_without_an_answer_it_is_cancelled_after_three_days(wfq_env: Env):
    cancel = wfq_env.mock(purchase_order.cancel_order)
    order = wfq_env.start(purchase_order.purchase, LATHE)

    wfq_env.skip(days=2, hours=23)
    assert order.status == "RUNNING"
    wfq_env.skip(hours=1)

    assert order.output == {"placed": False, "why": "no answer in time"}
    assert cancel.inputs == [LATHE]


def test_an_answer_counts_though_its_worker_dies(wfq_env: Env):
    order = wfq_env.start(purchase_order.purchase, LATHE)

    wfq_env.crash()
    order.raise_event("approval", {"approved": True, "by": "Ada"})

    assert order.result()["approved_by"] == "Ada"


def placed_or_cancelled(outcome: Outcome):
    if outcome.status == "COMPLETED":
        assert len(outcome.done("place_order")) + len(outcome.done("cancel_order")) <= 1


def test_no_order_of_events_places_and_cancels():
    fuzz(
        purchase_order.purchase,
        LATHE,
        events={"approval": {"approved": True, "by": "Ada"}},
        check=placed_or_cancelled,
        seeds=200,
    )

"""Monitor: look at a service for ever, seldom while it is well and often while it is not.

Each round is a generation of its own (`continue_as_new`), so the history stays short however
long the monitor runs. It ends by itself when the service is gone for good.

::

    wfq dev examples/monitor.py
    wfq start watch '{"service": "shop", "calm_s": 5, "alarm_s": 1}' --id watch-shop
    wfq get watch-shop          # the custom status says how the service is
    wfq terminate watch-shop
"""

from dataclasses import dataclass
from datetime import timedelta

import wfq as wf

app = wf.WorkflowRuntime()


@dataclass
class Watch:
    service: str
    calm_s: float = 60
    alarm_s: float = 5
    healthy: bool = True
    rounds: int = 0


@app.workflow
def watch(ctx: wf.WorkflowContext, state: Watch):
    answer = yield ctx.call_activity(probe, input=state)
    state.rounds += 1
    ctx.set_custom_status({"service": state.service, "answer": answer, "rounds": state.rounds})
    if answer == "gone":
        return {"rounds": state.rounds}
    if answer == "unhealthy" and state.healthy:
        # Nobody has to wait until the alert is out.
        ctx.call_activity(alert, input=f"{state.service} is unhealthy")
    state.healthy = answer == "healthy"
    pause_s = state.calm_s if state.healthy else state.alarm_s
    yield ctx.create_timer(timedelta(seconds=pause_s))
    ctx.continue_as_new(state)


@app.activity
def probe(state: Watch) -> str:
    """Ask the service how it is; this one falls ill in round two and is retired in round five."""
    script = ["healthy", "healthy", "unhealthy", "unhealthy", "healthy", "gone"]
    return script[min(state.rounds, len(script) - 1)]


@app.activity
def alert(ctx: wf.ActivityContext, message: str) -> None:
    ctx.logger.warning("ALERT: %s", message)

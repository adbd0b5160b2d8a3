"""Async HTTP API: start over HTTP, get 202 at once, poll until the work is done.

The workflow knows nothing of HTTP; every workflow can be used this way.

::

    wfq dev examples/async_http.py
    python examples/async_http.py                 # the client below
"""

import json
import sys
import time
import urllib.request

import wfq as wf

app = wf.WorkflowRuntime()

FINAL = {"COMPLETED", "FAILED", "TERMINATED"}


@app.workflow
def export_report(ctx: wf.WorkflowContext, month: str):
    rows = yield ctx.call_activity(collect_rows, input=month)
    return (yield ctx.call_activity(write_file, input=rows))


@app.activity
def collect_rows(month: str) -> list[str]:
    time.sleep(0.2)
    return [f"{month}-{day:02d}" for day in range(1, 4)]


@app.activity
def write_file(rows: list[str]) -> dict:
    return {"file": f"report-{rows[0][:7]}.csv", "rows": len(rows)}


def export(base: str, month: str) -> dict:
    """Start an export, poll its status and return its output."""
    started = urllib.request.Request(
        f"{base}/v1.0/workflows/wfq/export_report/start",
        data=json.dumps(month).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(started, timeout=10) as reply:
        instance_id = json.load(reply)["instanceID"]
        print(f"{reply.status} accepted: {instance_id}")
    while True:
        with urllib.request.urlopen(f"{base}/v1.0/workflows/wfq/{instance_id}", timeout=10) as r:
            state = json.load(r)
        print(f"{r.status} {state['runtimeStatus']}")
        if state["runtimeStatus"] in FINAL:
            return json.loads(state["properties"]["dapr.workflow.output"])
        time.sleep(0.1)


if __name__ == "__main__":
    base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3500"
    print(export(base, "2026-03"))

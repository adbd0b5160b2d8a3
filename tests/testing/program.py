"""A program that the processes of `wfq_cluster` run."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow
def careful(ctx: wf.WorkflowContext, folder: str) -> Generator[Any, Any, str]:
    first = yield ctx.call_activity(slow_once, input=folder)
    yield ctx.wait_for_external_event("go")
    second = yield ctx.call_activity(slow_once, input=folder)
    return f"{first} {second}"


@app.activity
def slow_once(ctx: wf.ActivityContext, folder: str) -> str:
    """The first call ever never returns: whoever made it must be killed."""
    mark = Path(folder, "begun")
    if not mark.exists():
        mark.write_text(str(os.getpid()))
        while not ctx.is_cancelled:
            time.sleep(0.05)
    return "done"

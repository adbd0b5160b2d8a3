"""Fan-out with a limit: at most `at_once` of the pages are fetched at any time.

No setting and no semaphore: the workflow keeps a few tasks open and starts the next one when
one of them is done. The results come back in the order of the pages.

::

    wfq dev examples/bounded_fan_out.py
    wfq start crawl '{"pages": 20, "at_once": 4}' --wait
"""

import time
from dataclasses import dataclass

import wfq as wf

app = wf.WorkflowRuntime()


@dataclass
class Crawl:
    pages: int
    at_once: int = 4


@app.workflow
async def crawl(ctx: wf.WorkflowContext, job: Crawl) -> list[int]:
    todo = list(range(job.pages))
    sizes: dict[int, int] = {}
    running: dict[wf.Task, int] = {}
    while todo or running:
        while todo and len(running) < job.at_once:
            page = todo.pop(0)
            running[ctx.call_activity(fetch_page, input=page)] = page
        done = await wf.when_any(list(running))
        sizes[running.pop(done)] = done.get_result()
    return [sizes[page] for page in sorted(sizes)]


@app.activity
def fetch_page(number: int) -> int:
    # Some pages are slower than others, so they do not end in the order they began.
    time.sleep(0.02 + 0.03 * (number % 3))
    return 1000 + number

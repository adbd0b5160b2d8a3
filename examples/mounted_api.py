"""The HTTP API inside your own web application.

The page below is the application's own; everything under ``/engine`` is wfq's API. FastAPI's
``app.mount("/engine", engine)`` does the same.

::

    wfq worker examples/mounted_api.py
    cd examples && uvicorn mounted_api:web --port 8000
    curl -i -X POST localhost:8000/engine/v1.0/workflows/wfq/greet/start -d '"Ada"'
"""

from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import wfq as wf

app = wf.WorkflowRuntime()


@app.workflow
def greet(ctx: wf.WorkflowContext, name: str):
    return (yield ctx.call_activity(hello, input=name))


@app.activity
def hello(name: str) -> str:
    return f"hello {name}"


engine = wf.asgi()


@asynccontextmanager
async def lifespan(_: Starlette):
    # Closes the engine's connections when the application ends.
    async with engine.router.lifespan_context(engine):
        yield


async def home(_):
    return PlainTextResponse("POST a name to /engine/v1.0/workflows/wfq/greet/start")


web = Starlette(routes=[Route("/", home), Mount("/engine", app=engine)], lifespan=lifespan)

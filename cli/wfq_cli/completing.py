"""Completion of ids and names in the shell: a quick look at what Redis has, never an error."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click
from click.shell_completion import CompletionItem

#: Ids that are offered at most.
_MOST = 50
#: Instances that are looked at: Tab must not take long.
_LOOKED_AT = 1000


def ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the newest instances whose id begins with what was typed."""
    try:
        return _look(ctx, incomplete)
    except Exception:
        # Somebody presses Tab: no Redis, no completion.
        return []


def first_is_id(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """As `ids`, for the first word of several."""
    typed: Any = ctx.params.get(param.name or "") or ()
    return [] if typed else ids(ctx, param, incomplete)


def workflows(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the workflows that live workers have registered and that begin with what was typed."""
    try:
        from wfq.storage import membership
        from wfq_cli.session import open_session
        from wfq_cli.target import Target

        with open_session(Target.current()) as session:
            live = membership.live_workers(session.link, session.namespace)
        names = {name for info in live for name in info.details.get("workflows", ())}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
    except Exception:
        return []


def _look(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    # Imported here: completion of commands and options must not wait for it.
    from wfq_cli.filters import Filter
    from wfq_cli.listing import matching
    from wfq_cli.session import open_session
    from wfq_cli.target import Target

    with ctx.scope(), open_session(Target.current()) as session:
        found: list[CompletionItem] = []
        for state in islice(matching(session, Filter()), _LOOKED_AT):
            if state.instance_id.startswith(incomplete):
                text = f"{state.name} {state.runtime_status.name}"
                found.append(CompletionItem(state.instance_id, help=text))
            if len(found) >= _MOST:
                break
        return found

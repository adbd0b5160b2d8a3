"""Waiting for the end of an instance, and what it means for the exit code."""

from __future__ import annotations

from typing import Any

import click

from wfq.errors import WaitTimeout
from wfq.management.state import WorkflowState
from wfq_cli import exits, render, states
from wfq_cli.session import Session
from wfq_cli.target import Target

State = WorkflowState[Any]


def wait_for_end(session: Session, instance_id: str, timeout_s: float | None) -> State:
    """Return the final state. Raises: WaitTimeout, InstanceNotFound."""
    # Zero means "without a limit" to the client, but not to somebody who types it.
    if timeout_s == 0:
        return _look_once(session, instance_id)
    return session.client.wait_for_workflow_completion(
        instance_id, timeout_in_seconds=timeout_s or 0
    )


def _look_once(session: Session, instance_id: str) -> State:
    state = session.state(instance_id)
    if state.runtime_status.is_final:
        return state
    raise WaitTimeout(f"instance {instance_id!r} is still {state.runtime_status.name}")


def print_state(state: State) -> None:
    """Print an instance in the chosen format."""
    render.print_one(
        states.record(state), Target.current().output, states.pairs(state), state.instance_id
    )


def finish(ctx: click.Context, state: State) -> None:
    """Print the final state and end the command with its exit code."""
    print_state(state)
    ctx.exit(exits.BY_STATUS.get(state.runtime_status.name, exits.OK))

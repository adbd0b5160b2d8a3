"""What a picture says in a step."""

from __future__ import annotations

from wfq.analysis.graph import Step

#: The line above a step's name.
KINDS = {
    "activity": "activity",
    "child": "child workflow",
    "timer": "timer",
    "event": "wait for event",
    "send": "send event",
    "wait": "wait",
}


def caption(step: Step) -> tuple[str, str]:
    """Return what a step is called, and a second line that may be empty."""
    told = []
    if step.many:
        told.append(f"once per {step.each}" if step.each else "any number of times")
    if step.detail:
        told.append(step.detail)
    if not step.waited:
        told.append("not waited for")
    if step.kind == "timer":
        # "timer" says little: the duration is what people look for.
        return (told[0] if told else "timer"), ", ".join(told[1:])
    return step.label, ", ".join(told)

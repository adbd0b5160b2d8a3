"""The scenes of `wfq demo`: each runs one pattern and checks its answer."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wfq_cli.demo import workflows as bakery
from wfq_cli.demo.screen import Screen, WrongAnswer, expect
from wfq_cli.demo.stage import SLOTS, Stage

#: Seconds that a scene may take; it needs a fraction of it.
PATIENCE_S = 20.0

TRAYS = 24
CALM_S, ALARM_S = 0.4, 0.1


def chain(stage: Stage, screen: Screen) -> None:
    """A chain that works, and one whose last step fails and is compensated."""
    with screen.scene("Task chaining") as line:
        line.say("price, charge, load the van")
        cake_id = stage.start(bakery.deliver_cake, "cake", {"name": "sacher", "layers": 3})
        output = stage.output(cake_id, PATIENCE_S)
        expect(output, {"receipt": "paid 36", "van": "van 2, sacher"}, "the delivery")
        line.result("price, charge, load: each step got the result of the last")
    with screen.scene("  when a step fails") as line:
        line.say("this cake is too large for the van")
        cake_id = stage.start(bakery.deliver_cake, "tower", {"name": "tower", "layers": 9})
        state = stage.ended(cake_id, PATIENCE_S)
        expect(state.runtime_status.name, "FAILED", "the status")
        status = json.loads(state.serialized_custom_status or "null") or {}
        expect(status.get("refunded"), 84, "the refund")
        line.result("the van was too small: 84 refunded, then FAILED with the reason")


def fan_out(stage: Stage, screen: Screen) -> None:
    """A fan-out in the middle of which one worker is killed."""
    with screen.scene("Fan-out, fan-in") as line:
        batch_id = stage.start(bakery.bake_orders, "batch", TRAYS)
        victim = stage.workers[-1]

        def enough() -> bool:
            begun = stage.notes()
            line.say(f"{len(begun)} of {TRAYS} trays in the oven")
            return len(begun) >= TRAYS // 3 and any(pid == victim.pid for _, pid in begun)

        stage.until(enough, PATIENCE_S, "the workers do not bake")
        victim.kill()
        at_kill = stage.notes()
        stage.replace(victim)
        line.say(f"worker {victim.pid} was killed: the others take its trays over")
        output = stage.output(batch_id, PATIENCE_S)
        expect(output["loaves"], 10 * TRAYS, "the number of loaves")
        names = [tray["tray"] for tray in output["trays"]]
        expect(names, [f"tray-{n:02d}" for n in range(1, TRAYS + 1)], "the trays")
        completed = stage.completions(batch_id)
        # One for the list of trays, one for each tray.
        expect(completed, TRAYS + 1, "the number of task results in the history")
        line.result(f"{TRAYS} trays, {SLOTS} at a time on each of 2 workers: 240 loaves")
        line.result(_heirs(at_kill, output["trays"], victim.pid), title="  a worker dies")
        line.result(
            f"{completed} tasks, {completed} results in the history",
            title="  none lost, none twice",
        )


def _heirs(at_kill: list[tuple[str, int]], baked: list[dict[str, Any]], victim: int) -> str:
    """Return who finished the trays that the victim had begun."""
    by_worker = {tray["tray"]: tray["worker"] for tray in baked}
    inherited = Counter(
        by_worker[tray] for tray, pid in at_kill if pid == victim and by_worker[tray] != victim
    )
    if not inherited:
        return f"SIGKILL to worker {victim}, between two trays"
    heirs = ", ".join(f"{pid} baked {count}" for pid, count in inherited.items())
    return f"SIGKILL to worker {victim}, {inherited.total()} trays in hand: {heirs}"


def monitor(stage: Stage, screen: Screen) -> None:
    """An eternal workflow with two intervals; here it ends with the day."""
    with screen.scene("Monitor") as line:
        state = {"calm_s": CALM_S, "alarm_s": ALARM_S}
        began = time.monotonic()
        oven_id = stage.start(bakery.watch_oven, "oven", state)

        def over() -> bool:
            now = stage.state(oven_id)
            line.say(f"the oven: {now.serialized_custom_status or 'not looked at yet'}")
            return bool(now.runtime_status.name != "RUNNING" and now.serialized_output)

        stage.until(over, PATIENCE_S, "the monitor does not end")
        output = stage.output(oven_id, PATIENCE_S)
        calm, alarm = [CALM_S], [ALARM_S]
        expect(output["pauses"], calm * 2 + alarm * 3 + calm, "the intervals")
        expect(output["alerts"], 1, "the number of alerts")
        if time.monotonic() - began < sum(output["pauses"]):
            raise WrongAnswer("the monitor ended before its timers could fire")
        line.result(f"6 rounds as new: {CALM_S} s apart while hot, {ALARM_S} s while cold, 1 alert")


def purchase_order(stage: Stage, screen: Screen) -> None:
    """All three outcomes; the second is decided by a message on a channel."""
    with screen.scene("External events") as line:
        line.say("three orders for flour")
        small = stage.start(bakery.order_flour, "flour-small", {"sacks": 5})
        late = stage.start(bakery.order_flour, "flour-late", {"sacks": 90, "patience_s": 1.0})
        large = stage.start(bakery.order_flour, "flour-large", {"sacks": 50})
        expect(stage.output(small, PATIENCE_S), "ordered, no approval needed", "the small order")
        line.result("5 sacks: ordered, no approval needed")
        line.say("50 sacks wait for the owner")
        stage.publish({"order_id": large, "approved": True, "by": "Ada"}, PATIENCE_S)
        expect(stage.output(large, PATIENCE_S), "ordered, approved by Ada", "the large order")
        line.result(
            f"50 sacks: approved by a message on the channel {stage.channel}", title="  by pub/sub"
        )
        line.say("90 sacks wait for a second, then no longer")
        expect(stage.output(late, PATIENCE_S), "cancelled: no answer in time", "the late order")
        line.result("90 sacks: cancelled, no answer within 1 s", title="  by its timer")


def http_api(stage: Stage, screen: Screen) -> None:
    """Start over HTTP, get 202, poll, get the result."""
    with screen.scene("Async HTTP API") as line:
        instance_id = stage.new_id("catalogue")
        path = f"/v1.0/workflows/wfq/print_catalogue/start?instanceID={instance_id}"
        code, document = _http(f"{stage.api}{path}", b"5")
        expect(code, 202, "the answer to the start")
        expect(document, {"instanceID": instance_id}, "the body of the answer")
        polls = 0
        end = time.monotonic() + PATIENCE_S
        while True:
            code, document = _http(f"{stage.api}/v1.0/workflows/wfq/{instance_id}")
            expect(code, 200, "the answer to a poll")
            status = document["runtimeStatus"]
            if status not in ("RUNNING", "PENDING"):
                break
            polls += 1
            line.say(f"GET {instance_id}: {status} {_custom(document)}")
            if time.monotonic() > end:
                raise WrongAnswer(f"still {status} after {PATIENCE_S:g} s")
            time.sleep(0.2)
        expect(status, "COMPLETED", "the final status")
        output = json.loads(document["properties"]["dapr.workflow.output"])
        expect(output, {"pages": 5}, "the output")
        if not polls:
            raise WrongAnswer("it was done before anybody could poll")
        line.result(f"POST: 202 at once; GET: {polls} x RUNNING, then COMPLETED with 5 pages")


def _custom(document: dict[str, Any]) -> str:
    return str(document["properties"].get("dapr.workflow.custom_status", ""))


def _http(url: str, body: bytes | None = None) -> tuple[int, Any]:
    """Return status code and JSON body of a GET, or of a POST of `body`."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene and the name under which a failure is reported."""

    title: str
    play: Callable[[Stage, Screen], None]


SCENES = (
    Scene("Task chaining", chain),
    Scene("Fan-out, fan-in", fan_out),
    Scene("Monitor", monitor),
    Scene("External events", purchase_order),
    Scene("Async HTTP API", http_api),
)

"""What a chain of three activities costs Redis in instructions, which load does not change.

``python -m benchmarks.instructions`` runs the commands of W1 in full batches, made by the core and
the commit writer themselves, against a redis-server under callgrind (Valgrind must be installed).
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.app import app
from benchmarks.server import OPTIONS
from tests.servers import Kind, LocalServer
from wfq.core.instance import Instance
from wfq.core.ports import Host
from wfq.management.ids import new_instance_id
from wfq.storage import activities, instances, partitions, scripts
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink, Wire
from wfq.storage.scripts import Call
from wfq_workers.orchestrating.commits import CommitWriter

QUEUE, TOKEN, CONSUMER = "default", "tokEn_12", "worker-1"
#: Instances of one batch, and batches.
BATCH, ROUNDS = 64, 8
PHASES = ("starts", "reads", "commits", "completions")


@dataclass
class Meter:
    """Instructions by phase, as callgrind counts them: PING sets it to zero, ECHO has it write."""

    send: Callable[..., Any]
    folder: Path
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what the server executes within."""
        self.send("PING")
        yield
        self.send("ECHO", name)
        newest = max(self.folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = re.search(r"^(?:summary|totals): (\d+)", newest.read_text(), re.MULTILINE)
        assert totals is not None, f"{newest} has no totals"
        self.found[name] += int(totals.group(1))
        newest.rename(self.folder / f"{name}-{newest.suffix[1:]}")


class Chains:
    """The commands of batches of chains, in the order in which workers send them."""

    def __init__(self, url: str) -> None:
        self.link = SyncLink(url)
        self.wire = Wire(url, timeout_s=600)
        self.space = Namespace()
        self.host: Host = app.registry
        self.position = b"0"
        self.removals = "0"
        self.number = 0
        for script in scripts.ALL:
            self.link.command("SCRIPT", "LOAD", script.body)
        self._run(
            partitions.acquire(
                self.space, 0, QUEUE, token=TOKEN, owner=CONSUMER, lease_ms=3_600_000
            )
        )
        # Indexes as they are where thousands run and have ended.
        for status in ("RUNNING", "COMPLETED"):
            index = self.space.index(0, status)
            for first in range(0, 4000, 500):
                members = [v for n in range(first, first + 500) for v in (n, f"other-{n}")]
                self.link.command("ZADD", index, *members)
        stream = self.space.activities(0, QUEUE)
        self.link.command("XGROUP", "CREATE", stream, activities.GROUP, "0", "MKSTREAM")

    def close(self) -> None:
        """Close the connections."""
        self.link.close()
        self.wire.close()

    def _run(self, call: Call[Any]) -> Any:
        return self.wire.call(call)

    def send(self, *command: Any) -> Any:
        self.wire.send([command])
        return self.wire.receive()

    def round(self, phase: Callable[[str], Any]) -> None:
        """One batch of chains from start to end."""
        ids = [new_instance_id(self.space) for _ in range(BATCH)]
        items = [
            instances.NewInstance(i, f"{n:016x}", QUEUE, "chain", b"%d" % n, policy="replace")
            for n, i in enumerate(ids)
        ]
        call = instances.start(self.space, 0, items)
        with phase("starts"):
            self._run(call)
        live: dict[str, Instance] = {}
        for _ in range(4):
            self._turns(phase, live)
            self._activities(phase)

    def _turns(self, phase: Callable[[str], Any], live: dict[str, Instance]) -> None:
        stream = self.space.events(0, QUEUE)
        read = partitions.read_command([stream], TOKEN, count=64, block_ms=None)
        with phase("reads"):
            reply = self.send(*read)
        ((_, entries),) = reply
        writer = CommitWriter(
            self.space, 0, QUEUE, most_bytes=1 << 20, is_short=lambda _queue, _name: True
        )
        parts = []
        for _, fields in entries:
            for name, event in zip(fields[::2], fields[1::2], strict=True):
                parts.append(self._turn(writer, live, name.decode(), orjson.loads(event)))
        last = entries[-1][0]
        notice = " ".join(("!" if "f" in part.letters else "") + part.instance_id for part in parts)
        call = partitions.commit(
            self.space, 0, QUEUE, token=TOKEN, position=self.position, last_entry=last,
            notice=notice, parts=parts, removals=self.removals,
        )  # fmt: skip
        with phase("commits"):
            done = self._run(call)
        assert not done.stale, done
        self.position, self.removals = last, done.removals

    def _turn(
        self, writer: CommitWriter, live: dict[str, Instance], name: str, event: list[Any]
    ) -> partitions.InstanceCommit:
        if event[0] == "S":
            live[name] = Instance.load(name, [event[2]], self.host)
            event = event[:2]
        instance = live[name]
        self.number += 1
        nonce, turns = f"{TOKEN}-{self.number:04x}", instance.turns
        now_ms = int(time.time() * 1000)
        turn = instance.apply([event], now_ms, nonce)
        created = instance.birth[1]
        draft = writer.draft(instance, turn, turns_before=turns, nonce=nonce, created=created)
        assert draft is not None
        return draft

    def _activities(self, phase: Callable[[str], Any]) -> None:
        stream = self.space.activities(0, QUEUE)
        read = activities.read_command([stream], CONSUMER, count=64, block_ms=None)
        with phase("reads"):
            reply = self.send(*read)
        if not reply:
            return
        outcomes: list[activities.Outcome] = []
        for entry_id, fields in reply[0][1]:
            events: list[Any] = []
            for name, message in zip(fields[::2], fields[1::2], strict=True):
                nonce, _, _, _, _, action, _ = orjson.loads(message)
                result = action[3] + 1
                events += (name.decode(), orjson.dumps(["C", action[1], nonce, result]))
            outcomes.append(activities.PackCompleted(entry_id, QUEUE, events))
        call = activities.complete(self.space, 0, QUEUE, outcomes)
        with phase("completions"):
            self._run(call)


@contextmanager
def no_phase(_name: str) -> Iterator[None]:
    """Count nothing."""
    yield


class CountedServer(LocalServer):
    """A server under callgrind, which writes to its directory."""

    START_S = 60.0

    def _command(self) -> list[str]:
        return [
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={self.directory}/out",
            "--zero-before=pingCommand", "--dump-before=echoCommand", *super()._command(),
        ]  # fmt: skip


def measure(rounds: int, kind: Kind, keep: Path | None = None) -> dict[str, float]:
    """Thousands of instructions a workflow, by phase."""
    with closing(CountedServer(kind, OPTIONS)) as server, closing(Chains(server.url)) as chains:
        chains.round(no_phase)
        meter = Meter(chains.send, server.directory)
        for _ in range(rounds):
            chains.round(meter.phase)
        if keep is not None:
            for path in server.directory.glob("*-*"):
                shutil.copy(path, keep)
    return {name: count / rounds / BATCH / 1000 for name, count in meter.found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--server", default="redis", choices=("redis", "valkey"))
    parser.add_argument("--keep", type=Path, help="a folder for callgrind's files")
    given = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print("valgrind is not installed", file=sys.stderr)
        return 2
    found = measure(given.rounds, given.server, given.keep)
    total = sum(found.values())
    parts = ", ".join(f"{name} {count:.1f}" for name, count in found.items())
    print(f"{total:.1f} thousand instructions a workflow: {parts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

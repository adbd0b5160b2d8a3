"""Makes the environments of peers, runs their programs, and prints what they found."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.server import start_server
from tests.servers import ROOT, clean_env

PROGRAMS = Path(__file__).parent
PLACE = ROOT / ".wfq" / "peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """What a peer needs, and how many chains are enough to see its speed."""

    name: str
    requirements: tuple[str, ...]
    chains: int
    needs_server: bool = True


PEERS = (
    Peer("celery", ("celery[redis]>=5.4",), 3_000),
    Peer("taskiq", ("taskiq>=0.11", "taskiq-redis>=1.0"), 3_000),
    Peer("dbos", ("dbos>=2",), 1_000, needs_server=False),
)


def run_peers(names: Sequence[str], *, quick: bool = False) -> dict[str, Any]:
    """Run the named peers, or all; returns what each found. Raises: KeyError."""
    known = {peer.name: peer for peer in PEERS}
    chosen = [known[name] for name in names] or list(PEERS)
    found = {}
    for peer in chosen:
        found[peer.name] = _run(peer, peer.chains // 10 if quick else peer.chains)
        print(_line(peer.name, found[peer.name]), flush=True)
    return found


def _line(name: str, found: dict[str, Any]) -> str:
    return (
        f"{name:<8}{found['rate']:>9,.0f} chains of three/s   idle p50 {found['p50_ms']:.1f} ms, "
        f"p99 {found['p99_ms']:.1f} ms   ({found['version']}; {found['how']})"
    )


def _run(peer: Peer, chains: int) -> dict[str, Any]:
    python = _environment(peer)
    server = start_server() if peer.needs_server else None
    try:
        with tempfile.TemporaryDirectory() as directory:
            url = server.url if server is not None else ""
            done = subprocess.run(
                [python, PROGRAMS / f"{peer.name}_peer.py", url, str(chains)],
                cwd=directory,
                env=clean_env({"PEER_URL": url, "PYTHONPATH": str(PROGRAMS)}),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
    finally:
        if server is not None:
            server.close()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _environment(peer: Peer) -> Path:
    """The peer's Python; made where it is not there."""
    folder = PLACE / peer.name
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    wanted = "\n".join(peer.requirements)
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"installing {peer.name} into {folder.relative_to(ROOT)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *peer.requirements], check=True)
        stamp.write_text(wanted)
    return python

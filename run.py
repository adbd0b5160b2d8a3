"""Everything a developer runs, with nothing installed but Python: ``python3 run.py test``.

Makes ``.venv`` on first use, installs wfq in it with the versions of constraints.txt, installs
again only when those files have changed, and hands over to the command.
"""

# Old Pythons must get as far as the message: no syntax here that 3.6 does not know.
import sys

if sys.version_info < (3, 11):
    sys.exit("run.py: wfq needs Python 3.11 or newer; this is %s" % sys.version.split()[0])

import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "constraints.txt"
#: `sys.executable` is empty where Python was started by its bare name and without a PATH.
THIS_PYTHON = sys.executable or os.path.realpath("/proc/self/exe")
#: What a shell searches when nobody has set a PATH.
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Holds the hash of what was installed; a venv without it was made by someone else.
STAMP = VENV / "wfq-installed"

USAGE = """usage: python3 run.py COMMAND [ARGUMENT...]

  demo         the five workflow patterns, on a server that comes along
  dev [APP]    server, workers, HTTP API and dashboard, reloading on change
  wfq ...      any other wfq command
  test         the tests; arguments go to pytest, "-m long" runs the long ones
  check        lint, format and types
  fix          what of lint and format can be repaired
  bench        the benchmarks; bench --help tells which
  chaos        the fault campaign; chaos --minutes N --seed S
  docs         the documentation as a site, into site/
  build        the wheel and the sdist, into dist/
  constraints  write the installed versions to constraints.txt
"""


def main(arguments: "list[str]") -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if command in ("help", "-h", "--help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    task = TASKS.get(command)
    if task is None:
        print(f"run.py: no command {command!r}; see python3 run.py help", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    os.environ.setdefault("PATH", USUAL_PATH)
    prepare()
    return task(rest)


# --- the environment ---------------------------------------------------------------------------


def prepare() -> None:
    """Make the environment ready, doing nothing where it is."""
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == wanted and works(PYTHON):
        return
    # A venv of ours for another Python is made anew; a venv that someone else made is kept.
    fresh = not works(PYTHON) or (STAMP.is_file() and not STAMP.read_text().startswith(python_id()))
    print("run.py: installing wfq and its tools into .venv", file=sys.stderr)
    STAMP.unlink(missing_ok=True)
    uv = shutil.which("uv")
    if uv is None or not with_uv(uv, fresh):
        with_pip(fresh)
    STAMP.write_text(wanted)


def python_id() -> str:
    return f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}\n"


def fingerprint() -> str:
    """Return what the installed environment depends on."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", CONSTRAINTS):
        digest.update(path.read_bytes())
    # The editable install points here.
    digest.update(os.fsencode(ROOT))
    return python_id() + digest.hexdigest()


def works(python: Path) -> bool:
    """Whether a venv's Python starts and is new enough; its base may have been removed."""
    test = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return run([python, "-I", "-c", test], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def with_uv(uv: str, fresh: bool) -> bool:
    """Install with uv; return whether it could."""
    venv = [uv, "venv", "--quiet", "--clear", "--python", THIS_PYTHON, str(VENV)]
    if fresh and run(venv):
        return False
    done = installed([uv, "pip", "install", "--quiet", "--python", str(PYTHON)])
    if not done:
        # It brings its own certificates, which a proxy may not fit; pip has other ways.
        print("run.py: uv could not install; trying pip", file=sys.stderr)
    return done


def with_pip(fresh: bool) -> None:
    """Install with venv and pip; end the program where that fails."""
    has_pip = not fresh and run([PYTHON, "-I", "-c", "import pip"], subprocess.DEVNULL) == 0
    if not has_pip:
        if importlib.util.find_spec("ensurepip") is None:
            fail("this Python has no ensurepip; apt-get install python3-venv, or install uv")
        if run([THIS_PYTHON, "-I", "-m", "venv", "--clear", VENV]):
            fail(f"cannot make {VENV}; see above")
    quietly = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-script-location"]
    if not installed([PYTHON, "-I", "-m", "pip", "install", *quietly]):
        fail("pip could not install what constraints.txt names; see above")


def installed(pip: "Sequence[str | Path]") -> bool:
    """Install the build backend first, with its version from the constraints too, then wfq."""
    pip = [*pip, "--constraint", CONSTRAINTS]
    return not run([*pip, "hatchling"]) and not run(
        [*pip, "--no-build-isolation", "--editable", ".[dev]"]
    )


def fail(message: str) -> NoReturn:
    sys.exit(f"run.py: {message}")


# --- the commands ------------------------------------------------------------------------------


def environment() -> "dict[str, str]":
    """Return the environment without what would bend the venv's Python."""
    bending = ("PYTHONHOME", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in bending}


def run(command: "Sequence[str | Path]", stderr: "int | None" = None) -> int:
    """Run a command and return its status."""
    return subprocess.run(command, check=False, env=environment(), stderr=stderr).returncode


def become(arguments: "list[str]") -> NoReturn:
    """Replace this process by the venv's Python: signals and exit code are the command's own."""
    sys.stdout.flush()
    os.execve(PYTHON, [str(PYTHON), *arguments], environment())


def each(commands: "list[list[str]]") -> int:
    """Run all commands with the venv's Python; return the first status that is not 0."""
    codes = []
    for command in commands:
        print("run.py: " + " ".join(command[1:]), file=sys.stderr, flush=True)
        codes.append(run([PYTHON, *command]))
    return next(filter(None, codes), 0)


def wfq(arguments: "list[str]") -> int:
    become(["-m", "wfq_cli.app", *arguments])


def test(arguments: "list[str]") -> int:
    """Run pytest, on several processes unless the arguments choose tests or processes."""
    alone = ("-n", "--pdb", "--co", "--lf")
    chosen = any(word.startswith(alone) or not word.startswith("-") for word in arguments)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    # Tests wait as much as they compute.
    count = min(8, 2 * cores)
    spread = [] if chosen else ["-n", str(count), "--dist", "worksteal"]
    become(["-m", "pytest", *spread, *arguments])


def bench(arguments: "list[str]") -> int:
    become(["-m", "benchmarks", *arguments])


def chaos(arguments: "list[str]") -> int:
    become(["-m", "tests.chaos", *arguments])


def check(arguments: "list[str]") -> int:
    ruff = [["-m", "ruff", "check", "."], ["-m", "ruff", "format", "--check", "."]]
    return each([*ruff, ["-m", "mypy"]])


def fix(arguments: "list[str]") -> int:
    return each([["-m", "ruff", "check", "--fix", "."], ["-m", "ruff", "format", "."]])


def docs(arguments: "list[str]") -> int:
    return each([["-m", "mkdocs", "build", "--strict", "--quiet", *arguments]])


def build(arguments: "list[str]") -> int:
    return each([["-m", "hatchling", "build", *arguments]])


#: Prints name and version of everything that wfq[dev] needs here, and of nothing else.
NEEDED = """
from importlib.metadata import distribution
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
seen, left = set(), [Requirement("wfq[dev]")]
while left:
    wanted = left.pop()
    found = distribution(wanted.name)
    for extra in ["", *wanted.extras]:
        if (canonicalize_name(wanted.name), extra) in seen:
            continue
        seen.add((canonicalize_name(wanted.name), extra))
        needs = map(Requirement, found.requires or ())
        left += [r for r in needs if r.marker is None or r.marker.evaluate({"extra": extra})]
for name in sorted({name for name, _ in seen} - {"wfq"}):
    print(f"{name}=={distribution(name).version}")
"""


def constraints(arguments: "list[str]") -> int:
    """Write the installed versions of all that wfq needs to constraints.txt."""
    found = subprocess.check_output([PYTHON, "-I", "-c", NEEDED], text=True).splitlines()
    old = CONSTRAINTS.read_text().splitlines()
    # Lines with a marker are for Pythons other than this one: kept by hand.
    kept = [line for line in old if ";" in line]
    names = {line.split("==")[0] for line in kept}
    pins = [*kept, *(line for line in found if line.split("==")[0] not in names)]
    pins.sort(key=lambda line: line.split("==")[0])
    CONSTRAINTS.write_text("\n".join([*(line for line in old if line[:1] == "#"), *pins]) + "\n")
    return 0


TASKS = {
    "demo": lambda rest: wfq(["demo", *rest]),
    "dev": lambda rest: wfq(["dev", *rest]),
    "wfq": wfq,
    "test": test,
    "bench": bench,
    "chaos": chaos,
    "check": check,
    "fix": fix,
    "build": build,
    "docs": docs,
    "constraints": constraints,
}

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

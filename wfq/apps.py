"""Finding the program of a worker: the runtime in a module, or the functions it is made of.

An app is named ``app.py``, ``pkg.mod``, or either with ``:name`` of the runtime behind it. Where
none is named: `WFQ_APP`, ``[tool.wfq] app``, then app.py, workflows.py or main.py here.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from wfq.depends import dependencies_of
from wfq.errors import ConfigurationError
from wfq.registry import is_workflow_function
from wfq.runtime import WorkflowRuntime
from wfq.settings import Settings, load_settings

#: Looked for in the working directory when no app is named, in this order.
DEFAULT_FILES = ("app.py", "workflows.py", "main.py")


@dataclass(frozen=True, slots=True)
class App:
    """A program that was found. `target` names it so that `load_app` finds it again."""

    target: str
    module: ModuleType
    runtime: WorkflowRuntime


def load_app(target: str | None = None, *, settings: Settings | None = None) -> App:
    """Import an app and return it. Puts the working directory on the import path.

    Raises: ConfigurationError, one line that says what is missing or why it does not import.
    """
    found = target or (settings or load_settings()).app or _default()
    _make_importable(Path.cwd())
    place, _, attribute = _split(found)
    module = _load(place)
    if attribute:
        return App(found, module, _named(found, module, attribute))
    runtimes = _runtimes(module)
    if len(runtimes) > 1:
        names = " or ".join(f"{place}:{name}" for name in runtimes)
        raise ConfigurationError(f"{place} has {len(runtimes)} runtimes; name one: {names}")
    if runtimes:
        return App(found, module, next(iter(runtimes.values())))
    return App(found, module, _made(place, module))


def _default() -> str:
    for name in DEFAULT_FILES:
        if Path(name).is_file():
            return name
    raise ConfigurationError(
        f"no app: there is no {', '.join(DEFAULT_FILES[:-1])} or {DEFAULT_FILES[-1]} in "
        f"{str(Path.cwd())!r}; name one, such as 'wfq worker app.py', or set WFQ_APP"
    )


def _split(target: str) -> tuple[str, str, str]:
    """Place and attribute; a drive letter or a dot in a path is part of the place."""
    place, colon, attribute = target.rpartition(":")
    if colon and all(part.isidentifier() for part in attribute.split(".")):
        return place, colon, attribute
    return target, "", ""


def _make_importable(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


# --- importing


def _load(place: str) -> ModuleType:
    if place.endswith(".py") or "/" in place or "\\" in place:
        path = Path(place)
        if not path.is_file():
            raise ConfigurationError(f"no app file {place!r} in {str(Path.cwd())!r}")
        return _guarded(place, lambda: _load_file(path.resolve()))
    if not all(part.isidentifier() for part in place.split(".")):
        raise ConfigurationError(
            f"{place!r} is no app; write app.py, package.module or package.module:runtime"
        )
    return _guarded(place, lambda: importlib.import_module(place))


def _load_file(path: Path) -> ModuleType:
    """Import a file under the name that other modules would import it by."""
    directory, names = path.parent, [path.stem]
    while (directory / "__init__.py").is_file():
        names.insert(0, directory.name)
        directory = directory.parent
    if names[-1] == "__init__":
        names.pop()
    name = ".".join(names)
    _make_importable(directory)
    if all(part.isidentifier() for part in names):
        known = sys.modules.get(names[0])
        if known is None or _is_below(known, directory):
            module = importlib.import_module(name)
            if _file_of(module) == path:
                return module
    # The name is taken, or no identifier: such a file is loaded under a name of its own.
    own = f"wfq_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(own, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[own] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[own]
        raise
    return module


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _is_below(module: ModuleType, directory: Path) -> bool:
    file = _file_of(module)
    return file is not None and directory in file.parents


def _guarded(place: str, load: Callable[[], ModuleType]) -> ModuleType:
    """Import, turning whatever the module raises into one line."""
    try:
        return load()
    except ModuleNotFoundError as exc:
        if exc.name is not None and (place == exc.name or place.startswith(f"{exc.name}.")):
            raise ConfigurationError(
                f"no module {exc.name!r} for the app {place!r}; the working directory "
                f"{str(Path.cwd())!r} is importable"
            ) from exc
        raise _broken(place, exc) from exc
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as exc:
        # SystemExit too: a script that ends itself is not an app.
        raise _broken(place, exc) from exc


def _broken(place: str, error: BaseException) -> ConfigurationError:
    text = " ".join(str(error).split())[:300]
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return ConfigurationError(f"the app {place!r} does not import: {told}{_where(error)}")


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return ""  # its text says file and line
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


# --- what is in the module


def _runtimes(module: ModuleType) -> dict[str, WorkflowRuntime]:
    """The runtimes in a module by the first name of each."""
    found: dict[str, WorkflowRuntime] = {}
    for name, value in vars(module).items():
        if isinstance(value, WorkflowRuntime) and value not in found.values():
            found[name] = value
    return found


def _named(target: str, module: ModuleType, attribute: str) -> WorkflowRuntime:
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise ConfigurationError(f"the app {target!r} has no {part!r}")
        value = getattr(value, part)
    if not isinstance(value, WorkflowRuntime):
        raise ConfigurationError(f"{target!r} is {type(value).__name__}, not a WorkflowRuntime")
    return value


def _made(place: str, module: ModuleType) -> WorkflowRuntime:
    """A runtime of the functions that a module without one defines."""
    runtime = WorkflowRuntime()
    activities = []
    for function in _functions(module):
        if is_workflow_function(function):
            runtime.register_workflow(function)
        elif _may_be_activity(function):
            activities.append(function)
    if not any(runtime.registry.workflows()):
        raise ConfigurationError(
            f"the app {place!r} has no WorkflowRuntime, and no workflow function: one whose "
            "first parameter is annotated with a workflow context"
        )
    for function in activities:
        runtime.register_activity(function)
    return runtime


def _functions(module: ModuleType) -> Iterator[Callable[..., Any]]:
    for value in list(vars(module).values()):
        if inspect.isfunction(value) and value.__module__ == module.__name__:
            yield value


def _may_be_activity(function: Callable[..., Any]) -> bool:
    """Whether a function takes one or two positional parameters, and returns its result."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return False
    if function.__name__ == "<lambda>":
        return False
    filled = dependencies_of(function)
    positional = 0
    for name, parameter in inspect.signature(function).parameters.items():
        if name in filled:
            continue
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional += 1
        elif parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            return False
    return 1 <= positional <= 2

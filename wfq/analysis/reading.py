"""Reading the graph of a workflow from its source.

Only what `ctx` does becomes a step. A task that is made in one place and awaited in another is
shown where it is awaited, since that is where the workflow stands still; one that nobody awaits
is shown where it is made.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from wfq.analysis.graph import Arm, Attempt, Block, Branch, Group, Loop, Part, Step, StepKind
from wfq.analysis.syntax import (
    FunctionNode,
    arguments,
    awaited_names,
    group_mode,
    held_by,
    in_order,
    options_text,
)
from wfq.analysis.wording import duration_text, source_text

#: Steps of one picture; a larger one helps nobody.
MAX_STEPS = 300
#: Functions within functions that are followed.
_DEPTH = 4

#: Returns the registered name of what an expression (a name, an attribute) stands for.
Resolve = Callable[[ast.expr], str | None]

_CALLS: Mapping[str, StepKind] = {
    "call_activity": "activity",
    "call_child_workflow": "child",
    "create_timer": "timer",
    "wait_for_external_event": "event",
    "send_event": "send",
    "continue_as_new": "again",
}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(slots=True)
class Shared:
    """What the readers of one workflow share: the functions around it, and the count of steps."""

    functions: Mapping[str, FunctionNode]
    resolve: Resolve
    count: int = 0

    def number(self) -> int:
        self.count += 1
        return self.count - 1


class Reader:
    """Reads the body of one function."""

    def __init__(self, shared: Shared, function: FunctionNode, depth: int) -> None:
        self._shared = shared
        self._function = function
        self._depth = depth
        parameters = [*function.args.posonlyargs, *function.args.args]
        self._ctx = parameters[0].arg if parameters else "ctx"
        self._awaited = set(awaited_names(function))
        #: Tasks that were made and are awaited further down, by the name that holds them.
        self._pending: dict[str, list[tuple[Block, int]]] = {}
        self._loops = 0
        self._full = False

    # --- statements

    def block(self, statements: Sequence[ast.stmt]) -> list[Block]:
        """Return the blocks of statements, up to the first after which nothing follows."""
        found: list[Block] = []
        for statement in statements:
            if self._shared.count >= MAX_STEPS:
                if not self._full:
                    self._full = True
                    found.append(self._step("more", "and more", statement))
                break
            read = self._statement(statement)
            if _is_step(read, "return") and _is_step(found, "again"):
                # After continue_as_new a return only leaves the function.
                found += read[:-1]
                break
            found += read
            if isinstance(statement, ast.Return | ast.Raise | ast.Break | ast.Continue):
                break
        return found

    def _statement(self, node: ast.stmt) -> list[Block]:
        match node:
            case ast.If():
                return self._if(node)
            case ast.For() | ast.AsyncFor():
                before = self._plain(node.iter)
                label = f"for {source_text(node.target)} in {source_text(node.iter)}"
                return before + self._loop(node, label)
            case ast.While():
                forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
                label = "again and again" if forever else f"while {source_text(node.test)}"
                return self._loop(node, label, node.test)
            case ast.Try() | ast.TryStar():
                return self._try(node)
            case ast.With() | ast.AsyncWith():
                before = [b for item in node.items for b in self._plain(item.context_expr)]
                return before + self.block(node.body)
            case ast.Match():
                return self._match(node)
            case ast.Return():
                before = self._plain(node.value) if node.value is not None else []
                return [*before, self._return(node)]
            case ast.Raise():
                before = self._plain(node.exc) if node.exc is not None else []
                label = f"fail: {source_text(node.exc)}" if node.exc is not None else "fail"
                return [*before, self._step("raise", label, node)]
            case ast.Break():
                return [self._step("break", "leave the loop", node)] if self._loops else []
            case ast.Continue():
                return [self._step("continue", "next round", node)] if self._loops else []
            case _ if isinstance(node, _SCOPES):
                return []
            case _:
                return self._simple(node)

    def _simple(self, node: ast.stmt) -> list[Block]:
        """A statement without statements in it; tasks may be kept under a name for later."""
        made = list(self._made(node))
        holders = [name for name in held_by(node) if name in self._awaited - {self._ctx}]
        placed: list[Block] = []
        for block, was_awaited in made:
            if was_awaited or not _is_task(block):
                placed.append(block)
            elif holders:
                self._pending.setdefault(holders[0], []).append((block, self._loops))
            else:
                placed.append(_unwaited(block))
        return placed

    def _plain(self, node: ast.expr) -> list[Block]:
        """An expression; what it makes and does not await is not waited for."""
        return [
            block if awaited or not _is_task(block) else _unwaited(block)
            for block, awaited in self._made(node)
        ]

    def _if(self, node: ast.If) -> list[Block]:
        before = self._plain(node.test)
        number = self._shared.number()
        arms = (
            Arm("yes", tuple(self.block(node.body))),
            Arm("no", tuple(self.block(node.orelse))),
        )
        if not any(arm.body for arm in arms):
            self._shared.count -= 1
            return before
        return [*before, Branch(number, source_text(node.test), node.lineno, arms)]

    def _match(self, node: ast.Match) -> list[Block]:
        before = self._plain(node.subject)
        number = self._shared.number()
        arms = [Arm(source_text(case.pattern), tuple(self.block(case.body))) for case in node.cases]
        if not any(arm.body for arm in arms):
            return before
        if not any(isinstance(c.pattern, ast.MatchAs) and not c.pattern.name for c in node.cases):
            arms.append(Arm("else", ()))
        return [*before, Branch(number, source_text(node.subject), node.lineno, tuple(arms))]

    def _loop(
        self,
        node: ast.For | ast.AsyncFor | ast.While,
        label: str,
        test: ast.expr | None = None,
    ) -> list[Block]:
        self._loops += 1
        body = (self._plain(test) if test is not None else []) + self.block(node.body)
        self._loops -= 1
        found: list[Block] = [Loop(label, node.lineno, tuple(body))] if _has_steps(body) else []
        return found + self.block(node.orelse)

    def _try(self, node: ast.Try | ast.TryStar) -> list[Block]:
        body = self.block(node.body) + self.block(node.orelse)
        handlers = [
            Arm(
                source_text(handler.type) if handler.type is not None else "any failure",
                tuple(self.block(handler.body)),
            )
            for handler in node.handlers
        ]
        handlers = [arm for arm in handlers if arm.body]
        last = self.block(node.finalbody)
        if not _has_steps(body) or not handlers:
            return body + last
        return [Attempt(node.lineno, tuple(body), tuple(handlers)), *last]

    def _return(self, node: ast.Return) -> Step:
        value = None
        if node.value is None or isinstance(node.value, ast.Constant):
            try:
                value = json.dumps(None if node.value is None else node.value.value)
            except TypeError:
                value = None
        has_value = node.value is not None and value != "null"
        label = f"return {source_text(node.value)}" if has_value and node.value else "end"
        return replace(self._step("return", label, node), value=value)

    # --- expressions

    def _made(self, node: ast.AST) -> Iterator[tuple[Block, bool]]:
        """Yield what an expression does, in the order of evaluation; and whether it awaits it."""
        match node:
            case ast.Yield(value=ast.expr() as value) | ast.Await(value=value):
                for block in self._awaits(value):
                    yield block, True
            case ast.YieldFrom(value=value):
                for block in self._awaits(value):
                    yield block, True
            case ast.Call() if self._kind_of(node) is not None:
                for argument in arguments(node):
                    yield from self._made(argument)
                yield self._call(node), False
            case ast.Call() if group_mode(node) is not None:
                yield self._group(node), False
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                yield from self._comprehension(node)
            case ast.IfExp():
                yield from self._made(node.test)
                number = self._shared.number()
                arms = tuple(
                    Arm(label, tuple(block for block, _ in self._made(part)))
                    for label, part in (("yes", node.body), ("no", node.orelse))
                )
                if any(arm.body for arm in arms):
                    yield Branch(number, source_text(node.test), node.lineno, arms), True
            case _ if isinstance(node, _SCOPES):
                return
            case _:
                for child in in_order(node):
                    yield from self._made(child)

    def _awaits(self, value: ast.expr) -> list[Block]:
        """The blocks of what is awaited."""
        if isinstance(value, ast.Call):
            if self._kind_of(value) is not None or group_mode(value) is not None:
                return [block for block, _ in self._made(value)]
            part = self._part(value)
            if part is not None:
                return part
        found = [block for block, _ in self._made(value)] + self._taken(value)
        if len(found) > 1:
            return [Group("all", value.lineno, tuple(found))]
        return found

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> Iterator[tuple[Block, bool]]:
        generators = node.generators
        yield from self._made(generators[0].iter)
        each = source_text(generators[0].target)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._loops += 1
        made = [pair for part in parts for pair in self._made(part)]
        self._loops -= 1
        for block, awaited in made:
            if awaited:
                # `[(yield ...) for ...]` waits for one after the other.
                label = f"for {each} in {source_text(generators[0].iter)}"
                yield Loop(label, node.lineno, (block,)), True
            else:
                yield _many(block, each), False

    def _group(self, node: ast.Call) -> Block:
        """The tasks given to when_all or when_any."""
        mode = group_mode(node)
        given = arguments(node)
        items = [item for argument in given for item in self._items(argument)]
        if not items:
            # Which tasks these are is decided while it runs.
            shown = source_text(given[0]) if given else "nothing"
            which = "all" if mode == "all" else "any"
            return self._step("wait", f"wait for {which} of {shown}", node)
        if len(items) == 1 and isinstance(items[0], Step) and items[0].many:
            return replace(items[0], detail=items[0].detail or _MODES[mode or "all"])
        return Group("any" if mode == "any" else "all", node.lineno, tuple(items))

    def _items(self, node: ast.expr) -> list[Block]:
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return [item for element in node.elts for item in self._items(element)]
        if isinstance(node, ast.Starred):
            return self._items(node.value)
        return [block for block, _ in self._made(node)] + self._taken(node)

    def _taken(self, node: ast.AST) -> list[Block]:
        """Take the tasks that wait under the names in an expression."""
        found: list[Block] = []
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in self._pending:
                for block, depth in self._pending.pop(part.id):
                    found.append(_many(block, "") if depth > self._loops else block)
        return found

    def _part(self, call: ast.Call) -> list[Block] | None:
        """The body of a function of the same module that gets `ctx`; None for other calls."""
        if not isinstance(call.func, ast.Name) or self._depth >= _DEPTH:
            return None
        function = self._shared.functions.get(call.func.id)
        passed = any(isinstance(a, ast.Name) and a.id == self._ctx for a in arguments(call))
        if function is None or function is self._function or not passed:
            return None
        before = [block for argument in arguments(call) for block, _ in self._made(argument)]
        inner = Reader(self._shared, function, self._depth + 1)
        body = [b for b in inner.block(function.body) if not _is_plain_return(b)]
        if not _has_steps(body):
            return before
        return [*before, Part(function.name, call.lineno, tuple(body))]

    # --- steps

    def _kind_of(self, call: ast.Call) -> StepKind | None:
        function = call.func
        owner = function.value if isinstance(function, ast.Attribute) else None
        if not isinstance(owner, ast.Name) or owner.id != self._ctx:
            return None
        assert isinstance(function, ast.Attribute)
        return _CALLS.get(function.attr)

    def _call(self, node: ast.Call) -> Step:
        kind = self._kind_of(node)
        assert kind is not None
        first = node.args[0] if node.args else None
        options = {word.arg: word.value for word in node.keywords if word.arg}
        match kind:
            case "activity" | "child":
                target = first or options.get("activity") or options.get("workflow")
                name = self._name_of(target)
                label = name or source_text(target)
                step = self._step(kind, label, node, name)
                return replace(step, detail=options_text(options))
            case "timer":
                due = first or options.get("fire_at")
                return replace(self._step(kind, "timer", node), detail=duration_text(due))
            case "event":
                target = first or options.get("name")
                name = self._name_of(target)
                timeout = options.get("timeout") or (node.args[1] if len(node.args) > 1 else None)
                detail = f"at most {duration_text(timeout)}" if timeout is not None else ""
                step = self._step(kind, name or source_text(target), node, name)
                return replace(step, detail=detail)
            case "send":
                target = (node.args[1] if len(node.args) > 1 else None) or options.get("name")
                name = self._name_of(target)
                return self._step(kind, f"send {name or source_text(target)}", node, name)
            case _:
                given = first or options.get("new_input")
                with_input = f" with {source_text(given)}" if given is not None else ""
                return self._step("again", f"start over{with_input}", node)

    def _name_of(self, node: ast.expr | None) -> str | None:
        """The registered name that an argument means; None when only a run knows."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if node is None:
            return None
        found = self._shared.resolve(node)
        if found is None and isinstance(node, ast.Name) and node.id in self._shared.functions:
            return node.id
        return found

    def _step(self, kind: StepKind, label: str, node: ast.AST, name: str | None = None) -> Step:
        line = getattr(node, "lineno", 0)
        return Step(self._shared.number(), kind, label[:120], line, name)


_MODES = {"all": "all of them", "any": "the first of them"}


def _is_task(block: Block) -> bool:
    return not (isinstance(block, Step) and block.kind in ("send", "again"))


def _unwaited(block: Block) -> Block:
    return replace(block, waited=False) if isinstance(block, Step) else block


def _many(block: Block, each: str) -> Block:
    return replace(block, many=True, each=each[:60]) if isinstance(block, Step) else block


def _has_steps(blocks: Sequence[Block]) -> bool:
    """Whether something happens in there besides leaving it."""
    return any(not (isinstance(b, Step) and b.kind in ("break", "continue")) for b in blocks)


def _is_step(blocks: Sequence[Block], kind: StepKind) -> bool:
    """Whether the last of the blocks is a step of that kind."""
    return bool(blocks) and isinstance(blocks[-1], Step) and blocks[-1].kind == kind


def _is_plain_return(block: Block) -> bool:
    return isinstance(block, Step) and block.kind == "return"

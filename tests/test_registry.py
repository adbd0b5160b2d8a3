"""The registry: names, signatures, versions, and what it answers the core."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest

from wfq.activity_context import ActivityContext
from wfq.core.context import WorkflowContext
from wfq.depends import Depends
from wfq.errors import ConfigurationError, PayloadError, WorkflowMisuse
from wfq.registry import ActivityEntry, Registry, alternate_name, is_workflow_function
from wfq.signatures import EMPTY, REGISTERED_NAME

if TYPE_CHECKING:
    from wfq_nowhere import Unknown  # type: ignore[import-not-found]  # for checkers only


@dataclass
class Order:
    cost: float


def open_db() -> str:
    return "db"


def shape(fn: Any) -> tuple[bool, bool]:
    entry = Registry().register_activity(fn, name="x")
    return entry.takes_context, entry.takes_input


def no_parameters() -> None: ...
def ctx_and_input(ctx, value): ...  # type: ignore[no-untyped-def]  # users write so
def underscore_and_input(_, order: Order) -> None: ...  # type: ignore[no-untyped-def]  # the seed's
def any_name_and_input(c, value): ...  # type: ignore[no-untyped-def]  # any name will do
def only_ctx(ctx): ...  # type: ignore[no-untyped-def]  # a context by its name
def only_context(context): ...  # type: ignore[no-untyped-def]  # a context by its name
def only_input(order): ...  # type: ignore[no-untyped-def]  # an input by its name
def annotated_input(ctx: Order) -> None: ...
def annotated_context(info: ActivityContext) -> None: ...
def optional_context(info: Optional[ActivityContext] = None) -> None: ...  # noqa: UP045
def dapr_context(info: WorkflowActivityContext) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def dotted_context(info: wf.WorkflowActivityContext) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def any_context(ctx: Any, value: int) -> None: ...
def unknown_context(ctx: Unknown, value: int) -> None: ...
def input_and_option(order: Order, dry_run: bool = False) -> None: ...
def ctx_and_default(ctx: ActivityContext, value: int = 3) -> None: ...
def ctx_two_and_option(ctx: ActivityContext, value: int, extra: int = 3) -> None: ...
def dependency(ctx: ActivityContext, db: str = Depends(open_db)) -> None: ...
def input_and_dependency(order: Order, db: Annotated[str, Depends(open_db)]) -> None: ...
def all_three(ctx: ActivityContext, o: Order, *, db: str = Depends(open_db)) -> None: ...
def star(*args: Any) -> None: ...
def keyword_option(value: int, *, fast: bool = True) -> None: ...


@pytest.mark.parametrize(
    ("fn", "takes"),
    [
        (no_parameters, (False, False)),
        (ctx_and_input, (True, True)),
        (underscore_and_input, (True, True)),
        (any_name_and_input, (True, True)),
        (only_ctx, (True, False)),
        (only_context, (True, False)),
        (only_input, (False, True)),
        (annotated_input, (False, True)),
        (annotated_context, (True, False)),
        (optional_context, (True, False)),
        (dapr_context, (True, False)),
        (dotted_context, (True, False)),
        (any_context, (True, True)),
        (unknown_context, (True, True)),
        (input_and_option, (False, True)),
        (ctx_and_default, (True, True)),
        (ctx_two_and_option, (True, True)),
        (dependency, (True, False)),
        (input_and_dependency, (False, True)),
        (all_three, (True, True)),
        (star, (True, True)),
        (keyword_option, (False, True)),
        (functools.partial(ctx_two_and_option, extra=1), (True, True)),
        (lambda ctx, x: x, (True, True)),
        (print, (True, True)),
    ],
)
def test_what_an_activity_is_called_with(fn: Any, takes: tuple[bool, bool]) -> None:
    assert shape(fn) == takes


def two_inputs(a: int, b: int) -> None: ...
def three_parameters(ctx: ActivityContext, a: int, b: int) -> None: ...
def keyword_only(ctx: ActivityContext, *, a: int) -> None: ...
def generator(ctx: ActivityContext) -> Generator[int, None, None]:
    yield 1


async def async_generator(ctx: ActivityContext) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "fn", [two_inputs, three_parameters, keyword_only, generator, async_generator, 5, "name"]
)
def test_what_cannot_be_an_activity(fn: Any) -> None:
    registry = Registry()

    with pytest.raises(ConfigurationError) as caught:
        registry.register_activity(fn)

    assert len(str(caught.value).splitlines()) == 1
    if callable(fn):
        assert fn.__name__ in str(caught.value)
        assert "test_registry.py" in str(caught.value)
    assert not list(registry.activities())


def wf_ctx(ctx: WorkflowContext) -> None: ...
def wf_input(ctx: WorkflowContext, order: Order) -> Generator[Any, Any, int]:
    yield
    return 1


async def wf_async(ctx: WorkflowContext, order: Order | None = None) -> str:
    return ""


def wf_none() -> None: ...
def wf_three(ctx: WorkflowContext, a: int, b: int) -> None: ...
async def wf_agen(ctx: WorkflowContext) -> AsyncIterator[int]:
    yield 1


def test_what_a_workflow_takes_and_returns() -> None:
    registry = Registry()

    entries = [registry.register_workflow(fn) for fn in (wf_ctx, wf_input, wf_async)]

    assert [e.takes_input for e in entries] == [False, True, True]
    assert [e.input_type for e in entries] == [EMPTY, Order, Order | None]
    assert [e.output_type for e in entries] == [type(None), int, str]
    assert [e.name for e in registry.workflows()] == ["wf_ctx", "wf_input", "wf_async"]


@pytest.mark.parametrize("fn", [wf_none, wf_three, wf_agen, None])
def test_what_cannot_be_a_workflow(fn: Any) -> None:
    registry = Registry()

    with pytest.raises(ConfigurationError):
        registry.register_workflow(fn)

    assert registry.find_workflow("wf_none") is None
    assert not list(registry.workflows())


def test_a_workflow_gets_its_typed_input_or_its_default() -> None:
    got: list[Any] = []

    def typed(ctx: WorkflowContext, order: Order) -> None:
        got.append(order)

    def optional(ctx: WorkflowContext, n: int = 5) -> None:
        got.append(n)

    def bare(ctx: WorkflowContext) -> None:
        got.append("bare")

    registry = Registry()
    ctx: Any = None
    for fn, payload, given in (
        (typed, {"cost": 3}, True),
        (typed, None, False),
        (optional, 7, True),
        (optional, None, True),
        (optional, None, False),
        (bare, 9, True),
    ):
        registry.register_workflow(fn).begin(ctx, payload, given)

    assert got == [Order(3.0), None, 7, 5, 5, "bare"]


def test_an_activity_gets_its_typed_input_or_its_default() -> None:
    def typed(order: Order) -> None: ...
    def optional(ctx: ActivityContext, n: int = 5) -> None: ...

    registry = Registry()
    one, two = registry.register_activity(typed), registry.register_activity(optional)

    assert one.decode_input({"cost": 3}, True) == Order(3.0)
    assert one.decode_input(None, False) is None
    assert [two.decode_input(*p) for p in ((7, True), (None, True), (None, False))] == [7, 5, 5]
    with pytest.raises(PayloadError, match="input of activity 'typed'"):
        one.decode_input("x", True)


def test_results_are_encoded_with_the_name_of_the_activity() -> None:
    entry = Registry().register_activity(no_parameters)

    assert entry.encode_result(5) == 5
    with pytest.raises(PayloadError, match="result of activity 'no_parameters': "):
        entry.encode_result(object())


def test_where_an_activity_runs() -> None:
    async def coroutine(x: int) -> int:
        return x

    class Callable:
        async def __call__(self, x: int) -> int:
            return x

    registry = Registry()

    assert registry.register_activity(coroutine).is_async
    assert registry.register_activity(functools.partial(coroutine), name="p").is_async
    assert registry.register_activity(Callable()).is_async
    assert not registry.register_activity(no_parameters, inline=True).is_async
    assert registry.register_activity(only_ctx, process=True).process
    assert registry.find_activity("Callable") is not None
    with pytest.raises(ConfigurationError, match="inline and process"):
        registry.register_activity(only_input, inline=True, process=True)


def test_dependencies_are_listed() -> None:
    entry = Registry().register_activity(all_three)

    assert list(entry.dependencies) == ["db"]


def test_names_are_the_given_the_alternate_or_the_functions_own() -> None:
    @alternate_name("renamed")
    def first(ctx: Any) -> None: ...
    def second(ctx: Any) -> None: ...
    def third(ctx: Any) -> None: ...

    registry = Registry()
    entries: list[ActivityEntry] = [
        registry.register_activity(first),
        registry.register_activity(second, name="given"),
        registry.register_activity(third),
    ]

    assert [entry.name for entry in entries] == ["renamed", "given", "third"]
    assert [registry.activity_ref(fn)[0] for fn in (first, second, third, "given")] == [
        "renamed",
        "given",
        "third",
        "given",
    ]
    with pytest.raises(ConfigurationError, match="already has the alternate name 'renamed'"):
        registry.register_activity(first, name="other")
    with pytest.raises(ConfigurationError, match="already has the alternate name 'renamed'"):
        alternate_name("again")(first)


@pytest.mark.parametrize("name", ["", " ", 5, "x" * 501, "a\nb", "a\x00b"])
def test_names_that_cannot_be(name: Any) -> None:
    with pytest.raises(ConfigurationError):
        Registry().register_activity(no_parameters, name=name)
    with pytest.raises(ConfigurationError):
        alternate_name(name)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="give name="):
        Registry().register_activity(lambda x: x)


def test_duplicates_name_both() -> None:
    def first(ctx: Any) -> None: ...
    def second(ctx: Any) -> None: ...

    registry = Registry()
    registry.register_workflow(first, name="x")
    registry.register_activity(first, name="x")
    assert registry.register_workflow(first, name="x") is registry.find_workflow("x")

    for register in (registry.register_workflow, registry.register_activity):
        with pytest.raises(ConfigurationError) as caught:
            register(second, name="x")
        assert "first" in str(caught.value)
        assert "second" in str(caught.value)
        with pytest.raises(ConfigurationError, match="already registered as 'x'"):
            register(first, name="y")


def test_versions() -> None:
    def a(ctx: Any) -> None: ...
    def b(ctx: Any) -> None: ...
    def c(ctx: Any) -> None: ...
    def d(ctx: Any) -> None: ...

    registry = Registry()
    one = registry.register_workflow(a, name="w", version="1")
    assert registry.resolve("w", None) is one
    two = registry.register_workflow(b, name="w", version="2")
    assert registry.resolve("w", None) is two
    plain = registry.register_workflow(c, name="w")
    assert registry.resolve("w", None) is plain
    latest = registry.register_workflow(d, name="w", version="0.9", is_latest=True)

    assert registry.resolve("w", None) is latest
    assert registry.resolve("w", "") is plain
    assert registry.resolve("w", "1") is one
    assert registry.resolve("w", "7") is None
    assert registry.resolve("v", None) is None
    last = registry.register_workflow(wf_ctx, name="w", version="3", is_latest=True)
    assert registry.resolve("w", None) is last
    with pytest.raises(ConfigurationError, match="workflow 'w' version '1' is registered twice"):
        registry.register_workflow(wf_ctx, name="w", version="1")


def test_what_is_not_registered_here_can_be_called_all_the_same() -> None:
    def elsewhere(ctx: Any, x: int) -> int:
        return x

    def odd(a: int, b: int, c: int) -> int:
        return a

    registry = Registry()
    name, decode = registry.activity_ref(elsewhere)

    assert name == "elsewhere"
    assert decode(5) == 5
    with pytest.raises(PayloadError):
        decode("x")
    assert registry.activity_ref("other")[0] == "other"
    assert registry.activity_ref(odd)[1]("anything") == "anything"
    assert registry.workflow_ref(elsewhere)[0] == "elsewhere"
    setattr(odd, REGISTERED_NAME, "known to another runtime")
    assert Registry().activity_ref(odd)[0] == "known to another runtime"
    registry.register_activity(elsewhere, name="now here")
    assert registry.activity_ref(elsewhere)[0] == "now here"


def test_calling_one_as_the_other_is_refused() -> None:
    registry = Registry()
    registry.register_workflow(wf_ctx)
    registry.register_activity(only_ctx)

    with pytest.raises(WorkflowMisuse, match=r"use ctx\.call_child_workflow"):
        registry.activity_ref(wf_ctx)
    with pytest.raises(WorkflowMisuse, match=r"use ctx\.call_activity"):
        registry.workflow_ref(only_ctx)
    nonsense: list[Any] = [5, None, [], {}, ""]
    for target in nonsense:
        with pytest.raises(WorkflowMisuse):
            registry.activity_ref(target)


def test_workflows_are_recognised_by_their_annotation() -> None:
    def by_class(ctx: WorkflowContext, x: int) -> None: ...
    def by_text(ctx: wf.DaprWorkflowContext) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def by_name_only(ctx, x): ...  # type: ignore[no-untyped-def]  # not enough

    assert [is_workflow_function(f) for f in (by_class, by_text, by_name_only, no_parameters)] == [
        True,
        True,
        False,
        False,
    ]
    assert not is_workflow_function(only_ctx)
    assert not is_workflow_function(annotated_context)


def test_values_of_no_function_have_a_codec_too() -> None:
    registry = Registry()

    assert registry.decode_plain(registry.encode_plain({"a": 1})) == {"a": 1}
    with pytest.raises(PayloadError, match=r"^heartbeat details: nan is not .* at \$\.a$"):
        registry.encode_plain({"a": float("nan")}, "heartbeat details")

"""The workflows and activities of a program, and how the core reaches them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wfq.codec import Codec
from wfq.core.context import WorkflowContext
from wfq.core.events import Payload
from wfq.core.options import checked_name
from wfq.core.ports import Decoder, Limits
from wfq.core.tasks import short
from wfq.depends import Dependency, dependencies_of
from wfq.errors import ConfigurationError, WorkflowMisuse
from wfq.signatures import (
    EMPTY,
    Signature,
    activity_signature,
    alternate_name,
    checked_label,
    given_name,
    is_workflow_function,
    own_name,
    registered_name,
    where,
    workflow_signature,
)

__all__ = ["ActivityEntry", "Registry", "WorkflowEntry", "alternate_name", "is_workflow_function"]


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowEntry:
    """One registered workflow function; an Executor for the core.

    `version` is None for a workflow without versions. `input_type` and `output_type` are
    annotations, EMPTY where there is none.
    """

    name: str
    version: str | None
    function: Callable[..., Any]
    takes_input: bool
    default: Any
    input_type: Any
    output_type: Any
    decode_input: Decoder
    decode_output: Decoder

    def begin(self, ctx: WorkflowContext, payload: Payload, given: bool) -> Any:
        """Call the function. No input, or None, means the parameter's default if it has one."""
        if not self.takes_input:
            return self.function(ctx)
        value = self.decode_input(payload) if given else None
        if value is None and self.default is not EMPTY:
            return self.function(ctx)
        return self.function(ctx, value)


@dataclass(frozen=True, slots=True, eq=False)
class ActivityEntry:
    """One registered activity function.

    inline: may be run by the orchestrator within the turn. process: runs in a process of its
    own. takes_context, takes_input: what it is called with, by position, in this order.
    dependencies: parameters that the worker fills by name.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    inline: bool
    process: bool
    takes_context: bool
    takes_input: bool
    dependencies: Mapping[str, Dependency]
    default: Any
    input_type: Any
    output_type: Any
    input_decoder: Decoder
    decode_result: Decoder
    codec: Codec

    def decode_input(self, payload: Payload, given: bool) -> Any:
        """Return what the function is called with. Raises: PayloadError.

        No input, or None, means the parameter's default if it has one.
        """
        value = self.input_decoder(payload) if given else None
        if value is None and self.default is not EMPTY:
            return self.default
        return value

    def encode_result(self, value: Any) -> Payload:
        """Return the function's result as a payload. Raises: PayloadError."""
        return self.codec.encode(value, "result of activity", self.name)


class Registry:
    """Workflows and activities by name; the Host of the core.

    Registration is for program start: it is not safe while workers run. Registering a function
    again under the same name changes nothing; another function under a name that is taken is
    an error that names both.
    """

    def __init__(self, codec: Codec | None = None, limits: Limits | None = None) -> None:
        self.codec = codec or Codec()
        self.limits = limits or Limits()
        #: Encode and decode as the core asks for it; bound here, off the hot path.
        self.encode: Callable[[Any, str, str], Payload] = self.codec.encode
        self.plain: Decoder = self.codec.plain
        self._workflows: dict[str, dict[str | None, WorkflowEntry]] = {}
        self._latest: dict[str, WorkflowEntry] = {}
        self._activities: dict[str, ActivityEntry] = {}
        #: Name and result decoder by what users pass to ctx: a function or a name.
        self._activity_refs: dict[Any, tuple[str, Decoder]] = {}
        self._workflow_refs: dict[Any, tuple[str, Decoder]] = {}
        #: The same for functions that are called but not registered here, by kind and function.
        self._foreign_refs: dict[tuple[str, Any], tuple[str, Decoder]] = {}

    # -- registration

    def register_workflow(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        version: str | None = None,
        is_latest: bool = False,
    ) -> WorkflowEntry:
        """Register a workflow function and return its entry.

        name: None = its alternate name, else its own. version: a name may have one function
        without version and any number with; an instance stays with the one it started on.
        is_latest: new instances get this one; of several such the one registered last, as in
        Dapr; without any, the function without version, else the one registered last.
        Raises: ConfigurationError.
        """
        label = _label(fn, name)
        if version is not None:
            checked_label(version, "version")
        versions = self._workflows.get(label, {})
        known = versions.get(version)
        if known is not None:
            if known.function is fn:
                return known
            of = f" version {version!r}" if version else ""
            raise _duplicate("workflow", f"{label!r}{of}", known.function, fn)
        self._refuse_second_name(self._workflow_refs, fn, label, "workflow")
        signature = workflow_signature(fn)
        entry = WorkflowEntry(
            name=label,
            version=version,
            function=fn,
            takes_input=signature.takes_input,
            default=signature.default,
            input_type=signature.input,
            output_type=signature.result,
            decode_input=self.codec.decoder(signature.input, "input of workflow", label),
            decode_output=self.codec.decoder(signature.result, "output of workflow", label),
        )
        self._workflows.setdefault(label, versions)[version] = entry
        if is_latest:
            self._latest[label] = entry
        self._workflow_refs[fn] = (label, entry.decode_output)
        latest = self.find_workflow(label)
        assert latest is not None
        self._workflow_refs[label] = (label, latest.decode_output)
        return entry

    def register_activity(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        inline: bool = False,
        process: bool = False,
    ) -> ActivityEntry:
        """Register an activity function and return its entry.

        name: None = its alternate name, else its own. inline: short local work that the
        orchestrator may run itself. process: run in a process pool, for CPU-bound work.
        Raises: ConfigurationError.
        """
        label = _label(fn, name)
        known = self._activities.get(label)
        if known is not None:
            if known.function is fn:
                return known
            raise _duplicate("activity", repr(label), known.function, fn)
        if inline and process:
            raise ConfigurationError(f"activity {label!r} cannot be both inline and process")
        self._refuse_second_name(self._activity_refs, fn, label, "activity")
        signature = activity_signature(fn)
        entry = ActivityEntry(
            name=label,
            function=fn,
            is_async=_is_async(fn),
            inline=inline,
            process=process,
            takes_context=signature.takes_context,
            takes_input=signature.takes_input,
            dependencies=dependencies_of(fn),
            default=signature.default,
            input_type=signature.input,
            output_type=signature.result,
            input_decoder=self.codec.decoder(signature.input, "input of activity", label),
            decode_result=self.codec.decoder(signature.result, "result of activity", label),
            codec=self.codec,
        )
        self._activities[label] = entry
        self._activity_refs[fn] = self._activity_refs[label] = (label, entry.decode_result)
        return entry

    # -- look-up

    def find_workflow(self, name: str, version: str | None = None) -> WorkflowEntry | None:
        """Return a workflow; version None = the latest, "" = that without version, or latest."""
        versions = self._workflows.get(name)
        if not versions:
            return None
        if version:
            return versions.get(version)
        unversioned = versions.get(None)
        if version == "" and unversioned is not None:
            return unversioned
        return self._latest.get(name) or unversioned or next(reversed(versions.values()))

    def find_activity(self, name: str) -> ActivityEntry | None:
        """Return an activity by name."""
        return self._activities.get(name)

    def workflows(self) -> Iterator[WorkflowEntry]:
        """Yield every workflow entry, versions included, in order of registration."""
        for versions in self._workflows.values():
            yield from versions.values()

    def activities(self) -> Iterator[ActivityEntry]:
        """Yield every activity entry in order of registration."""
        yield from self._activities.values()

    def encode_plain(self, value: Any, what: str = "value") -> Payload:
        """Return a value that belongs to no function as a payload. Raises: PayloadError.

        `what` begins the message of an error.
        """
        return self.codec.encode(value, what, "")

    def decode_plain(self, payload: Payload) -> Any:
        """Return a payload as plain JSON values. Raises: PayloadError."""
        return self.codec.plain(payload)

    # -- the core's Host

    def resolve(self, name: str, version: str | None) -> WorkflowEntry | None:
        """Return the code of a workflow, as `find_workflow`."""
        return self.find_workflow(name, version)

    def activity_ref(self, activity: Any) -> tuple[str, Decoder]:
        """Return the name of an activity and the decoder of its result. Raises: WorkflowMisuse."""
        try:
            return self._activity_refs[activity]
        except (KeyError, TypeError):
            if _is_key(activity, self._workflow_refs):
                raise WorkflowMisuse(
                    f"{where(activity)} is a workflow; use ctx.call_child_workflow"
                ) from None
            return self._foreign_ref(activity, "activity", activity_signature)

    def workflow_ref(self, workflow: Any) -> tuple[str, Decoder]:
        """Return the name of a workflow and the decoder of its output. Raises: WorkflowMisuse."""
        try:
            return self._workflow_refs[workflow]
        except (KeyError, TypeError):
            if _is_key(workflow, self._activity_refs):
                raise WorkflowMisuse(
                    f"{where(workflow)} is an activity; use ctx.call_activity"
                ) from None
            return self._foreign_ref(workflow, "workflow", workflow_signature)

    def _foreign_ref(
        self, target: Any, kind: str, inspect_signature: Callable[[Any], Signature]
    ) -> tuple[str, Decoder]:
        """Return name and decoder of what is not registered here: other workers may have it."""
        if isinstance(target, str):
            return checked_name(target, f"the name of the {kind}"), self.plain
        if not callable(target):
            raise WorkflowMisuse(f"{short(target)} is neither a function nor the name of one")
        if not isinstance(target, Hashable):
            raise WorkflowMisuse(f"{short(target)} must be registered, or called by its name")
        ref = self._foreign_refs.get((kind, target))
        if ref is None:
            try:
                label = registered_name(target) or own_name(target)
            except ConfigurationError as exc:
                raise WorkflowMisuse(str(exc)) from None
            try:
                result = inspect_signature(target).result
            except ConfigurationError:
                result = EMPTY
            ref = (label, self.codec.decoder(result, f"result of {kind}", label))
            self._foreign_refs[kind, target] = ref
        return ref

    def _refuse_second_name(
        self, refs: dict[Any, tuple[str, Decoder]], fn: Any, label: str, kind: str
    ) -> None:
        known = refs.get(fn)
        if known is not None and known[0] != label:
            raise ConfigurationError(f"{kind} {where(fn)} is already registered as {known[0]!r}")


def _label(fn: Any, name: str | None) -> str:
    if not callable(fn):
        raise ConfigurationError(f"{short(fn)} is not a function")
    alternate = given_name(fn)
    if name is not None and alternate is not None and name != alternate:
        raise ConfigurationError(f"{where(fn)} already has the alternate name {alternate!r}")
    return checked_label(name if name is not None else own_name(fn), "name")


def _is_key(target: Any, refs: dict[Any, Any]) -> bool:
    return callable(target) and isinstance(target, Hashable) and target in refs


def _is_async(fn: Any) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004 - not whether, but what it is
    )


def _duplicate(kind: str, label: str, known: Any, fn: Any) -> ConfigurationError:
    return ConfigurationError(f"{kind} {label} is registered twice: {where(known)} and {where(fn)}")

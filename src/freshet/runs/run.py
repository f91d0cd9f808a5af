"""`Run`, what a run's function writes to: its parts, its tools and what it asks people; and what it has so far."""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from freshet.model.run_aggregate import Part
from freshet.rules.hooks import to_json
from freshet.runtime.portal import Portal

if TYPE_CHECKING:
    from freshet.runs.producer import Producer


class Approval(NamedTuple):
    """What somebody answered. tool: the call's id. approved: whether it may go on. user: who answered."""

    id: str
    tool: str
    approved: bool
    reason: str = ""
    user: str = ""


class Run:
    """One run, as its function gets it: see `Freshet.run`. Its methods may be awaited in any event loop.

    id: which is its message's, too. channel: where it is. user: who began it; empty: the server, or nobody known.
    kept: what it gave to `checkpoint`, once it goes on after that. approval: the answer that it goes on with.
    """

    __slots__ = ("_portal", "_producer", "approval", "channel", "id", "kept", "user")

    def __init__(self, producer: "Producer", portal: Portal, channel: str, id: str, user: str) -> None:
        self._producer = producer
        self._portal = portal
        self.channel = channel
        self.id = id
        self.user = user
        self.kept: Any = None
        self.approval: Approval | None = None

    def __repr__(self) -> str:
        return f"<Run {self.id} in {self.channel!r}>"

    @property
    def sync(self) -> "SyncRun":
        """The same for code without `await`, which the function has called in a thread: see there."""
        return SyncRun(self, self._portal)

    @property
    def text(self) -> str:
        """What it has written so far, its texts alone."""
        return self._producer.aggregate.text

    @property
    def message(self) -> Part:
        """What it has written so far: `{"id", "role", "parts", "metadata"}`, as the AI SDK keeps messages."""
        aggregate = self._producer.aggregate
        return {"id": self.id, "role": "assistant", "parts": aggregate.parts, "metadata": aggregate.metadata}

    async def history(self) -> list[Part]:
        """The messages before this one, from the first on, down the branch that it answers."""
        return await self._portal.run(self._producer.history())

    # ------------------------------------------------------------------------------------------------------- writing

    async def write(self, part: str | Mapping[str, Any]) -> None:
        """Add text; or a part of the AI SDK's UI message stream, `{"type": "reasoning-delta", ...}`.

        It goes out within `runs.interval`, together with what is written until then; no byte of it is changed. Waits
        when the engine does not keep up, or the run writes faster than `runs.rate`.

        Raises `Refusal` 107 for a part that cannot be there.
        """
        await self._portal.run(self._producer.write(part))

    async def reasoning(self, text: str) -> None:
        """Add to what the model thinks."""
        await self._portal.run(self._producer.write_text("reasoning", text))

    async def tool(self, name: str, input: Any, *, id: str = "") -> str:  # noqa: A002 - as in the stream
        """A tool is called; the answer is the call's id. A call whose arguments stream in is written by its parts."""
        call = id or secrets.token_hex(8)
        await self.write({"type": "tool-input-available", "toolCallId": call, "toolName": name, "input": _plain(input)})
        return call

    async def result(self, call: str, output: Any = None, *, error: str = "") -> None:
        """What a tool gave, or why it failed."""
        if error:
            await self.write({"type": "tool-output-error", "toolCallId": call, "errorText": error})
        else:
            await self.write({"type": "tool-output-available", "toolCallId": call, "output": _plain(output)})

    async def ask(self, call: str, *, reason: str = "") -> None:
        """Ask people whether a tool may be called. The function then returns, and the run waits, for days if need be.

        With the answer the hook `on_approval` goes on with it.
        """
        more = {"reason": reason} if reason else {}
        id = secrets.token_hex(8)
        await self.write({"type": "tool-approval-request", "approvalId": id, "toolCallId": call, **more})

    async def source(self, url: str, *, title: str = "") -> None:
        more = {"title": title} if title else {}
        await self.write({"type": "source-url", "sourceId": secrets.token_hex(4), "url": url, **more})

    async def data(self, name: str, value: Any, *, id: str = "", transient: bool = False) -> None:
        """A part of your own; with the same id, it replaces the one before. transient: it is not kept."""
        more: Part = {**({"id": id} if id else {}), **({"transient": True} if transient else {})}
        await self.write({"type": f"data-{name}", "data": _plain(value), **more})

    async def usage(self, **tokens: int) -> None:
        """What it cost: `input_tokens`, `output_tokens` and so on. It is part of the message's metadata."""
        await self.write({"type": "message-metadata", "messageMetadata": {"usage": tokens}})

    async def enter(self, name: str, info: Any = None) -> None:
        """Say which agent writes this: it is `agent` in the message's metadata, and in the channel's presence.

        It is there as long as its run runs: as the user `name`, the client's id is the run's. info: for those who look.
        Raises `Refusal` 108 where the channel has no presence, and `EngineUnavailable`.
        """
        seen = msgspec.Raw(to_json(info)) if info is not None else msgspec.Raw()
        await self._portal.run(self._producer.enter(name, seen))
        await self.write({"type": "message-metadata", "messageMetadata": {"agent": name}})

    async def flush(self) -> None:
        """Until all that was written is in the log."""
        await self._portal.run(self._producer.flush())

    # ----------------------------------------------------------------------------------------------------- the outside

    async def steering(self, *, wait: bool = False) -> list[Any]:
        """What was said to it since it was asked last, see `Freshet.steer`. wait: until there is something."""
        return await self._portal.run(self._producer.steered(wait))

    async def checkpoint(self, kept: Any = None) -> None:
        """Here the run may be interrupted: by a node that ends, and handed over to another.

        kept: what it needs to go on, anything that can be JSON; the `resume` hook finds it as `run.kept`.
        """
        await self._portal.run(self._producer.checkpoint(msgspec.Raw(to_json(kept))))


class SyncRun:
    """The methods of `Run` for code without `await`, such as a model's client that blocks.

        await asyncio.to_thread(generate, run)  # which calls run.sync.write("...") for each piece

    They are `history`, `write`, `reasoning`, `tool`, `result`, `ask`, `source`, `data`, `usage`, `enter`, `flush`,
    `steering` and `checkpoint`. Each blocks its thread meanwhile, and raises `asyncio.CancelledError` once the run has
    ended, so that what writes in a thread ends too. Raises RuntimeError in the event loop itself.
    """

    def __init__(self, run: Run, portal: Portal) -> None:
        self.history = portal.blocking(run.history)
        self.write = portal.blocking(run.write)
        self.reasoning = portal.blocking(run.reasoning)
        self.tool = portal.blocking(run.tool)
        self.result = portal.blocking(run.result)
        self.ask = portal.blocking(run.ask)
        self.source = portal.blocking(run.source)
        self.data = portal.blocking(run.data)
        self.usage = portal.blocking(run.usage)
        self.enter = portal.blocking(run.enter)
        self.flush = portal.blocking(run.flush)
        self.steering = portal.blocking(run.steering)
        self.checkpoint = portal.blocking(run.checkpoint)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return msgspec.json.decode(to_json(value))

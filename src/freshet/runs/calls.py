"""What an application registers of runs, and asks of them: the part of `Freshet` behind `live.run` and its like."""

from collections.abc import Callable
from typing import Any, TypeVar

from freshet.commands.calls import Calls
from freshet.config import ChannelOptions, channel_config
from freshet.model.run_messages import RunState
from freshet.rules.channel import with_options
from freshet.rules.hooks import Function, must_have_name
from freshet.runs.rule import RunFunction, RunRule
from freshet.runs.runs import NodeRuns
from freshet.runtime.portal import Portal

F = TypeVar("F", bound=Function)

DAY = 86400.0


class RunCalls(Calls):
    """The methods about runs."""

    _runs: NodeRuns

    @with_options(ChannelOptions)
    def run(
        self,
        match: str,
        *,
        parallel: int = 1,
        keep: float = 7 * DAY,
        stop_when_alone: float | None = None,
        **options: Any,
    ) -> Callable[[F], RunFunction[F]]:
        """Make `function(run, message, **parameters)` what runs in the channels that `match` matches; see `Run`.

        A run is the server's: it ends when the function returns or raises, when it is stopped, and when its node dies,
        not when whoever began it is gone. All subscribers get what it writes. Who subscribes late or comes back gets
        one summary of all messages first. What a client publishes there is a message that begins a run.

        message: converted to the type of the parameter. parallel: runs of a channel at a time, others are queued.
        keep: seconds for which messages are kept. stop_when_alone: seconds without a subscriber after which a run is
        stopped; None: it goes on. The other options are those of `channel`, but that subscribers may publish unless
        `publish` says otherwise.
        """
        must_have_name(match, "live.run")

        def register(function: F) -> RunFunction[F]:
            config = channel_config(match, {"publish": "subscriber", **options})
            rule = RunRule.of_runs(config, function, keep=keep, parallel=parallel, stop_when_alone=stop_when_alone)
            self._runs.add(rule)
            return RunFunction(function, rule)

        return register

    async def start(self, channel: str, message: Any, *, id: str = "", user: str = "", parent: str = "") -> RunState:
        """Begin a run; the answer comes as soon as it is in the log, in the state `running` or `queued`.

        id: the run's, and its message's; a second start with the same id answers the state of the first. user: who
        asked. parent: the run whose message this one follows, for a branch; `-`: none; empty: the last.

        Raises Refusal 106 when too many wait or run; EngineUnavailable: nobody knows whether it began, try again with
        the same id.
        """
        return await self._run(self._runs.begin(channel, message, id=id, user=user, parent=parent))

    async def stop(self, channel: str, *, run: str = "", reason: str = "user") -> RunState | None:
        """Stop a run, or all in a channel, wherever they run: their functions are cancelled, what they wrote is kept.

        When this returns it has been written that they are stopped, and they write nothing any more. The answer is the
        state of the run, or of the last one stopped; None: there was none.
        """
        return await self._run(self._runs.end(channel, run, reason))

    async def answer(
        self, channel: str, approval: str, *, approved: bool = True, reason: str = "", user: str = ""
    ) -> RunState:
        """Answer what a run asked with `Run.ask`; it goes on. Raises Refusal 108 when nothing waits for that."""
        return await self._run(self._runs.answer(channel, approval, approved, reason, user))

    async def resume(self, channel: str, run: str) -> RunState:
        """Go on with a run that failed, by its `resume` hook, from what it kept. It has the same id, and begins anew.

        Raises Refusal 108 for one that is not `resumable`, or when another one runs there.
        """
        return await self._run(self._runs.resume(channel, run))

    async def steer(self, channel: str, message: Any, *, run: str = "") -> RunState:
        """Say something to a run while it runs: see `Run.steering`. Raises Refusal 108 when none runs."""
        return await self._run(self._runs.steer(channel, message, run))

    async def messages(self, channel: str, *, run: str = "") -> list[dict[str, Any]]:
        """The messages that lead to a run's, with it, as the AI SDK keeps them. run: empty: the one that began last."""
        return await self._run(self._runs.messages(channel, run))


class SyncRunCalls:
    """The same for code without `await`: the part of `SyncCalls` about runs."""

    def __init__(self, live: RunCalls, portal: Portal) -> None:
        self.start = portal.blocking(live.start)
        self.stop = portal.blocking(live.stop)
        self.answer = portal.blocking(live.answer)
        self.resume = portal.blocking(live.resume)
        self.steer = portal.blocking(live.steer)
        self.messages = portal.blocking(live.messages)

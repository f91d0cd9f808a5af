"""The rule of channels that have runs, with their function and its hooks checked once."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from freshet.config import ChannelConfig
from freshet.errors import ConfigError
from freshet.model.log import History
from freshet.rules.channel import Channel
from freshet.rules.hooks import Function, Hook
from freshet.rules.rules import ChannelRule, Owner
from freshet.runs.log import LEAST

F = TypeVar("F", bound=Function)

MESSAGES = 100  # runs that are over, of each channel


class RunRule(ChannelRule, eq=False):
    """function: what a run is. resume, approval: what goes on with one. parallel: how many at a time in a channel.

    messages: how many of those that are over are kept, and how long. stop_when_alone: seconds without a subscriber
    after which a run is stopped; None: it goes on.
    """

    owner: ClassVar[Owner] = "run"
    function: Hook | None = None
    resume: Hook | None = None
    approval: Hook | None = None
    parallel: int = 1
    messages: History = History(MESSAGES, 1)
    stop_when_alone: float | None = None
    resumes: int = 5

    @classmethod
    def of_runs(
        cls, config: ChannelConfig, function: Function, *, keep: float, parallel: int, stop_when_alone: float | None
    ) -> "RunRule":
        """keep: seconds. Raises TypeError for a function that asks for something else, and ConfigError."""
        if config.delta:
            raise ConfigError("delta", f"the rule {config.match!r} is of runs, whose subscribers begin with a summary")
        if parallel < 1:
            raise ConfigError("parallel", f"expected 1 run or more at a time, got {parallel}")
        history = config.history or History(LEAST, keep)
        if history.size < LEAST:
            raise ConfigError("history.size", f"the rule {config.match!r} is of runs, which need {LEAST} or more")
        rule = cls.of(msgspec.structs.replace(config, history=history))
        rule.parallel, rule.stop_when_alone = parallel, stop_when_alone
        rule.messages = History(MESSAGES, keep)
        rule.function = Hook(function, ("run", "data"), ("channel", *rule.parameters))
        return rule


class RunFunction(Channel, Generic[F]):
    """A run's function, as the decorator `Freshet.run` leaves it: where its hooks, and those of its channels, are hung.

    What `on_publish` returns is the message that begins a run.
    """

    rule: RunRule

    def __init__(self, function: F, rule: RunRule) -> None:
        super().__init__(rule)
        self.function = function
        self.__wrapped__ = function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    def resume(self, function: F) -> F:
        """`function(run, message, **parameters)` goes on with a run whose node has died or ended.

        It finds what the run has kept: `run.message`, `run.text`, `run.kept`. Without it such a run has failed.
        """
        self.rule.resume = self._hook(function)
        return function

    def on_approval(self, function: F) -> F:
        """`function(run, message, **parameters)` goes on with a run that asked, see `Run.ask`: `run.approval`."""
        self.rule.approval = self._hook(function)
        return function

    def _hook(self, function: Callable[..., Any]) -> Hook:
        return Hook(function, ("run", "data"), ("channel", *self.rule.parameters))

"""The real-time side: one channel of orders, which everybody may read."""

from typing import Any

from django.db import transaction

from freshet import Config, Freshet, History
from freshet.config import Tokens

live = Freshet(config=Config(tokens=Tokens(anonymous=True)))
live.channel("orders", history=History(size=100, ttl=600))


def publish(channel: str, data: Any) -> None:
    """From a plain function, when the transaction around it has been committed."""
    transaction.on_commit(lambda: live.sync.publish(channel, data))

"""A task that takes a while, and says how far it is. See README.md."""

import os
from pathlib import Path
from typing import Any

from celery import Celery, Task
from cent import Client, PublishRequest
from cent.exceptions import CentNetworkError

QUEUE = Path(os.environ.get("QUEUE", "queue"))
STEPS = ["collect", "count", "draw", "done"]

for folder in ("waiting", "processed"):
    (QUEUE / folder).mkdir(parents=True, exist_ok=True)
app = Celery(broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(QUEUE / "waiting"),
    "data_folder_out": str(QUEUE / "waiting"),
    "processed_folder": str(QUEUE / "processed"),
}

live = Client(
    os.environ.get("FRESHET_URL", "http://127.0.0.1:8000") + "/api",
    os.environ["FRESHET_API_KEY"],
)


@app.task(bind=True, autoretry_for=(CentNetworkError,), retry_backoff=True)
def report(self: Task, number: int) -> None:
    for done, step in enumerate(STEPS, 1):
        publish(f"report:{number}", {"step": step, "of": len(STEPS), "done": done}, f"{self.request.id}-{step}")


def publish(channel: str, data: Any, idempotency_key: str) -> None:
    live.publish(PublishRequest(channel=channel, data=data, idempotency_key=idempotency_key))

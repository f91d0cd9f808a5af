"""The README's example, taken from the README and run."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import httpx
from centrifuge import Client, PublicationContext

from freshet.policy.tokens import issue
from tests.tools.need import ROOT
from tests.tools.patience import seconds
from tests.tools.serving import Server

SECRET = "change-me-to-32-random-characters"


def example(index: int) -> str:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[index]


async def test_the_ten_lines_in_fastapi_deliver_an_order_to_a_client(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(example(0))
    server = serve("app:api", cwd=tmp_path)
    token = issue(SECRET, "alice", expires_in=60)
    client = Client(server.ws("/live/connection/websocket"), token=token)
    subscription = client.new_subscription("orders")
    got: asyncio.Queue[object] = asyncio.Queue()

    async def published(context: PublicationContext) -> None:
        await got.put(context.pub.data)

    subscription.events.on_publication = published
    await client.connect()
    await subscription.subscribe()
    await subscription.ready(timeout=seconds(5))
    async with httpx.AsyncClient() as http:
        assert (await http.post(server.http("/orders/7"))).status_code == 200
    assert await asyncio.wait_for(got.get(), seconds(5)) == {"number": 7}
    await client.disconnect()


def test_the_longer_example_is_a_right_program(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    exec(compile(example(1), "README.md", "exec"), names)
    assert {"live", "chat", "may_join", "moderate"} <= set(names)

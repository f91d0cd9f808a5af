"""`freshet serve --reload`: what was edited is served, and a mistake in between is no end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.tools.patience import seconds, wait_until
from tests.tools.ports import HOST, free_port

APP = """from freshet import Freshet
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

live = Freshet(dev=True)


async def version(request):
    return PlainTextResponse("first")


app = Starlette(routes=[Route("/version", version), Mount("/live", live)], lifespan=live.lifespan)
"""


def test_an_edited_file_is_served_and_a_mistake_in_it_is_named(tmp_path: Path) -> None:
    module, port = tmp_path / "app.py", free_port()
    module.write_text(APP)
    command = [sys.executable, "-m", "freshet", "serve", "app:app", "--reload", "--port", str(port)]

    def answer() -> str:
        try:
            return httpx.get(f"http://{HOST}:{port}/version", timeout=seconds(5)).text
        except httpx.TransportError:
            return ""

    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, "COLUMNS": "200"})
    try:
        wait_until(lambda: answer() == "first", 20, "the first version")
        module.write_text("import pandaz\n" + APP)
        said = (tmp_path / "log.txt").read_text
        wait_until(lambda: "No module named 'pandaz'" in said(), 20, "the mistake to be named")
        module.write_text(APP.replace("first", "second"))
        wait_until(lambda: answer() == "second", 20, "the second version")
        process.send_signal(signal.SIGINT)
        process.wait(seconds(20))
        assert "app.py changed" in said()
        assert "Traceback" not in said()
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: answer() == "", 10, "the server to be gone, too")

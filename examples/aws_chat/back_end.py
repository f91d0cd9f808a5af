"""The same handlers behind HTTP: `POST` with AWS's proxy event, answered with the status and the body of the function.

[[gateway.routes]]
key = "$default"
url = "http://127.0.0.1:8001/send"
"""

import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from freshet.testing.gateway import call_this_machine_by_http

sys.path.insert(0, str(Path(__file__).parent / "src"))
chat = __import__("chat")


async def run(request: Request) -> Response:
    handler = getattr(chat, request.path_params["name"])
    answer = await run_in_threadpool(handler, await request.json(), None)
    return Response(answer.get("body"), answer["statusCode"])


call_this_machine_by_http()  # the handlers call back over https, which is not there without a certificate
api = Starlette(routes=[Route("/{name:str}", run, methods=["POST"])])

"""The URLs of the doors for AI clients."""

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from freshet.commands.dispatch import Dispatcher
from freshet.endpoints.ai.ag_ui import AgUiEndpoint
from freshet.endpoints.ai.ai_sdk import AiSdkEndpoint
from freshet.endpoints.ai.chat_socket import ChatSocketEndpoint
from freshet.endpoints.ai.door import RunsDoor
from freshet.endpoints.ai.openai import OpenAiEndpoint
from freshet.endpoints.opening import Opening

OPENAI = "/openai/{name}/v1"


class Endpoint:
    """One method of an endpoint as an ASGI application of its own: Starlette gives functions requests, not scopes."""

    def __init__(self, serve: ASGIApp) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


def ai_routes(opening: Opening, dispatcher: Dispatcher) -> list[BaseRoute]:
    door = RunsDoor(opening, dispatcher)
    sdk, ag_ui, openai = AiSdkEndpoint(door), AgUiEndpoint(door), OpenAiEndpoint(door)
    return [
        Route("/ai/{name}", Endpoint(sdk.post), methods=["POST", "OPTIONS"]),
        WebSocketRoute("/ai/{name}/socket", ChatSocketEndpoint(door)),
        Route("/ai/{name}/{chat}/stream", Endpoint(sdk.follow), methods=["GET", "OPTIONS"]),
        Route("/ai/{name}/{chat}/messages", Endpoint(sdk.messages), methods=["GET", "OPTIONS"]),
        Route("/ai/{name}/{chat}/stop", Endpoint(sdk.stop), methods=["POST", "OPTIONS"]),
        Route("/ag-ui/{name}", Endpoint(ag_ui.run), methods=["POST", "OPTIONS"]),
        Route("/ag-ui/{name}/{thread}/runs/{run}/events", Endpoint(ag_ui.events), methods=["GET", "OPTIONS"]),
        Route("/ag-ui/{name}/{thread}/stop", Endpoint(ag_ui.stop), methods=["POST", "OPTIONS"]),
        Route(f"{OPENAI}/chat/completions", Endpoint(openai.completions), methods=["POST", "OPTIONS"]),
        Route(f"{OPENAI}/responses", Endpoint(openai.responses), methods=["POST", "OPTIONS"]),
        Route(f"{OPENAI}/responses/{{id}}", Endpoint(openai.retrieve), methods=["GET", "OPTIONS"]),
        Route(f"{OPENAI}/responses/{{id}}/cancel", Endpoint(openai.cancel), methods=["POST", "OPTIONS"]),
    ]

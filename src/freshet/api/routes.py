"""The URLs of the server API: its methods, their description, and the page to try them."""

from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Route

from freshet.api.explorer import FILES, ExplorerFile
from freshet.api.http import ApiEndpoint
from freshet.api.openapi import Description


def routes(api: ApiEndpoint, description: Description) -> list[BaseRoute]:
    return [
        Route("/api", RedirectResponse("api/"), methods=["GET"]),
        *(Route(f"/api/{name}", ExplorerFile(path), methods=["GET"]) for name, path in FILES.items()),
        Route("/api/openapi.json", description, methods=["GET"]),
        Route("/api/{method:path}", api),
        Route("/api", api, methods=["POST"]),  # which says what methods there are
    ]

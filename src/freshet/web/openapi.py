"""The description of the server API for other programs, OpenAPI 3.1, read off the types that requests are read by."""

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from freshet.web.methods import METHODS, BatchRequest, BatchResult, Failure

REFERENCE = "#/components/schemas/{name}"
ABOUT = """\
Publish, and ask or change what clients listen to, from any language.

A request that can be read is answered with 200: `result`, or `error` when it could not be done."""
WHY = {
    "400": "The request cannot be read: `error.message` says what was wrong, where, and what is allowed.",
    "401": "The key is missing or wrong.",
    "403": "The page that asks is of an origin that is not allowed.",
    "404": "There is no such method.",
    "405": "A method is called with POST.",
    "413": "The body is too large.",
}
FAILED = {
    "type": "object",
    "properties": {"error": {"$ref": REFERENCE.format(name=Failure.__name__)}},
    "required": ["error"],
}


async def endpoint(request: Request) -> Response:
    """`GET /api/openapi.json`. The description holds no secret, so that it needs no key."""
    prefix = request.scope.get("root_path", "")
    return Response(
        msgspec.json.encode({**describe(), "servers": [{"url": f"{prefix}/api"}]}), 200, {}, "application/json"
    )


@cache
def describe() -> dict[str, Any]:
    """The description, without the servers: where they are is known to a request."""
    types = [Failure, BatchRequest, BatchResult]
    types += [kind for method in METHODS.values() for kind in (method.request, method.result)]
    _, schemas = msgspec.json.schema_components(dict.fromkeys(types), ref_template=REFERENCE)
    schemas[BatchRequest.__name__]["properties"]["commands"]["items"] = {
        "type": "object",
        "properties": {name: _reference(method.request) for name, method in METHODS.items()},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    paths = {
        f"/{name}": _operation(name, method.summary, _reference(method.request), _outcome(_reference(method.result)))
        for name, method in METHODS.items()
    }
    summary = "Many requests in one. Each reply holds a result under the method's name, or an error."
    paths["/batch"] = _operation("batch", summary, _reference(BatchRequest), _reference(BatchResult))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Freshet server API", "version": version("freshet"), "description": ABOUT},
        "paths": paths,
        "security": [{"key": []}],
        "components": {
            "schemas": schemas,
            "responses": {status: _json(why, FAILED) for status, why in WHY.items()},
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }


def _operation(name: str, summary: str, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
            "responses": {
                "200": _json("Done, or why not.", answer),
                **{status: {"$ref": f"#/components/responses/{status}"} for status in WHY},
            },
        }
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _outcome(result: dict[str, Any]) -> dict[str, Any]:
    done = {"type": "object", "properties": {"result": result}, "required": ["result"]}
    return {"oneOf": [done, FAILED]}


def _reference(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(name=kind.__name__)}

"""The description of the server API for other programs, OpenAPI 3.1, read off the types that requests are read by."""

from functools import cache
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from freshet.api.examples import EXAMPLES
from freshet.api.requests import BatchRequest
from freshet.api.results import BatchResult, Failure
from freshet.api.table import METHODS

KEY = "The option `api.key`, or the environment variable FRESHET_API_KEY."
WORD = "The same key behind the word `apikey` and a space."
REVISION = "1"  # of the API; which version runs is told to those with a key, by `info`
REFERENCE = "#/components/schemas/{name}"
ABOUT = """\
Publish, read history and presence, and subscribe or disconnect clients, from any language.

A request that can be read is answered with 200: `result`, or `error` when it was refused or failed."""
WHY = {
    "400": "The request cannot be read: `error.message` says what was wrong, where, and what is allowed.",
    "401": "The key is missing or wrong.",
    "403": "No key is asked for, and the page that calls is of an origin that is not allowed.",
    "404": "There is no such method.",
    "405": "A method is called with POST.",
    "413": "The body is too large.",
}
WRONG = {"error": {"code": 107, "message": "Expected `str`, got `int` - at `$.channel`"}}
FAILED = {
    "type": "object",
    "properties": {"error": {"$ref": REFERENCE.format(name=Failure.__name__)}},
    "required": ["error"],
}


class Description:
    """`GET /api/openapi.json`. It holds no secret, so that it needs no key. anonymous: nor do the methods."""

    def __init__(self, *, anonymous: bool) -> None:
        self._security: dict[str, Any] = {"security": []} if anonymous else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        servers = [{"url": f"{scope.get('root_path', '')}/api"}]
        body = msgspec.json.encode({**describe(), **self._security, "servers": servers})
        await Response(body, media_type="application/json")(scope, receive, send)


@cache
def describe() -> dict[str, Any]:
    """The description, without the servers: where they are is known to a request, and for who needs a key."""
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
        "info": {"title": "Freshet server API", "version": REVISION, "description": ABOUT},
        "paths": paths,
        "security": [{"key": []}, {"authorization": []}],
        "components": {
            "schemas": schemas,
            "responses": {status: _json(why, FAILED, WRONG) for status, why in WHY.items()},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": KEY},
                "authorization": {"type": "apiKey", "in": "header", "name": "Authorization", "description": WORD},
            },
        },
    }


def _operation(name: str, summary: str, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    example = EXAMPLES[name]
    done = example.answer if name == "batch" else {"result": example.answer}
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "requestBody": {"required": True, **_json("Its parameters.", request, example.request)},
            "responses": {
                "200": _json("Done, or why not.", answer, done),
                **{status: {"$ref": f"#/components/responses/{status}"} for status in WHY},
            },
        }
    }


def _json(description: str, schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def _outcome(result: dict[str, Any]) -> dict[str, Any]:
    done = {"type": "object", "properties": {"result": result}, "required": ["result"]}
    return {"oneOf": [done, FAILED]}


def _reference(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(name=kind.__name__)}

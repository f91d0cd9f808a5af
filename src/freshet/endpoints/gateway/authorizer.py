"""A REQUEST authorizer: it is shown the request, and answers with a policy document; Deny is 403, no answer 401.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-lambda-auth.html
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from freshet.endpoints.gateway.events import JsonObject, Opened
from freshet.endpoints.gateway.integrations import IntegrationFailed

ACTION = "execute-api:Invoke"
LARGEST = 8 * 1024  # bytes of an answer
HEADER, QUERY = "route.request.header.", "route.request.querystring."

Names = str | list[str]


class Statement(msgspec.Struct, forbid_unknown_fields=True):
    """What else AWS has, such as `Condition`, is not evaluated here: an answer with it is none, and lets nobody in."""

    Effect: Literal["Allow", "Deny"]
    Sid: str = ""
    Action: Names = []
    NotAction: Names = []
    Resource: Names = []
    NotResource: Names = []

    def __post_init__(self) -> None:
        if (self.Action and self.NotAction) or (self.Resource and self.NotResource):
            raise ValueError("expected one of Action and NotAction, and one of Resource and NotResource")


class PolicyDocument(msgspec.Struct):
    Statement: list[Statement]
    Version: str = ""


class AuthorizerAnswer(msgspec.Struct):
    """What an authorizer answers with."""

    principalId: str  # noqa: N815 - the name is AWS's
    policyDocument: PolicyDocument  # noqa: N815 - the name is AWS's
    context: dict[str, str | int | float | bool | None] = {}
    usageIdentifierKey: str | None = None  # noqa: N815 - the name is AWS's


class Unauthorized(Exception):
    """401: what has to be there is not, or the authorizer said so."""


class Forbidden(Exception):
    """403: the policy does not allow it."""


def header_names(identity: Sequence[str]) -> list[str]:
    """The headers among identity sources, as they are spelled there."""
    return [source.removeprefix(HEADER) for source in identity if source.startswith(HEADER)]


def check_identity(identity: Sequence[str], request: Opened) -> None:
    """Raises `Unauthorized`: each source has to be there, and not empty, before the function is asked."""
    headers = {name.lower(): value for name, value in request.headers}
    query = dict(request.query)
    for source in identity:
        if source.startswith(HEADER):
            there = headers.get(source.removeprefix(HEADER).lower())
        elif source.startswith(QUERY):
            there = query.get(source.removeprefix(QUERY))
        else:
            continue  # context and stage variables, which are always there
        if not there:
            raise Unauthorized(f"the request lacks {source}")


def judged(returned: Any, method_arn: str, latency: int) -> tuple[str, JsonObject]:
    """Who it is, and what later events say of that. Raises `Forbidden`, `IntegrationFailed`."""
    try:
        answer = msgspec.convert(returned, AuthorizerAnswer)
    except msgspec.ValidationError as error:
        raise IntegrationFailed(f"the authorizer's answer cannot be read: {error}") from None
    if len(json.dumps(returned)) > LARGEST:
        raise IntegrationFailed(f"the authorizer's answer has more than {LARGEST} bytes")
    effects = {each.Effect for each in answer.policyDocument.Statement if _applies(each, method_arn)}
    if "Deny" in effects or "Allow" not in effects:
        raise Forbidden("the policy denies it" if "Deny" in effects else f"the policy allows nothing at {method_arn}")
    context = {name: _text(value) for name, value in answer.context.items() if value is not None}
    return answer.principalId, {**context, "principalId": answer.principalId, "integrationLatency": latency}


def _applies(statement: Statement, method_arn: str) -> bool:
    """An action may be written in upper or lower case, as at AWS."""
    these, others = ([each.lower() for each in _list(names)] for names in (statement.Action, statement.NotAction))
    return _named(these, others, ACTION.lower()) and _named(
        _list(statement.Resource), _list(statement.NotResource), method_arn
    )


def _named(these: Sequence[str], others: Sequence[str], text: str) -> bool:
    """Whether it is one of these, or none of the others."""
    if these:
        return any(_matches(each, text) for each in these)
    return bool(others) and not any(_matches(each, text) for each in others)


def _list(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else names


def _matches(pattern: str, text: str) -> bool:
    """`*` is any text, `?` one character."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _text(value: str | float | bool) -> str:
    return value if isinstance(value, str) else json.dumps(value)

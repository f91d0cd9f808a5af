"""`serverless.yml` of the Serverless Framework: `websocket` events of functions."""

from typing import Any

from freshet.cli.described import Described

IDENTITY = "route.request.header.Auth"  # where serverless.yml names none


def describe(tree: dict[str, Any], described: Described) -> None:
    """Read a service into `described`."""
    provider, functions = tree.get("provider") or {}, tree.get("functions") or {}
    described.stage = _known(provider.get("stage", "dev"), "dev", "provider.stage", described)
    described.selection = provider.get("websocketsApiRouteSelectionExpression", described.selection)
    for name, function in functions.items():
        for event in function.get("events") or []:
            if isinstance(event, dict) and "websocket" in event:
                _route(name, event["websocket"], tree, described)


def _route(name: str, event: Any, tree: dict[str, Any], described: Described) -> None:
    it = event if isinstance(event, dict) else {"route": event}
    key = str(it.get("route", ""))
    options = _function(name, tree, described, key)
    if options is None:
        return
    response = {"response": True} if it.get("routeResponseSelectionExpression") else {}
    described.routes.append({"key": key, **options, **response})
    if "authorizer" in it:
        _authorize(it["authorizer"], tree, described)


def _function(name: str, tree: dict[str, Any], described: Described, key: str) -> dict[str, Any] | None:
    function, provider = (tree.get("functions") or {}).get(name) or {}, tree.get("provider") or {}
    runtime = str(function.get("runtime", provider.get("runtime", "python")))
    if "handler" not in function:
        described.note(f"{key}: the function {name} is not in this file")
        return None
    if not runtime.startswith("python"):
        described.note(f"{key}: {name} runs on {runtime}: run it where that is, and give its `url`")
        return None
    options = {"function": str(function["handler"]), "code": described.folder}
    environment = {}
    for variable, value in {**(provider.get("environment") or {}), **(function.get("environment") or {})}.items():
        if "${" in str(value) or isinstance(value, dict):
            described.note(f"{key}: {variable} of {name} refers to {value}: set it")
        else:
            environment[variable] = str(value)
    if environment:
        return {**options, "environment": environment}
    return options


def _authorize(given: Any, tree: dict[str, Any], described: Described) -> None:
    it = given if isinstance(given, dict) else {"name": given}
    name = str(it.get("name", it.get("arn", "")))
    options = _function(name, tree, described, "authorizer")
    if options is None:
        described.auth = "token"
        return
    sources = it.get("identitySource", IDENTITY)
    described.authorizer = {**options, "identity": sources if isinstance(sources, list) else [sources]}


def _known(value: Any, otherwise: str, where: str, described: Described) -> str:
    if "${" not in str(value):
        return str(value)
    described.note(f"{where} is {value}: {otherwise!r} is taken")
    return otherwise

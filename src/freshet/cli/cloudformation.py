"""Templates of AWS SAM and CloudFormation: `AWS::Serverless::WebSocketApi`, and `AWS::ApiGatewayV2::*`."""

import os
import re
from typing import Any

from freshet.cli.described import Described

Resource = dict[str, Any]

API, SAM_API = "AWS::ApiGatewayV2::Api", "AWS::Serverless::WebSocketApi"
FUNCTIONS = ("AWS::Serverless::Function", "AWS::Lambda::Function")
_PLACEHOLDER = re.compile(r"\$\{([\w:]+)(?:\.\w+)*\}")
_IN_FUNCTION_URI = re.compile(r"functions/\$\{(\w+)(?:\.\w+)*\}")


def describe(tree: Resource, described: Described) -> None:
    """Read a template into `described`."""
    _Template(tree, described).describe()


class _Template:
    def __init__(self, tree: Resource, described: Described) -> None:
        self._resources: dict[str, Resource] = {
            name: each for name, each in (tree.get("Resources") or {}).items() if isinstance(each, dict)
        }
        self._globals: Resource = tree.get("Globals") or {}
        parameters = tree.get("Parameters") or {}
        self._defaults = {name: each.get("Default") for name, each in parameters.items() if isinstance(each, dict)}
        self._described = described

    def describe(self) -> None:
        apis = [
            name
            for name, each in self._resources.items()
            if each.get("Type") == SAM_API
            or (each.get("Type") == API and self._properties(name).get("ProtocolType") == "WEBSOCKET")
        ]
        for other in apis[1:]:
            self._described.note(f"{other}: only the first WebSocket API, {apis[0]}, was read")
        if not apis:
            return
        if self._resources[apis[0]]["Type"] == SAM_API:
            self._sam(apis[0])
        else:
            self._cloudformation(apis[0])

    # -------------------------------------------------------------------------------------------- the newer form of SAM

    def _sam(self, name: str) -> None:
        it, described = {**(self._globals.get("WebSocketApi") or {}), **self._properties(name)}, self._described
        described.stage = self._text(it.get("StageName", "default"))
        described.selection = self._text(it.get("RouteSelectionExpression", described.selection))
        described.variables = {key: self._text(value) for key, value in (it.get("StageVariables") or {}).items()}
        for key, route in (it.get("Routes") or {}).items():
            options = self._function(self._name_in(route.get("FunctionArn")), key)
            if options is None:
                continue
            if timeout := route.get("IntegrationTimeout"):
                options["timeout"] = timeout / 1000
            described.routes.append(
                {"key": key, **options, **({"response": True} if route.get("RouteResponseSelectionExpression") else {})}
            )
            self._not_taken(key, route)
        self._sam_auth(it.get("Auth") or {})
        for other in ("Domain", "DefaultRouteSettings", "RouteSettings", "ApiKeySelectionExpression"):
            if other in it:
                described.note(f"{name}.{other}")

    def _sam_auth(self, auth: Resource) -> None:
        kind = auth.get("AuthType", "NONE")
        if kind == "CUSTOM":
            self._authorize(self._name_in(auth.get("AuthArn")), auth.get("IdentitySource") or [])
        elif kind != "NONE":
            self._described.auth = "token"
            self._described.note(f"Auth.AuthType {kind}: clients need a token of the server's own instead")

    # --------------------------------------------------------------------------------------------------- CloudFormation

    def _cloudformation(self, api: str) -> None:
        described = self._described
        described.selection = self._text(self._properties(api).get("RouteSelectionExpression", described.selection))
        for stage in self._of("AWS::ApiGatewayV2::Stage", api):
            it = self._properties(stage)
            described.stage = self._text(it.get("StageName", described.stage))
            described.variables = {key: self._text(value) for key, value in (it.get("StageVariables") or {}).items()}
            for other in ("DefaultRouteSettings", "RouteSettings"):
                if other in it:
                    described.note(f"{stage}.{other}: see [rates] and [limits]")
        responding = {
            self._name_in(self._properties(each).get("RouteId"))
            for each in self._of("AWS::ApiGatewayV2::RouteResponse", api)
        }
        for name in self._of("AWS::ApiGatewayV2::Route", api):
            it = self._properties(name)
            key = self._text(it.get("RouteKey", ""))
            options = self._integration(self._name_in(it.get("Target")), key)
            if options is None:
                continue
            answers = name in responding or "RouteResponseSelectionExpression" in it
            described.routes.append({"key": key, **options, **({"response": True} if answers else {})})
            self._not_taken(key, it)
            if key == "$connect":
                self._route_auth(it)

    def _route_auth(self, route: Resource) -> None:
        kind = route.get("AuthorizationType", "NONE")
        if kind == "CUSTOM":
            authorizer = self._properties(self._name_in(route.get("AuthorizerId")))
            function = self._function_in_uri(authorizer.get("AuthorizerUri"))
            self._authorize(function, authorizer.get("IdentitySource") or [])
        elif kind != "NONE":
            self._described.auth = "token"
            self._described.note(f"AuthorizationType {kind}: clients need a token of the server's own instead")

    def _integration(self, name: str, key: str) -> Resource | None:
        it = self._properties(name)
        kind = it.get("IntegrationType")
        options: Resource | None
        if kind in ("AWS_PROXY", "AWS"):
            options = self._function(self._function_in_uri(it.get("IntegrationUri")), key)
        elif kind in ("HTTP_PROXY", "HTTP"):
            options = {"url": self._text(it.get("IntegrationUri", "")), "payload": "body"}
            if parameters := it.get("RequestParameters"):
                options["parameters"] = {each: self._text(value) for each, value in parameters.items()}
        elif kind == "MOCK":
            options = {"mock": ""}
        else:
            self._described.note(f"{key}: the integration {name or '(none)'} of type {kind}")
            return None
        for other in ("RequestTemplates", "TemplateSelectionExpression", "ContentHandlingStrategy"):
            if other in it:
                self._described.note(f"{key}: {other} of {name}")
        if options is not None and (timeout := it.get("TimeoutInMillis")):
            options["timeout"] = timeout / 1000
        return options

    # -------------------------------------------------------------------------------------------------------- functions

    def _function(self, name: str, key: str) -> Resource | None:
        """What runs a Lambda function of the template; None: it cannot be run here."""
        described = self._described
        it = {**(self._globals.get("Function") or {}), **self._properties(name)}
        if self._resources.get(name, {}).get("Type") not in FUNCTIONS or "Handler" not in it:
            described.note(f"{key}: the function {name or '(none)'} is not in this template")
            return None
        runtime = self._text(it.get("Runtime", "python"))
        if not runtime.startswith("python"):
            described.note(f"{key}: {name} runs on {runtime}: run it where that is, and give its `url`")
            return None
        code = it.get("CodeUri", it.get("Code", "."))
        if not isinstance(code, str):
            described.note(f"{key}: the code of {name} is not in a folder: give its `code`")
            code = "."
        options: Resource = {
            "function": self._text(it["Handler"]),
            "code": os.path.normpath(os.path.join(described.folder, code)),  # noqa: PTH118 - relative, as it is
        }
        if environment := self._environment(name, it, key):
            options["environment"] = environment
        return options

    def _environment(self, name: str, function: Resource, key: str) -> dict[str, str]:
        common = ((self._globals.get("Function") or {}).get("Environment") or {}).get("Variables") or {}
        own = (function.get("Environment") or {}).get("Variables") or {}
        found = {}
        for variable, value in {**common, **own}.items():
            text = self._text(value)
            if "${" in text:
                self._described.note(f"{key}: {variable} of {name} refers to {text}: set it")
            else:
                found[variable] = text
        return found

    def _authorize(self, function: str, identity: Any) -> None:
        options = self._function(function, "authorizer")
        if options is None:
            self._described.auth = "token"
            return
        sources = identity if isinstance(identity, list) else [identity]
        self._described.authorizer = {**options, "identity": [self._text(source) for source in sources]}

    def _not_taken(self, key: str, route: Resource) -> None:
        for other in ("ApiKeyRequired", "RequestModels", "ModelSelectionExpression", "RequestParameters"):
            if route.get(other):
                self._described.note(f"{key}: {other}")

    # ------------------------------------------------------------------------------------------------------- references

    def _properties(self, name: str) -> Resource:
        properties = self._resources.get(name, {}).get("Properties")
        return properties if isinstance(properties, dict) else {}

    def _of(self, kind: str, api: str) -> list[str]:
        """The resources of a type that belong to an API."""
        return [
            name
            for name, each in self._resources.items()
            if each.get("Type") == kind and self._name_in(self._properties(name).get("ApiId")) == api
        ]

    def _name_in(self, value: Any) -> str:
        """The resource that a value refers to; empty: none."""
        found = [name for name in _PLACEHOLDER.findall(self._text(value)) if name in self._resources]
        return found[-1] if found else ""

    def _function_in_uri(self, value: Any) -> str:
        found = _IN_FUNCTION_URI.findall(self._text(value))
        return found[0] if found else self._name_in(value)

    def _text(self, value: Any) -> str:
        """A value as text, with `${Name}` for what it refers to."""
        if isinstance(value, dict) and len(value) == 1:
            (function, argument), *_ = value.items()
            if function == "Ref":
                default = self._defaults.get(argument)
                return f"${{{argument}}}" if default is None else str(default)
            if function == "Fn::GetAtt":
                return f"${{{argument[0] if isinstance(argument, list) else argument.partition('.')[0]}}}"
            if function == "Fn::Sub":
                return self._substituted(argument)
            if function == "Fn::Join" and isinstance(argument, list) and len(argument) == 2:
                return str(argument[0]).join(self._text(each) for each in argument[1])
            return f"${{{function}}}"
        return value if isinstance(value, str) else "" if value is None else str(value)

    def _substituted(self, argument: Any) -> str:
        text, values = argument if isinstance(argument, list) else (argument, {})

        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            if name in values:
                return self._text(values[name])
            default = self._defaults.get(name)
            return match[0] if default is None else str(default)

        return _PLACEHOLDER.sub(replaced, str(text))

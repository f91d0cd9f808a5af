"""`freshet gateway import`: what is read of a description, what is not, and that what is written runs."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from freshet import Freshet
from freshet.cli.described import Described
from freshet.cli.imported import read
from freshet.config import load
from freshet.errors import ConfigError
from tests.tools.need import ROOT
from tests.tools.patience import seconds

FUNCTION = {"Type": "AWS::Serverless::Function", "Properties": {"Handler": "app.handler", "CodeUri": "src"}}
SAM = """
Globals:
  Function:
    Runtime: python3.13
    Environment: { Variables: { COMMON: c } }
Parameters:
  StageName: { Type: String, Default: prod }
Resources:
  Table: { Type: AWS::DynamoDB::Table }
  Chat:
    Type: AWS::Serverless::WebSocketApi
    Properties:
      RouteSelectionExpression: $request.body.kind
      StageName: !Ref StageName
      StageVariables: { table: t1 }
      Auth:
        AuthType: CUSTOM
        AuthArn: !GetAtt Authorize.Arn
        IdentitySource: [route.request.querystring.token]
      DefaultRouteSettings: { ThrottlingRateLimit: 10 }
      Routes:
        $connect: { FunctionArn: !GetAtt Connect.Arn }
        send:
          FunctionArn: !Sub "${Send.Arn}"
          IntegrationTimeout: 5000
          RouteResponseSelectionExpression: $default
          ApiKeyRequired: true
        other: { FunctionArn: "arn:aws:lambda:eu-west-1:123456789012:function:elsewhere" }
        node: { FunctionArn: !GetAtt InNode.Arn }
  Connect: { Type: AWS::Serverless::Function, Properties: { Handler: app.connect, CodeUri: src/ } }
  Send:
    Type: AWS::Serverless::Function
    Properties:
      Handler: app.send
      CodeUri: src
      Environment: { Variables: { OWN: o, TABLE: !Ref Table } }
  Authorize: { Type: AWS::Serverless::Function, Properties: { Handler: auth.handler } }
  InNode: { Type: AWS::Serverless::Function, Properties: { Handler: index.handler, Runtime: nodejs22.x } }
"""
SERVERLESS = """
service: chat
provider:
  name: aws
  runtime: python3.13
  stage: ${opt:stage, 'dev'}
  websocketsApiRouteSelectionExpression: $request.body.action
  environment: { TABLE: t1, URL: "${self:custom.url}" }
functions:
  connect:
    handler: src/app.connect
    events:
      - websocket: { route: $connect, authorizer: auth }
      - http: { path: /, method: get }
  default:
    handler: src/app.default
    events:
      - websocket: $default
  answer:
    handler: src/app.answer
    events:
      - websocket: { route: answer, routeResponseSelectionExpression: $default }
  auth: { handler: src/app.auth }
  js: { handler: index.js, runtime: nodejs22.x, events: [websocket: js] }
"""


def written(folder: Path, text: str, name: str = "template.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def options(described: Described) -> dict[str, Any]:
    """As the written file has them."""
    read_back: dict[str, Any] = tomllib.loads(described.toml())["gateway"]
    assert read_back == described.options()
    return read_back


def test_a_template_of_sam_in_the_newer_form(tmp_path: Path) -> None:
    described = read(written(tmp_path, SAM))
    code = str(tmp_path / "src")
    assert options(described) == {
        "stage": "prod",
        "selection": "$request.body.kind",
        "auth": "none",
        "variables": {"table": "t1"},
        "authorizer": {
            "function": "auth.handler",
            "code": str(tmp_path),
            "environment": {"COMMON": "c"},
            "identity": ["route.request.querystring.token"],
        },
        "routes": [
            {"key": "$connect", "function": "app.connect", "code": code, "environment": {"COMMON": "c"}},
            {
                "key": "send",
                "function": "app.send",
                "code": code,
                "environment": {"COMMON": "c", "OWN": "o"},
                "timeout": 5.0,
                "response": True,
            },
        ],
    }
    for word in ("ApiKeyRequired", "DefaultRouteSettings", "${Table}", "nodejs22.x", "not in this template"):
        assert any(word in note for note in described.notes), word


def test_a_template_in_the_older_form_that_aws_s_tutorial_has(tmp_path: Path) -> None:
    described = read(ROOT / "examples" / "aws_chat" / "template.yaml")
    assert described.notes == []
    assert [(route["key"], route["function"]) for route in described.routes] == [
        ("$connect", "chat.connect"),
        ("$disconnect", "chat.disconnect"),
        ("sendmessage", "chat.send"),
    ]
    assert (described.stage, described.auth) == ("dev", "none")
    file = tmp_path / "freshet.toml"
    file.write_text(described.toml())
    Freshet(config=load(file, {}))


def test_integrations_of_every_kind_in_cloudformation(tmp_path: Path) -> None:
    def integration(kind: str, **more: Any) -> dict[str, Any]:
        properties = {"ApiId": {"Ref": "Api"}, "IntegrationType": kind, **more}
        return {"Type": "AWS::ApiGatewayV2::Integration", "Properties": properties}

    def route(key: str, target: str, **more: Any) -> dict[str, Any]:
        joined = {"Fn::Join": ["/", ["integrations", {"Ref": target}]]}
        properties = {"ApiId": {"Ref": "Api"}, "RouteKey": key, "Target": joined, **more}
        return {"Type": "AWS::ApiGatewayV2::Route", "Properties": properties}

    uri = "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Function.Arn}/invocations"
    parameters = {"integration.request.header.connectionId": "context.connectionId"}
    resources = {
        "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"ProtocolType": "WEBSOCKET"}},
        "Rest": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"ProtocolType": "HTTP"}},
        "Function": FUNCTION,
        "Lambda": integration("AWS_PROXY", IntegrationUri={"Fn::Sub": uri}, TimeoutInMillis=1500),
        "Http": integration("HTTP_PROXY", IntegrationUri="https://example.org/", RequestParameters=parameters),
        "Mock": integration("MOCK", RequestTemplates={"200": "{}"}),
        "Unknown": integration("OTHER"),
        "Authorizer": {
            "Type": "AWS::ApiGatewayV2::Authorizer",
            "Properties": {"AuthorizerUri": {"Fn::Sub": uri}, "IdentitySource": "route.request.header.Auth"},
        },
        "R1": route("$connect", "Lambda", AuthorizationType="CUSTOM", AuthorizerId={"Ref": "Authorizer"}),
        "R2": route("http", "Http"),
        "R3": route("mock", "Mock"),
        "R4": route("unknown", "Unknown"),
        "Response": {
            "Type": "AWS::ApiGatewayV2::RouteResponse",
            "Properties": {"ApiId": {"Ref": "Api"}, "RouteId": {"Ref": "R3"}},
        },
    }
    described = read(written(tmp_path, json.dumps({"Resources": resources}), "template.json"))
    function = {"function": "app.handler", "code": str(tmp_path / "src")}
    assert options(described)["routes"] == [
        {"key": "$connect", **function, "timeout": 1.5},
        {"key": "http", "url": "https://example.org/", "payload": "body", "parameters": parameters},
        {"key": "mock", "mock": "", "response": True},
    ]
    assert described.authorizer == {**function, "identity": ["route.request.header.Auth"]}
    assert any("RequestTemplates" in note for note in described.notes)
    assert any("unknown" in note for note in described.notes)


def test_clients_that_iam_lets_in_need_a_token_instead(tmp_path: Path) -> None:
    text = SAM.replace("AuthType: CUSTOM", "AuthType: AWS_IAM")
    described = read(written(tmp_path, text))
    assert described.auth == "token"
    assert any("AWS_IAM" in note for note in described.notes)


def test_a_service_of_the_serverless_framework(tmp_path: Path) -> None:
    described = read(written(tmp_path, SERVERLESS, "serverless.yml"))
    common = {"code": str(tmp_path), "environment": {"TABLE": "t1"}}
    assert options(described) == {
        "stage": "dev",
        "selection": "$request.body.action",
        "auth": "none",
        "authorizer": {"function": "src/app.auth", **common, "identity": ["route.request.header.Auth"]},
        "routes": [
            {"key": "$connect", "function": "src/app.connect", **common},
            {"key": "$default", "function": "src/app.default", **common},
            {"key": "answer", "function": "src/app.answer", **common, "response": True},
        ],
    }
    for word in ("provider.stage", "custom.url", "nodejs22.x"):
        assert any(word in note for note in described.notes), word


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: [",
        "{not json",
        "Resources: {}",
        "Resources: { A: 7 }",
        "functions: { a: { events: [] } }",
        "Resources: { Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: HTTP } } }",
        "!!python/object/apply:os.system [exit]",
    ],
)
def test_what_is_no_websocket_api_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"template\.yaml"):
        read(written(tmp_path, text))


def test_a_value_of_a_template_is_a_value_in_what_is_written(tmp_path: Path) -> None:
    """Whatever is in a template, it becomes no option of its own."""
    evil = 'a"\n[tokens]\nanonymous = true\n#'
    described = Described(".")
    described.note("a note\n[tokens]\nanonymous = true")
    described.variables = {evil: evil, "\x7f": "\x7f\u00e9\U0001f600"}
    described.routes = [{"key": evil, "mock": evil}]
    assert set(tomllib.loads(described.toml())) == {"gateway"}
    options(described)


def test_the_command_writes_a_file_says_what_is_left_and_overwrites_none(tmp_path: Path) -> None:
    template = written(tmp_path, SAM)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "freshet", "gateway", "import", str(template), *arguments],
            capture_output=True,
            text=True,
            timeout=seconds(20),
            check=False,
        )

    shown = run()
    assert (shown.returncode, tomllib.loads(shown.stdout)["gateway"]["stage"]) == (0, "prod")
    assert "not taken over: " in shown.stderr
    file = tmp_path / "freshet.toml"
    done = run("--output", str(file))
    assert (done.returncode, f"freshet serve --dev --config {file}" in done.stderr) == (0, True)
    assert file.read_text() == shown.stdout
    again = run("--output", str(file))
    assert (again.returncode, file.read_text(), "--output FILE" in again.stderr) == (2, shown.stdout, True)
    template.write_text("a: [")
    assert run().returncode == 2

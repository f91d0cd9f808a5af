"""The options of `[gateway]`: a WebSocket API as AWS API Gateway has it."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from freshet.config.redacted import Redacted
from freshet.config.units import COUNT, KIB, MIB, SIZE, TIME


class GatewayIntegration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What answers: exactly one of `function`, `url`, `mock`."""

    function: Annotated[
        str, Meta(description="A Lambda handler in Python by its name, `app.handler` or `folder/app.handler`.")
    ] = ""
    code: Annotated[str, Meta(description="The folder of the function, which it may import from.")] = "."
    isolation: Annotated[
        Literal["process", "thread"],
        Meta(description="Where the function runs: in processes of its own, which end with its time, or in threads."),
    ] = "process"
    environment: Annotated[dict[str, str], Meta(description="Environment variables of the function's processes.")] = {}
    concurrency: Annotated[
        int, Meta(ge=1, le=1000, description="How many run at a time; others wait.", extra=COUNT)
    ] = 8
    url: Annotated[str, Meta(description="A back end that is asked by `POST`.")] = ""
    payload: Annotated[
        Literal["event", "body"],
        Meta(description="What the back end gets: AWS's proxy event as JSON, or the message as it came (HTTP_PROXY)."),
    ] = "event"
    parameters: Annotated[
        dict[str, str],
        Meta(
            description="Headers and query of that request: "
            '`{ "integration.request.header.connectionId" = "context.connectionId" }`, or a text in `\'`.'
        ),
    ] = {}
    mock: Annotated[str | None, Meta(description="Nobody is asked: the answer's body.")] = None
    status: Annotated[int, Meta(ge=200, le=599, description="The status of a mock.", extra={"unit": "status"})] = 200
    timeout: Annotated[
        float, Meta(ge=0.05, le=86400, description="For an answer; AWS allows 29 at most.", extra=TIME)
    ] = 29.0


class GatewayRoute(GatewayIntegration, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens to messages of one kind."""

    key: Annotated[str, Meta(min_length=1, description="`$connect`, `$disconnect`, `$default`, or a key of your own.")]
    response: Annotated[bool, Meta(description="The client gets the body of the answer (a route response).")] = False


class GatewayAuthorizer(GatewayIntegration, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A REQUEST authorizer, which is asked before `$connect`: it answers with a policy document."""

    identity: Annotated[
        list[str],
        Meta(
            description="What a request must have, else it gets 401: `route.request.header.Auth`, "
            "`route.request.querystring.token`."
        ),
    ] = []


class GatewayKey(Redacted, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pair of keys with which calls of `@connections` are signed (SigV4)."""

    id: Annotated[str, Meta(min_length=1, description="The access key's id.")]
    secret: Annotated[str | None, Meta(description="The secret access key.")] = None
    secret_env: Annotated[str | None, Meta(description="The environment variable that holds it.")] = None


class GatewayOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A WebSocket API as AWS API Gateway has it, at `/{stage}`, and `/{stage}/@connections`."""

    stage: Annotated[
        str, Meta(pattern="^[A-Za-z0-9_-]{0,128}$", description="The stage, which is its path; empty: there is none.")
    ] = ""
    selection: Annotated[str, Meta(min_length=1, description="The route selection expression.")] = (
        "$request.body.action"
    )
    routes: Annotated[list[GatewayRoute], Meta(description="The routes that are not in Python.")] = []
    auth: Annotated[
        Literal["token", "none"],
        Meta(
            description="Who may connect where there is no authorizer: as everywhere else (a token, or who "
            "`tokens.anonymous` lets in), or everybody, as at AWS without one."
        ),
    ] = "token"
    authorizer: Annotated[GatewayAuthorizer | None, Meta(description="Who may connect, by your own function.")] = None
    variables: Annotated[dict[str, str], Meta(description="Stage variables, which are in each event.")] = {}
    api_id: Annotated[str, Meta(min_length=1, description="`apiId` of the events.")] = "local"
    region: Annotated[str, Meta(min_length=1, description="The region in ARNs and signatures.")] = "local"
    account: Annotated[str, Meta(min_length=1, description="The account in ARNs.")] = "000000000000"
    domain: Annotated[
        str,
        Meta(
            description="`domainName` of the events, where functions call `@connections`; empty: the host that the "
            "client asked for, if `hosts` says which there are, otherwise the address at which it came in."
        ),
    ] = ""
    keys: Annotated[
        list[GatewayKey],
        Meta(
            description="Whose calls of `@connections` are answered; empty: none, with `--dev` those of this machine."
        ),
    ] = []
    limits: Annotated[
        Literal["none", "aws"],
        Meta(
            description="aws: messages of 128 KiB in frames of 32 KiB, no binary ones, 10 minutes idle, 2 hours in "
            "all, 29 seconds for an integration."
        ),
    ] = "none"
    message_size: Annotated[int, Meta(ge=128, description="A message, from a client or to one.", extra=SIZE)] = 1 * MIB
    lease: Annotated[
        float,
        Meta(
            ge=0.5,
            le=300,
            description="After which the other nodes run `$disconnect` for the clients of one that died.",
            extra=TIME,
        ),
    ] = 5.0

    @property
    def enabled(self) -> bool:
        """Whether the configuration alone makes one."""
        return bool(self.stage or self.routes)


AWS_MESSAGE, AWS_FRAME = 128 * KIB, 32 * KIB
AWS_IDLE, AWS_LIFETIME, AWS_INTEGRATION = 600.0, 7200.0, 29.0

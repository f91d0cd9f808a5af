"""The options of `[tokens]`, `[api]`, `[webhooks]`: who may connect, who may call, who is asked. They hold secrets."""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from freshet.config.redacted import Redacted
from freshet.config.units import COUNT, KIB, MIB, MINUTES, SECONDS, SIZE, TIME

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class TokenKey(Redacted, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of several keys: a secret or a public key. Tokens say by their `kid` which one they are signed with."""

    kid: Annotated[str, Meta(min_length=1, description="The key's id, which a token has in its header.")]
    secret: Annotated[str | None, Meta(description="A secret (HMAC).")] = None
    secret_env: Annotated[str | None, Meta(description="The environment variable that holds the secret.")] = None
    public_key: Annotated[str | None, Meta(description="A public key: PEM, or the file that holds it.")] = None


class Tokens(Redacted, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may connect."""

    secret: Annotated[str | None, Meta(description="Checks clients' tokens (HMAC).")] = None
    secret_env: Annotated[str, Meta(description="The environment variable that holds the secret.")] = "FRESHET_SECRET"
    public_key: Annotated[
        str | None,
        Meta(description="Checks tokens that others sign: PEM (RSA, EC, Ed25519), or the file that holds it."),
    ] = None
    keys: Annotated[list[TokenKey], Meta(description="Several keys, so that they can be changed one by one.")] = []
    jwks: Annotated[
        str | None,
        Meta(description="Where the public keys of tokens are published, a JSON Web Key Set: `https://...`."),
    ] = None
    jwks_refresh: Annotated[
        float, Meta(ge=30, le=86400, description="After which the key set is fetched again.", extra=TIME)
    ] = 5 * MINUTES
    algorithms: Annotated[
        list[Algorithm], Meta(description="The signatures that are accepted, of those that fit a key.", min_length=1)
    ] = msgspec.field(default_factory=lambda: list(get_args(Algorithm)))
    audience: Annotated[str | None, Meta(description="What a token's `aud` must be.")] = None
    issuer: Annotated[str | None, Meta(description="What a token's `iss` must be.")] = None
    type: Annotated[str | None, Meta(description="What a token's `typ` must be, such as `at+jwt`.")] = None
    leeway: Annotated[float, Meta(ge=0, le=3600, description="Clock skew that is tolerated.", extra=TIME)] = 0
    require_expiry: Annotated[bool, Meta(description="A token without `exp` is refused.")] = False
    max_lifetime: Annotated[
        float,
        Meta(
            ge=0,
            description="A token whose `exp` is missing or further away is refused, and a revocation is kept so long; "
            "0: any, for ever.",
            extra=TIME,
        ),
    ] = 0
    cookie: Annotated[str | None, Meta(description="The cookie that holds a client's token.")] = None
    anonymous: Annotated[bool, Meta(description="Clients without a token may connect.")] = False


class Api(Redacted, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The server API, `/api/{method}`."""

    key: Annotated[str | None, Meta(description="What a caller sends as `X-API-Key`.")] = None
    key_env: Annotated[str, Meta(description="The environment variable that holds the key.")] = "FRESHET_API_KEY"
    anonymous: Annotated[bool, Meta(description="Callers need no key.")] = False
    body_size: Annotated[int, Meta(ge=1 * KIB, description="The body of one request.", extra=SIZE)] = 1 * MIB


class Webhooks(Redacted, Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The application's word over HTTP, signed as Standard Webhooks says. A hook in Python takes the place of one."""

    url: Annotated[str | None, Meta(description="Where the application is asked and notified.")] = None
    secret: Annotated[
        str | None,
        Meta(description="Signs the requests: `whsec_` and base64. Several, with spaces between: the key is changing."),
    ] = None
    secret_env: Annotated[str, Meta(description="The environment variable that holds the secret.")] = (
        "FRESHET_WEBHOOK_SECRET"
    )
    events: Annotated[
        list[Literal["connect", "refresh", "rpc", "disconnect"]],
        Meta(description="What of a client the application is asked (connect, refresh, rpc) and notified of."),
    ] = []
    headers: Annotated[
        list[str], Meta(description="Headers of a client's request that the application is shown, such as `cookie`.")
    ] = []
    timeout: Annotated[float, Meta(gt=0, le=60, description="For an answer.", extra=TIME)] = 5 * SECONDS
    concurrency: Annotated[int, Meta(ge=1, description="Requests at a time.", extra=COUNT)] = 64

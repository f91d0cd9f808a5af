"""What an authorizer's policy lets in: a Deny comes before every Allow, and what cannot be evaluated opens nothing."""

from typing import Any

import pytest

from freshet.endpoints.gateway.authorizer import Forbidden, judged
from freshet.endpoints.gateway.integrations import IntegrationFailed

ARN = "arn:aws:execute-api:local:000000000000:local/dev/$connect"
ALLOW = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": ARN}
DENY = {**ALLOW, "Effect": "Deny"}


def judge(*statements: Any) -> str:
    answer = {"principalId": "alice", "policyDocument": {"Version": "2012-10-17", "Statement": list(statements)}}
    return judged(answer, ARN, 0)[0]


@pytest.mark.parametrize(
    "statement",
    [
        ALLOW,
        {**ALLOW, "Sid": "any name"},
        {**ALLOW, "Action": ["execute-api:*", "s3:Get"], "Resource": ["arn:of:another", "*"]},
        {**ALLOW, "Action": "EXECUTE-API:INVOKE"},
        {**ALLOW, "Resource": "arn:aws:execute-api:*:*:*/dev/$connect"},
        {**ALLOW, "Resource": ARN.replace("dev", "d?v")},
        {"Effect": "Allow", "NotAction": "s3:*", "NotResource": "arn:of:another"},
    ],
)
def test_what_is_allowed_comes_in(statement: Any) -> None:
    assert judge(statement) == "alice"
    assert judge({**DENY, "Resource": "arn:of:another"}, statement) == "alice"


@pytest.mark.parametrize(
    "deny",
    [
        DENY,
        {**DENY, "Action": "*"},
        {**DENY, "Action": "execute-api:invoke"},
        {**DENY, "Resource": ["arn:of:another", "*"]},
        {"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "*", "NotResource": "arn:of:another"},
    ],
)
def test_a_deny_comes_before_whatever_else_allows_it(deny: Any) -> None:
    """NATS, secnote-2026-18: a rule that denies was passed by together with another."""
    for statements in ((ALLOW, deny), (deny, ALLOW), (ALLOW, ALLOW, deny)):
        with pytest.raises(Forbidden, match="denies"):
            judge(*statements)


@pytest.mark.parametrize(
    "statement",
    [
        {**ALLOW, "Resource": "arn:of:another"},
        {**ALLOW, "Resource": ARN[:-1]},
        {**ALLOW, "Resource": []},
        {**ALLOW, "Action": "execute-api:ManageConnections"},
        {"Effect": "Allow", "NotAction": "execute-api:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "*", "NotResource": ARN},
        {"Effect": "Allow"},
    ],
)
def test_what_is_about_something_else_allows_nothing(statement: Any) -> None:
    with pytest.raises(Forbidden, match="allows nothing"):
        judge(statement)


@pytest.mark.parametrize(
    "statement",
    [
        {**ALLOW, "Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}},
        {**DENY, "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        {**DENY, "Effect": "deny"},
        {**ALLOW, "Effect": "allow"},
        {**ALLOW, "NotResource": "arn:of:another"},
        {**ALLOW, "Resources": "*"},
        {**ALLOW, "Resource": 7},
    ],
)
def test_what_cannot_be_evaluated_lets_nobody_in(statement: Any) -> None:
    with pytest.raises(IntegrationFailed, match="cannot be read"):
        judge(ALLOW, statement)

"""All that is fuzzed."""

from tests.fuzz import brokers, codec, credentials, protocols, requests, tokens, webhooks, wire

TARGETS = [
    target
    for module in (codec, protocols, tokens, credentials, brokers, wire, requests, webhooks)
    for target in module.TARGETS
from tests.fuzz import brokers, codec, gateway, protocols, requests, tokens, webhooks

TARGETS = [
    *codec.TARGETS,
    *protocols.TARGETS,
    *tokens.TARGETS,
    *brokers.TARGETS,
    *requests.TARGETS,
    *webhooks.TARGETS,
    *gateway.TARGETS,
]

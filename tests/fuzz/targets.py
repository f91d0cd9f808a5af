"""All that is fuzzed."""

from tests.fuzz import brokers, codec, credentials, gateway, protocols, requests, tokens, webhooks, wire

TARGETS = [
    target
    for module in (codec, protocols, tokens, credentials, brokers, wire, requests, webhooks, gateway)
    for target in module.TARGETS
]

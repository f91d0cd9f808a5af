"""All that is fuzzed."""

from tests.fuzz import brokers, codec, protocols, requests, tokens, webhooks

TARGETS = [*codec.TARGETS, *protocols.TARGETS, *tokens.TARGETS, *brokers.TARGETS, *requests.TARGETS, *webhooks.TARGETS]

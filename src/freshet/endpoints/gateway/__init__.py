"""WebSocket APIs as AWS API Gateway has them: routes, integrations, events, `@connections`."""

"""The URLs of operators and their tools."""

from starlette.routing import BaseRoute, Route

from freshet.ops.health import Health
from freshet.ops.metrics import MetricsEndpoint


def health_routes(health: Health) -> list[BaseRoute]:
    return [
        Route("/health/live", health.live, methods=["GET"]),
        Route("/health/ready", health.ready, methods=["GET"]),
    ]


def metrics_routes(metrics: MetricsEndpoint) -> list[BaseRoute]:
    return [Route("/metrics", metrics.__call__, methods=["GET"])]

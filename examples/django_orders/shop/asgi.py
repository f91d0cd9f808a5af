"""Freshet under /live, Django everywhere else."""

import os

from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.routing import Mount

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django = get_asgi_application()

from shop.live import live  # noqa: E402 - Django comes first

application = Starlette(lifespan=live.lifespan, routes=[Mount("/live", live), Mount("/", django)])

"""A Freshet in which everybody may do everything, for any ASGI server."""

from freshet import Freshet

live = Freshet(dev=True, environment={})

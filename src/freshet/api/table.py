"""All methods of the server API but `batch`, which runs these."""

from freshet.api.maps import MAP_METHODS
from freshet.api.methods import CHANNEL_METHODS, Method

METHODS: dict[str, Method] = {**CHANNEL_METHODS, **MAP_METHODS}

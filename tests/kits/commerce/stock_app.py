"""A server with 100 lamps."""

from freshet import Freshet
from freshet.kits.commerce import Inventory

live = Freshet.from_config()


@live.room("stock:{article}")
class HundredLamps(Inventory):
    total, hold, most = 100, 600.0, 2

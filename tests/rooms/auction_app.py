"""A server with an auction."""

from freshet import Freshet
from tests.rooms.test_rooms import Auction

live = Freshet.from_config()
live.room("auction:{lot}")(Auction)

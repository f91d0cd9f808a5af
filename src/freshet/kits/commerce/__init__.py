"""Rooms for selling: an auction, a stock of goods that cannot be oversold, and a sale that ends for all at once."""

from freshet.kits.commerce.auction import Auction, Bid
from freshet.kits.commerce.bidding import Bidding, LogEntry, Terms, WrongLog, verify
from freshet.kits.commerce.countdown import Countdown
from freshet.kits.commerce.inventory import Commit, Inventory, Release, Reserve
from freshet.kits.commerce.stock import Hold, Stock

__all__ = [
    "Auction",
    "Bid",
    "Bidding",
    "Commit",
    "Countdown",
    "Hold",
    "Inventory",
    "LogEntry",
    "Release",
    "Reserve",
    "Stock",
    "Terms",
    "WrongLog",
    "verify",
]

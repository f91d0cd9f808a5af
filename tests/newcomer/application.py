"""What a newcomer has by now: a FastAPI application with Freshet in it, closed to strangers."""

from fastapi import FastAPI

from freshet import Freshet, History
from tests.newcomer.mistakes import SECRET

live = Freshet(secret=SECRET, api_key="key", environment={})
live.channel("news", history=History(size=10, ttl=60))

api = FastAPI(lifespan=live.lifespan)
api.mount("/live", live)

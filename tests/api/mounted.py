"""An application that has Freshet below `/live`."""

from fastapi import FastAPI

from freshet import Freshet

live = Freshet(dev=True)
api = FastAPI(lifespan=live.lifespan)
api.mount("/live", live)

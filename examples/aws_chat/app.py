"""The same handlers in the server itself: the first step off AWS."""

import sys
from pathlib import Path

from freshet import Freshet

sys.path.insert(0, str(Path(__file__).parent / "src"))
chat = __import__("chat")

live = Freshet(dev=True)
gateway = live.gateway(stage="dev")
gateway.handler("$connect", chat.connect)
gateway.handler("$disconnect", chat.disconnect)
gateway.handler("sendmessage", chat.send)

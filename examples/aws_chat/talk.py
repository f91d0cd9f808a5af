"""Sends one message, and waits until it comes back."""

import json
import os
import sys

from websockets.sync.client import connect

with connect(os.environ.get("FRESHET_URL", "http://127.0.0.1:8000").replace("http", "ws", 1) + "/dev") as socket:
    socket.send(json.dumps({"action": "sendmessage", "data": sys.argv[1]}))
    print("received", socket.recv(timeout=20))

"""The same chat without a table: connections are in a channel, and a message to all is one publication."""

import msgspec

from freshet import Freshet

live = Freshet(dev=True)
gateway = live.gateway(stage="dev")


class Message(msgspec.Struct):
    data: str


@gateway.route("hello")
async def hello(connection, data):
    await connection.subscribe("chat")
    return "welcome"


@gateway.route("sendmessage")
async def send(connection, data: Message):
    await live.publish("chat", {"data": data.data})

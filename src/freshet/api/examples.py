"""One request and its answer for each method of the server API, for the description and for the page to try it."""

from typing import Any, NamedTuple


class Example(NamedTuple):
    """request: a body. answer: what is in `result`, or all that `batch` answers."""

    request: dict[str, Any]
    answer: dict[str, Any]


_PLACE = {"offset": 7, "epoch": "kd83"}
_CLIENT = {"user": "alice", "client": "c0ffee", "conn_info": {"name": "Alice"}}
_NODE = {
    "uid": "5f1c9a70",
    "name": "freshet",
    "version": "1.0.0",
    "num_clients": 2,
    "num_users": 1,
    "num_subs": 3,
    "num_channels": 2,
    "uptime": 60,
}

EXAMPLES: dict[str, Example] = {
    "publish": Example({"channel": "news", "data": {"text": "hello"}}, _PLACE),
    "broadcast": Example(
        {"channels": ["news", "sports"], "data": {"text": "hello"}},
        {"responses": [{"result": _PLACE}, {"result": {"offset": 3, "epoch": "kd83"}}]},
    ),
    "batch": Example(
        {
            "commands": [
                {"publish": {"channel": "news", "data": {"text": "hello"}}},
                {"presence_stats": {"channel": "news"}},
            ]
        },
        {"replies": [{"publish": _PLACE}, {"presence_stats": {"num_clients": 2, "num_users": 1}}]},
    ),
    "history": Example(
        {"channel": "news", "limit": 10},
        {"publications": [{"data": {"text": "hello"}, "offset": 7}], **_PLACE},
    ),
    "history_remove": Example({"channel": "news"}, {}),
    "presence": Example({"channel": "news"}, {"presence": {"c0ffee": _CLIENT}}),
    "presence_stats": Example({"channel": "news"}, {"num_clients": 2, "num_users": 1}),
    "channels": Example({"pattern": "*"}, {"channels": {"news": {"num_clients": 2}}}),
    "subscribe": Example({"user": "alice", "channel": "news"}, {}),
    "unsubscribe": Example({"user": "alice", "channel": "news"}, {}),
    "disconnect": Example({"user": "alice", "disconnect": {"code": 4501, "reason": "see you"}}, {}),
    "revoke": Example({"user": "alice"}, {}),
    "refresh": Example({"user": "alice", "expire_at": 1893456000}, {}),
    "map_publish": Example({"channel": "lobby:1", "key": "title", "data": "Hello"}, {"data": "Hello"}),
    "map_remove": Example({"channel": "lobby:1", "key": "title"}, {}),
    "map_add": Example({"channel": "lobby:1", "key": "votes", "number": 2}, {"data": 7}),
    "map_read_state": Example({"channel": "lobby:1"}, {"entries": [{"key": "title", "data": "Hello"}], "cursor": ""}),
    "map_stats": Example({"channel": "lobby:1"}, {"num_keys": 1}),
    "map_clear": Example({"channel": "lobby:1"}, {}),
    "rpc": Example({"method": "time", "data": {"zone": "UTC"}}, {"data": "12:00"}),
    "info": Example({}, {"nodes": [_NODE]}),
}

"""The Autobahn suite against our WebSocket codec."""

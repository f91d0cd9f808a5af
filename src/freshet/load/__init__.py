"""The load of `freshet bench`: clients in several processes, on one clock, against any server.

plan.py        what a process does; it comes on its stdin
tally.py       stamps, latencies, and by their sequence what was lost
clients.py     a client of each protocol over WebSocket; http_clients.py: event streams, long polls, the server API
crowd.py       the clients of a process: they connect, publish at their times, and come back
loads.py       the loads, by name
worker.py      a process; conductor.py: all of them, and their samples merged
report.py      the figures, as a table and as JSON; plot.py: as SVG
"""

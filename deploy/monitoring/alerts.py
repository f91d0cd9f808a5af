"""When somebody is to be woken, and what to do then."""

from typing import NamedTuple


class Alert(NamedTuple):
    """summary: what happened. impact: who feels it. action: what to do first, a sentence each."""

    name: str
    expr: str
    wait: str
    severity: str
    summary: str
    impact: str
    action: str


ALERTS = [
    Alert(
        "FreshetDown",
        'up{job="freshet"} == 0',
        "1m",
        "critical",
        "{{ $labels.instance }} does not answer.",
        "Its clients have reconnected to the other nodes; without any, nobody is served.",
        "Look at its log, and at the machine. Start it again; clients come back by themselves.",
    ),
    Alert(
        "FreshetReconnectStorm",
        "sum by (instance) (increase(freshet_reconnected_total[5m])) > 50"
        " and sum by (instance) (increase(freshet_reconnected_total[5m])) > 0.5 * sum by (instance) (freshet_clients)",
        "1m",
        "warning",
        "{{ $labels.instance }}: more than half as many clients as it has came back within 5 minutes.",
        "Connects cost more than messages: the nodes are busy, and clients are away for a moment.",
        "See `freshet_ended_total` by code for why they went: 3012 is a network or a proxy that cuts idle connections,"
        " 3008 slow clients, 3010 lost logs. If a node was replaced, let it drain (`timing.drain`).",
    ),
    Alert(
        "FreshetDeliveryLate",
        "histogram_quantile(0.99, sum by (instance, le) (rate(freshet_delivery_latency_seconds_bucket[5m]))) > 0.5",
        "5m",
        "warning",
        "{{ $labels.instance }}: one in a hundred deliveries takes more than half a second.",
        "Users see news late.",
        "Compare it with the loop's lag (a worker has too much to do), with the time until a publication is accepted"
        " (the engine is slow) and with the clocks of the machines, which this is measured by.",
    ),
    Alert(
        "FreshetLate",
        "histogram_quantile(0.99, sum by (instance, worker, le) (rate(freshet_loop_lag_seconds_bucket[5m]))) > 0.1",
        "5m",
        "warning",
        "{{ $labels.instance }}, worker {{ $labels.worker }}: the event loop is more than 100 ms late.",
        "Everything that its clients do waits as long.",
        "It has more to do than one core can, or one of your hooks blocks. Add workers or nodes; move what blocks"
        " to a thread.",
    ),
    Alert(
        "FreshetCannotPublish",
        "sum by (instance) (rate(freshet_unpublished_total[1m])) > 0",
        "1m",
        "critical",
        "{{ $labels.instance }}: publications fail, as the engine is not available.",
        "Publishers get an error, and nothing new reaches subscribers.",
        "Look at Redis or NATS. Publishers can publish again with the same idempotency key.",
    ),
    Alert(
        "FreshetEngineAway",
        "max by (instance) (freshet_engine_away_seconds) > 10",
        "30s",
        "critical",
        "{{ $labels.instance }}: the engine does not answer.",
        "Clients stay connected and get nothing from other nodes; new subscriptions are refused.",
        "Look at Redis or NATS, and at the network. Nodes reconnect by themselves, and fill gaps from the logs.",
    ),
    Alert(
        "FreshetLogsLost",
        "sum by (instance) (increase(freshet_losses_total[5m])) > 0",
        "0s",
        "warning",
        "{{ $labels.instance }}: channels have gaps that their logs cannot fill; their subscribers reconnect.",
        "Clients were told that they missed something, and have to read the state anew.",
        "The broker lost its data, or `history.size` is too small for the time that nodes are cut off.",
    ),
    Alert(
        "FreshetUnrecovered",
        "sum by (instance) (rate(freshet_unrecovered_total[10m]))"
        " > 0.05 * sum by (instance) (rate(freshet_recovered_total[10m]) + rate(freshet_unrecovered_total[10m]))",
        "10m",
        "warning",
        "{{ $labels.instance }}: more than one in twenty returning subscriptions cannot recover.",
        "These clients were told that they missed something, and have to read the state anew.",
        "Clients are away for longer than `history` keeps; raise its `ttl` or `size`.",
    ),
    Alert(
        "FreshetTurnsAway",
        "sum by (instance) (rate(freshet_turned_away_total[5m])) > 1",
        "5m",
        "warning",
        "{{ $labels.instance }}: new clients have not been admitted for minutes, and try again.",
        "They wait at the door for up to half a minute.",
        "Add nodes, or raise `limits.connects_per_second`.",
    ),
    Alert(
        "FreshetSlowClients",
        'sum by (instance) (increase(freshet_ended_total{code="3008"}[5m])) > 10'
        ' and sum by (instance) (increase(freshet_ended_total{code="3008"}[5m]))'
        " > 0.01 * sum by (instance) (freshet_clients)",
        "5m",
        "warning",
        "{{ $labels.instance }}: more than one in a hundred clients do not read in time, and are disconnected.",
        "They reconnect and recover, which costs more than the messages did.",
        'Publish less to each, let the rule conflate (`slow = "latest"`), or raise `limits.outbox`.',
    ),
    Alert(
        "FreshetNearFileLimit",
        "freshet_open_files / (freshet_max_files > 0) > 0.8",
        "2m",
        "warning",
        "{{ $labels.instance }}, worker {{ $labels.worker }}: four in five of the files that it may open are open.",
        "At the limit new clients are turned away.",
        "Raise `LimitNOFILE` or `ulimit -n`, or add workers or nodes.",
    ),
]

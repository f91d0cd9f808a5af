"""What a client that shows a channel with runs keeps: the messages, grown by each event. It complains of gaps."""

from typing import Any

from freshet.model.run_aggregate import Aggregate

ENDED = ("finished", "stopped", "failed")


class Viewer:
    """messages: by id, the parts. states: of runs. seqs: of their last events."""

    def __init__(self) -> None:
        self.messages: dict[str, Aggregate] = {}
        self.states: dict[str, str] = {}
        self.seqs: dict[str, int] = {}
        self.summaries = 0

    def take(self, data: dict[str, Any]) -> None:
        if "messages" in data:
            self._begin(data)
            return
        run, seq = data["run"], data["seq"]
        if seq == 0:
            self.messages[run] = Aggregate()
            self.seqs[run] = -1
        assert seq == self.seqs[run] + 1, f"a gap or a repeat in {run}: {self.seqs[run]}, then {seq}"
        self.seqs[run] = seq
        for part in data["parts"]:
            self.messages[run].apply(part)
        self.states[run] = data.get("state") or self.states[run]

    def _begin(self, summary: dict[str, Any]) -> None:
        self.summaries += 1
        self.messages, self.states, self.seqs = {}, {}, {}
        for message in summary["messages"]:
            if message["role"] == "assistant":
                self.messages[message["id"]] = Aggregate(message["parts"])
                self.states[message["id"]] = message["metadata"]["run"]["state"]
        for run in summary["runs"]:
            self.seqs[run["run"]] = run["seq"]
            self.states[run["run"]] = run["state"]

    def text(self, run: str) -> str:
        return self.messages[run].text if run in self.messages else ""

    def has_ended(self, run: str) -> bool:
        return self.states.get(run) in ENDED

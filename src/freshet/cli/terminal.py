"""Tables and colours, for the commands that show them: rich, which the others do not wait for."""

from rich.console import Console

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)

"""One function per command, and the dispatcher that runs them."""

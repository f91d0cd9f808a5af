"""In what options are counted: their values, and what the reference says of a size, a time, a count, a frequency."""

KIB = 1024
MIB = 1024 * KIB
SECONDS = 1
MINUTES = 60 * SECONDS

SIZE, TIME, COUNT, FREQUENCY = ({"unit": unit} for unit in ("bytes", "seconds", "count", "a second"))

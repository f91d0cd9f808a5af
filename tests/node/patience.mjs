// The scale of all timeouts of the tests: see tests/tools/patience.py.

/** In milliseconds, as timers want them. */
export const seconds = (number) => number * 1000 * Number(process.env.FRESHET_TEST_SCALE ?? 1);

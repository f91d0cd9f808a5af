// Numbers, times and names as people read them.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const NOTHING = "–";

export function count(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return NOTHING;
  return Math.abs(value) < 100_000 ? plain.format(value) : compact.format(value);
}

/** A rate: small ones have a fraction. */
export function rate(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return NOTHING;
  return value > 0 && value < 10 ? fine.format(value) : count(value);
}

export function bytes(value: number): string {
  if (value < 1024) return `${value} B`;
  for (const [unit, size] of [["KiB", 2 ** 10], ["MiB", 2 ** 20], ["GiB", 2 ** 30]] as const) {
    if (value < size * 1024) return `${(value / size).toFixed(value < size * 10 ? 1 : 0)} ${unit}`;
  }
  return `${(value / 2 ** 40).toFixed(1)} TiB`;
}

/** seconds: shown as milliseconds below one. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return NOTHING;
  if (seconds < 0.001) return "< 1 ms";
  return seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;
}

export function age(seconds: number): string {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export function time(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export const user = (name: string): string => name || "anonymous";

// A QR code of a short text, such as an address that a phone is to open: bytes, error correction M, versions 1 to 10.
// Source: ISO/IEC 18004. The names are those of the standard.

const WORDS = [26, 44, 70, 100, 134, 172, 196, 242, 292, 346]; // codewords of each version, both kinds
const CORRECTION = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26]; // of each block, those that correct
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5];
const MASKS: ((x: number, y: number) => boolean)[] = [
  (x, y) => (x + y) % 2 === 0,
  (_, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/** The rows of the symbol, true where it is dark. Throws RangeError for a text of more than 213 bytes. */
export function qrCode(text: string): boolean[][] {
  const bytes = [...new TextEncoder().encode(text)];
  const version = 1 + WORDS.findIndex((_, at) => bytes.length <= room(at + 1));
  if (!version) throw new RangeError(`a QR code here has at most ${room(10)} bytes, got ${bytes.length}`);
  const words = interleaved(version, dataWords(version, bytes));
  const all = MASKS.map((_, mask) => drawn(version, words, mask));
  return all.reduce((best, each) => (penalty(each) < penalty(best) ? each : best));
}

/** The same as a picture, which has the size that its style gives it. */
export function qrPicture(text: string, label: string): SVGSVGElement {
  const rows = qrCode(text);
  const size = rows.length + 8; // a quiet zone of 4 modules on each side
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const draw = (shape: string, fill: string): void => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", shape);
    path.setAttribute("fill", fill);
    path.setAttribute("shape-rendering", "crispEdges");
    svg.append(path);
  };
  draw(`M0 0h${size}v${size}H0z`, "#fff"); // dark on light in both themes: many readers want that
  draw(rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + 4} ${y + 4}h1v1h-1z` : ""))).join(""), "#000");
  return svg;
}

const dataCount = (version: number): number =>
  WORDS[version - 1]! - CORRECTION[version - 1]! * BLOCKS[version - 1]!;
const room = (version: number): number => dataCount(version) - (version < 10 ? 2 : 3);

function dataWords(version: number, bytes: number[]): number[] {
  const bits = [...bitsOf(4, 4), ...bitsOf(bytes.length, version < 10 ? 8 : 16), ...bytes.flatMap((it) => bitsOf(it, 8))];
  const words: number[] = [];
  for (let at = 0; at < bits.length; at += 8) {
    words.push(Array.from({ length: 8 }, (_, bit) => bits[at + bit] ?? 0).reduce((sum, bit) => sum * 2 + bit, 0));
  }
  for (let pad = 0xec; words.length < dataCount(version); pad ^= 0xec ^ 0x11) words.push(pad);
  return words;
}

const bitsOf = (value: number, count: number): number[] =>
  Array.from({ length: count }, (_, at) => (value >> (count - 1 - at)) & 1);

function interleaved(version: number, data: number[]): number[] {
  const [count, correction] = [BLOCKS[version - 1]!, CORRECTION[version - 1]!];
  const short = Math.floor(data.length / count);
  const blocks: number[][] = [];
  for (let at = 0, block = 0; block < count; block++) {
    const length = short + (block >= count - (data.length % count) ? 1 : 0);
    blocks.push(data.slice(at, (at += length)));
  }
  const corrections = blocks.map((block) => remainder(block, generator(correction)));
  const columns = (rows: number[][]): number[] =>
    Array.from({ length: Math.max(...rows.map((row) => row.length)) }, (_, at) => rows.map((row) => row[at])).flatMap(
      (column) => column.filter((word) => word !== undefined),
    );
  return [...columns(blocks), ...columns(corrections)];
}

// Reed-Solomon over GF(2^8) with the polynomial 0x11d.
function times(a: number, b: number): number {
  let product = 0;
  for (let bit = 7; bit >= 0; bit--) product = (product << 1) ^ (product >> 7 ? 0x11d : 0) ^ ((b >> bit) & 1 ? a : 0);
  return product;
}

function generator(degree: number): number[] {
  let [polynomial, root] = [[1], 1];
  for (let at = 0; at < degree; at++, root = times(root, 2)) {
    polynomial = [...polynomial, 0].map((it, place) => it ^ times(polynomial[place - 1] ?? 0, root));
  }
  return polynomial.slice(1);
}

function remainder(data: number[], divisor: number[]): number[] {
  let rest = divisor.map(() => 0);
  for (const word of data) {
    const factor = word ^ rest[0]!;
    rest = [...rest.slice(1), 0].map((it, at) => it ^ times(divisor[at]!, factor));
  }
  return rest;
}

/** `value` with the bits of its BCH code behind it. */
function protectedBits(value: number, bits: number, polynomial: number): number {
  let rest = value;
  for (let at = 0; at < bits; at++) rest = (rest << 1) ^ (rest >> (bits - 1) ? polynomial : 0);
  return (value << bits) | rest;
}

function drawn(version: number, words: number[], mask: number): boolean[][] {
  const size = 17 + 4 * version;
  const rows: (boolean | undefined)[][] = Array.from({ length: size }, () => Array(size).fill(undefined));
  const set = (x: number, y: number, dark: boolean): void => {
    if (x >= 0 && y >= 0 && x < size && y < size) rows[y]![x] = dark;
  };
  const square = (x: number, y: number, radius: number, dark: (distance: number) => boolean): void => {
    for (let dy = -radius; dy <= radius; dy++)
      for (let dx = -radius; dx <= radius; dx++) set(x + dx, y + dy, dark(Math.max(Math.abs(dx), Math.abs(dy))));
  };
  for (let at = 8; at < size - 8; at++) [set(6, at, at % 2 === 0), set(at, 6, at % 2 === 0)];
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]] as const) square(x, y, 4, (it) => it !== 2 && it !== 4);
  const places = alignment(version);
  for (const x of places)
    for (const y of places) if (rows[y]![x] === undefined || x === 6 || y === 6) aligned(x, y);
  function aligned(x: number, y: number): void {
    const corner = (x === 6 && (y === 6 || y === size - 7)) || (y === 6 && x === size - 7);
    if (!corner) square(x, y, 2, (it) => it !== 1);
  }
  information(version, mask, size, set);
  let bit = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step++) {
      const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (rows[y]![x] !== undefined) continue;
        const dark = bit < 8 * words.length && ((words[bit >> 3]! >> (7 - (bit & 7))) & 1) === 1;
        rows[y]![x] = dark !== MASKS[mask]!(x, y);
        bit += 1;
      }
    }
  }
  return rows as boolean[][];
}

function alignment(version: number): number[] {
  const last = 10 + 4 * version;
  return version === 1 ? [] : version < 7 ? [6, last] : [6, 6 + (last - 6) / 2, last];
}

/** The format, beside the finders, and from version 7 on the version. */
function information(version: number, mask: number, size: number, set: (x: number, y: number, dark: boolean) => void): void {
  const format = protectedBits(mask, 10, 0x537) ^ 0x5412; // the bits of correction M are 00
  for (let at = 0; at < 15; at++) {
    const dark = ((format >> at) & 1) === 1;
    set(8, at < 6 ? at : at < 8 ? at + 1 : size - 15 + at, dark);
    set(at < 8 ? size - 1 - at : at === 8 ? 7 : 14 - at, 8, dark);
  }
  set(8, size - 8, true);
  if (version < 7) return;
  const bits = protectedBits(version, 12, 0x1f25);
  for (let at = 0; at < 18; at++) {
    const [near, far] = [Math.floor(at / 3), size - 11 + (at % 3)];
    const dark = ((bits >> at) & 1) === 1;
    [set(far, near, dark), set(near, far, dark)];
  }
}

/** How hard it is to read: runs, blocks, what looks like a finder, and too much of one colour. */
function penalty(rows: boolean[][]): number {
  const size = rows.length;
  const lines = [...rows, ...rows.map((_, x) => rows.map((row) => row[x]!))].map((line) =>
    line.map((dark) => (dark ? "1" : "0")).join(""),
  );
  let sum = 0;
  for (const line of lines) {
    for (const run of line.match(/0{5,}|1{5,}/g) ?? []) sum += run.length - 2;
    sum += 40 * (line.match(/(?=10111010000|00001011101)/g) ?? []).length;
  }
  for (let y = 1; y < size; y++)
    for (let x = 1; x < size; x++) {
      const square = new Set([rows[y]![x], rows[y - 1]![x], rows[y]![x - 1], rows[y - 1]![x - 1]]);
      if (square.size === 1) sum += 3;
    }
  const dark = rows.flat().filter(Boolean).length / (size * size);
  return sum + 10 * Math.floor(Math.abs(dark - 0.5) * 20);
}

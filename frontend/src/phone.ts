// "Join from your phone": the address of this page as a QR code, where a phone can reach it.

import { element } from "./page";

type QRCode = ReturnType<typeof import("qrcode-generator")>;

const HERE = new Set(["localhost", "127.0.0.1", "[::1]"]); // no phone gets there

/** The page has parts/demo.html. */
export async function phonePanel(): Promise<void> {
  if (HERE.has(location.hostname)) return; // what the panel says is how to begin
  const { default: qrcode } = await import("qrcode-generator");
  const draw = (): void => {
    const code = qrcode(0, "M");
    code.addData(location.href);
    code.make();
    element("qr").replaceChildren(drawing(code));
  };
  draw();
  window.addEventListener("hashchange", draw); // another room
  element("qr").removeAttribute("aria-hidden");
  element("phone-hint").textContent = `Point its camera at this, or open ${location.host}.`;
}

function drawing(code: QRCode): SVGElement {
  const count = code.getModuleCount();
  let path = "";
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < count; column++) if (code.isDark(row, column)) path += `M${column} ${row}h1v1h-1z`;
  }
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const dark = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", `-4 -4 ${count + 8} ${count + 8}`); // ISO 18004: four modules of quiet around it
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "QR code of this page");
  svg.setAttribute("shape-rendering", "crispEdges");
  dark.setAttribute("d", path);
  svg.append(dark);
  return svg;
}

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";
import { excerpt, files } from "./excerpt";
import { CLIENTS, DEMOS } from "./gallery";

const PLACES = 30; // messages that a client of the home page shows: one for each digit, in three rows
const SERVER = "http://127.0.0.1:8000"; // for `npm run dev`: where `freshet demo` runs

const part = (name: string): string => readFileSync(resolve(import.meta.dirname, `parts/${name}.html`), "utf-8");

function fill(text: string, values: Record<string, string>): string {
  return text.replace(/\{\{(\w+)\}\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`no value for {{${name}}}`);
    return value;
  });
}

/** What is on a demo's page beside its own: the status bar, the code. */
function around({ name, status, excerpt: starts }: (typeof DEMOS)[number]): Record<string, string> {
  const tab = (file: string, index: number): string =>
    `<button id="tab-${index}" type="button" role="tab" aria-controls="shown" aria-selected="${!index}" tabindex="${index ? -1 : 0}" data-file="${file}">${file || "In short"}</button>`;
  return {
    status: status ? part("status") : "",
    note: name === "assistant" ? "" : part("note"), // where no latency is shown
    excerpt: excerpt(name, starts),
    tabs: ["", ...files(name)].map(tab).join("\n"),
  };
}

/** A page's file holds only what is its own; the shell and, for a demo, the status bar and the code are around it. */
const pages: Plugin = {
  name: "pages",
  transformIndexHtml: {
    order: "pre",
    handler(html, { path }) {
      const shown = DEMOS.find((demo) => path === `/${demo.name}/index.html`);
      const root = shown ? "../" : "./";
      const link = ({ name, short }: (typeof DEMOS)[number]): string =>
        `<a href="${root}${name}/"${name === shown?.name ? ' aria-current="page"' : ""}>${short}</a>`;
      const card = ({ name, title, card, icon }: (typeof DEMOS)[number]): string =>
        `<li><a href="${name}/"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="${icon}" /></svg><strong>${title}</strong><span>${card}</span></a></li>`;
      const places = '<i class="place"></i>'.repeat(PLACES);
      const pane = (client: (typeof CLIENTS)[number]): string => fill(part("pane"), { ...client, places });
      const own = fill(html, {
        cards: DEMOS.map(card).join("\n"),
        panes: CLIENTS.map(pane).join("\n"),
        quotes: part("quotes"),
      });
      const main = shown ? fill(part("demo"), { ...shown, ...around(shown), own }) : own;
      return fill(part("shell"), {
        root,
        main,
        title: shown ? `${shown.title} · Freshet` : "Freshet, the real-time server for Python",
        description: shown?.line ?? "Publish once. Everyone gets it, in order, within milliseconds.",
        navigation: DEMOS.map(link).join("\n"),
        script: shown ? `./${shown.name}.ts` : "./home.ts",
      });
    },
  },
};

// File names carry no hash: the build is committed, and the same source gives the same files.
export default defineConfig({
  root: "pages",
  publicDir: "../public",
  base: "./",
  plugins: [pages],
  server: { proxy: { "/live": { target: SERVER, ws: true }, "/source": SERVER, "/docs": SERVER } },
  build: {
    outDir: "../../src/freshet/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: true,
    rollupOptions: {
      input: {
        home: resolve(import.meta.dirname, "pages/index.html"),
        ...Object.fromEntries(
          DEMOS.map(({ name }) => [name, resolve(import.meta.dirname, `pages/${name}/index.html`)]),
        ),
      },
      output: {
        entryFileNames: "assets/[name].js",
        chunkFileNames: ({ facadeModuleId, name }) =>
          facadeModuleId?.endsWith("?raw") ? "assets/[name].source.js" : `assets/${name}.js`,
        assetFileNames: "assets/[name][extname]",
        manualChunks: (id) =>
          id.endsWith("?raw")
            ? undefined
            : id.includes("node_modules/qrcode")
              ? "qrcode"
            : id.includes("node_modules/centrifuge")
              ? "centrifuge"
              : id.includes("node_modules")
                ? "socketio.client"
                : id.includes("/src/")
                  ? "shared"
                  : undefined,
      },
    },
  },
});

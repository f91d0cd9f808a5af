// The admin page and the page at the root, which the server brings along: `npm run build:admin`.

import { resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** The page at the root is one folder above its files. */
const root: Plugin = {
  name: "root",
  transformIndexHtml: {
    order: "post",
    handler: (html, { path }) =>
      path.endsWith("welcome.html") ? html.replace(/(src|href)="\.\//g, '$1="admin/') : html,
  },
};

// File names carry no hash: the build is committed, and the same source gives the same files.
export default defineConfig({
  root: "admin",
  publicDir: "../public",
  base: "./",
  plugins: [root],
  build: {
    outDir: "../../src/freshet/ops/admin/pages",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    rollupOptions: {
      input: {
        admin: resolve(import.meta.dirname, "admin/admin.html"),
        welcome: resolve(import.meta.dirname, "admin/welcome.html"),
      },
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: "[name].js",
        assetFileNames: "[name][extname]",
        manualChunks: (id) =>
          id.includes("node_modules/centrifuge")
            ? "centrifuge"
            : id.includes("node_modules/uplot")
              ? "uplot"
              : id.includes("/src/")
                ? "shared"
                : undefined,
      },
    },
  },
});

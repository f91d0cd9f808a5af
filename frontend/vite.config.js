// File names carry no hash: the build is committed, and the same source gives the same files.
export default {
  base: "./",
  build: {
    outDir: "../src/freshet/web/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    rollupOptions: {
      output: {
        entryFileNames: "assets/[name].js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
};

// Builds ../static/viewer: the same sources give the same names and the same bytes, wherever they are built.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'vite';

const HERE = import.meta.dirname;
const OUT = join(HERE, '../static/viewer');

/** Everything that the bundle is made of; the lock file stands for the libraries. */
const SOURCES = [
  'package-lock.json',
  'package.json',
  'tsconfig.json',
  'vite.config.js',
  ...readdirSync(join(HERE, 'src')).map((name) => `src/${name}`),
].sort();

const sha256 = (path) => createHash('sha256').update(readFileSync(path)).digest('hex');
const hashes = (folder, names) => Object.fromEntries(names.map((name) => [name, sha256(join(folder, name))]));

/**
 * Modules of the libraries that no film needs: the worker that edits segmentations (three megabytes), and the reader
 * of XML surfaces, which asks for Node.js.
 */
const ABSENT = {
  '/utilities/registerComputeWorker.js': 'export function registerComputeWorker() {}',
  '/IO/XML/XMLPolyDataReader.js': 'export default undefined;',
};
const withoutAbsent = {
  name: 'without-absent',
  enforce: 'pre',
  load: (id) => Object.entries(ABSENT).find(([end]) => id.endsWith(end))?.[1] ?? null,
};

/** Says which sources made which files, so that a test without Node.js sees when one of them was changed alone. */
const manifest = {
  name: 'manifest',
  closeBundle() {
    const built = readdirSync(OUT).filter((name) => name !== 'manifest.json').sort();
    const content = { sources: hashes(HERE, SOURCES), built: hashes(OUT, built) };
    writeFileSync(join(OUT, 'manifest.json'), `${JSON.stringify(content, null, 2)}\n`);
  },
};

export default defineConfig({
  base: '/static/viewer/',
  plugins: [withoutAbsent, manifest],
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: false,
    cssCodeSplit: false,
    chunkSizeWarningLimit: 5000,
    license: { fileName: 'LICENSES.md' },
    rollupOptions: {
      input: { viewer: join(HERE, 'src/viewer.ts') },
      output: {
        entryFileNames: '[name].js',
        chunkFileNames: '[name].js',
        manualChunks: (id) => (id.includes('/node_modules/') ? 'libraries' : undefined),
        assetFileNames: 'viewer[extname]',
      },
    },
  },
});

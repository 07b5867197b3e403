/** True shape of films whose pixels are not square. */

import type { Raster } from './study';

/** Longest side to which a film is stretched: every graphics card can show that many pixels. */
const LONGEST = 8192;

/** Places between `from` values for `to` values: the place before, and the share of the one after it. */
function places(from: number, to: number): { before: Uint32Array; share: Float32Array } {
  const before = new Uint32Array(to);
  const share = new Float32Array(to);
  for (let place = 0; place < to; place++) {
    const exact = Math.min(from - 1, Math.max(0, ((place + 0.5) * from) / to - 0.5));
    before[place] = Math.min(Math.floor(exact), Math.max(0, from - 2));
    share[place] = exact - before[place]!;
  }
  return { before, share };
}

/**
 * Stretch a film so that its pixels are square.
 *
 * Neither renderer of the library is told of the shape: its software renderer zooms by the wrong one.
 *
 * @param ratio Height of a pixel over its width.
 */
export function inTrueShape(film: Raster<Uint16Array>, ratio: number): Raster<Uint16Array> {
  if (ratio === 1) return film;
  const { values } = film;
  const [height, width] = [film.rows * Math.max(1, ratio), film.columns * Math.max(1, 1 / ratio)];
  const fit = Math.min(1, Math.max(LONGEST, film.rows, film.columns) / Math.max(height, width));
  const [rows, columns] = [Math.round(height * fit), Math.round(width * fit)];
  const [down, across] = [places(film.rows, rows), places(film.columns, columns)];
  const stretched = new Uint16Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const upper = down.before[row]! * film.columns;
    const lower = Math.min(upper + film.columns, (film.rows - 1) * film.columns);
    const below = down.share[row]!;
    for (let column = 0; column < columns; column++) {
      const left = across.before[column]!;
      const right = Math.min(left + 1, film.columns - 1);
      const beside = across.share[column]!;
      const above = values[upper + left]! * (1 - beside) + values[upper + right]! * beside;
      const under = values[lower + left]! * (1 - beside) + values[lower + right]! * beside;
      stretched[row * columns + column] = Math.round(above * (1 - below) + under * below);
    }
  }
  return { rows, columns, values: stretched };
}

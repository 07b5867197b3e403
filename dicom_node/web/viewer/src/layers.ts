/** What lies over a film in a canvas of its own: black where nothing is to be seen, and the lines of its overlays. */

import type { Bits, Raster } from './study';

/** Colours as a canvas holds them on a little-endian machine: blue, green, red, below the opacity. */
const OPAQUE = 0xff000000;
const LINES = 0xcee07e;

/** Black around what is not to be seen, in pixels of a film of `side` pixels: the edges of two layers never quite meet. */
const borderOf = (side: number) => Math.ceil(side / 256);

function put(canvas: HTMLCanvasElement, rows: number, columns: number, fill: (cells: Uint32Array) => void): void {
  canvas.width = columns;
  canvas.height = rows;
  const picture = new ImageData(columns, rows);
  fill(new Uint32Array(picture.data.buffer));
  canvas.getContext('2d')!.putImageData(picture, 0, 0);
}

/**
 * Draw black where a film is 0, which is outside of its shutter, or padding, and a border outside of the film.
 *
 * @returns Width of the border in pixels; undefined where the film is never 0.
 */
export function drawUnseen(canvas: HTMLCanvasElement, film: Raster<Uint16Array>): number | undefined {
  const { rows, columns, values } = film;
  if (!values.includes(0)) return undefined;
  const border = borderOf(Math.max(rows, columns));
  const across = columns + 2 * border;
  put(canvas, rows + 2 * border, across, (cells) => {
    cells.fill(OPAQUE);
    for (let row = 0; row < rows; row++) {
      const start = (row + border) * across + border;
      for (let column = 0; column < columns; column++)
        if (values[row * columns + column]) cells[start + column] = 0;
    }
  });
  return border;
}

/**
 * Draw the lines of an overlay, reduced so that a line of one pixel does not fade away.
 *
 * @param reduced So many rows and columns of the overlay become one: the fuller of lines, the more opaque.
 */
export function drawLines(canvas: HTMLCanvasElement, overlay: Raster<Bits>, reduced: number): void {
  const { rows, columns, values } = overlay;
  const across = Math.ceil(columns / reduced);
  put(canvas, Math.ceil(rows / reduced), across, (cells) => {
    for (let index = 0; index < rows * columns; index++) {
      if (!((values[index >> 3]! >> (index & 7)) & 1)) continue;
      const row = Math.floor(index / columns / reduced);
      cells[row * across + Math.floor((index % columns) / reduced)]! += 1;
    }
    const opacities = Uint32Array.from({ length: reduced ** 2 + 1 }, (_, drawn) => {
      const opacity = Math.round(255 * Math.cbrt(drawn / reduced ** 2));
      return drawn && opacity * 2 ** 24 + LINES;
    });
    for (let index = 0; index < cells.length; index++) cells[index] = opacities[cells[index]!]!;
  });
}

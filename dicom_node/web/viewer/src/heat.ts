/** Drawing of heat maps: a wash of colours, and lines of equal heat. */

import type { Raster } from './study';

/** Shares of a map's greatest heat at which lines are drawn, from the outer one to the inner one. */
export const LEVELS = [0.5, 0.75] as const;

/** Colours of heat from cool to hot: 256 times red, green, blue. */
export type ColourTable = Uint8ClampedArray;

/** @param colours Such as `#1f1332`; the node tells them, so that they are those of the pictures that it sends. */
export function colourTable(colours: readonly string[]): ColourTable {
  return Uint8ClampedArray.from(colours.flatMap((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))));
}

/**
 * Draw heat into a canvas of its own size: coloured by the table, and the more transparent the cooler.
 *
 * @param floor Least heat that is drawn, 0 to 1.
 */
export function draw(canvas: HTMLCanvasElement, heat: Raster<Uint8Array>, table: ColourTable, floor = 0): void {
  canvas.width = heat.columns;
  canvas.height = heat.rows;
  const picture = new ImageData(heat.columns, heat.rows);
  heat.values.forEach((value, index) => {
    picture.data.set(table.subarray(value * 3, value * 3 + 3), index * 4);
    picture.data[index * 4 + 3] = value < 255 * floor ? 0 : value;
  });
  canvas.getContext('2d')!.putImageData(picture, 0, 0);
}

/** Draw the colour table from cool to hot. */
export function drawScale(canvas: HTMLCanvasElement, table: ColourTable): void {
  draw(canvas, { rows: 1, columns: 256, values: Uint8Array.from({ length: 256 }, (_, step) => step) }, table);
}

/**
 * Line around what is hotter than a share of the greatest heat, as the data of an SVG path in the map's pixels.
 *
 * By marching squares (Lorensen and Cline 1987, in two dimensions); outside of the map it is cold, so that the line closes.
 */
export function contour({ rows, columns, values }: Raster<Uint8Array>, share: number): string {
  const level = share * values.reduce((most, value) => Math.max(most, value), 0);
  if (!level) return '';
  const at = (row: number, column: number) =>
    row < 0 || column < 0 || row >= rows || column >= columns ? 0 : values[row * columns + column]!;
  const segments: string[] = [];
  for (let row = -1; row < rows; row++)
    for (let column = -1; column < columns; column++) {
      // Corners clockwise from the upper left one; the side after each, where the line crosses it.
      const corners = [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]] as const;
      const heats = corners.map(([down, across]) => at(down, across));
      const crossings: string[] = [];
      for (let side = 0; side < 4; side++) {
        const [from, to] = [heats[side]!, heats[(side + 1) % 4]!];
        if (from >= level === to >= level) continue;
        const part = (level - from) / (to - from);
        const [[down, across], [downTo, acrossTo]] = [corners[side]!, corners[(side + 1) % 4]!];
        const [x, y] = [across + part * (acrossTo - across) + 0.5, down + part * (downTo - down) + 0.5];
        crossings.push(`${x.toFixed(2)} ${y.toFixed(2)}`);
      }
      for (let pair = 0; pair < crossings.length; pair += 2) segments.push(`M${crossings[pair]}L${crossings[pair + 1]}`);
    }
  return segments.join('');
}

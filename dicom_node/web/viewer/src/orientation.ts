/** Orientation in which a reader looks at a film: mirrored, and turned by quarters. */

import type { Point } from './measures';
import type { Raster } from './study';

export interface Orientation {
  /** Left and right are exchanged, before the turns. */
  mirrored: boolean;
  /** Clockwise quarters, 0 to 3. */
  turns: number;
}

interface Size {
  rows: number;
  columns: number;
}

export const turned = ({ mirrored, turns }: Orientation): Orientation => ({ mirrored, turns: (turns + 1) % 4 });

/** Orientation with left and right exchanged as they are seen now. */
export const flipped = ({ mirrored, turns }: Orientation): Orientation => ({
  mirrored: !mirrored,
  turns: (4 - turns) % 4,
});

export const AS_TAKEN: Orientation = { mirrored: false, turns: 0 };

/** Orientation in which the models saw a film. */
export const ofFilm = ({ mirrored, turns }: Orientation): Orientation => ({ mirrored, turns });

/** True when two orientations show the same. */
export const same = (one: Orientation, other: Orientation): boolean =>
  one.mirrored === other.mirrored && one.turns === other.turns;

/** Words for an orientation, in the order in which it comes about; empty for the film as it was taken. */
export function words({ mirrored, turns }: Orientation): string {
  const said = [
    ...(mirrored ? ['mirrored'] : []),
    ...(turns ? [['turned 90 degrees', 'turned 180 degrees', 'turned 270 degrees'][turns - 1]!] : []),
  ];
  return said.join(', ');
}

/**
 * Place on the film as it is seen.
 *
 * @param size Of the film as it was taken.
 */
export function toSeen([x, y]: Point, { rows, columns }: Size, { mirrored, turns }: Orientation): Point {
  let [width, height] = [columns, rows];
  if (mirrored) x = width - x;
  for (let turn = 0; turn < turns; turn++) [x, y, width, height] = [height - y, x, height, width];
  return [x, y];
}

/** Place on the film as it was taken: the inverse of {@link toSeen}. */
export function toTaken([x, y]: Point, { rows, columns }: Size, { mirrored, turns }: Orientation): Point {
  let [width, height] = turns % 2 ? [rows, columns] : [columns, rows];
  for (let turn = 0; turn < turns; turn++) [x, y, width, height] = [y, width - x, height, width];
  return [mirrored ? width - x : x, y];
}

/**
 * Turn and mirror the values of a film.
 *
 * The two renderers of the library turn in ways of their own; values that are turned look the same in both.
 */
export function oriented(film: Raster<Uint16Array>, orientation: Orientation): Raster<Uint16Array> {
  const { mirrored, turns } = orientation;
  if (!mirrored && !turns) return film;
  const [rows, columns] = turns % 2 ? [film.columns, film.rows] : [film.rows, film.columns];
  const indexAt = (x: number, y: number) => {
    const [across, down] = toTaken([x + 0.5, y + 0.5], film, orientation);
    return Math.floor(down) * film.columns + Math.floor(across);
  };
  const values = new Uint16Array(rows * columns);
  const first = indexAt(0, 0);
  const [right, below] = [columns > 1 ? indexAt(1, 0) - first : 0, rows > 1 ? indexAt(0, 1) - first : 0];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      values[row * columns + column] = film.values[first + row * below + column * right]!;
  return { rows, columns, values };
}

/**
 * Display curve of a film, a VOI LUT or a SIGMOID, in both renderers of the library.
 *
 * The curve lies between the ends of the window. Whoever moves the window moves the curve with it: wider stretches it,
 * narrower presses it together.
 */

import type { Types } from '@cornerstonejs/core';
import type { Film } from './study';

const VALUES = 65536;
const WHITE = VALUES - 1;
/** Colours of a slice between the ends of its window: the library makes a texture of so many. */
const COLOURS = 1024;

/** What a slice's colours are in vtk.js, as far as it is needed here. */
interface Colours {
  getProperty(): { getRGBTransferFunction(index: number): { fillFromDataPointer(count: number, points: number[]): void } };
}

/** Set the curve as the colours of a slice, which the library stretches with each window. */
export function setColours(actor: Types.Actor, curve: NonNullable<Film['curve']>, { lower, upper }: Types.VOIRange): void {
  const points = Array.from({ length: COLOURS }, (_, place) => {
    const share = place / (COLOURS - 1);
    const grey = curve[Math.round(share * (curve.length - 1))]! / WHITE;
    return [lower + share * (upper - lower), grey, grey, grey];
  });
  (actor as unknown as Colours).getProperty().getRGBTransferFunction(0).fillFromDataPointer(COLOURS, points.flat());
}

/**
 * Table that gives each value another one, so that the window makes the grey of the curve of it.
 *
 * The software renderer knows no curve, but applies such a table (a Modality LUT, to it) before the window.
 */
export class CurveTable {
  readonly firstValueMapped = 0;
  readonly lut = new Array<number>(VALUES);

  constructor(
    readonly id: string,
    private readonly curve: NonNullable<Film['curve']>,
  ) {}

  /** Fit the table to a window. */
  stretch({ lower, upper }: Types.VOIRange): void {
    const { curve, lut } = this;
    const last = curve.length - 1;
    for (let value = 0; value < VALUES; value++) {
      const place = Math.min(1, Math.max(0, (value - lower) / (upper - lower))) * last;
      const before = Math.min(Math.floor(place), last - 1);
      const grey = curve[before]! + (place - before) * (curve[before + 1]! - curve[before]!);
      lut[value] = lower + (grey / WHITE) * (upper - lower);
    }
  }
}

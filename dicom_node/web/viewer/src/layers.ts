/** What lies over a film in a canvas of its own: black where nothing is to be seen, and the lines of its overlays. */

import { make } from './elements';
import { type Bits, type Film, type Raster, readOverlay } from './study';

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

/** Matrix by which a canvas of so many pixels lies on the film, which it has from `border` on. */
export type Lie = (width: number, height: number, border?: number) => string;

/** Canvas over the film. */
export function layer(name: string): HTMLCanvasElement {
  return make('canvas', { class: `film-layer ${name}`, hidden: true, 'aria-hidden': 'true' });
}

/** Overlay planes over a film. */
export class OverlayLayer {
  readonly canvas = layer('film-overlay');
  private overlay: Raster<Bits> | undefined;
  private film: Film | undefined;
  private reduced = 0;
  private wanted = true;

  /**
   * @param changed Called when an overlay has arrived, or is hidden or shown.
   * @param say Shows a sentence.
   */
  constructor(
    private readonly changed: () => void,
    private readonly say: (sentence: string) => void,
  ) {}

  /** Forget the overlay of the film before. */
  clear(): void {
    this.film = this.overlay = undefined;
    this.reduced = 0;
  }

  /** Show the overlay planes of a film, where it has some. */
  async read(film: Film): Promise<void> {
    this.clear();
    if (!film.overlay) return;
    this.film = film;
    try {
      const overlay = await readOverlay(film);
      if (this.film !== film) return;
      this.overlay = overlay;
      this.changed();
    } catch (error) {
      if (this.film === film) this.say(`The overlay cannot be shown: ${(error as Error).message}.`);
    }
  }

  show(shown: boolean): void {
    this.wanted = shown;
    this.changed();
  }

  /**
   * Lay the lines on the film, or hide them.
   *
   * @param across Pixels of the screen that the width of the film takes; undefined when it is not there yet.
   */
  place(lie: Lie | undefined, across = 0): void {
    const { overlay } = this;
    this.canvas.hidden = !(overlay && this.wanted);
    if (!overlay || this.canvas.hidden || !lie) return;
    // Where several pixels of the overlay fall on one of the screen, a thin line would fade away.
    const reduced = 2 ** Math.max(0, Math.round(Math.log2(overlay.columns / across)));
    if (reduced !== this.reduced) drawLines(this.canvas, overlay, reduced);
    this.reduced = reduced;
    this.canvas.style.transform = lie(overlay.columns / reduced, overlay.rows / reduced);
  }
}

/** Magnifier: a round part of the film around the pointer, larger, in the window that is displayed. */

import { make } from './elements';
import type { Point } from './measures';
import type { Film, Raster } from './study';

/** What the magnifier must know of the film below it. */
export interface Scene {
  /** The film as it is seen, in the pixels that it has, not those of the screen. */
  seen: Raster<Uint16Array>;
  /** Ends of the window. */
  lower: number;
  upper: number;
  curve: Film['curve'];
  inverted: boolean;
  /** Side of a film pixel, in pixels of the page. */
  pixel: number;
  /** Place on the film as it is seen, in its pixels from the upper left corner. */
  toSeen: (point: Point) => Point;
}

const SIDE = 240; // pixels of the page
const FACTOR = 2;
const WHITE = 65535;

/** Grey of a value on the screen, 0 to 255; what is not to be seen is black. */
function greyOf(value: number, { lower, upper, curve, inverted }: Scene): number {
  if (value === 0) return 0;
  const share = Math.min(1, Math.max(0, (value - lower) / (upper - lower)));
  const grey = curve ? curve[Math.round(share * (curve.length - 1))]! / WHITE : share;
  return 255 * (inverted ? 1 - grey : grey);
}

/** Value between the pixels of a film; 0 outside of it, and where the nearest pixel is 0. */
function valueAt({ rows, columns, values }: Raster<Uint16Array>, x: number, y: number): number {
  const [column, row] = [Math.floor(x), Math.floor(y)];
  if (column < 0 || row < 0 || column >= columns || row >= rows || !values[row * columns + column]) return 0;
  const [left, upper] = [Math.max(0, Math.floor(x - 0.5)), Math.max(0, Math.floor(y - 0.5))];
  const [right, lower] = [Math.min(columns - 1, left + 1), Math.min(rows - 1, upper + 1)];
  const [beside, below] = [Math.max(0, x - 0.5 - left), Math.max(0, y - 0.5 - upper)];
  const above = values[upper * columns + left]! * (1 - beside) + values[upper * columns + right]! * beside;
  const under = values[lower * columns + left]! * (1 - beside) + values[lower * columns + right]! * beside;
  return above * (1 - below) + under * below;
}

export class Lens {
  readonly canvas = make('canvas', { class: 'film-lens', hidden: true, 'aria-hidden': 'true' });
  /** True while a drag of the first button magnifies. */
  dragged = false;
  /** Place of the pointer while it is over the film. */
  private pointer: Point | undefined;
  private pressed = false;
  private held = false;
  private elsewhere = false;

  constructor(
    private readonly view: HTMLElement,
    private readonly scene: () => Scene | undefined,
  ) {
    const at = (event: PointerEvent) => {
      const { left, top } = view.getBoundingClientRect();
      this.pointer = [event.clientX - left, event.clientY - top];
      this.draw();
    };
    view.addEventListener('pointermove', at);
    view.addEventListener('pointerdown', (event) => {
      if (!this.dragged || event.button !== 0) return;
      view.setPointerCapture(event.pointerId);
      this.pressed = true;
      at(event);
    });
    for (const ended of ['pointerup', 'pointercancel'])
      view.addEventListener(ended, () => {
        this.pressed = false;
        this.draw();
      });
    view.addEventListener('pointerleave', () => {
      this.pointer = undefined;
      this.draw();
    });
  }

  get pointed(): boolean {
    return this.pointer !== undefined;
  }

  /**
   * Magnify around the pointer while it is over the film, or cease to.
   *
   * @param elsewhere Magnify the middle of the pane while the pointer is elsewhere.
   */
  hold(held: boolean, elsewhere: boolean): void {
    [this.held, this.elsewhere] = [held, elsewhere];
    this.draw();
  }

  /** Draw what is below the pointer; nothing while it is not asked for. */
  draw(): void {
    const middle: Point | undefined = this.elsewhere ? [this.view.clientWidth / 2, this.view.clientHeight / 2] : undefined;
    const pointer = this.held || this.pressed ? (this.pointer ?? middle) : undefined;
    const scene = pointer && this.scene();
    this.canvas.hidden = !scene;
    if (!pointer || !scene) return;
    const [x, y] = scene.toSeen(pointer);
    const ratio = window.devicePixelRatio;
    // Never less than the film has: of a large film, the screen may show every fourth pixel only.
    const magnified = Math.max(FACTOR * scene.pixel * ratio, 1);
    const side = Math.round(SIDE * ratio);
    const picture = new ImageData(side, side);
    const cells = new Uint32Array(picture.data.buffer);
    for (let row = 0; row < side; row++)
      for (let column = 0; column < side; column++) {
        const [across, down] = [x + (column + 0.5 - side / 2) / magnified, y + (row + 0.5 - side / 2) / magnified];
        const grey = Math.round(greyOf(valueAt(scene.seen, across, down), scene));
        cells[row * side + column] = 0xff000000 + grey * 0x010101;
      }
    this.canvas.width = this.canvas.height = side;
    this.canvas.getContext('2d')!.putImageData(picture, 0, 0);
    this.canvas.style.transform = `translate(${pointer[0] - SIDE / 2}px, ${pointer[1] - SIDE / 2}px)`;
  }
}

/** Boxes that a reader of a reader study draws around findings: one for each finding, on any film of the study. */

import { shape } from './elements';
import type { Place, Point } from './measures';

/** Rectangle on a film, in its stored pixels: first column and row, and those after the last ones. */
export interface Box {
  /** `id` of the film. */
  image: number;
  left: number;
  top: number;
  right: number;
  bottom: number;
}

interface Named {
  name: string;
  box: Box;
}

const SMALLEST = 4; // pixels of the screen: less is a click
const BELOW = 16;

const sizeOf = ([[x1, y1], [x2, y2]]: [Point, Point]) => Math.min(Math.abs(x2 - x1), Math.abs(y2 - y1));

/** Box around two corners, in whole pixels that lie within the film. */
function around([[x1, y1], [x2, y2]]: [Point, Point], { film, pixel: [across, down] }: Place): Box {
  const within = (value: number, most: number) => Math.min(most, Math.max(0, value));
  return {
    image: film.id,
    left: within(Math.floor(Math.min(x1, x2) / across), film.columns - 1),
    top: within(Math.floor(Math.min(y1, y2) / down), film.rows - 1),
    right: within(Math.ceil(Math.max(x1, x2) / across), film.columns),
    bottom: within(Math.ceil(Math.max(y1, y2) / down), film.rows),
  };
}

/** Boxes of the study, and which finding the next drag draws one for. */
export class Boxes {
  readonly drawn = new Map<string, Named>();
  private finding = '';

  /**
   * @param root Gets the event `box-drawn`, and sends `box-removed`.
   * @param drag Called with true when a drag is to draw a box, and with false afterwards.
   * @param changed Called when the boxes are others.
   */
  constructor(
    private readonly root: HTMLElement,
    private readonly drag: (drawing: boolean) => void,
    private readonly changed: () => void,
  ) {
    for (const { dataset } of this.controls)
      if (dataset.place) this.drawn.set(dataset.box!, { name: dataset.name!, box: JSON.parse(dataset.place) });
    document.addEventListener('click', ({ target }) => {
      const finding = (target as Element).closest<HTMLElement>('[data-box]')?.dataset.box;
      if (finding) this.ask(finding === this.finding ? '' : finding);
    });
    document.addEventListener('keydown', ({ key }) => key === 'Escape' && this.finding && this.ask(''));
    root.addEventListener('box-removed', (event) => {
      this.drawn.delete((event as CustomEvent<{ finding: string }>).detail.finding);
      this.changed();
    });
  }

  private get controls(): HTMLElement[] {
    return [...document.querySelectorAll<HTMLElement>('[data-box]')];
  }

  /** True where the page asks for boxes. */
  get offered(): boolean {
    return this.controls.length > 0;
  }

  private ask(finding: string): void {
    this.stop();
    this.finding = finding;
    this.drag(finding !== '');
    for (const each of this.controls) each.setAttribute('aria-pressed', String(each.dataset.box === finding));
  }

  /** Let drags do something else. */
  stop(): void {
    this.finding = '';
    for (const each of this.controls) each.setAttribute('aria-pressed', 'false');
  }

  /** Keep a box for the finding that it was asked for. */
  keep(box: Box): void {
    const { finding } = this;
    const name = this.controls.find((each) => each.dataset.box === finding)?.dataset.name;
    if (!name) return;
    this.drawn.set(finding, { name, box });
    this.ask('');
    this.changed();
    this.root.dispatchEvent(new CustomEvent('box-drawn', { detail: { finding, ...box } }));
  }
}

/** Layer of boxes over the films of one pane. */
export class BoxLayer {
  /** True while a drag draws a box. */
  drawing = false;

  readonly layer = shape('svg', { class: 'film-boxes', role: 'img', 'aria-label': 'No boxes', hidden: '' });
  private open: [Point, Point] | undefined;

  /**
   * @param view Element that the reader drags on.
   * @param place Film that is shown, and where; undefined before it has come.
   */
  constructor(
    view: HTMLElement,
    private readonly place: () => Place | undefined,
    private readonly boxes: () => Boxes,
  ) {
    const at = (event: PointerEvent): Point => {
      const { left, top } = view.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    view.addEventListener('pointerdown', (event) => {
      const place = this.place();
      if (!this.drawing || event.button !== 0 || !place || place.film.prior) return;
      view.setPointerCapture(event.pointerId);
      const from = place.toFilm(at(event));
      this.open = [from, from];
    });
    view.addEventListener('pointermove', (event) => {
      const place = this.place();
      if (!this.open || !place) return;
      this.open = [this.open[0], place.toFilm(at(event))];
      this.draw();
    });
    view.addEventListener('pointerup', () => {
      const [place, corners] = [this.place(), this.open];
      this.open = undefined;
      if (place && corners && sizeOf(corners.map(place.toCanvas) as [Point, Point]) >= SMALLEST)
        this.boxes().keep(around(corners, place));
      else this.draw();
    });
    view.addEventListener('pointercancel', () => {
      this.open = undefined;
      this.draw();
    });
  }

  /** Draw the boxes of the film where it lies now. */
  draw(): void {
    const place = this.place();
    this.layer.replaceChildren();
    this.layer.toggleAttribute('hidden', !this.boxes().offered);
    if (!place) return;
    const shown = [...this.boxes().drawn.values()].filter(({ box }) => box.image === place.film.id);
    for (const { name, box } of shown) this.outline(box, place, name);
    if (this.open) this.outline(around(this.open, place), place, '');
    this.layer.setAttribute('aria-label', shown.length ? `Boxes: ${shown.map(({ name }) => name).join('; ')}` : 'No boxes');
  }

  private outline({ left, top, right, bottom }: Box, { toCanvas, pixel: [across, down] }: Place, name: string): void {
    const corners = ([[left, top], [right, top], [right, bottom], [left, bottom]] as Point[]).map(([x, y]) =>
      toCanvas([x * across, y * down]),
    );
    const points = corners.map((corner) => corner.join()).join(' ');
    this.layer.append(...['under', 'over'].map((kind) => shape('polygon', { points, class: kind })));
    const [x, y] = [0, 1].map((axis) => Math.min(...corners.map((corner) => corner[axis]!)));
    this.layer.append(shape('text', { x: x! + 4, y: y! + BELOW }, name));
  }
}

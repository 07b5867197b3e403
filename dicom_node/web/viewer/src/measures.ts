/** Measures that a reader draws on a film: a length, an angle, the width of the heart over that of the chest. */

import { make, shape } from './elements';
import type { Film } from './study';

export type Kind = 'length' | 'angle' | 'ratio';

/** Lines that each kind takes, by the names that are shown while it is unfinished. */
export const KINDS: Record<Kind, { label: string; lines: string[] }> = {
  length: { label: 'Length', lines: ['length'] },
  angle: { label: 'Angle', lines: ['first side', 'second side'] },
  ratio: { label: 'Heart to chest', lines: ['heart', 'chest'] },
};

/** Place on a film as it was taken, in its square pixels from the upper left corner. */
export type Point = [across: number, down: number];
type Line = [from: Point, to: Point];

interface Measure {
  kind: Kind;
  lines: Line[];
}

/** What the layer must know of the film below it. */
export interface Place {
  film: Film;
  toCanvas: (point: Point) => Point;
  toFilm: (point: Point) => Point;
  /** Width and height of a stored pixel of the film, in square pixels. */
  pixel: Point;
  /** Millimetres at the detector of a square pixel; undefined where the film does not say. */
  millimetres: Point | undefined;
}

const SHORTEST = 4; // pixels of the screen: less is a click
const BESIDE = 8;

const vector = ([from, to]: Line): Point => [to[0] - from[0], to[1] - from[1]];
const lengthOf = (line: Line, [across, down]: Point = [1, 1]) => {
  const [right, below] = vector(line);
  return Math.hypot(right * across, below * down);
};

/** Angle between two lines, 0 to 90 degrees, whichever way they were drawn. */
function angleBetween(first: Line, second: Line): number {
  const [[a, b], [c, d]] = [vector(first), vector(second)];
  const angle = Math.abs(Math.atan2(a * d - b * c, a * c + b * d)) * (180 / Math.PI);
  return Math.min(angle, 180 - angle);
}

/** What a measure says; of one that is unfinished, which line it waits for. */
export function valueOf({ kind, lines }: Measure, millimetres: Point | undefined): string {
  const [first, second] = lines;
  const waiting = KINDS[kind].lines[lines.length];
  if (!first || waiting) return `now the ${waiting}`;
  if (kind === 'angle') return `${angleBetween(first, second!).toFixed(1)}°`;
  if (kind === 'ratio') return `heart to chest ${(lengthOf(first) / lengthOf(second!)).toFixed(2)}`;
  if (!millimetres) return `${Math.round(lengthOf(first))} pixels`;
  return `${lengthOf(first, millimetres).toFixed(1)} mm at the detector`;
}

/** Layer of measures over the films of one pane; they last as long as the page. */
export class Measures {
  /** Kind that a drag draws; undefined while dragging does something else. */
  kind: Kind | undefined;

  readonly layer = shape('svg', { class: 'film-measures', role: 'img', 'aria-label': 'No measures' });
  /** Measures by the number of their film. */
  private readonly drawn = new Map<number, Measure[]>();
  private open: Line | undefined;

  /**
   * @param view Element that the reader drags on.
   * @param place Film that is shown, and where; undefined before it has come.
   */
  constructor(
    view: HTMLElement,
    private readonly place: () => Place | undefined,
  ) {
    const at = (event: PointerEvent): Point => {
      const { left, top } = view.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    view.addEventListener('pointerdown', (event) => {
      const place = this.place();
      if (!this.kind || event.button !== 0 || !place) return;
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
    view.addEventListener('pointerup', () => this.keep());
    view.addEventListener('pointercancel', () => {
      this.open = undefined;
      this.draw();
    });
  }

  /** Take the last measure of the film away. */
  undo(): void {
    const place = this.place();
    if (place) this.drawn.get(place.film.id)?.pop();
    this.draw();
  }

  /** Keep the line that was drawn: in the last measure while that waits for one, else in a new one. */
  private keep(): void {
    const [place, line] = [this.place(), this.open];
    this.open = undefined;
    if (!line || !place || !this.kind) return;
    const [from, to] = line.map(place.toCanvas) as Line;
    if (lengthOf([from, to]) >= SHORTEST) {
      const all = this.drawn.get(place.film.id) ?? [];
      const last = all.at(-1);
      if (last?.kind === this.kind && last.lines.length < KINDS[this.kind].lines.length) last.lines.push(line);
      else all.push({ kind: this.kind, lines: [line] });
      this.drawn.set(place.film.id, all);
    }
    this.draw();
  }

  /** Draw the measures of the film where it lies now. */
  draw(): void {
    const place = this.place();
    this.layer.replaceChildren();
    if (!place) return;
    const said: string[] = [];
    for (const measure of this.drawn.get(place.film.id) ?? []) {
      for (const line of measure.lines) this.line(line, place);
      const value = valueOf(measure, place.millimetres);
      said.push(value);
      const [x, y] = place.toCanvas(measure.lines.at(-1)![1]);
      this.layer.append(shape('text', { x: x + BESIDE, y }, value));
    }
    if (this.open) this.line(this.open, place);
    this.layer.setAttribute('aria-label', said.length ? `Measures: ${said.join('; ')}` : 'No measures');
  }

  private line(line: Line, { toCanvas }: Place): void {
    const [[x1, y1], [x2, y2]] = line.map(toCanvas) as Line;
    this.layer.append(shape('line', { x1, y1, x2, y2 }));
    for (const [cx, cy] of [[x1, y1], [x2, y2]] as Line) this.layer.append(shape('circle', { cx, cy, r: 3 }));
  }
}

/** List of what dragging measures, and a button that takes the last measure away. */
export function measureControls(chosen: (kind: Kind | undefined) => void, undo: () => void) {
  const list = make('select', { class: 'viewer-measure', 'aria-label': 'Measure' });
  const options = Object.entries(KINDS).map(([kind, { label }]) => make('option', { value: kind }, label));
  list.append(make('option', { value: '' }, 'Measure'), ...options);
  list.addEventListener('change', () => chosen((list.value || undefined) as Kind | undefined));
  const button = make('button', { type: 'button', 'aria-label': 'Remove the last measure', title: 'Remove the last measure' }, '⌫');
  button.addEventListener('click', undo);
  return { list, group: make('div', { class: 'viewer-group', role: 'group', 'aria-label': 'Measures' }, list, button) };
}

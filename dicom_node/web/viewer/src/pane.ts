/** Pane: one film on the screen with its window, position, overlay and heat map. */

import { Enums, getShouldUseCPURendering, utilities, type RenderingEngine, type Types } from '@cornerstonejs/core';
import type { Types as ToolTypes } from '@cornerstonejs/tools';
import { type Boxes, BoxLayer } from './boxes';
import { setColours } from './curve';
import { make, setOptions } from './elements';
import type { ColourTable } from './heat';
import { HeatLayer } from './heat_layer';
import { drawUnseen, layer, type Lie, OverlayLayer } from './layers';
import { Lens, type Scene } from './lens';
import { Measures, type Place, type Point } from './measures';
import { AS_TAKEN, flipped, ofFilm, type Orientation, same, toSeen, toTaken, turned, words } from './orientation';
import { ALL_GREYS, type PlacedFilm, register, release } from './placed_film';
import { type Film, type Raster, readFilm, type Window } from './study';
import { stated, written } from './window_presets';

/** Narrowest window, in greys: a width of 1 has no values between its ends, which the library cannot show. */
export const NARROWEST = 2;

/** Title of a film in a list of films. */
export function titleOf(film: Film, films: Film[]): string {
  const alike = films.filter((other) => other.view === film.view && other.prior === film.prior);
  const words = `${film.prior ? 'prior ' : ''}${film.view || 'film'}`;
  const number = alike.length > 1 ? ` ${alike.indexOf(film) + 1}` : '';
  const taken = film.prior && film.study_date ? `, ${film.study_date.replace(/^(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3')}` : '';
  return words.charAt(0).toUpperCase() + words.slice(1) + number + taken;
}

/** What a pane shows of a film, whatever its size. */
export interface Position {
  /** Ratio to the zoom at which the whole film is seen. */
  zoom: number;
  /** Place in the middle of the pane, in shares of the film as it is seen. */
  middle: Point;
}

export class Pane {
  readonly element: HTMLElement;
  film!: Film;

  private readonly view = make('div', { class: 'film-view' });
  readonly measures = new Measures(this.view, () => this.measured());
  readonly boxes: BoxLayer;
  readonly lens = new Lens(this.view, () => this.scene());
  private readonly unseen = layer('film-unseen');
  readonly heat: HeatLayer;
  readonly overlay = new OverlayLayer(() => this.lay(), (sentence) => this.say(sentence));
  private readonly list = make('select', { 'aria-label': 'Film' });
  private readonly study = make('a', { class: 'film-study', hidden: true }, 'Open its study');
  private readonly reading = make('span', { class: 'film-reading' });
  private readonly turnedNote = make('p', { class: 'film-turned', role: 'status' });
  private readonly note = make('p', { class: 'film-note', role: 'status' });
  /** Undefined before the first film has arrived, because the library cannot resize an empty viewport. */
  private viewport: Types.IStackViewport | undefined;
  private readonly resized = new ResizeObserver(() => this.resize());
  /** What the viewport shows. */
  private placed: PlacedFilm | undefined;
  private wantedOrientation = AS_TAKEN;
  /** Border around the film in the layer of what is not to be seen. */
  private border: number | undefined;
  private turn = Promise.resolve();
  /** What the reader left films in, by their numbers. */
  private readonly left = new Map<number, { window: Window; inverted: boolean; orientation: Orientation }>();

  /**
   * @param changed Called when another film, window or place is shown.
   * @param chosen Called when the reader takes another film from the list.
   * @param boxes Those of the study.
   */
  constructor(
    private readonly engine: RenderingEngine,
    private readonly tools: ToolTypes.IToolGroup,
    readonly id: string,
    private films: Film[],
    colours: ColourTable,
    parent: HTMLElement,
    private readonly changed: () => void,
    chosen: (film: Film) => void,
    boxes: () => Boxes,
  ) {
    this.boxes = new BoxLayer(this.view, () => this.measured(), boxes);
    this.heat = new HeatLayer(colours, () => this.lay(), (sentence) => this.say(sentence));
    const { wash, lines } = this.heat;
    const over = [this.unseen, wash, lines, this.overlay.canvas, this.boxes.layer, this.measures.layer, this.lens.canvas];
    this.list.addEventListener('change', () => chosen(this.films[this.list.selectedIndex]!));
    this.element = make(
      'figure',
      { class: 'film', role: 'group', tabindex: 0, 'aria-busy': 'true' },
      this.view,
      make('div', { class: 'film-over' }, ...over),
      make('p', { class: 'film-warning' }, 'RESEARCH USE ONLY'),
      this.turnedNote,
      this.note,
      make('figcaption', {}, this.list, this.study, this.reading),
    );
    this.offer(films);
    parent.append(this.element);
    // The library keeps a pressed button for itself: without this, a click would not give the keys to the film.
    this.view.addEventListener('pointerdown', () => this.element.focus({ preventScroll: true }));
    this.view.addEventListener('contextmenu', (event) => event.preventDefault());
    this.view.addEventListener(Enums.Events.IMAGE_RENDERED, () => this.rendered());
    this.view.addEventListener(Enums.Events.VOI_MODIFIED, (event) => {
      this.placed?.table?.stretch((event as Types.EventTypes.VoiModifiedEvent).detail.range);
    });
    this.resized.observe(this.view);
  }

  /** Set the list of films to choose from; it must contain the shown one. */
  offer(films: Film[]): void {
    this.films = films;
    setOptions(this.list, films.map((film, place) => [String(place), titleOf(film, films)]));
    if (this.film) this.name();
  }

  private name(): void {
    this.list.selectedIndex = this.films.indexOf(this.film);
    this.element.setAttribute('aria-label', titleOf(this.film, this.films));
    this.study.hidden = !this.film.prior;
    this.study.href = `/studies/${this.film.study}`;
  }

  close(): void {
    this.resized.disconnect();
    this.element.remove();
    if (this.engine.getViewport(this.id)) this.engine.disableElement(this.id);
  }

  /** Show a film in the window and the orientation that it was left in, at first its own; of several calls in a row the last one counts. */
  show(film: Film): Promise<void> {
    const { window, inverted, orientation } = this;
    if (this.placed) this.left.set(this.film.id, { window, inverted, orientation });
    this.film = film;
    this.placed = undefined;
    this.name();
    this.element.setAttribute('aria-busy', 'true');
    this.element.classList.remove('shown');
    this.say('Loading');
    this.unseen.hidden = true;
    this.overlay.clear();
    this.measures.draw();
    this.boxes.draw();
    this.heat.hide();
    this.turn = this.turn.then(() => this.place(film));
    return this.turn;
  }

  private async place(film: Film): Promise<void> {
    const unwanted = () => this.film !== film || !this.element.isConnected;
    try {
      const raster = await readFilm(film);
      if (unwanted()) return;
      const left = this.left.get(film.id);
      this.wantedOrientation = left?.orientation ?? ofFilm(film);
      if (!(await this.put(film, raster))) return;
      this.border = drawUnseen(this.unseen, raster);
      this.unseen.hidden = this.border === undefined;
      this.say('');
      this.resize();
      this.fit();
      if (left) [this.window, this.inverted] = [left.window, left.inverted];
      void this.overlay.read(film);
    } catch (error) {
      if (unwanted()) return;
      this.say(`This film cannot be shown: ${(error as Error).message}.`);
      this.element.setAttribute('aria-busy', 'false');
    }
  }

  /**
   * Give a film to the viewport, in the wanted orientation.
   *
   * @returns False when another film is wanted by now.
   */
  private async put(film: Film, raster: Raster<Uint16Array>): Promise<boolean> {
    const viewport = this.viewport ?? this.enable();
    const placed = register(film, raster, this.id, this.wantedOrientation);
    const { center, width } = film.window ?? ALL_GREYS;
    placed.table?.stretch(utilities.windowLevel.toLowHighRange(width, center) as Types.VOIRange);
    await viewport.setStack([placed.imageId]);
    if (this.film !== film || !this.element.isConnected) return false;
    this.viewport = viewport;
    this.placed = placed;
    if (film.curve && !placed.table)
      setColours(viewport.getDefaultActor().actor as Types.Actor, film.curve, viewport.getProperties().voiRange!);
    const said = words(placed.orientation);
    this.turnedNote.textContent = said && same(placed.orientation, film) ? `${said}, as the models saw it` : said;
    return true;
  }

  /** True when the film is there, so that it can be moved. */
  get shown(): boolean {
    return this.placed !== undefined;
  }

  get orientation(): Orientation {
    return this.wantedOrientation;
  }

  /** Turn the film clockwise by 90 degrees. */
  rotate(): void {
    this.orient(turned(this.orientation));
  }

  /** Exchange left and right. */
  mirror(): void {
    this.orient(flipped(this.orientation));
  }

  private orient(orientation: Orientation): void {
    this.wantedOrientation = orientation;
    this.element.setAttribute('aria-busy', 'true');
    this.turn = this.turn.then(() => this.reorient());
  }

  /** Show the film in the wanted orientation, with the same place in the middle, as large, in the same window. */
  private async reorient(): Promise<void> {
    const { film, placed, window, inverted } = this;
    if (!placed) return;
    this.element.setAttribute('aria-busy', 'false');
    if (placed.orientation === this.wantedOrientation) return;
    this.element.setAttribute('aria-busy', 'true');
    const { zoom, middle } = this.position;
    const { columns, rows } = placed.seen;
    const kept = toTaken([middle[0] * columns, middle[1] * rows], placed.taken, placed.orientation);
    this.placed = undefined; // until then, nothing is known of where the film lies
    try {
      if (!(await this.put(film, await readFilm(film)))) return;
    } catch (error) {
      this.say(`This film cannot be turned: ${(error as Error).message}.`);
      return;
    } finally {
      if (this.placed !== placed) release(placed);
    }
    const { taken, orientation, seen } = this.placed!;
    const [across, down] = toSeen(kept, taken, orientation);
    this.viewport!.resetCamera();
    this.position = { zoom, middle: [across / seen.columns, down / seen.rows] };
    [this.window, this.inverted] = [window, inverted];
  }

  private enable(): Types.IStackViewport {
    if (!this.engine.getViewport(this.id)) {
      this.engine.enableElement({ viewportId: this.id, type: Enums.ViewportType.STACK, element: this.view });
      this.tools.addViewport(this.id, this.engine.id);
    }
    return this.engine.getViewport(this.id) as Types.IStackViewport;
  }

  private resize(): void {
    const placed = (viewport: Types.IViewport) => (viewport as Types.IStackViewport).getCornerstoneImage();
    if (this.engine.getViewports().every(placed)) this.engine.resize(true, true);
  }

  get window(): Window {
    const range = this.viewport?.getProperties().voiRange;
    if (!range) return ALL_GREYS;
    const { windowCenter, windowWidth } = utilities.windowLevel.toWindowLevel(range.lower, range.upper);
    return { center: windowCenter, width: windowWidth };
  }

  set window({ center, width }: Window) {
    const voiRange = utilities.windowLevel.toLowHighRange(Math.max(width, NARROWEST), center);
    this.viewport?.setProperties({ voiRange });
    this.viewport?.render();
  }

  get inverted(): boolean {
    return this.viewport?.getProperties().invert ?? false;
  }

  set inverted(invert: boolean) {
    this.viewport?.setProperties({ invert });
    this.viewport?.render();
  }

  /** Screen pixels per film pixel, or per its shorter side. */
  get scale(): number {
    return this.pixel * window.devicePixelRatio;
  }

  /** Side of a film pixel, in pixels of the page. */
  private get pixel(): number {
    if (!this.viewport || !this.placed) return 1;
    const { columns } = this.placed.seen;
    const [left] = this.viewport.worldToCanvas([0, 0, 0]);
    const [right] = this.viewport.worldToCanvas([columns, 0, 0]);
    return (right - left) / columns;
  }

  /** The same at which the whole film is seen. */
  private get fitting(): number {
    const { columns, rows } = this.placed!.seen;
    return Math.min(this.view.clientWidth / columns, this.view.clientHeight / rows);
  }

  get position(): Position {
    if (!this.viewport || !this.placed) return { zoom: 1, middle: [0.5, 0.5] };
    const { columns, rows } = this.placed.seen;
    const [x, y] = this.viewport.canvasToWorld([this.view.clientWidth / 2, this.view.clientHeight / 2]);
    const middle: Point = [(x - firstPixel()) / columns, (y - firstPixel()) / rows];
    return { zoom: this.pixel / this.fitting, middle };
  }

  set position({ zoom, middle }: Position) {
    if (!this.viewport || !this.placed) return;
    const { columns, rows } = this.placed.seen;
    this.viewport.setZoom((this.viewport.getZoom() * zoom * this.fitting) / this.pixel);
    const [across, down] = this.position.middle;
    this.move([(middle[0] - across) * columns, (middle[1] - down) * rows]);
  }

  zoom(factor: number): void {
    if (!this.viewport) return;
    this.viewport.setZoom(this.viewport.getZoom() * factor);
    this.viewport.render();
  }

  /** Move the film by a share of the pane. */
  pan(right: number, down: number): void {
    if (!this.viewport) return;
    const from = this.viewport.canvasToWorld([0, 0]);
    const to = this.viewport.canvasToWorld([right * this.view.clientWidth, down * this.view.clientHeight]);
    this.move([from[0] - to[0], from[1] - to[1]]);
  }

  /** Look at a place that lies so many pixels of the film further right and down. */
  private move([right, down]: Point): void {
    // By the camera, as the pan of one renderer counts in screen pixels and that of the other in film pixels.
    const moved = ([x, y, z]: Types.Point3): Types.Point3 => [x + right, y + down, z];
    const { focalPoint, position } = this.viewport!.getCamera();
    this.viewport!.setCamera({ focalPoint: moved(focalPoint!), position: moved(position!) });
    this.viewport!.render();
  }

  /** Show the whole film in its initial window, as the models saw it. */
  reset(): void {
    if (!this.placed) {
      this.turn = this.turn.then(() => this.placed && this.reset());
      return;
    }
    this.fit();
    if (!same(this.orientation, this.film)) this.orient(ofFilm(this.film));
  }

  private fit(): void {
    this.viewport?.resetCamera();
    this.inverted = this.film.inverted;
    this.window = this.film.window ?? ALL_GREYS;
  }

  /** Show a sentence over the film; an empty one hides it. */
  say(sentence: string): void {
    this.note.textContent = sentence;
  }

  private measured(): Place | undefined {
    const { film, placed, viewport } = this;
    if (!placed || !viewport) return undefined;
    const { taken, orientation } = placed;
    const [height, width] = film.imager_spacing ?? [];
    return {
      film,
      toCanvas: (point) => {
        const [x, y] = toSeen(point, taken, orientation);
        return viewport.worldToCanvas([x + firstPixel(), y + firstPixel(), 0]) as Point;
      },
      toFilm: (point) => {
        const [x, y] = viewport.canvasToWorld(point);
        return toTaken([x - firstPixel(), y - firstPixel()], taken, orientation);
      },
      pixel: [taken.columns / film.columns, taken.rows / film.rows],
      millimetres: height && width ? [(width * film.columns) / taken.columns, (height * film.rows) / taken.rows] : undefined,
    };
  }

  private scene(): Scene | undefined {
    const { film, placed, viewport, inverted, pixel } = this;
    const range = viewport?.getProperties().voiRange;
    if (!placed || !viewport || !range) return undefined;
    const toSeen = (point: Point): Point => {
      const [x, y] = viewport.canvasToWorld(point);
      return [x - firstPixel(), y - firstPixel()];
    };
    return { seen: placed.seen, ...range, curve: film.curve, inverted, pixel, toSeen };
  }

  private rendered(): void {
    if (!this.placed) return;
    this.lay();
    const { center, width } = stated(this.film, this.window);
    const curve = this.film.curve ? ' · curve' : '';
    const percent = Math.round(100 * this.scale);
    this.reading.textContent = `C ${written(this.film, center)} W ${written(this.film, width)}${curve} · ${percent} %`;
    this.element.setAttribute('aria-busy', 'false');
    if (!this.element.classList.contains('shown')) performance.mark('film shown');
    this.element.classList.add('shown');
    this.changed();
  }

  /** Align all that lies over the film with it. */
  private lay(): void {
    const place = this.measured();
    if (!place || !this.placed) {
      this.overlay.place(undefined);
      return;
    }
    this.measures.draw();
    this.boxes.draw();
    this.lens.draw();
    const { columns, rows } = this.placed.taken;
    const [corner, right, below] = ([[0, 0], [columns, 0], [0, rows]] as Point[]).map(place.toCanvas) as [Point, Point, Point];
    const lie: Lie = (width, height, border = 0) => {
      const across = [0, 1].map((axis) => (right[axis]! - corner[axis]!) / width);
      const down = [0, 1].map((axis) => (below[axis]! - corner[axis]!) / height);
      const from = [0, 1].map((axis) => corner[axis]! - border * (across[axis]! + down[axis]!));
      return `matrix(${[...across, ...down, ...from].join()})`;
    };
    this.heat.place(lie);
    const border = this.border ?? 0;
    this.unseen.style.transform = lie(this.unseen.width - 2 * border, this.unseen.height - 2 * border, border);
    this.overlay.place(lie, columns * this.scale);
  }
}

/** Place where the first pixel of a film begins: a pixel lies about its place in one renderer, begins at it in the other. */
const firstPixel = () => (getShouldUseCPURendering() ? 0 : -0.5);

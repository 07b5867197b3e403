/** Pane: one film on the screen with its window, position, overlay and heat map. */

import {
  cache,
  Enums,
  getShouldUseCPURendering,
  imageLoader,
  utilities,
  type RenderingEngine,
  type Types,
} from '@cornerstonejs/core';
import type { Types as ToolTypes } from '@cornerstonejs/tools';
import { CurveTable, setColours } from './curve';
import { make, setOptions } from './elements';
import { draw } from './heat';
import { drawLines, drawUnseen } from './layers';
import { Measures, type Place, type Point } from './measures';
import { inTrueShape } from './shape';
import { type Bits, type Film, type HeatMap, type Raster, readFilm, readMap, readOverlay, type Window } from './study';

const ALL_GREYS: Window = { center: 32768, width: 65536 };
/** Narrowest window, in greys: a width of 1 has no values between its ends, which the library cannot show. */
export const NARROWEST = 2;

/** A film as the library shows it. */
interface Placed {
  imageId: string;
  /** Size in square pixels. */
  rows: number;
  columns: number;
  /** Table of the film's curve, for the software renderer. */
  table: CurveTable | undefined;
}

/**
 * Register a film's grey values with the library: one world unit per pixel, origin at the centre of the first pixel.
 *
 * @param pane Each pane has images of its own, because a curve's table belongs to one window.
 */
function register(film: Film, raster: Raster<Uint16Array>, pane: string): Placed {
  const imageId = `film:${film.id}:${pane}`;
  let image = cache.getImage(imageId);
  if (!image) {
    const shown = inTrueShape(raster, film.aspect_ratio);
    utilities.genericMetadataProvider.add(imageId, {
      type: Enums.MetadataModules.GENERAL_SERIES,
      metadata: { modality: 'DX' },
    });
    image = imageLoader.createAndCacheLocalImage(imageId, {
      scalarData: shown.values,
      dimensions: [shown.columns, shown.rows],
      spacing: [1, 1],
      origin: [0, 0, 0],
      direction: [1, 0, 0, 0, 1, 0, 0, 0, 1],
      frameOfReferenceUID: imageId,
      targetBuffer: { type: 'Uint16Array' },
    });
    if (film.curve && getShouldUseCPURendering()) image.modalityLUT = new CurveTable(imageId, film.curve);
  }
  const { center, width } = film.window ?? ALL_GREYS;
  image.windowCenter = center;
  image.windowWidth = width;
  return { imageId, rows: image.rows, columns: image.columns, table: image.modalityLUT as CurveTable | undefined };
}

/** Title of a film in a list of films. */
export function titleOf(film: Film, films: Film[]): string {
  const alike = films.filter((other) => other.view === film.view && other.prior === film.prior);
  const words = `${film.prior ? 'prior ' : ''}${film.view || 'film'}`;
  const number = alike.length > 1 ? ` ${alike.indexOf(film) + 1}` : '';
  const taken = film.prior && film.study_date ? `, ${film.study_date.replace(/^(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3')}` : '';
  return words.charAt(0).toUpperCase() + words.slice(1) + number + taken;
}

export class Pane {
  readonly element: HTMLElement;
  film!: Film;

  private readonly view = make('div', { class: 'film-view' });
  readonly measures = new Measures(this.view, () => this.measured());
  private readonly unseen = layer('film-unseen');
  private readonly heat = layer('film-heat');
  private readonly lines = layer('film-overlay');
  private readonly list = make('select', { 'aria-label': 'Film' });
  private readonly study = make('a', { class: 'film-study', hidden: true }, 'Open its study');
  private readonly reading = make('span', { class: 'film-reading' });
  private readonly note = make('p', { class: 'film-note', role: 'status' });
  /** Undefined before the first film has arrived, because the library cannot resize an empty viewport. */
  private viewport: Types.IStackViewport | undefined;
  private readonly resized = new ResizeObserver(() => this.resize());
  /** What the viewport shows. */
  private placed: Placed | undefined;
  /** Overlay of the shown film, when it has arrived, and the reduction that it is drawn in. */
  private overlay: Raster<Bits> | undefined;
  private reduced = 0;
  private overlayWanted = true;
  /** Border around the film in the layer of what is not to be seen. */
  private border: number | undefined;
  private turn = Promise.resolve();
  private wanted: HeatMap | undefined;
  private floor = 0;
  /** Windows that the reader left films in, by their numbers. */
  private readonly left = new Map<number, { window: Window; inverted: boolean }>();

  /**
   * @param changed Called when another film, window or place is shown.
   * @param chosen Called when the reader takes another film from the list.
   */
  constructor(
    private readonly engine: RenderingEngine,
    private readonly tools: ToolTypes.IToolGroup,
    readonly id: string,
    private films: Film[],
    parent: HTMLElement,
    private readonly changed: () => void,
    chosen: (film: Film) => void,
  ) {
    this.list.addEventListener('change', () => chosen(this.films[this.list.selectedIndex]!));
    this.element = make(
      'figure',
      { class: 'film', role: 'group', tabindex: 0, 'aria-busy': 'true' },
      this.view,
      make('div', { class: 'film-over' }, this.unseen, this.heat, this.lines, this.measures.layer),
      make('p', { class: 'film-warning' }, 'RESEARCH USE ONLY'),
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

  /** Show a film in the window that it was left in, at first its own; of several calls in a row the last one counts. */
  show(film: Film): Promise<void> {
    if (this.placed) this.left.set(this.film.id, { window: this.window, inverted: this.inverted });
    this.film = film;
    this.placed = undefined;
    this.name();
    this.element.setAttribute('aria-busy', 'true');
    this.element.classList.remove('shown');
    this.say('Loading');
    this.unseen.hidden = true;
    this.overlay = undefined;
    this.measures.draw();
    this.putHeat(undefined);
    this.turn = this.turn.then(() => this.place(film));
    return this.turn;
  }

  private async place(film: Film): Promise<void> {
    const unwanted = () => this.film !== film || !this.element.isConnected;
    try {
      const raster = await readFilm(film);
      if (unwanted()) return;
      const viewport = this.viewport ?? this.enable();
      const placed = register(film, raster, this.id);
      const { center, width } = film.window ?? ALL_GREYS;
      placed.table?.stretch(utilities.windowLevel.toLowHighRange(width, center) as Types.VOIRange);
      await viewport.setStack([placed.imageId]);
      if (unwanted()) return;
      this.viewport = viewport;
      this.placed = placed;
      if (film.curve && !placed.table)
        setColours(viewport.getDefaultActor().actor as Types.Actor, film.curve, viewport.getProperties().voiRange!);
      this.border = drawUnseen(this.unseen, raster);
      this.unseen.hidden = this.border === undefined;
      this.say('');
      this.resize();
      this.reset();
      const left = this.left.get(film.id);
      if (left) Object.assign(this, left);
      void this.readOverlay();
    } catch (error) {
      if (unwanted()) return;
      this.say(`This film cannot be shown: ${(error as Error).message}.`);
      this.element.setAttribute('aria-busy', 'false');
    }
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
    if (!this.viewport || !this.placed) return 1;
    const [left] = this.viewport.worldToCanvas([0, 0, 0]);
    const [right] = this.viewport.worldToCanvas([this.placed.columns, 0, 0]);
    return ((right - left) / this.placed.columns) * window.devicePixelRatio;
  }

  zoom(factor: number): void {
    if (!this.viewport) return;
    this.viewport.setZoom(this.viewport.getZoom() * factor);
    this.viewport.render();
  }

  /** Move the film by a share of the pane. */
  pan(right: number, down: number): void {
    if (!this.viewport) return;
    // By the camera, as the pan of one renderer counts in screen pixels and that of the other in film pixels.
    const from = this.viewport.canvasToWorld([0, 0]);
    const to = this.viewport.canvasToWorld([right * this.view.clientWidth, down * this.view.clientHeight]);
    const moved = (point: Types.Point3) => point.map((value, axis) => value - to[axis]! + from[axis]!) as Types.Point3;
    const { focalPoint, position } = this.viewport.getCamera();
    this.viewport.setCamera({ focalPoint: moved(focalPoint!), position: moved(position!) });
    this.viewport.render();
  }

  /** Show the whole film in its initial window. */
  reset(): void {
    this.viewport?.resetCamera();
    this.inverted = this.film.inverted;
    this.window = this.film.window ?? ALL_GREYS;
  }

  /**
   * Show a heat map over the film, or hide it.
   *
   * @param floor Least heat that is drawn, 0 to 1.
   */
  async showHeat(map: HeatMap | undefined, opacity: number, floor: number): Promise<void> {
    this.heat.style.opacity = String(opacity);
    if (map === this.wanted && floor === this.floor) return;
    this.floor = floor;
    this.putHeat(map);
    if (!map) return;
    try {
      const raster = await readMap(map);
      if (this.wanted !== map) return;
      draw(this.heat, raster, this.floor);
      this.heat.hidden = false;
      this.lay();
    } catch (error) {
      if (this.wanted === map) this.say(`The heat map cannot be shown: ${(error as Error).message}.`);
    }
  }

  /** Show the overlay planes of the film, where it has some, or hide them. */
  showOverlay(shown: boolean): void {
    this.overlayWanted = shown;
    this.lay();
  }

  private async readOverlay(): Promise<void> {
    const { film } = this;
    if (!film.overlay) return;
    try {
      const overlay = await readOverlay(film);
      if (this.film !== film) return;
      this.overlay = overlay;
      this.reduced = 0;
      this.lay();
    } catch (error) {
      if (this.film === film) this.say(`The overlay cannot be shown: ${(error as Error).message}.`);
    }
  }

  /** Show a sentence over the film; an empty one hides it. */
  say(sentence: string): void {
    this.note.textContent = sentence;
  }

  private measured(): Place | undefined {
    const { film, placed, viewport } = this;
    if (!placed || !viewport) return undefined;
    const [height, width] = film.imager_spacing ?? [];
    return {
      film,
      toCanvas: ([across, down]) => viewport.worldToCanvas([across, down, 0]) as Point,
      toFilm: (point) => viewport.canvasToWorld(point).slice(0, 2) as Point,
      millimetres: height && width ? [(width * film.columns) / placed.columns, (height * film.rows) / placed.rows] : undefined,
    };
  }

  private putHeat(map: HeatMap | undefined): void {
    this.wanted = map;
    this.heat.hidden = true;
  }

  private rendered(): void {
    if (!this.placed) return;
    this.lay();
    const { center, width } = this.window;
    const curve = this.film.curve ? ' · curve' : '';
    const percent = Math.round(100 * this.scale);
    this.reading.textContent = `C ${Math.round(center)} W ${Math.round(width)}${curve} · ${percent} %`;
    this.element.setAttribute('aria-busy', 'false');
    if (!this.element.classList.contains('shown')) performance.mark('film shown');
    this.element.classList.add('shown');
    this.changed();
  }

  /** Align all that lies over the film with it. */
  private lay(): void {
    this.lines.hidden = !(this.overlay && this.overlayWanted);
    if (!this.viewport || !this.placed) return;
    this.measures.draw();
    const { columns, rows } = this.placed;
    // A pixel lies about its place in one renderer, and begins at it in the other.
    const first = getShouldUseCPURendering() ? 0 : -0.5;
    const [left, top] = this.viewport.worldToCanvas([first, first, 0]);
    const [right, bottom] = this.viewport.worldToCanvas([first + columns, first + rows, 0]);
    /** A canvas that has the film from `border` on, `width` x `height` of its pixels large. */
    const place = (canvas: HTMLCanvasElement, width: number, height: number, border = 0) => {
      const [across, down] = [(right - left) / width, (bottom - top) / height];
      canvas.style.transform =
        `translate(${left - border * across}px, ${top - border * down}px) scale(${across}, ${down})`;
    };
    place(this.heat, this.heat.width, this.heat.height);
    const border = this.border ?? 0;
    place(this.unseen, this.unseen.width - 2 * border, this.unseen.height - 2 * border, border);
    if (!this.overlay || this.lines.hidden) return;
    // Where several pixels of the overlay fall on one of the screen, a thin line would fade away.
    const crowded = (this.overlay.columns / (right - left)) / window.devicePixelRatio;
    const reduced = 2 ** Math.max(0, Math.round(Math.log2(crowded)));
    if (reduced !== this.reduced) drawLines(this.lines, this.overlay, reduced);
    this.reduced = reduced;
    place(this.lines, this.overlay.columns / reduced, this.overlay.rows / reduced);
  }
}

/** Canvas over the film. */
function layer(name: string): HTMLCanvasElement {
  return make('canvas', { class: `film-layer ${name}`, hidden: true, 'aria-hidden': 'true' });
}

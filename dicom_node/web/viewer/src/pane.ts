/** Pane: one film on the screen with its window, position and heat map. */

import { cache, Enums, imageLoader, utilities, type RenderingEngine, type Types } from '@cornerstonejs/core';
import type { Types as ToolTypes } from '@cornerstonejs/tools';
import { make, setOptions } from './elements';
import { draw } from './heat';
import { type Film, type HeatMap, type Raster, readFilm, readMap, type Window } from './study';

const ALL_GREYS: Window = { center: 32768, width: 65536 };

/** Register a film's grey values with the library: one world unit per pixel, origin at the centre of the first pixel. */
function register(film: Film, raster: Raster<Uint16Array>): string {
  const imageId = `film:${film.id}`;
  if (cache.getImage(imageId)) return imageId;
  utilities.genericMetadataProvider.add(imageId, {
    type: Enums.MetadataModules.GENERAL_SERIES,
    metadata: { modality: 'DX' },
  });
  const image = imageLoader.createAndCacheLocalImage(imageId, {
    scalarData: raster.values,
    dimensions: [raster.columns, raster.rows],
    spacing: [1, 1],
    origin: [0, 0, 0],
    direction: [1, 0, 0, 0, 1, 0, 0, 0, 1],
    frameOfReferenceUID: imageId,
    targetBuffer: { type: 'Uint16Array' },
  });
  const { center, width } = film.window ?? ALL_GREYS;
  image.windowCenter = center;
  image.windowWidth = width;
  return imageId;
}

/** Title of a film in a list of films. */
export function titleOf(film: Film, films: Film[]): string {
  const alike = films.filter((other) => other.view === film.view && other.prior === film.prior);
  const words = `${film.prior ? 'prior ' : ''}${film.view || 'film'}`;
  const number = alike.length > 1 ? ` ${alike.indexOf(film) + 1}` : '';
  return words.charAt(0).toUpperCase() + words.slice(1) + number;
}

export class Pane {
  readonly element: HTMLElement;
  film!: Film;

  private readonly view = make('div', { class: 'film-view' });
  private readonly heat = make('canvas', { class: 'film-heat', hidden: true, 'aria-hidden': 'true' });
  private readonly list = make('select', { 'aria-label': 'Film' });
  private readonly reading = make('span', { class: 'film-reading' });
  private readonly note = make('p', { class: 'film-note', role: 'status' });
  /** Undefined before the first film has arrived, because the library cannot resize an empty viewport. */
  private viewport: Types.IStackViewport | undefined;
  private readonly resized = new ResizeObserver(() => this.resize());
  /** Film that the viewport shows. */
  private placed: Film | undefined;
  private turn = Promise.resolve();
  private wanted: HeatMap | undefined;

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
      make('div', { class: 'film-over' }, this.heat),
      make('p', { class: 'film-warning' }, 'RESEARCH USE ONLY'),
      this.note,
      make('figcaption', {}, this.list, this.reading),
    );
    this.offer(films);
    parent.append(this.element);
    // The library keeps a pressed button for itself: without this, a click would not give the keys to the film.
    this.view.addEventListener('pointerdown', () => this.element.focus({ preventScroll: true }));
    this.view.addEventListener('contextmenu', (event) => event.preventDefault());
    this.view.addEventListener(Enums.Events.IMAGE_RENDERED, () => this.rendered());
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
  }

  close(): void {
    this.resized.disconnect();
    this.element.remove();
    if (this.engine.getViewport(this.id)) this.engine.disableElement(this.id);
  }

  /** Show a film in its initial window; of several calls in a row the last one counts. */
  show(film: Film): Promise<void> {
    this.film = film;
    this.placed = undefined;
    this.name();
    this.element.setAttribute('aria-busy', 'true');
    this.element.classList.remove('shown');
    this.say('Loading');
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
      await viewport.setStack([register(film, raster)]);
      if (unwanted()) return;
      this.viewport = viewport;
      this.placed = film;
      this.say('');
      this.resize();
      this.reset();
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
    const voiRange = utilities.windowLevel.toLowHighRange(Math.max(width, 1), center);
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

  /** Screen pixels per film pixel. */
  get scale(): number {
    if (!this.viewport) return 1;
    const [left] = this.viewport.worldToCanvas([0, 0, 0]);
    const [right] = this.viewport.worldToCanvas([this.film.columns, 0, 0]);
    return ((right - left) / this.film.columns) * window.devicePixelRatio;
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

  /** Show a heat map over the film, or hide it. */
  async showHeat(map: HeatMap | undefined, opacity: number): Promise<void> {
    this.heat.style.opacity = String(opacity);
    if (map === this.wanted) return;
    this.putHeat(map);
    if (!map) return;
    try {
      const raster = await readMap(map);
      if (this.wanted !== map) return;
      draw(this.heat, raster);
      this.heat.hidden = false;
      this.layHeat();
    } catch (error) {
      if (this.wanted === map) this.say(`The heat map cannot be shown: ${(error as Error).message}.`);
    }
  }

  /** Show a sentence over the film; an empty one hides it. */
  say(sentence: string): void {
    this.note.textContent = sentence;
  }

  private putHeat(map: HeatMap | undefined): void {
    this.wanted = map;
    this.heat.hidden = true;
  }

  private rendered(): void {
    if (!this.placed) return;
    this.layHeat();
    const { center, width } = this.window;
    const percent = Math.round(100 * this.scale);
    this.reading.textContent = `C ${Math.round(center)} W ${Math.round(width)} · ${percent} %`;
    this.element.setAttribute('aria-busy', 'false');
    if (!this.element.classList.contains('shown')) performance.mark('film shown');
    this.element.classList.add('shown');
    this.changed();
  }

  /** Align the heat map with the film. */
  private layHeat(): void {
    if (!this.viewport) return;
    const { columns, rows } = this.film;
    const [left, top] = this.viewport.worldToCanvas([-0.5, -0.5, 0]);
    const [right, bottom] = this.viewport.worldToCanvas([columns - 0.5, rows - 0.5, 0]);
    const across = (right - left) / this.heat.width;
    const down = (bottom - top) / this.heat.height;
    this.heat.style.transform = `translate(${left}px, ${top}px) scale(${across}, ${down})`;
  }
}

/** Film viewer: panes, toolbar, arrangement and heat maps of one study. */

import { getRenderingCapabilities, init as initCore, RenderingEngine } from '@cornerstonejs/core';
import {
  addTool,
  Enums as ToolEnums,
  init as initTools,
  PanTool,
  ToolGroupManager,
  ZoomTool,
} from '@cornerstonejs/tools';
import { choice, make, setOptions } from './elements';
import { colourTable, drawScale } from './heat';
import { legend, listen } from './keys';
import { Link } from './link';
import { type Kind, KINDS, measureControls } from './measures';
import { remember, remembered } from './memory';
import { Pane } from './pane';
import { type Film, followed, type HeatMap, lostSentences, type Study } from './study';
import { fromStated, presetIn, presetsOf, stated, written } from './window_presets';
import { WindowTool } from './window_tool';

const ENGINE = 'viewer';
const FIRST_OPACITY = 0.6; // as in the saliency pictures that are sent to the PACS

const DRAGS = { window: WindowTool.toolName, zoom: ZoomTool.toolName, pan: PanTool.toolName };
type Drag = keyof typeof DRAGS;
/** What a drag of the first button does. */
type Dragging = Drag | Kind | 'lens';
const { Primary, Secondary, Auxiliary, Wheel } = ToolEnums.MouseBindings;
/** Bindings that do not depend on the function of the first button. */
const ALWAYS = {
  window: [],
  zoom: [{ mouseButton: Secondary }, { mouseButton: Wheel }, { numTouchPoints: 2 }],
  pan: [{ mouseButton: Auxiliary }],
};

type Arrangement = 'one' | 'views' | 'prior';

export class FilmViewer {
  active!: Pane;
  opacity = FIRST_OPACITY;

  private panes: Pane[] = [];
  private dragging: Dragging = 'window';
  private overlays = true;
  private contours = remembered('contours') !== 'off';
  private arrangement: Arrangement = 'one';
  private finding = '';
  private lastFinding = '';
  private method = '';

  private readonly colours;
  private readonly engine: RenderingEngine;
  private readonly tools;
  private readonly stage = make('div', { class: 'viewer-films' });
  private readonly lost = make('p', { class: 'viewer-lost', role: 'status' });
  private readonly keys = legend();
  private readonly buttons = new Map<string, HTMLButtonElement>();
  private readonly center = make('input', { type: 'number', step: 'any', 'aria-label': 'Centre' });
  private readonly width = make('input', { type: 'number', step: 'any', min: 1, 'aria-label': 'Width' });
  private readonly presets = make('select', { class: 'viewer-presets', 'aria-label': 'Preset of the window' });
  /** Film whose windows are in the list. */
  private offered: Film | undefined;
  private readonly slider = make('input', { type: 'range', min: 0, max: 100, step: 1 });
  private readonly floor = make('input', { type: 'range', min: 0, max: 90, step: 1, value: 0 });
  private readonly hold = make('button', { type: 'button' }, 'Hold to hide');
  private readonly findings = choice('Heat map', (value) => this.showFinding(value));
  private readonly methods = choice('Method', (value) => this.showMethod(value));
  private readonly onlyMethod = make('span', { class: 'viewer-method' });
  private readonly heatBar;
  readonly link = new Link(() => this.panes, () => this.active);
  private readonly measures = measureControls((kind) => this.drag(kind ?? 'window'), () => this.active.measures.undo());

  constructor(
    private readonly root: HTMLElement,
    private study: Study,
  ) {
    this.colours = colourTable(study.colours);
    // Without a graphics card, drawing on the CPU is much faster than WebGL in software.
    const useCPURendering = getRenderingCapabilities().softwareRasterizer;
    initCore({ rendering: { useCPURendering, webGlContextCount: 2 }, debug: { statsOverlay: false } });
    initTools();
    this.engine = new RenderingEngine(ENGINE);
    [WindowTool, ZoomTool, PanTool].forEach(addTool);
    this.tools = ToolGroupManager.createToolGroup(ENGINE)!;
    Object.values(DRAGS).forEach((tool) => this.tools.addTool(tool));

    this.heatBar = this.makeHeatBar();
    this.offerMaps();
    this.applyHeat();
    this.nameLost();
    const foot = make('div', { class: 'viewer-foot' }, this.keys, this.footTools(), this.link.group, this.measures.group);
    root.replaceChildren(this.toolbar(), this.lost, this.stage, this.heatBar, foot);
    listen(root, this);
    // Any element of the page with this attribute shows the heat map of its finding when clicked, or hides it.
    document.addEventListener('click', ({ target }) => {
      const named = (target as Element).closest<HTMLElement>('[data-heat-map]');
      const finding = named?.dataset.heatMap;
      if (finding) this.showFinding(finding === this.finding ? '' : finding);
    });
  }

  /** Show the first film, and give it the keyboard focus unless another element has it. */
  async open(): Promise<void> {
    this.drag('window');
    this.addPane();
    this.activate(this.panes[0]!);
    if (document.activeElement === document.body) this.active.element.focus({ preventScroll: true });
    await this.active.show(this.study.images[0]!);
  }

  /** Update to a newer state of the study; films on the screen keep the settings of the reader. */
  follow(now: Study): void {
    this.study = followed(this.study, now);
    for (const pane of this.panes) pane.offer(this.study.images);
    this.offerMaps();
    this.applyHeat();
    this.nameLost();
    this.refresh();
  }

  /** Say which films cannot be shown. */
  private nameLost(): void {
    this.lost.textContent = lostSentences(this.study);
    this.lost.hidden = !this.lost.textContent;
  }

  // --- the active film ---------------------------------------------------------------

  /**
   * @param brighter Shift of the centre that brightens the film, as a share of the width.
   * @param factor Of the width.
   */
  shiftWindow(brighter: number, factor: number): void {
    const { center, width } = this.active.window;
    const shift = this.active.inverted ? brighter : -brighter;
    this.active.window = { center: center + shift * width, width: width * factor };
  }

  /** Show a film in one of its windows to choose from, and films that are linked to it in theirs. */
  preset(key: string): void {
    for (const pane of this.link.windowed(this.active)) {
      const preset = pane.film && presetsOf(pane.film).find((each) => each.key === key);
      if (preset) pane.window = preset.window;
    }
    this.link.settle();
  }

  invert(): void {
    this.active.inverted = !this.active.inverted;
  }

  toggleOverlays(): void {
    this.overlays = !this.overlays;
    for (const pane of this.panes) pane.overlay.show(this.overlays);
    this.refresh();
  }

  actualPixels(): void {
    this.active.zoom(1 / this.active.scale);
  }

  nextFilm(): void {
    this.showFilm(this.active, after(this.study.images, this.active.film)!);
  }

  /** Set the function of the first button, and of one finger: it moves a view, magnifies, or measures. */
  drag(drag: Dragging): void {
    this.dragging = drag;
    this.measures.list.value = drag in KINDS ? drag : '';
    for (const pane of this.panes) this.prepare(pane);
    this.press('drag-lens', drag === 'lens');
    for (const [each, tool] of Object.entries(DRAGS) as [Drag, string][]) {
      this.tools.setToolPassive(tool, { removeAllBindings: true });
      const bindings = [...(each === drag ? [{ mouseButton: Primary }] : []), ...ALWAYS[each]];
      if (bindings.length) this.tools.setToolActive(tool, { bindings });
      this.press(`drag-${each}`, each === drag);
    }
  }

  /** Make a pane do what a drag is to do there, where the library does not. */
  private prepare(pane: Pane): void {
    const { dragging } = this;
    pane.measures.kind = dragging in KINDS ? (dragging as Kind) : undefined;
    pane.lens.dragged = dragging === 'lens';
  }

  /** Magnify the film below the pointer, else the middle of the active one, or cease to. */
  magnify(held: boolean): void {
    const pointed = this.panes.some(({ lens }) => lens.pointed);
    for (const pane of this.panes) pane.lens.hold(held, pane === this.active && !pointed);
  }

  // --- arrangement ------------------------------------------------------------------------------

  /** Show one film, two views side by side, or a film beside a prior one. */
  arrange(arrangement: Arrangement): void {
    const second = this.second(arrangement);
    if (arrangement !== 'one' && !second) return;
    this.arrangement = arrangement;
    if (!second) {
      const closed = this.panes.splice(1);
      this.activate(this.panes[0]!);
      if (closed.some((pane) => pane.element.contains(document.activeElement))) this.active.element.focus();
      closed.forEach((pane) => pane.close());
    } else {
      const pane = this.panes[1] ?? this.addPane();
      this.showFilm(pane, second);
    }
    this.stage.dataset.films = String(this.panes.length);
    this.link.refresh();
    this.activate(this.active);
  }

  private second(arrangement: Arrangement): Film | undefined {
    const shown = this.panes[0]!.film;
    const others = this.study.images.filter((film) => film !== shown);
    if (arrangement === 'views') return others.find((film) => film.prior === shown.prior);
    if (arrangement === 'one') return undefined;
    const priors = others.filter((film) => film.prior);
    return priors.find((film) => film.view === shown.view) ?? priors[0];
  }

  private addPane(): Pane {
    const pane: Pane = new Pane(
      this.engine,
      this.tools,
      `film-${this.panes.length}`,
      this.study.images,
      this.colours,
      this.stage,
      () => {
        if (pane === this.active) this.refresh();
        this.link.follow(pane);
      },
      (film) => this.showFilm(pane, film),
    );
    pane.element.addEventListener('focusin', () => this.activate(pane));
    pane.overlay.show(this.overlays);
    this.prepare(pane);
    this.panes.push(pane);
    return pane;
  }

  private activate(pane: Pane): void {
    this.active = pane;
    for (const each of this.panes) each.element.classList.toggle('active', each === pane && this.panes.length > 1);
    if (pane.film) this.refresh();
  }

  private showFilm(pane: Pane, film: Film): void {
    void pane.show(film).then(() => this.applyHeat());
  }

  fullScreen(): void {
    void (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen());
  }

  toggleLegend(): void {
    this.keys.open = !this.keys.open;
  }

  // --- heat map ---------------------------------------------------------------------------------

  /** Fill the lists of findings and methods; a single method is shown as text. */
  private offerMaps(): void {
    const { maps } = this.study;
    if (!maps.some((map) => map.finding === this.lastFinding)) this.lastFinding = maps[0]?.finding ?? '';
    if (!maps.some((map) => map.finding === this.finding)) this.finding = '';
    setOptions(this.findings.list, [['', 'none'], ...new Map(maps.map(({ finding, name }) => [finding, name]))]);
    const methods = new Set(maps.map((map) => map.method));
    this.onlyMethod.textContent = methods.size === 1 ? [...methods].join() : '';
    this.methods.field.hidden = methods.size < 2;
    this.heatBar.hidden = maps.length === 0;
  }

  /** Show the heat map of a finding; none when the finding is empty or has no map. */
  showFinding(finding: string): void {
    const maps = this.study.maps.filter((map) => map.finding === finding);
    this.finding = maps.length ? finding : '';
    if (maps.length) this.lastFinding = finding;
    setOptions(this.methods.list, [...new Set(maps.map((map) => map.method))].map((method) => [method, method]));
    this.showMethod(maps.find((map) => map.method === this.method)?.method ?? maps[0]?.method ?? '');
  }

  showMethod(method: string): void {
    if (method) this.method = method;
    const maps = this.study.maps.filter((map) => map.finding === this.finding && map.method === this.method);
    const shown = this.panes.map((pane) => pane.film?.id);
    const elsewhere = this.study.images.find((film) => film.id === maps[0]?.image);
    if (elsewhere && !maps.some((map) => shown.includes(map.image))) this.showFilm(this.active, elsewhere);
    this.applyHeat();
  }

  /** Show the lines around the hottest parts of heat maps, or hide them. */
  toggleContours(): void {
    this.contours = !this.contours;
    remember('contours', this.contours ? 'on' : 'off');
    this.applyHeat();
  }

  toggleHeat(): void {
    this.showFinding(this.finding ? '' : this.lastFinding);
  }

  nextFinding(): void {
    const findings = [...new Set(this.study.maps.map((map) => map.finding))];
    this.showFinding(after(findings, this.finding) ?? '');
  }

  nextMethod(): void {
    const methods = [...this.methods.list.options].map((option) => option.value);
    this.showMethod(after(methods, this.method) ?? '');
  }

  setOpacity(opacity: number): void {
    this.opacity = Math.min(1, Math.max(0, opacity));
    this.applyHeat();
  }

  /** Take the heat map away for a look at the film below it, or bring it back. */
  hideHeat(hidden: boolean): void {
    this.stage.classList.toggle('bare', hidden);
  }

  private mapOf(pane: Pane): HeatMap | undefined {
    const { finding, method } = this;
    return this.study.maps.find(
      (map) => map.finding === finding && map.method === method && map.image === pane.film?.id,
    );
  }

  private applyHeat(): void {
    const look = { opacity: this.opacity, floor: this.floor.valueAsNumber / 100, lines: this.contours };
    for (const pane of this.panes) void pane.heat.show(this.mapOf(pane), look);
    this.floor.setAttribute('aria-valuetext', `${this.floor.value} %`);
    this.press('contours', this.contours);
    this.buttons.get('contours')!.disabled = !this.finding;
    this.findings.list.value = this.finding;
    this.methods.list.value = this.method;
    this.methods.list.disabled = !this.finding;
    for (const control of [this.slider, this.floor, this.hold]) control.disabled = !this.finding;
    this.slider.value = String(Math.round(100 * this.opacity));
    this.slider.setAttribute('aria-valuetext', `${this.slider.value} %`);
    for (const named of document.querySelectorAll<HTMLElement>('[data-heat-map]'))
      named.setAttribute('aria-pressed', String(named.dataset.heatMap === this.finding));
  }

  // --- controls ---------------------------------------------------------------------------------

  private toolbar(): HTMLElement {
    const setWindow = () => {
      const [center, width] = [this.center.valueAsNumber, this.width.valueAsNumber];
      if (Number.isFinite(center) && width >= 1) this.active.window = fromStated(this.active.film, { center, width });
      this.refresh(true);
    };
    for (const input of [this.center, this.width]) input.addEventListener('change', setWindow);
    this.presets.addEventListener('change', () => this.preset(this.presets.value));
    const state = { 'aria-pressed': 'false' };
    return make(
      'div',
      { class: 'viewer-bar' },
      this.group(
        'Dragging changes',
        this.button('drag-window', 'Window', () => this.drag('window'), state),
        this.button('drag-zoom', 'Zoom', () => this.drag('zoom'), state),
        this.button('drag-pan', 'Pan', () => this.drag('pan'), state),
      ),
      this.group(
        'Film',
        this.button('invert', 'Invert', () => this.invert(), state),
        this.button('overlay', 'Overlay', () => this.toggleOverlays(), state),
        this.button('actual', '1:1', () => this.actualPixels(), { title: 'One pixel of the film to one of the screen' }),
        this.button('reset', 'Reset', () => this.active.reset()),
      ),
      this.group(
        'Window',
        make('label', { title: 'Centre of the window' }, make('span', { 'aria-hidden': 'true' }, 'C'), this.center),
        make('label', { title: 'Width of the window' }, make('span', { 'aria-hidden': 'true' }, 'W'), this.width),
        this.presets,
      ),
      this.group(
        'Arrangement',
        this.button('one', 'One film', () => this.arrange('one'), state),
        this.button('views', 'Side by side', () => this.arrange('views'), state),
        this.button('prior', 'With prior', () => this.arrange('prior'), state),
      ),
      this.button('full', '⤢', () => this.fullScreen(), { 'aria-label': 'Full screen', title: 'Full screen' }),
    );
  }

  private footTools(): HTMLElement {
    return this.group(
      'Film as it lies',
      this.button('turn', 'Turn', () => this.active.rotate(), { title: 'Turn clockwise by 90 degrees' }),
      this.button('mirror', 'Mirror', () => this.active.mirror(), { 'aria-pressed': 'false', title: 'Exchange left and right' }),
      this.button('drag-lens', 'Magnify', () => this.drag(this.dragging === 'lens' ? 'window' : 'lens'), {
        'aria-pressed': 'false',
        title: 'Dragging magnifies',
      }),
    );
  }

  private group(label: string, ...content: Node[]): HTMLElement {
    return make('div', { class: 'viewer-group', role: 'group', 'aria-label': label }, ...content);
  }

  private makeHeatBar(): HTMLElement {
    const scale = make('canvas', { class: 'viewer-scale', role: 'img', 'aria-label': 'Colours from low to high' });
    drawScale(scale, this.colours);
    this.floor.addEventListener('input', () => this.applyHeat());
    this.hold.addEventListener('mousedown', (event) => event.preventDefault()); // the film keeps the keys
    this.hold.addEventListener('pointerdown', () => this.hideHeat(true));
    for (const ended of ['pointerup', 'pointerleave', 'pointercancel'])
      this.hold.addEventListener(ended, () => this.hideHeat(false));
    for (const [event, hidden] of [['keydown', true], ['keyup', false]] as const)
      this.hold.addEventListener(event, ({ key }) => (key === ' ' || key === 'Enter') && this.hideHeat(hidden));
    this.slider.addEventListener('input', () => this.setOpacity(this.slider.valueAsNumber / 100));
    return make(
      'div',
      { class: 'viewer-bar', role: 'group', 'aria-label': 'Heat map' },
      this.findings.field,
      this.methods.field,
      this.onlyMethod,
      make('label', {}, make('span', {}, 'Opacity'), this.slider),
      make('label', {}, make('span', {}, 'Floor'), this.floor),
      this.button('contours', 'Lines', () => this.toggleContours(), {
        'aria-pressed': 'false',
        title: 'Lines around what has half (thin) and three quarters (thick) of the greatest heat',
      }),
      this.hold,
      make('span', { class: 'viewer-legend' }, 'low', scale, 'high'),
    );
  }

  private button(key: string, label: string, run: () => void, state: Record<string, string> = {}): HTMLButtonElement {
    const button = make('button', { type: 'button', 'data-action': key, ...state }, label);
    button.addEventListener('click', run);
    this.buttons.set(key, button);
    return button;
  }

  private press(key: string, pressed: boolean): void {
    this.buttons.get(key)!.setAttribute('aria-pressed', String(pressed));
  }

  /**
   * Update the controls to the state of the active film.
   *
   * @param entered Also a field that has the focus: else what is being typed there stays.
   */
  private refresh(entered = false): void {
    const { film, window } = this.active;
    const { center, width } = stated(film, window);
    for (const [field, value] of [[this.center, center], [this.width, width]] as const)
      if (entered || field !== document.activeElement) field.value = written(film, value);
    if (film !== this.offered) {
      this.offered = film;
      setOptions(this.presets, [['', 'Preset'], ...presetsOf(film).map(({ key, label }) => [key, label] as [string, string])]);
    }
    this.presets.value = presetIn(film, window);
    this.press('invert', this.active.inverted);
    this.press('mirror', this.active.orientation.mirrored);
    const overlaid = this.panes.some((pane) => pane.film?.overlay);
    this.press('overlay', overlaid && this.overlays);
    this.buttons.get('overlay')!.disabled = !overlaid;
    for (const each of ['one', 'views', 'prior'] as const) {
      this.press(each, each === this.arrangement);
      this.buttons.get(each)!.disabled = each !== 'one' && !this.second(each);
    }
  }
}

/** Item after `item`, and after the last one the first; undefined in an empty list. */
function after<Item>(items: Item[], item: Item): Item | undefined {
  return items[(items.indexOf(item) + 1) % items.length];
}

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
import { Boxes } from './boxes';
import { make, setOptions, shape, terse } from './elements';
import { colourTable } from './heat';
import { HeatControls } from './heat_controls';
import { legend, listen } from './keys';
import { Link } from './link';
import { type Kind, KINDS, measureControls } from './measures';
import { Pane } from './pane';
import { after, type Film, followed, lostSentences, type Study } from './study';
import { fromStated, presetIn, presetsOf, stated, written } from './window_presets';
import { WindowTool } from './window_tool';

const ENGINE = 'viewer';

const DRAGS = { window: WindowTool.toolName, zoom: ZoomTool.toolName, pan: PanTool.toolName };
type Drag = keyof typeof DRAGS;
/** What a drag of the first button does. */
type Dragging = Drag | Kind | 'lens' | 'box';
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

  private panes: Pane[] = [];
  private dragging: Dragging = 'window';
  private overlays = true;
  private arrangement: Arrangement = 'one';

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
  readonly heat: HeatControls;
  private readonly boxes: Boxes;
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

    this.heat = new HeatControls(
      {
        element: this.stage,
        panes: () => this.panes,
        study: () => this.study,
        showFilm: (image) => {
          const film = this.study.images.find((each) => each.id === image);
          if (film) this.showFilm(this.active, film);
        },
      },
      this.colours,
    );
    this.boxes = new Boxes(
      root,
      (drawing) => this.drag(drawing ? 'box' : 'window'),
      () => this.panes.forEach((pane) => pane.boxes.draw()),
    );
    this.nameLost();
    // In one line below the films: each further one would take their height.
    const tools = [this.heat.bar, this.footTools(), this.link.group, this.measures.group];
    root.replaceChildren(this.toolbar(), this.lost, this.stage, make('div', { class: 'viewer-foot' }, this.keys, ...tools));
    listen(root, this);
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
    this.heat.offer();
    this.heat.apply();
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
    if (drag !== 'box') this.boxes.stop();
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
    pane.boxes.drawing = dragging === 'box';
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
      () => this.boxes,
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
    void pane.show(film).then(() => this.heat.apply());
  }

  fullScreen(): void {
    void (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen());
  }

  toggleLegend(): void {
    this.keys.open = !this.keys.open;
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
    const glass = shape('circle', { cx: 6, cy: 6, r: 4.5 });
    const lens = shape('svg', { class: 'viewer-sign', viewBox: '0 0 14 14' }, glass, shape('path', { d: 'M9.5 9.5 13 13' }));
    return this.group(
      'Turn, mirror and magnify',
      this.button('turn', terse('Turn', '↻'), () => this.active.rotate(), {
        'aria-label': 'Turn',
        title: 'Turn clockwise by 90 degrees',
      }),
      this.button('mirror', terse('Mirror', '⇄'), () => this.active.mirror(), {
        'aria-pressed': 'false',
        'aria-label': 'Mirror',
        title: 'Mirror: exchange left and right',
      }),
      this.button('drag-lens', terse('Magnify', lens), () => this.drag(this.dragging === 'lens' ? 'window' : 'lens'), {
        'aria-pressed': 'false',
        'aria-label': 'Magnify',
        title: 'Dragging magnifies',
      }),
    );
  }

  private group(label: string, ...content: Node[]): HTMLElement {
    return make('div', { class: 'viewer-group', role: 'group', 'aria-label': label }, ...content);
  }

  private button(key: string, label: string | Node[], run: () => void, state: Record<string, string> = {}): HTMLButtonElement {
    const button = make('button', { type: 'button', 'data-action': key, ...state }, ...(typeof label === 'string' ? [label] : label));
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

/** Heat maps of a study: which one is shown, how, and the bar of controls for that. */

import { choice, make, setOptions, spacious } from './elements';
import { type ColourTable, drawScale } from './heat';
import { remember, remembered } from './memory';
import type { Pane } from './pane';
import { after, type HeatMap, type Study } from './study';

const FIRST_OPACITY = 0.6; // as in the saliency pictures that are sent to the PACS

/** What the heat maps lie on. */
export interface Stage {
  element: HTMLElement;
  panes: () => readonly Pane[];
  study: () => Study;
  /** Show the film of a number in the active pane. */
  showFilm: (image: number) => void;
}

export class HeatControls {
  readonly bar: HTMLElement;
  opacity = FIRST_OPACITY;

  private finding = '';
  private lastFinding = '';
  private method = '';
  private contours = remembered('contours') !== 'off';
  private readonly slider = make('input', { type: 'range', min: 0, max: 100, step: 1 });
  private readonly floor = make('input', { type: 'range', min: 0, max: 90, step: 1, value: 0 });
  private readonly lines = make(
    'button',
    { type: 'button', title: 'Lines around what has half (thin) and three quarters (thick) of the greatest heat' },
    'Lines',
  );
  private readonly hold = make(
    'button',
    { type: 'button', class: 'viewer-hold', 'aria-label': 'Hold to hide', title: 'The film alone, while this is held' },
    ...spacious('Hold to '),
    'hide',
  );
  private readonly findings = choice('Heat map', (value) => this.showFinding(value));
  private readonly methods = choice('Method', (value) => this.showMethod(value));
  private readonly onlyMethod = make('span', { class: 'viewer-method' });

  constructor(
    private readonly stage: Stage,
    colours: ColourTable,
  ) {
    this.bar = this.makeBar(colours);
    // Their visible labels give way where there is little room.
    for (const [{ field, list }, name] of [[this.findings, 'Heat map'], [this.methods, 'Method']] as const) {
      list.setAttribute('aria-label', name);
      field.firstElementChild!.classList.add('viewer-spacious');
    }
    this.methods.list.classList.add('viewer-methods');
    this.offer();
    this.apply();
    // Any element of the page with this attribute shows the heat map of its finding when clicked, or hides it.
    document.addEventListener('click', ({ target }) => {
      const named = (target as Element).closest<HTMLElement>('[data-heat-map]');
      const finding = named?.dataset.heatMap;
      if (finding) this.showFinding(finding === this.finding ? '' : finding);
    });
  }

  /** Fill the lists of findings and methods; a single method is shown as text. */
  offer(): void {
    const { maps } = this;
    if (!maps.some((map) => map.finding === this.lastFinding)) this.lastFinding = maps[0]?.finding ?? '';
    if (!maps.some((map) => map.finding === this.finding)) this.finding = '';
    setOptions(this.findings.list, [['', 'no map'], ...new Map(maps.map(({ finding, name }) => [finding, name]))]);
    const methods = new Set(maps.map((map) => map.method));
    this.onlyMethod.textContent = methods.size === 1 ? [...methods].join() : '';
    this.methods.field.hidden = methods.size < 2;
    this.bar.hidden = maps.length === 0;
  }

  /** Show the heat map of a finding; none when the finding is empty or has no map. */
  showFinding(finding: string): void {
    const maps = this.maps.filter((map) => map.finding === finding);
    this.finding = maps.length ? finding : '';
    if (maps.length) this.lastFinding = finding;
    setOptions(this.methods.list, [...new Set(maps.map((map) => map.method))].map((method) => [method, method]));
    this.showMethod(maps.find((map) => map.method === this.method)?.method ?? maps[0]?.method ?? '');
  }

  showMethod(method: string): void {
    if (method) this.method = method;
    const maps = this.maps.filter((map) => map.finding === this.finding && map.method === this.method);
    const shown = this.stage.panes().map((pane) => pane.film?.id);
    if (maps[0] && !maps.some((map) => shown.includes(map.image))) this.stage.showFilm(maps[0].image);
    this.apply();
  }

  /** Show the lines around the hottest parts of heat maps, or hide them. */
  toggleLines(): void {
    this.contours = !this.contours;
    remember('contours', this.contours ? 'on' : 'off');
    this.apply();
  }

  toggle(): void {
    this.showFinding(this.finding ? '' : this.lastFinding);
  }

  nextFinding(): void {
    const findings = [...new Set(this.maps.map((map) => map.finding))];
    this.showFinding(after(findings, this.finding) ?? '');
  }

  nextMethod(): void {
    const methods = [...this.methods.list.options].map((option) => option.value);
    this.showMethod(after(methods, this.method) ?? '');
  }

  setOpacity(opacity: number): void {
    this.opacity = Math.min(1, Math.max(0, opacity));
    this.apply();
  }

  /** Take the heat map away for a look at the film below it, or bring it back. */
  hide(hidden: boolean): void {
    this.stage.element.classList.toggle('bare', hidden);
  }

  private mapOf(pane: Pane): HeatMap | undefined {
    const { finding, method } = this;
    return this.maps.find(
      (map) => map.finding === finding && map.method === method && map.image === pane.film?.id,
    );
  }

  apply(): void {
    const look = { opacity: this.opacity, floor: this.floor.valueAsNumber / 100, lines: this.contours };
    for (const pane of this.stage.panes()) void pane.heat.show(this.mapOf(pane), look);
    this.floor.setAttribute('aria-valuetext', `${this.floor.value} %`);
    this.lines.setAttribute('aria-pressed', String(this.contours));
    this.findings.list.value = this.finding;
    this.methods.list.value = this.method;
    this.methods.list.disabled = !this.finding;
    for (const control of [this.slider, this.floor, this.lines, this.hold]) control.disabled = !this.finding;
    this.slider.value = String(Math.round(100 * this.opacity));
    this.slider.setAttribute('aria-valuetext', `${this.slider.value} %`);
    for (const named of document.querySelectorAll<HTMLElement>('[data-heat-map]'))
      named.setAttribute('aria-pressed', String(named.dataset.heatMap === this.finding));
  }

  private get maps(): HeatMap[] {
    return this.stage.study().maps;
  }

  private makeBar(colours: ColourTable): HTMLElement {
    const scale = make('canvas', { class: 'viewer-scale', role: 'img', 'aria-label': 'Colours from low to high' });
    drawScale(scale, colours);
    this.floor.addEventListener('input', () => this.apply());
    this.lines.addEventListener('click', () => this.toggleLines());
    this.hold.addEventListener('mousedown', (event) => event.preventDefault()); // the film keeps the keys
    this.hold.addEventListener('pointerdown', () => this.hide(true));
    for (const ended of ['pointerup', 'pointerleave', 'pointercancel'])
      this.hold.addEventListener(ended, () => this.hide(false));
    for (const [event, hidden] of [['keydown', true], ['keyup', false]] as const)
      this.hold.addEventListener(event, ({ key }) => (key === ' ' || key === 'Enter') && this.hide(hidden));
    this.slider.addEventListener('input', () => this.setOpacity(this.slider.valueAsNumber / 100));
    return make(
      'div',
      { class: 'viewer-heat', role: 'group', 'aria-label': 'Heat map' },
      this.findings.field,
      this.methods.field,
      this.onlyMethod,
      make('label', {}, make('span', {}, 'Opacity'), this.slider),
      // The colours lie below the slider that says from where on they are shown.
      make('label', {}, make('span', {}, 'Floor'), make('span', { class: 'viewer-legend' }, this.floor, scale)),
      this.lines,
      this.hold,
    );
  }
}

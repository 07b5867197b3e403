/** Keyboard shortcuts and their legend. */

import { make, spacious } from './elements';
import type { FilmViewer } from './film_viewer';
import { remember, remembered } from './memory';

interface Shortcut {
  /** Values of `KeyboardEvent.key`: letters in lower case, arrows with the prefix `Shift+` when it is held. */
  keys: [string, (viewer: FilmViewer) => void][];
  /** Labels of the keys. */
  caps: string[];
  does: string;
}

const WINDOW_STEP = 0.05;
const WIDTH_FACTOR = 1.1;
const ZOOM_FACTOR = 1.25;
const PAN_STEP = 0.1;
const OPACITY_STEP = 0.1;

/** What keys do as long as they are held. */
const HELD = {
  v: (viewer: FilmViewer, held = true) => viewer.heat.hide(held),
  e: (viewer: FilmViewer, held = true) => viewer.magnify(held),
};

export const SHORTCUTS: Shortcut[] = [
  {
    caps: ['↑', '↓'],
    does: 'brighter, darker',
    keys: [
      ['ArrowUp', (viewer) => viewer.shiftWindow(WINDOW_STEP, 1)],
      ['ArrowDown', (viewer) => viewer.shiftWindow(-WINDOW_STEP, 1)],
    ],
  },
  {
    caps: ['←', '→'],
    does: 'more, less contrast',
    keys: [
      ['ArrowLeft', (viewer) => viewer.shiftWindow(0, 1 / WIDTH_FACTOR)],
      ['ArrowRight', (viewer) => viewer.shiftWindow(0, WIDTH_FACTOR)],
    ],
  },
  {
    caps: ['+', '−'],
    does: 'zoom',
    keys: [
      ['+', (viewer) => viewer.active.zoom(ZOOM_FACTOR)],
      ['=', (viewer) => viewer.active.zoom(ZOOM_FACTOR)],
      ['-', (viewer) => viewer.active.zoom(1 / ZOOM_FACTOR)],
    ],
  },
  {
    caps: ['Shift', 'arrows'],
    does: 'pan',
    keys: [
      ['Shift+ArrowUp', (viewer) => viewer.active.pan(0, -PAN_STEP)],
      ['Shift+ArrowDown', (viewer) => viewer.active.pan(0, PAN_STEP)],
      ['Shift+ArrowLeft', (viewer) => viewer.active.pan(-PAN_STEP, 0)],
      ['Shift+ArrowRight', (viewer) => viewer.active.pan(PAN_STEP, 0)],
    ],
  },
  { caps: ['A'], does: 'actual pixels', keys: [['a', (viewer) => viewer.actualPixels()]] },
  { caps: ['E'], does: 'magnify while held', keys: [['e', HELD.e]] },
  { caps: ['I'], does: 'invert', keys: [['i', (viewer) => viewer.invert()]] },
  { caps: ['O'], does: 'overlay', keys: [['o', (viewer) => viewer.toggleOverlays()]] },
  {
    caps: ['T', 'Y'],
    does: 'turn, mirror',
    keys: [
      ['t', (viewer) => viewer.active.rotate()],
      ['y', (viewer) => viewer.active.mirror()],
    ],
  },
  { caps: ['R'], does: 'reset', keys: [['r', (viewer) => viewer.active.reset()]] },
  {
    caps: ['W', 'Z', 'P'],
    does: 'drag: window, zoom, pan',
    keys: [
      ['w', (viewer) => viewer.drag('window')],
      ['z', (viewer) => viewer.drag('zoom')],
      ['p', (viewer) => viewer.drag('pan')],
    ],
  },
  {
    caps: ['1', '2', '3'],
    does: 'one film, side by side, prior',
    keys: [
      ['1', (viewer) => viewer.arrange('one')],
      ['2', (viewer) => viewer.arrange('views')],
      ['3', (viewer) => viewer.arrange('prior')],
    ],
  },
  {
    caps: ['B', 'U'],
    does: 'link zoom and pan, window',
    keys: [
      ['b', (viewer) => viewer.link.toggle('position')],
      ['u', (viewer) => viewer.link.toggle('look')],
    ],
  },
  {
    caps: ['4', '5', '6', '7', '8'],
    does: 'window: model, header, full range, lungs, bones',
    keys: [
      ['4', (viewer) => viewer.preset('model')],
      ['5', (viewer) => viewer.preset('header-0')],
      ['6', (viewer) => viewer.preset('full')],
      ['7', (viewer) => viewer.preset('lungs')],
      ['8', (viewer) => viewer.preset('bones')],
    ],
  },
  {
    caps: ['L', 'G', 'C'],
    does: 'drag: length, angle, heart to chest',
    keys: [
      ['l', (viewer) => viewer.drag('length')],
      ['g', (viewer) => viewer.drag('angle')],
      ['c', (viewer) => viewer.drag('ratio')],
    ],
  },
  { caps: ['⌫'], does: 'remove the last measure', keys: [['backspace', (viewer) => viewer.active.measures.undo()]] },
  { caps: ['N'], does: 'next film', keys: [['n', (viewer) => viewer.nextFilm()]] },
  { caps: ['H'], does: 'heat map', keys: [['h', (viewer) => viewer.heat.toggle()]] },
  { caps: ['V'], does: 'hide the heat map while held', keys: [['v', HELD.v]] },
  { caps: ['D'], does: 'lines of the heat map', keys: [['d', (viewer) => viewer.heat.toggleLines()]] },
  {
    caps: ['F', 'M'],
    does: 'next finding, method',
    keys: [
      ['f', (viewer) => viewer.heat.nextFinding()],
      ['m', (viewer) => viewer.heat.nextMethod()],
    ],
  },
  {
    caps: ['[', ']'],
    does: 'heat map fainter, stronger',
    keys: [
      ['[', (viewer) => viewer.heat.setOpacity(viewer.heat.opacity - OPACITY_STEP)],
      [']', (viewer) => viewer.heat.setOpacity(viewer.heat.opacity + OPACITY_STEP)],
    ],
  },
  { caps: ['X'], does: 'full screen', keys: [['x', (viewer) => viewer.fullScreen()]] },
  { caps: ['?'], does: 'this legend', keys: [['?', (viewer) => viewer.toggleLegend()]] },
];

const ACTIONS = new Map(SHORTCUTS.flatMap((shortcut) => shortcut.keys));

/** Listen to keys within `root` only, so that letters typed elsewhere on the page do nothing here (WCAG 2.1.4). */
export function listen(root: HTMLElement, viewer: FilmViewer): void {
  root.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
    const arrow = event.key.startsWith('Arrow');
    const key = arrow ? `${event.shiftKey ? 'Shift+' : ''}${event.key}` : event.key.toLowerCase();
    const action = ACTIONS.get(key);
    if (!action) return;
    event.preventDefault();
    action(viewer);
  });
  root.addEventListener('keyup', ({ key }) => HELD[key.toLowerCase() as keyof typeof HELD]?.(viewer, false));
  // The key may be let go elsewhere.
  root.addEventListener('focusout', () => Object.values(HELD).forEach((held) => held(viewer, false)));
}

export function legend(): HTMLDetailsElement {
  const entries = SHORTCUTS.map(({ caps, does }) =>
    make('div', {}, make('dt', {}, ...caps.map((cap) => make('kbd', {}, cap))), make('dd', {}, does)),
  );
  const keys = make(
    'details',
    { class: 'viewer-keys', open: remembered('keys') === 'open' },
    make('summary', { title: 'They act while a film has the focus' }, 'Keys', ...spacious(', while a film has the focus')),
    make('dl', {}, ...entries),
  );
  keys.addEventListener('toggle', () => remember('keys', keys.open ? 'open' : 'closed'));
  return keys;
}

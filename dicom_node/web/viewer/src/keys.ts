/** What can be done by key, and the legend that says so. */

import { make } from './elements';
import type { Room } from './room';

interface Shortcut {
  /** As `KeyboardEvent.key`; letters small, arrows with `Shift+` before them where it is held. */
  keys: [string, (room: Room) => void][];
  /** As printed on the keys. */
  caps: string[];
  does: string;
}

const WINDOW_STEP = 0.05;
const WIDTH_FACTOR = 1.1;
const ZOOM_FACTOR = 1.25;
const PAN_STEP = 0.1;
const OPACITY_STEP = 0.1;

export const SHORTCUTS: Shortcut[] = [
  {
    caps: ['↑', '↓'],
    does: 'brighter, darker',
    keys: [
      ['ArrowUp', (room) => room.shiftWindow(-WINDOW_STEP, 1)],
      ['ArrowDown', (room) => room.shiftWindow(WINDOW_STEP, 1)],
    ],
  },
  {
    caps: ['←', '→'],
    does: 'more, less contrast',
    keys: [
      ['ArrowLeft', (room) => room.shiftWindow(0, 1 / WIDTH_FACTOR)],
      ['ArrowRight', (room) => room.shiftWindow(0, WIDTH_FACTOR)],
    ],
  },
  {
    caps: ['+', '−'],
    does: 'zoom',
    keys: [
      ['+', (room) => room.active.zoom(ZOOM_FACTOR)],
      ['=', (room) => room.active.zoom(ZOOM_FACTOR)],
      ['-', (room) => room.active.zoom(1 / ZOOM_FACTOR)],
    ],
  },
  {
    caps: ['Shift', 'arrows'],
    does: 'pan',
    keys: [
      ['Shift+ArrowUp', (room) => room.active.pan(0, -PAN_STEP)],
      ['Shift+ArrowDown', (room) => room.active.pan(0, PAN_STEP)],
      ['Shift+ArrowLeft', (room) => room.active.pan(-PAN_STEP, 0)],
      ['Shift+ArrowRight', (room) => room.active.pan(PAN_STEP, 0)],
    ],
  },
  { caps: ['A'], does: 'actual pixels', keys: [['a', (room) => room.actualPixels()]] },
  { caps: ['I'], does: 'invert', keys: [['i', (room) => room.invert()]] },
  { caps: ['R'], does: 'reset', keys: [['r', (room) => room.active.reset()]] },
  {
    caps: ['W', 'Z', 'P'],
    does: 'drag: window, zoom, pan',
    keys: [
      ['w', (room) => room.drag('window')],
      ['z', (room) => room.drag('zoom')],
      ['p', (room) => room.drag('pan')],
    ],
  },
  {
    caps: ['1', '2', '3'],
    does: 'one film, side by side, prior',
    keys: [
      ['1', (room) => room.arrange('one')],
      ['2', (room) => room.arrange('views')],
      ['3', (room) => room.arrange('prior')],
    ],
  },
  { caps: ['N'], does: 'next film', keys: [['n', (room) => room.nextFilm()]] },
  { caps: ['H'], does: 'heat map', keys: [['h', (room) => room.toggleHeat()]] },
  {
    caps: ['F', 'M'],
    does: 'next finding, method',
    keys: [
      ['f', (room) => room.nextFinding()],
      ['m', (room) => room.nextMethod()],
    ],
  },
  {
    caps: ['[', ']'],
    does: 'heat map fainter, stronger',
    keys: [
      ['[', (room) => room.setOpacity(room.opacity - OPACITY_STEP)],
      [']', (room) => room.setOpacity(room.opacity + OPACITY_STEP)],
    ],
  },
  { caps: ['X'], does: 'full screen', keys: [['x', (room) => room.fullScreen()]] },
  { caps: ['?'], does: 'this legend', keys: [['?', (room) => room.toggleLegend()]] },
];

const ACTIONS = new Map(SHORTCUTS.flatMap((shortcut) => shortcut.keys));

/** Listen to keys within `root` only, so that letters typed elsewhere on the page do nothing here (WCAG 2.1.4). */
export function listen(root: HTMLElement, room: Room): void {
  root.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
    const arrow = event.key.startsWith('Arrow');
    const key = arrow ? `${event.shiftKey ? 'Shift+' : ''}${event.key}` : event.key.toLowerCase();
    const action = ACTIONS.get(key);
    if (!action) return;
    event.preventDefault();
    action(room);
  });
}

export function legend(): HTMLDetailsElement {
  const entries = SHORTCUTS.map(({ caps, does }) =>
    make('div', {}, make('dt', {}, ...caps.map((cap) => make('kbd', {}, cap))), make('dd', {}, does)),
  );
  return make(
    'details',
    { class: 'viewer-keys', open: true },
    make('summary', {}, 'Keys, while a film has the focus'),
    make('dl', {}, ...entries),
  );
}

/** Link between films side by side: what is done to one of them happens to the others. */

import { make } from './elements';
import { remember, remembered } from './memory';
import type { Orientation } from './orientation';
import type { Pane, Position } from './pane';
import { ALL_GREYS } from './placed_film';

/** Window of a film as compared with its first one, so that films of different scales can share it. */
interface Look {
  /** Of the centre, in widths of the first window; more is darker. */
  shift: number;
  /** Width over that of the first window. */
  factor: number;
  /** Inverted, when compared with its first picture. */
  reversed: boolean;
}

const NEAR = 1e-3;
const near = (one: number, other: number) => Math.abs(one - other) < NEAR;

function lookOf(pane: Pane): Look {
  const [first, { center, width }] = [pane.film.window ?? ALL_GREYS, pane.window];
  const shift = (center - first.center) / first.width;
  return { shift: pane.film.inverted ? -shift : shift, factor: width / first.width, reversed: pane.inverted !== pane.film.inverted };
}

function look(pane: Pane, { shift, factor, reversed }: Look): void {
  const first = pane.film.window ?? ALL_GREYS;
  pane.inverted = reversed !== pane.film.inverted;
  pane.window = { center: first.center + (pane.film.inverted ? -shift : shift) * first.width, width: factor * first.width };
}

const sameLook = (one: Look, other: Look) =>
  near(one.shift, other.shift) && near(one.factor, other.factor) && one.reversed === other.reversed;
const samePosition = ({ zoom, middle: [x, y] }: Position, other: Position) =>
  near(zoom, other.zoom) && near(x, other.middle[0]) && near(y, other.middle[1]);

/** What a pane showed. */
interface Known {
  film: number;
  orientation: Orientation;
  position: Position;
  look: Look;
}

type What = 'position' | 'look';
const BUTTONS: Record<What, { label: string; name: string }> = {
  position: { label: 'Zoom', name: 'Link zoom and pan' },
  look: { label: 'Window', name: 'Link window' },
};

export class Link {
  /** Buttons that switch the links; to be hidden where one film is shown. */
  readonly group = make('div', { class: 'viewer-group', role: 'group', 'aria-label': 'Linked' }, make('span', {}, 'Link'));
  private readonly linked: Record<What, boolean>;
  private readonly buttons = {} as Record<What, HTMLButtonElement>;
  /** What each pane showed when it was last looked at. */
  private readonly known = new Map<Pane, Known>();

  /**
   * @param panes All panes.
   * @param active Pane that the others take after when a link is made.
   */
  constructor(
    private readonly panes: () => readonly Pane[],
    private readonly active: () => Pane,
  ) {
    this.linked = { position: remembered('link-position') === 'on', look: remembered('link-look') === 'on' };
    for (const what of Object.keys(BUTTONS) as What[]) {
      const { label, name } = BUTTONS[what];
      const button = make('button', { type: 'button', 'aria-label': name, title: name }, label);
      button.addEventListener('click', () => this.toggle(what));
      this.buttons[what] = button;
      this.group.append(button);
    }
    this.refresh();
  }

  toggle(what: What): void {
    this.linked[what] = !this.linked[what];
    remember(`link-${what}`, this.linked[what] ? 'on' : 'off');
    this.refresh();
    if (this.panes().length > 1 && this.linked[what]) this.give(this.active(), [what]);
  }

  /** Show the buttons where there is something to link, pressed where it is. */
  refresh(): void {
    this.group.hidden = this.panes().length < 2;
    for (const what of Object.keys(BUTTONS) as What[])
      this.buttons[what].setAttribute('aria-pressed', String(this.linked[what]));
  }

  /** Let the others follow a pane that has been drawn, as far as they are linked; one with a new film follows them. */
  follow(pane: Pane): void {
    if (!pane.shown) return;
    const before = this.known.get(pane);
    const now = this.note(pane);
    if (before?.film !== now.film) {
      const other = this.panes().find((each) => each !== pane && each.shown);
      if (other) this.give(other, ['position', 'look'], [pane]);
      return;
    }
    if (before.orientation !== now.orientation) return; // the place is the same, and has only been turned
    const changed: What[] = [];
    if (!samePosition(before.position, now.position)) changed.push('position');
    if (!sameLook(before.look, now.look)) changed.push('look');
    this.give(pane, changed);
  }

  /** Panes whose windows go together with that of a pane. */
  windowed(pane: Pane): readonly Pane[] {
    return this.linked.look ? this.panes() : [pane];
  }

  /** Take what all panes show for granted: none of them follows another for it. */
  settle(): void {
    for (const pane of this.panes()) if (pane.shown) this.note(pane);
  }

  private give(from: Pane, changed: What[], to: readonly Pane[] = this.panes()): void {
    const whats = changed.filter((what) => this.linked[what]);
    if (!whats.length) return;
    for (const pane of to) {
      if (pane === from || !pane.shown) continue;
      if (whats.includes('position')) pane.position = from.position;
      if (whats.includes('look')) look(pane, lookOf(from));
      this.note(pane); // so that it is not followed in turn
    }
  }

  private note(pane: Pane): Known {
    const now = { film: pane.film.id, orientation: pane.orientation, position: pane.position, look: lookOf(pane) };
    this.known.set(pane, now);
    return now;
  }
}

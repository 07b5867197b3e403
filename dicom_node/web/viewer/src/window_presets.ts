/** Windows to choose from, and the scale on which a reader sees windows. */

import { ALL_GREYS } from './placed_film';
import type { Film, Window } from './study';

interface Preset {
  /** The same for every film. */
  key: string;
  label: string;
  window: Window;
}

/** Parts of the first window, from its lower to its upper end, in which dark and bright anatomy lies. */
const DARK = [0, 0.6] as const;
const BRIGHT = [0.4, 1] as const;

/** Windows of a film: its first one, those that its header has, all of its greys, and parts of the first one. */
export function presetsOf(film: Film): Preset[] {
  const first = film.window ?? ALL_GREYS;
  const part = ([from, to]: readonly [number, number]): Window => {
    // Lungs are dark; of a film whose header confuses black and white, they are bright until it is inverted.
    const [low, high] = film.inverted ? [1 - to, 1 - from] : [from, to];
    return { center: first.center + ((low + high) / 2 - 0.5) * first.width, width: (high - low) * first.width };
  };
  return [
    { key: 'model', label: 'As the model sees it', window: first },
    ...(film.windows ?? []).map(({ name, center, width }, place, all) => ({
      key: `header-${place}`,
      label: `Header${all.length > 1 ? ` ${place + 1}` : ''}${name ? `: ${name}` : ''}`,
      window: { center, width },
    })),
    { key: 'full', label: 'Full range', window: ALL_GREYS },
    { key: 'lungs', label: 'Lungs', window: part(DARK) },
    { key: 'bones', label: 'Mediastinum, bones', window: part(BRIGHT) },
  ];
}

/** Key of the first window to choose that is as good as this one; empty when none is. */
export function presetIn(film: Film, { center, width }: Window): string {
  const alike = (one: number, other: number) => Math.abs(one - other) < 1 + width / 1000;
  const found = presetsOf(film).find(({ window }) => alike(window.center, center) && alike(window.width, width));
  return found?.key ?? '';
}

/**
 * Window as a header would state it: in the values after the Modality LUT or rescale, as LINEAR (PS3.3 C.11.2.1.2.1).
 *
 * Where the node does not tell the scale, on the scale of the greys.
 */
export function stated({ scale }: Film, { center, width }: Window): Window {
  if (!scale) return { center, width };
  return { center: scale.intercept + scale.slope * center + 0.5, width: Math.abs(scale.slope) * width + 1 };
}

/** Inverse of {@link stated}. */
export function fromStated({ scale }: Film, { center, width }: Window): Window {
  if (!scale) return { center, width };
  return { center: (center - 0.5 - scale.intercept) / scale.slope, width: (width - 1) / Math.abs(scale.slope) };
}

/** Text for a number of a stated window: whole numbers, unless the film has but few of them. */
export function written({ scale }: Film, value: number): string {
  const span = scale ? Math.abs(scale.slope) * ALL_GREYS.width : Infinity;
  return value.toFixed(Math.min(3, Math.max(0, Math.ceil(3 - Math.log10(span)))));
}

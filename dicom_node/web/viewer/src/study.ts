/** Data of a study from the node: films, heat maps and their pixels. */

/** Window on the scale of the grey values, 0 to 65535 (PS3.3 C.11.2.1.2). */
export interface Window {
  center: number;
  width: number;
}

/** One film, as listed. Its grey values are in the MONOCHROME2 sense of its header. */
export interface Film {
  id: number;
  /** Such as `frontal`; may be empty. */
  view: string;
  columns: number;
  rows: number;
  /** Height of a pixel over its width. */
  aspect_ratio: number;
  /** Height and width of a pixel at the detector, in millimetres; null where the header does not say. */
  imager_spacing: [number, number] | null;
  /** Address of the grey values: 16 bits each, little-endian; 0 is not to be seen. */
  pixels: string;
  /** Initial window; all grey values when null. */
  window: Window | null;
  /** Line from the grey values to those in which headers state windows; undefined when unknown. */
  scale?: { slope: number; intercept: number } | null;
  /** Windows that the header offers, on the scale of the grey values. */
  windows?: (Window & { name: string })[];
  /** Displayed greys from 0 to 65535, evenly spaced between the ends of the window; a straight line when null. */
  curve: number[] | null;
  /** Address of the overlay planes: 1 bit for each pixel, the first in the lowest bit; null without. */
  overlay: string | null;
  /** True when its header confuses black and white, so that it is shown inverted at first. */
  inverted: boolean;
  /** How the models saw it, and how it is shown at first: mirrored, then turned clockwise by quarters. */
  mirrored: boolean;
  turns: number;
  /** True for a film of an earlier study of the same patient. */
  prior: boolean;
  /** Number of its study, and the date of that as YYYYMMDD; empty when unknown. */
  study: number;
  study_date: string;
}

/** One heat map: where a method says that a finding was seen on a film. */
export interface HeatMap {
  finding: string;
  name: string;
  method: string;
  /** `id` of the film. */
  image: number;
  /** Address of the heat: 8 bits each, to be stretched over the film. */
  map: string;
}

/** A film that cannot be shown: its file is lost, or cannot be decoded. */
export interface LostFilm {
  id: number;
  view: string;
  prior: boolean;
  error: string;
}

export interface Study {
  images: Film[];
  maps: HeatMap[];
  lost: LostFilm[];
  /** Colours of 256 steps of heat from low to high, such as `#1f1332`. */
  colours: string[];
}

/**
 * Merge a newer state of a study into the known one; known films keep their object identity.
 *
 * @param before Known state; its films are updated in place.
 */
export function followed(before: Study, now: Study): Study {
  const known = new Map(before.images.map((film) => [film.id, film]));
  return { ...now, images: now.images.map((film) => Object.assign(known.get(film.id) ?? film, film)) };
}

/** Sentences that name the films that cannot be shown; empty when there is none. */
export function lostSentences({ lost }: Study): string {
  const name = ({ id, view, prior }: LostFilm) => `${prior ? 'Prior film' : 'Film'} ${id}${view ? ` (${view})` : ''}`;
  return lost.map((film) => `${name(film)} cannot be shown: ${film.error}`).join(' ');
}

/** Item after `item`, and after the last one the first; undefined in an empty list. */
export function after<Item>(items: Item[], item: Item): Item | undefined {
  return items[(items.indexOf(item) + 1) % items.length];
}

/** Values row by row, from the top left. */
export interface Raster<Values> {
  rows: number;
  columns: number;
  values: Values;
}

/** One bit for each value, the first in the lowest bit. */
export type Bits = Uint8Array;

type Values = Uint8Array | Uint16Array;

const rasters = new Map<string, Promise<Raster<Values>>>();

async function get(address: string): Promise<Response> {
  const response = await fetch(address, { credentials: 'same-origin' });
  if (!response.ok) throw new Error(`the node answered ${response.status}`);
  return response;
}

export async function readStudy(address: string): Promise<Study> {
  return (await get(address)).json();
}

/** Grey values of a film; asked for once. */
export function readFilm(film: Film): Promise<Raster<Uint16Array>> {
  // Every machine that runs a browser is little-endian, and so is a Uint16Array on it.
  return once(film.pixels, 16) as Promise<Raster<Uint16Array>>;
}

/** Overlay planes of a film that has some; asked for once. */
export function readOverlay(film: Film): Promise<Raster<Bits>> {
  return once(film.overlay!, 1) as Promise<Raster<Bits>>;
}

/** Heat of a map; asked for once. */
export function readMap(map: HeatMap): Promise<Raster<Uint8Array>> {
  return once(map.map, 8) as Promise<Raster<Uint8Array>>;
}

function once(address: string, bits: 1 | 8 | 16): Promise<Raster<Values>> {
  let raster = rasters.get(address);
  if (!raster) {
    raster = readRaster(address, bits);
    raster.catch(() => rasters.delete(address)); // the next look tries again
    rasters.set(address, raster);
  }
  return raster;
}

async function readRaster(address: string, bits: 1 | 8 | 16): Promise<Raster<Values>> {
  const response = await get(address);
  const rows = Number(response.headers.get('X-Rows'));
  const columns = Number(response.headers.get('X-Columns'));
  const bytes = await response.arrayBuffer();
  if (!(rows > 0 && columns > 0) || bytes.byteLength !== Math.ceil((rows * columns * bits) / 8))
    throw new Error(`${bytes.byteLength} bytes came for ${rows} x ${columns} pixels`);
  return { rows, columns, values: bits === 16 ? new Uint16Array(bytes) : new Uint8Array(bytes) };
}

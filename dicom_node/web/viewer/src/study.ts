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
  /** Address of the grey values: 16 bits each, little-endian. */
  pixels: string;
  /** Initial window; all grey values when null. */
  window: Window | null;
  /** True when its header confuses black and white, so that it is shown inverted at first. */
  inverted: boolean;
  /** True for a film of an earlier study of the same patient. */
  prior: boolean;
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

export interface Study {
  images: Film[];
  maps: HeatMap[];
}

/**
 * Merge a newer state of a study into the known one; known films keep their object identity.
 *
 * @param before Known state; its films are updated in place.
 */
export function followed(before: Study, now: Study): Study {
  const known = new Map(before.images.map((film) => [film.id, film]));
  return { images: now.images.map((film) => Object.assign(known.get(film.id) ?? film, film)), maps: now.maps };
}

/** Values row by row, from the top left. */
export interface Raster<Values> {
  rows: number;
  columns: number;
  values: Values;
}

const rasters = new Map<string, Promise<Raster<Uint8Array | Uint16Array>>>();

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
  return once(film.pixels, Uint16Array) as Promise<Raster<Uint16Array>>;
}

/** Heat of a map; asked for once. */
export function readMap(map: HeatMap): Promise<Raster<Uint8Array>> {
  return once(map.map, Uint8Array) as Promise<Raster<Uint8Array>>;
}

function once(address: string, kind: typeof Uint8Array | typeof Uint16Array): Promise<Raster<Uint8Array | Uint16Array>> {
  let raster = rasters.get(address);
  if (!raster) {
    raster = readRaster(address, kind);
    raster.catch(() => rasters.delete(address)); // the next look tries again
    rasters.set(address, raster);
  }
  return raster;
}

async function readRaster(address: string, kind: typeof Uint8Array | typeof Uint16Array) {
  const response = await get(address);
  const rows = Number(response.headers.get('X-Rows'));
  const columns = Number(response.headers.get('X-Columns'));
  const bytes = await response.arrayBuffer();
  if (!(rows > 0 && columns > 0) || bytes.byteLength !== rows * columns * kind.BYTES_PER_ELEMENT)
    throw new Error(`${bytes.byteLength} bytes came for ${rows} x ${columns} pixels`);
  return { rows, columns, values: new kind(bytes) };
}

/** Film as the library shows it: with square pixels, turned as the reader wants it. */

import { cache, Enums, getShouldUseCPURendering, imageLoader, utilities } from '@cornerstonejs/core';
import { CurveTable } from './curve';
import { type Orientation, oriented } from './orientation';
import { inTrueShape } from './shape';
import type { Film, Raster, Window } from './study';

export const ALL_GREYS: Window = { center: 32768, width: 65536 };

export interface PlacedFilm {
  imageId: string;
  /** Size of the film as it was taken, in square pixels. */
  taken: { rows: number; columns: number };
  orientation: Orientation;
  /** The film as it is seen. */
  seen: Raster<Uint16Array>;
  /** Table of the film's curve, for the software renderer. */
  table: CurveTable | undefined;
}

/**
 * Register a film's grey values with the library: one world unit per pixel, origin at the centre of the first pixel.
 *
 * @param pane Each pane has images of its own, because a curve's table belongs to one window.
 */
export function register(film: Film, raster: Raster<Uint16Array>, pane: string, orientation: Orientation): PlacedFilm {
  const { mirrored, turns } = orientation;
  const imageId = `film:${film.id}:${pane}:${mirrored}:${turns}`;
  let image = cache.getImage(imageId);
  if (!image) {
    const shown = oriented(inTrueShape(raster, film.aspect_ratio), orientation);
    utilities.genericMetadataProvider.add(imageId, {
      type: Enums.MetadataModules.GENERAL_SERIES,
      metadata: { modality: 'DX' },
    });
    image = imageLoader.createAndCacheLocalImage(imageId, {
      scalarData: shown.values,
      dimensions: [shown.columns, shown.rows],
      spacing: [1, 1],
      origin: [0, 0, 0],
      direction: [1, 0, 0, 0, 1, 0, 0, 0, 1],
      frameOfReferenceUID: imageId,
      targetBuffer: { type: 'Uint16Array' },
    });
    if (film.curve && getShouldUseCPURendering()) image.modalityLUT = new CurveTable(imageId, film.curve);
  }
  const { center, width } = film.window ?? ALL_GREYS;
  image.windowCenter = center;
  image.windowWidth = width;
  const { rows, columns } = image;
  return {
    imageId,
    taken: turns % 2 ? { rows: columns, columns: rows } : { rows, columns },
    orientation,
    seen: { rows, columns, values: image.getPixelData() as Uint16Array },
    table: image.modalityLUT as CurveTable | undefined,
  };
}

/** Forget a film that was turned: it is turned again when it is wanted. */
export function release({ imageId, orientation }: PlacedFilm): void {
  if (orientation.mirrored || orientation.turns) cache.removeImageLoadObject(imageId, { force: true });
}

/** Drawing of heat maps. */

import type { Raster } from './study';

/**
 * Colour table of heat: dark violet over red to light yellow, lightness even in OKLab (B. Ottosson, 2020).
 *
 * The same as in the saliency pictures that are sent to the PACS (`dicom_node/results/image/overlay.py`).
 *
 * @returns 256 times red, green, blue.
 */
export function colours(): Uint8ClampedArray {
  const table = new Uint8ClampedArray(256 * 3);
  for (let step = 0; step < 256; step++) {
    const share = step / 255;
    const lightness = 0.22 + 0.73 * share;
    const chroma = 0.06 + 0.12 * Math.sin(Math.PI * share) ** 0.8;
    const hue = ((300 + 165 * share) * Math.PI) / 180;
    const a = chroma * Math.cos(hue);
    const b = chroma * Math.sin(hue);
    const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
    const linear = [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ];
    linear.forEach((value, channel) => {
      const held = Math.min(1, Math.max(0, value));
      const encoded = held <= 0.0031308 ? 12.92 * held : 1.055 * held ** (1 / 2.4) - 0.055;
      table[step * 3 + channel] = 255 * encoded;
    });
  }
  return table;
}

const TABLE = colours();

/**
 * Draw heat into a canvas of its own size: coloured by the table, and the more transparent the cooler.
 *
 * @param floor Least heat that is drawn, 0 to 1.
 */
export function draw(canvas: HTMLCanvasElement, heat: Raster<Uint8Array>, floor = 0): void {
  canvas.width = heat.columns;
  canvas.height = heat.rows;
  const picture = new ImageData(heat.columns, heat.rows);
  heat.values.forEach((value, index) => {
    picture.data.set(TABLE.subarray(value * 3, value * 3 + 3), index * 4);
    picture.data[index * 4 + 3] = value < 255 * floor ? 0 : value;
  });
  canvas.getContext('2d')!.putImageData(picture, 0, 0);
}

/** Draw the colour table from cool to hot. */
export function drawScale(canvas: HTMLCanvasElement): void {
  draw(canvas, { rows: 1, columns: 256, values: Uint8Array.from({ length: 256 }, (_, step) => step) });
}

/** Heat map over a film: its wash of colours, and the lines around its hottest parts. */

import { shape } from './elements';
import { type ColourTable, contour, draw, LEVELS } from './heat';
import { layer, type Lie } from './layers';
import { type HeatMap, type Raster, readMap } from './study';

/** How a heat map is shown. */
export interface HeatLook {
  /** 0 to 1. */
  opacity: number;
  /** Least heat that is coloured, 0 to 1. */
  floor: number;
  /** With the lines at `LEVELS`. */
  lines: boolean;
}

export class HeatLayer {
  readonly wash = layer('film-heat');
  readonly lines = shape('svg', { class: 'film-contours', 'aria-hidden': 'true' });
  private wanted: HeatMap | undefined;
  private floor = 0;
  private raster: Raster<Uint8Array> | undefined;

  /**
   * @param changed Called when a map has arrived, to be laid on the film.
   * @param say Shows a sentence.
   */
  constructor(
    private readonly colours: ColourTable,
    private readonly changed: () => void,
    private readonly say: (sentence: string) => void,
  ) {
    this.hide();
  }

  hide(): void {
    this.wanted = undefined;
    this.wash.hidden = true;
    this.lines.toggleAttribute('hidden', true);
    this.raster = undefined;
  }

  /** Show a heat map, or hide it. */
  async show(map: HeatMap | undefined, { opacity, floor, lines }: HeatLook): Promise<void> {
    this.wash.style.opacity = String(opacity);
    this.lines.classList.toggle('off', !lines);
    if (map === this.wanted && floor === this.floor) return;
    this.floor = floor;
    this.hide();
    this.wanted = map;
    if (!map) return;
    try {
      const raster = await readMap(map);
      if (this.wanted !== map) return;
      this.raster = raster;
      draw(this.wash, raster, this.colours, this.floor);
      this.lines.replaceChildren(
        ...LEVELS.flatMap((level) => {
          const d = contour(raster, level);
          return ['under', 'over'].map((place) => shape('path', { d, class: `${place} at-${100 * level}` }));
        }),
      );
      this.wash.hidden = false;
      this.lines.toggleAttribute('hidden', false);
      this.changed();
    } catch (error) {
      if (this.wanted === map) this.say(`The heat map cannot be shown: ${(error as Error).message}.`);
    }
  }

  /** Lay the map on the film. */
  place(lie: Lie): void {
    if (!this.raster) return;
    const matrix = lie(this.raster.columns, this.raster.rows);
    this.wash.style.transform = matrix;
    for (const path of this.lines.children) path.setAttribute('transform', matrix);
  }
}

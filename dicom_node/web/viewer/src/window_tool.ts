/** Window by dragging: down is darker, in an inverted film too. */

import { WindowLevelTool } from '@cornerstonejs/tools';
import { NARROWEST } from './pane';

export class WindowTool extends WindowLevelTool {
  override getNewRange(drag: Parameters<WindowLevelTool['getNewRange']>[0]): { lower: number; upper: number } {
    const [right, down] = drag.deltaPointsCanvas;
    const darker = drag.viewport.getProperties().invert ? -down : down;
    const { lower, upper } = super.getNewRange({ ...drag, deltaPointsCanvas: [right, darker] });
    return { lower, upper: Math.max(upper, lower + NARROWEST - 1) };
  }
}

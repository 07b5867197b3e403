/** Shows the films of a study in the page's `<div id="viewer" data-api="...">`. */

import './viewer.css';
import { make } from './elements';
import type { Room } from './room';
import { readFilm, readStudy } from './study';

async function start(root: HTMLElement): Promise<Room | undefined> {
  const note = make('p', { class: 'viewer-note', role: 'status' }, 'Loading the films');
  root.replaceChildren(note);
  try {
    // The library is large: the films are on their way while it is read.
    const library = import('./room');
    const study = await readStudy(root.dataset.api!);
    const [first] = study.images;
    if (first) readFilm(first).catch(() => undefined); // whoever shows it says so
    const { Room } = await library;
    if (!first) {
      note.textContent = 'This study has no film that can be shown.';
      return undefined;
    }
    const room = new Room(root, study);
    await room.open();
    return room;
  } catch (error) {
    note.setAttribute('role', 'alert');
    note.textContent = `The films cannot be shown: ${(error as Error).message}. Reload the page to try again.`;
    root.replaceChildren(note);
    return undefined;
  }
}

const root = document.getElementById('viewer');
if (root) {
  root.classList.add('viewer');
  let room = start(root);
  // The page says so when the study has changed: one look after the other, and each at what is there by then.
  root.addEventListener('study-changed', () => {
    room = room.then(async (open) => {
      if (!open) return start(root);
      // One that does not come off leaves the films as they are; the page itself says that the node is away.
      await readStudy(root.dataset.api!).then((study) => open.follow(study), () => undefined);
      return open;
    });
  });
}

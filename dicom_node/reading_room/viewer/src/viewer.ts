/** Shows the films of a study in the page's `<div id="viewer" data-api="...">`. */

import './viewer.css';
import { make } from './elements';
import { readFilm, readStudy } from './study';

async function start(root: HTMLElement): Promise<void> {
  root.classList.add('viewer');
  const note = make('p', { class: 'viewer-note', role: 'status' }, 'Loading the films');
  root.replaceChildren(note);
  try {
    // The library is large: the films are on their way while it is read.
    const library = import('./room');
    const study = await readStudy(root.dataset.api!);
    const [first] = study.images;
    if (first) readFilm(first).catch(() => undefined); // whoever shows it says so
    const { Room } = await library;
    if (!first) note.textContent = 'This study has no film that can be shown.';
    else await new Room(root, study).open();
  } catch (error) {
    note.setAttribute('role', 'alert');
    note.textContent = `The films cannot be shown: ${(error as Error).message}. Reload the page to try again.`;
    root.replaceChildren(note);
  }
}

const root = document.getElementById('viewer');
if (root) void start(root);

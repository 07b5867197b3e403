/** Shows the films of a study in the page's `<div id="viewer" data-api="...">`. */

import './viewer.css';
import { make } from './elements';
import type { FilmViewer } from './film_viewer';
import { lostSentences, readFilm, readStudy } from './study';

async function start(root: HTMLElement): Promise<FilmViewer | undefined> {
  const note = make('p', { class: 'viewer-note', role: 'status' }, 'Loading the films');
  root.replaceChildren(note);
  try {
    // The library is large: fetch the films while it loads.
    const library = import('./film_viewer');
    const study = await readStudy(root.dataset.api!);
    const [first] = study.images;
    if (first) readFilm(first).catch(() => undefined); // the pane shows the error
    const { FilmViewer } = await library;
    if (!first) {
      note.textContent = `This study has no film that can be shown. ${lostSentences(study)}`;
      return undefined;
    }
    const viewer = new FilmViewer(root, study);
    await viewer.open();
    return viewer;
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
  let viewer = start(root);
  // The page sends this event when the study has changed; the updates run one after the other.
  root.addEventListener('study-changed', () => {
    viewer = viewer.then(async (open) => {
      if (!open) return start(root);
      // A failed update leaves the films as they are; the page itself shows that the connection is lost.
      await readStudy(root.dataset.api!).then((study) => open.follow(study), () => undefined);
      return open;
    });
  });
}

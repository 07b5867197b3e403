// Keeps the page current: fetches itself every few seconds and puts the new content in place.
"use strict";

const SECONDS = 5;
const pause = document.getElementById("pause");
let paused = false;

function say(word) {
  const clock = document.getElementById("now");
  if (clock) clock.dataset.state = word;
}

async function refresh() {
  if (paused || document.hidden) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(SECONDS * 1000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["live", "now"]) {
      const here = document.getElementById(id);
      const there = fresh.getElementById(id);
      // What a reader has selected or focused stays as it is until they let go.
      const held = here && (here.contains(document.activeElement) || !getSelection().isCollapsed);
      if (here && there && !held && !here.isEqualNode(there)) here.replaceWith(document.adoptNode(there));
    }
    say("current");
  } catch {
    say("lost");
  }
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume" : "Pause";
  say(paused ? "paused" : "current");
  refresh();
});
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, SECONDS * 1000);

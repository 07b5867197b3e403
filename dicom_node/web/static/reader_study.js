// Reader studies: the time that a case was visible, boxes on its films, and a study list taken from a file.
"use strict";

const answers = document.getElementById("answers");
if (answers) {
  // In this tab only; it goes on after a reload.
  const place = `visible ${answers.action} ${answers.elements.reading.value}`;
  let seconds = Number(sessionStorage.getItem(place)) || 0;
  let since = null;
  const stop = () => {
    if (since !== null) seconds += (performance.now() - since) / 1000;
    since = null;
    sessionStorage.setItem(place, seconds);
  };
  const follow = () => {
    if (document.visibilityState === "visible") since ??= performance.now();
    else stop();
  };
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", stop);
  addEventListener("pageshow", () => {
    for (const button of answers.querySelectorAll("button")) button.disabled = false;
    follow();
  });
  answers.addEventListener("submit", () => {
    stop();
    answers.elements.visible_seconds.value = seconds.toFixed(3);
    for (const button of answers.querySelectorAll("button")) button.disabled = true;
  });
  follow();
}

// Boxes: the viewer draws them; each is sent at once, so that it is there after a reload.
if (answers?.dataset.boxes) {
  const viewer = document.getElementById("viewer");
  const problem = document.getElementById("box-problem");
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": answers.elements.csrf.value };
  const submit = answers.querySelector("button[type=submit]");
  const control = (what, finding) => answers.querySelector(`[data-${what}="${CSS.escape(finding)}"]`);
  let sending = Promise.resolve();
  let waiting = 0;

  const forget = (finding) => {
    control("unbox", finding).hidden = true;
    viewer.dispatchEvent(new CustomEvent("box-removed", { detail: { finding } }));
  };
  // One after the other; an answer waits for them.
  const send = (finding, method, place) => {
    submit.disabled = ++waiting > 0;
    sending = sending.then(async () => {
      let said = "";
      try {
        const address = `${answers.dataset.boxes}/${encodeURIComponent(finding)}`;
        const answer = await fetch(address, { method, headers, body: place && JSON.stringify(place) });
        if (!answer.ok) said = (await answer.json()).error || `The node answered ${answer.status}.`;
      } catch {
        said = "The node does not answer; the box is not kept.";
      }
      problem.textContent = said;
      if (said && place) forget(finding);
      submit.disabled = --waiting > 0;
    });
  };

  viewer.addEventListener("box-drawn", ({ detail: { finding, ...place } }) => {
    control("unbox", finding).hidden = false;
    answers.querySelector(`[name="presence-${CSS.escape(finding)}"][value=present]`).checked = true;
    send(finding, "PUT", place);
  });
  const remove = (finding) => {
    if (control("unbox", finding).hidden) return;
    forget(finding);
    send(finding, "DELETE");
  };
  answers.addEventListener("click", ({ target }) => target.dataset.unbox && remove(target.dataset.unbox));
  answers.addEventListener("change", ({ target }) => {
    if (target.name.startsWith("presence-") && target.value === "absent") remove(target.name.slice(9));
  });
}

for (const chosen of document.querySelectorAll("input[type=file][data-into]"))
  chosen.addEventListener("change", async () => {
    if (chosen.files.length) document.getElementById(chosen.dataset.into).value = await chosen.files[0].text();
  });

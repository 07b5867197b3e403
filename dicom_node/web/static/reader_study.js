// Reader studies: the time that a case was visible, and a study list taken from a file.
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

for (const chosen of document.querySelectorAll("input[type=file][data-into]"))
  chosen.addEventListener("change", async () => {
    if (chosen.files.length) document.getElementById(chosen.dataset.into).value = await chosen.files[0].text();
  });

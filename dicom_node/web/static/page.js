// Live updates, search, keyboard shortcuts and file upload.
"use strict";

const SETTLE_MS = 300;
const AGAIN_MS = 5000;
const PLACE = { target: "#live", select: "#live", swap: "outerHTML" };

// -- live updates: on an event of the node the page fetches itself and replaces the changed part

const listened = document.getElementById("live");
const word = document.getElementById("live-state");
const OWN = new Event("refresh");
let waiting = 0;

// A link that is replaced between press and release of a button would never be clicked.
let pressed = false;
document.addEventListener("pointerdown", (event) => (pressed = !!event.target.closest("#live a, #live button")), true);
for (const end of ["pointerup", "pointercancel"])
  document.addEventListener(end, () => setTimeout(() => (pressed = false)), true);

// Fields that the reader writes into.
const WRITTEN = '#live textarea[id], #live input[id]:not([type])';

// No update while the reader writes, selects text or presses something, or a form is being sent.
// `own` is the element whose request is the update itself.
function held(own = document.body) {
  const here = document.getElementById("live");
  if (pressed) return true;
  if ([...document.querySelectorAll(".htmx-request")].some((each) => each !== own)) return true;
  if ([...document.querySelectorAll(WRITTEN)].some((field) => field.value !== field.defaultValue)) return true;
  const focused = document.activeElement;
  const writing = focused && here.contains(focused) && focused.matches("input:not([type=checkbox]), textarea, select");
  const chosen = getSelection();
  return writing || (!chosen.isCollapsed && here.contains(chosen.anchorNode));
}

function refresh() {
  waiting = 0;
  if (document.hidden || held()) {
    soon();
    return;
  }
  if (words && words.value) search(location.search, OWN);
  else htmx.ajax("GET", location.pathname + location.search, { ...PLACE, event: OWN });
}

function soon() {
  if (!waiting) waiting = setTimeout(refresh, SETTLE_MS);
}

function concerns(ids) {
  const here = document.getElementById("live");
  return here.dataset.live === "list" || ids.length === 0 || ids.includes(Number(here.dataset.study));
}

// A browser goes on after a broken connection by itself, and never after an answer that is an error, such as that of a
// proxy before a node that starts again.
let events = null;
let pause = AGAIN_MS;
function listen() {
  events = new EventSource("/api/v1/events");
  events.addEventListener("studies", (event) => {
    if (concerns(JSON.parse(event.data).ids)) soon();
  });
  events.addEventListener("open", () => {
    if (word.dataset.state === "lost") soon();
    word.dataset.state = "current";
    word.textContent = "live";
    pause = AGAIN_MS;
  });
  events.addEventListener("error", () => {
    word.dataset.state = "lost";
    word.textContent = "connection lost";
    if (events.readyState !== EventSource.CLOSED) return;
    setTimeout(listen, pause);
    pause = Math.min(2 * pause, 12 * AGAIN_MS);
  });
}

if (listened && listened.dataset.live) {
  listen();
  addEventListener("pagehide", () => events.close());
}

// htmx drops the answer to a form that was replaced meanwhile: fetch the page again.
document.addEventListener("htmx:afterRequest", (event) => {
  if (listened && event.detail.requestConfig?.verb === "post") soon();
});

// Open details stay open after an update, and the button of the shown heat map stays pressed.
// A comment that is being written stays, too, unless it has just been sent.
let open = [];
let mapped = null;
let drafts = [];
let ticked = [];
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id !== "live") return;
  if (event.detail.requestConfig.triggeringEvent === OWN && held(event.detail.requestConfig.elt)) {
    // The reader has started to write or to press since the page fetched itself.
    event.detail.shouldSwap = false;
    soon();
    return;
  }
  if (!event.detail.serverResponse.includes('id="live"')) {
    // A redirect led to the log-in page.
    event.detail.shouldSwap = false;
    complain(ENDED);
    return;
  }
  complain("");
  open = [...document.querySelectorAll("#live details[open]")].map((each) => each.id);
  drafts = [...document.querySelectorAll(WRITTEN)].filter(
    (field) => field.value !== field.defaultValue && field.form !== event.detail.requestConfig.elt,
  );
  ticked = event.detail.requestConfig.elt?.id === "bulk"
    ? []
    : [...document.querySelectorAll("#live .select:checked")].map((each) => each.id);
  mapped = document.querySelector('#live [data-heat-map][aria-pressed="true"]')?.dataset.heatMap;
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "live") return;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const { id, value } of drafts) {
    const field = document.getElementById(id);
    if (field) field.value = value;
  }
  for (const id of ticked) {
    const box = document.getElementById(id);
    if (box) box.checked = true;
  }
  count();
  offerTags();
  for (const each of document.querySelectorAll("#live [data-heat-map]"))
    each.setAttribute("aria-pressed", String(each.dataset.heatMap === mapped));
  document.getElementById("viewer")?.dispatchEvent(new CustomEvent("study-changed"));
});

// -- failed requests: the page stays as it is, and says what is wrong

const ENDED = "Your session has ended.";
const problem = document.getElementById("problem");
let complaint = "";

// The same sentence again changes nothing: its link may just be pressed.
function complain(sentence) {
  if (!problem || sentence === complaint) return;
  complaint = problem.textContent = sentence;
  if (sentence !== ENDED) return;
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Log in again";
  problem.append(" ", link);
}

document.addEventListener("htmx:responseError", (event) => {
  const { status, responseText, statusText } = event.detail.xhr;
  if (status === 401) return complain(ENDED);
  if (status === 403) return complain("This is not allowed, or the page is out of date: reload it.");
  let said = "";
  try { said = JSON.parse(responseText).error; } catch { /* a page */ }
  complain(said || `The node answered ${status} ${statusText}; nothing was changed.`);
});
for (const end of ["htmx:sendError", "htmx:timeout"])
  document.addEventListener(end, () => complain("The node does not answer; what is shown may be out of date."));

// -- search: the words may name a patient, so they are sent in a request body and stored in this tab only

const words = document.getElementById("q");
const KEPT = "words of the search";

// `place` is the query string of an address: the other conditions of the list; `event` is what asked for it.
function search(place, event) {
  const asked = Object.fromEntries(new URLSearchParams(place));
  for (const name of ["state", "finding", "tag", "read", "low", "high", "since", "until", "sort"])
    words.form.elements[name].value = asked[name] ?? (name === "sort" ? "changed" : "");
  // With the form as source, the values given here replace those of its fields.
  htmx.ajax("POST", "/", { ...PLACE, event, source: words.form, values: { ...asked, q: words.value } });
}

if (words) {
  words.addEventListener("input", () => sessionStorage.setItem(KEPT, words.value));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("#live nav a");
    if (!link || !words.value || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    search(link.search);
  });
  // Restore the search when the reader returns to the list.
  words.value ||= sessionStorage.getItem(KEPT) ?? "";
  if (words.value) search(location.search);
}
document.querySelector('form[action="/logout"]')?.addEventListener("submit", () => sessionStorage.removeItem(KEPT));

// -- selected studies of the list: how many there are, and all of the page at once

function count() {
  const all = document.getElementById("select-all");
  if (!all) return;
  const boxes = [...document.querySelectorAll("#live .select")];
  const chosen = boxes.filter((box) => box.checked).length;
  all.hidden = false;
  all.checked = chosen > 0 && chosen === boxes.length;
  all.indeterminate = chosen > 0 && chosen < boxes.length;
  document.getElementById("selected").textContent = `${chosen} selected`;
  for (const button of document.querySelectorAll("#bulk button")) button.disabled = chosen === 0;
}

// A tag that has just been given can be filtered by, without a reload.
function offerTags() {
  const filter = document.getElementById("tag");
  if (!filter || !words) return;
  for (const { value } of document.querySelectorAll("#known-tags option"))
    if (![...filter.options].some((option) => option.value === value)) filter.append(new Option(value, value));
}

document.addEventListener("change", (event) => {
  if (event.target.id === "select-all")
    for (const box of document.querySelectorAll("#live .select")) box.checked = event.target.checked;
  if (event.target.matches("#select-all, .select")) count();
});
document.addEventListener("DOMContentLoaded", count);

// -- neighbours: a study page leads to the next study in the order of the list that was last seen in this tab

const ORDER = "order of the list";

function remember() {
  const links = [...document.querySelectorAll(".worklist a.open")];
  if (links.length) sessionStorage.setItem(ORDER, JSON.stringify(links.map((link) => link.pathname)));
}

// The address of the study that stands so many places below this one; undefined where there is none.
function neighbour(places) {
  let order = [];
  try { order = JSON.parse(sessionStorage.getItem(ORDER)) ?? []; } catch { /* written by something else */ }
  const at = order.indexOf(location.pathname);
  return at < 0 ? undefined : order[at + places];
}

function lead() {
  for (const [id, places] of [["previous-study", -1], ["next-study", 1]]) {
    const link = document.getElementById(id);
    const address = neighbour(places);
    if (!link || !address) continue;
    link.href = address;
    link.hidden = false;
  }
}

for (const moment of ["DOMContentLoaded", "htmx:afterSwap"])
  document.addEventListener(moment, () => {
    remember();
    lead();
  });

// -- keyboard: j and k move through the list and from study to study, Enter opens a study, / searches

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/" && document.getElementById("q")) {
    event.preventDefault();
    document.getElementById("q").focus();
  }
  if ((event.key === "j" || event.key === "k") && document.querySelector(".study")) {
    document.getElementById(event.key === "j" ? "next-study" : "previous-study")?.click();
  } else if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll(".worklist a.open")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(Math.max(at + (event.key === "j" ? 1 : -1), 0), links.length - 1)]?.focus();
  }
});

// -- upload: dropped or chosen files, sent one after the other, each with a progress bar

function send(file, address, item) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    const bar = document.createElement("progress");
    bar.max = file.size || 1;
    bar.value = 0;
    bar.setAttribute("aria-label", file.name);
    item.append(bar);
    request.upload.addEventListener("progress", (event) => { bar.value = event.loaded; });
    request.addEventListener("loadend", () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { answer = { error: "The node does not answer." }; }
      bar.remove();
      const said = document.createElement(answer.study ? "a" : "span");
      said.textContent = answer.study ? "open" : answer.error || "not accepted";
      if (answer.study) said.href = `/studies/${answer.study}`;
      else said.className = "failed";
      item.append(" ", said);
      done(answer);
    });
    request.open("POST", address);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-CSRF-Token", JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRF-Token"]);
    request.send(file);
  });
}

for (const place of document.querySelectorAll(".drop")) {
  const input = place.querySelector("input");
  const list = place.querySelector(".files");
  const take = async (files) => {
    // Films that are chosen together are one study; all but the last say that more follow.
    const together = place.dataset.together && files.length > 1 ? `group=${crypto.getRandomValues(new Uint32Array(4)).join("-")}` : "";
    let study, failed;
    for (const [number, file] of files.entries()) {
      const item = document.createElement("li");
      item.textContent = file.name;
      list.append(item);
      const more = together && number < files.length - 1 ? "&more=true" : "";
      const answer = await send(file, `${place.dataset.upload}${together ? "?" : ""}${together}${more}`, item);
      study = answer.study ?? study;
      if (!answer.study) failed = true;
    }
    // What was refused has to be read first.
    if (study && place.dataset.together && !failed) location.assign(`/studies/${study}`);
  };
  input.addEventListener("change", () => take([...input.files]));
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.dataset.over = "true";
  });
  place.addEventListener("dragleave", () => delete place.dataset.over);
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    delete place.dataset.over;
    take([...event.dataTransfer.files]);
  });
}

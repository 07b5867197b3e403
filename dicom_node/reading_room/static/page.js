// Keeps a page current, and lets the keyboard do what the mouse does.
"use strict";

const SETTLE_MS = 300;

// -- live: the node tells which studies changed, the page fetches itself and puts the new part in place

const listened = document.getElementById("live");
const word = document.getElementById("live-state");
let waiting = 0;

function held() {
  const here = document.getElementById("live");
  const focused = document.activeElement;
  const writing = focused && here.contains(focused) && focused.matches("input, textarea, select");
  const chosen = getSelection();
  return writing || (!chosen.isCollapsed && here.contains(chosen.anchorNode));
}

function refresh() {
  waiting = 0;
  if (document.hidden || held()) {
    soon();
    return;
  }
  htmx.ajax("GET", location.pathname + location.search, { target: "#live", select: "#live", swap: "outerHTML" });
}

function soon() {
  if (!waiting) waiting = setTimeout(refresh, SETTLE_MS);
}

function concerns(ids) {
  const here = document.getElementById("live");
  return here.dataset.live === "list" || ids.length === 0 || ids.includes(Number(here.dataset.study));
}

if (listened && listened.dataset.live) {
  const events = new EventSource("/api/v1/events");
  events.addEventListener("studies", (event) => {
    if (concerns(JSON.parse(event.data).ids)) soon();
  });
  events.addEventListener("open", () => {
    if (word.dataset.state === "lost") soon();
    word.dataset.state = "current";
    word.textContent = "live";
  });
  events.addEventListener("error", () => {
    word.dataset.state = "lost";
    word.textContent = "connection lost";
  });
  addEventListener("pagehide", () => events.close());
}

// What was open stays open when the new part is put in place.
let open = [];
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "live")
    open = [...document.querySelectorAll("#live details[open]")].map((each) => each.id);
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "live") return;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  document.getElementById("viewer")?.dispatchEvent(new CustomEvent("study-changed"));
});

// -- keyboard: j and k go through the list, Enter opens, / searches

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
  if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll(".worklist a.open")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(Math.max(at + (event.key === "j" ? 1 : -1), 0), links.length - 1)]?.focus();
  }
});

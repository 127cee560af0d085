// What the page does by itself: says times in the viewer's own zone and language, keeps ages current, keeps a selection
// from being swapped away, and says so when the gateway stops answering.
"use strict";
(() => {
  const root = document.documentElement;
  // The board's clock counts, not the browser's: ages are told by the difference between the two.
  const skewMs = Number(root.dataset.nowMs) - Date.now();
  const nbsp = "\u00a0";

  const span = (ms) => {
    const s = Math.floor(ms / 1000);
    if (s < 5) return "a moment";
    if (s < 60) return s + nbsp + "s";
    if (s < 7200) return Math.floor(s / 60) + nbsp + "min";
    if (s < 172800) return Math.floor(s / 3600) + nbsp + "h";
    return Math.floor(s / 86400) + nbsp + "days";
  };

  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

  const say = (time) => {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const age = Date.now() + skewMs - at.getTime();
    const words = {
      span: () => span(age),
      ago: () => span(age) + " ago",
      clock: () => (age < 43200000 ? clock : date).format(at),
      date: () => date.format(at),
    }[time.dataset.say];
    if (!words) return;
    const text = words();
    if (time.textContent !== text) time.textContent = text;
    time.title = full.format(at);
  };
  const sayAll = (within) => within.querySelectorAll("time[data-say]").forEach(say);

  sayAll(document);
  setInterval(() => sayAll(document), 5000);
  document.addEventListener("htmx:afterSwap", (event) => sayAll(event.target.parentElement || document));

  // What someone has selected to copy stays until they let go; the newest content waits meanwhile.
  const waiting = new Map();
  const holdMsMax = 30000;
  let heldSinceMs = 0;
  const release = () => {
    waiting.forEach((html, element) => htmx.swap(element, html, { swapStyle: "innerHTML" }));
    waiting.clear();
  };
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    const selection = getSelection();
    const unchanged = event.target.hasAttribute("aria-live") && event.target.innerHTML === event.detail.data;
    const selected = !selection.isCollapsed && selection.containsNode(event.target, true);
    if (selected && waiting.size === 0) heldSinceMs = Date.now();
    const held = selected && Date.now() - heldSinceMs < holdMsMax;
    if (held) waiting.set(event.target, event.detail.data);
    if (unchanged || held) event.preventDefault();
  });
  document.addEventListener("selectionchange", () => {
    if (getSelection().isCollapsed) release();
  });
  // A forgotten selection must not keep old values on the screen.
  setInterval(() => { if (waiting.size > 0 && Date.now() - heldSinceMs >= holdMsMax) release(); }, 5000);

  // A page that shows old values must say so.
  const lost = document.getElementById("lost");
  const lose = () => {
    if (!lost.hidden) return;
    lost.textContent = "The gateway has not answered since " + clock.format(new Date()) + ". What you see is from then. Trying again.";
    lost.hidden = false;
  };
  const find = () => { lost.hidden = true; };
  document.addEventListener("htmx:sseError", lose);
  document.addEventListener("htmx:sseOpen", find);
  document.addEventListener("htmx:sendError", lose);
  document.addEventListener("htmx:responseError", lose);
  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) find(); });
})();

// The log as it is written: new lines on top, a pause in which nothing moves, and a word on what came too fast.
"use strict";
(() => {
  const state = document.getElementById("log-state");
  const list = document.getElementById("log-lines");
  const button = document.getElementById("log-pause");
  if (!state || !list || !button || !state.dataset.stream) return;
  // More lines than this make a phone slow; older ones are in the file.
  const linesMax = 500;
  const pauseWord = button.textContent;
  const base = new URL(state.dataset.stream, location.href);
  let source = null;
  let missed = 0;

  const said = (text) => {
    const more = missed > 0 ? " " + state.dataset.missed.replace("{}", missed.toLocaleString(document.documentElement.lang)) : "";
    if (state.textContent !== text + more) state.textContent = text + more;
  };

  // What came meanwhile is asked for by the number of the newest line that is there.
  const address = () => {
    const newest = list.querySelector("[data-line]");
    const url = new URL(base);
    if (newest) url.searchParams.set("after", Math.max(Number(newest.dataset.line), Number(base.searchParams.get("after") || 0)));
    return url;
  };

  const follow = () => {
    source = new EventSource(address());
    source.addEventListener("open", () => said(state.dataset.following));
    source.addEventListener("error", () => said(state.dataset.lost));
    source.addEventListener("line", (event) => {
      document.getElementById("log-none")?.remove();
      list.insertAdjacentHTML("afterbegin", event.data);
      base.searchParams.set("after", event.lastEventId);
      htmx.trigger(list.firstElementChild, "htmx:afterSwap");
      while (list.children.length > linesMax) list.lastElementChild.remove();
    });
    source.addEventListener("missed", (event) => {
      missed += Number(event.data);
      said(state.dataset.following);
    });
    said(state.dataset.following);
  };
  const pause = () => {
    source.close();
    source = null;
    said(state.dataset.paused);
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    if (source) pause(); else follow();
    button.textContent = source ? pauseWord : button.dataset.go;
  });
  // A page that is left hangs up.
  addEventListener("pagehide", () => source && source.close());
  follow();
})();

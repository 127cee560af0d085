// What the page does by itself: says times in the viewer's own zone and language, keeps ages current, keeps a selection
// from being swapped away, and says so when the gateway stops answering.
"use strict";
(() => {
  const root = document.documentElement;
  // The board's clock counts, not the browser's: ages are told by the difference between the two.
  const skewMs = Number(root.dataset.nowMs) - Date.now();
  // A deadline goes by the board's monotonic clock: it stays right when the board's wall clock is set meanwhile.
  const monoSkewMs = Number(root.dataset.monoMs) - Date.now();
  const nbsp = "\u00a0";
  const words = {
    en: {
      moment: "a moment", days: "days", ago: (span) => span + " ago",
      lost: (time) => "The gateway has not answered since " + time + ". What you see is from then. Trying again.",
      wait: "One moment …", copied: "Copied", marked: "Marked: copy it now",
    },
    de: {
      moment: "einem Moment", days: "Tagen", ago: (span) => "vor " + span,
      lost: (time) => "Das Gateway antwortet seit " + time + " nicht. Was hier steht, ist von da. Neuer Versuch läuft.",
      wait: "Einen Moment …", copied: "Kopiert", marked: "Markiert: jetzt kopieren",
    },
  }[root.lang] || {};

  const span = (ms) => {
    const s = Math.floor(ms / 1000);
    if (s < 5) return words.moment;
    if (s < 60) return s + nbsp + "s";
    if (s < 7200) return Math.floor(s / 60) + nbsp + "min";
    if (s < 172800) return Math.floor(s / 3600) + nbsp + "h";
    return Math.floor(s / 86400) + nbsp + words.days;
  };

  const left = (ms) => {
    const s = Math.max(0, Math.ceil(ms / 1000));
    return Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0");
  };

  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

  const say = (time) => {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const age = Date.now() + skewMs - at.getTime();
    const way = {
      span: () => span(age),
      ago: () => words.ago(span(age)),
      left: () => left(time.dataset.untilMs ? time.dataset.untilMs - Date.now() - monoSkewMs : -age),
      clock: () => (age < 43200000 ? clock : date).format(at),
      date: () => date.format(at),
    }[time.dataset.say];
    if (!way) return;
    const text = way();
    if (time.textContent !== text) time.textContent = text;
    time.title = full.format(at) + " · " + at.toISOString().replace("T", " ").replace(/\.\d+Z/, " UTC");
  };
  const sayAll = (within) => within.querySelectorAll("time[data-say]").forEach(say);

  // On a phone the tabs are wider than the screen: the one that one is on is to be seen.
  const tab = document.querySelector(".tabs [aria-current]");
  if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;

  sayAll(document);
  setInterval(() => sayAll(document), 5000);
  setInterval(() => document.querySelectorAll('time[data-say="left"]').forEach(say), 1000);
  document.addEventListener("htmx:afterSwap", (event) => sayAll(event.target.parentElement || document));

  // A time that is typed is meant in the viewer's zone; the gateway is asked in UTC.
  document.querySelectorAll("input[data-zone]").forEach((field) => {
    const sent = document.createElement("input");
    sent.type = "hidden";
    sent.name = field.name;
    sent.value = field.value;
    field.removeAttribute("name");
    field.after(sent);
    field.labels.forEach((label) => { label.textContent = field.dataset.zone; });
    const at = field.value && new Date(field.value + "Z");
    if (at) field.value = new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
    field.addEventListener("input", () => { sent.value = field.value && new Date(field.value).toISOString().slice(0, 16); });
  });

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
    // A part in which nothing stands any more is empty, not blank.
    const emptied = !held && event.detail.data.trim() === "";
    if (emptied) event.target.replaceChildren();
    if (unchanged || held || emptied) event.preventDefault();
  });
  document.addEventListener("selectionchange", () => {
    if (getSelection().isCollapsed) release();
  });
  // A forgotten selection must not keep old values on the screen.
  setInterval(() => { if (waiting.size > 0 && Date.now() - heldSinceMs >= holdMsMax) release(); }, 5000);

  // A stream that hangs up while nobody sees the page, and takes up again when someone does: a browser keeps six connections to
  // a gateway, and six tabs left open would leave none for the seventh. A page that is left hangs up, too: its stream would
  // end as an error, and that would be told.
  const unseenMsMax = 1000;
  class Stream {
    constructor(url) {
      this.url = url;
      this.listeners = [];
      this.source = null;
      // One that was opened behind the others waits until it is seen.
      if (!document.hidden) this.open();
      addEventListener("pagehide", () => this.close(), { once: true });
      document.addEventListener("visibilitychange", () => {
        clearTimeout(this.unseen);
        if (document.hidden) this.unseen = setTimeout(() => this.source && this.source.close(), unseenMsMax);
        else if (!this.closed && this.readyState === EventSource.CLOSED) this.open();
      });
    }
    open() {
      this.source = new EventSource(this.url, { withCredentials: true });
      this.source.onopen = (event) => this.onopen && this.onopen(event);
      this.source.onerror = (event) => this.onerror && this.onerror(event);
      this.listeners.forEach(([type, listener]) => this.source.addEventListener(type, listener));
    }
    addEventListener(type, listener) {
      this.listeners.push([type, listener]);
      if (this.source) this.source.addEventListener(type, listener);
    }
    removeEventListener(type, listener) {
      this.listeners = this.listeners.filter((known) => known[0] !== type || known[1] !== listener);
      if (this.source) this.source.removeEventListener(type, listener);
    }
    close() {
      this.closed = true;
      if (this.source) this.source.close();
    }
    get readyState() { return this.source ? this.source.readyState : EventSource.CLOSED; }
  }
  htmx.createEventSource = (url) => new Stream(url);
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  // What was asked for is brought into sight, wherever on a long form its answer stands.
  const roomPx = 120;
  document.addEventListener("htmx:afterSwap", (event) => {
    if (!["found", "tried"].includes(event.target.id)) return;
    const top = event.target.getBoundingClientRect().top;
    if (top < 0 || top > innerHeight - roomPx) event.target.scrollIntoView({ block: "start" });
  });

  // A page that shows old values must say so.
  const lost = document.getElementById("lost");
  const lose = () => {
    if (!lost.hidden) return;
    lost.textContent = words.lost(clock.format(new Date()));
    lost.hidden = false;
    root.classList.add("stale");
  };
  const find = () => { lost.hidden = true; root.classList.remove("stale"); };
  // A session may have ended meanwhile: the way back leads through signing in, to where one was.
  setInterval(async () => {
    if (lost.hidden) return;
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual", cache: "no-store" }).catch(() => null);
    if (answer && answer.type === "opaqueredirect") location.reload();
  }, 3000);
  document.addEventListener("htmx:sseError", lose);
  document.addEventListener("htmx:sseOpen", find);
  document.addEventListener("htmx:sendError", lose);
  // A refusal says what is wrong where it was asked for; only an answer that is none means that the gateway is gone.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const status = event.detail.xhr.status;
    if (status >= 400 && status < 500) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
    }
  });
  document.addEventListener("htmx:responseError", (event) => { if (event.detail.xhr.status >= 500) lose(); });

  // What looks again every few seconds rests while nobody sees it.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const trigger = event.target.getAttribute("hx-trigger") || "";
    if (document.hidden && trigger.startsWith("every ")) event.preventDefault();
  });

  // A form is sent once: its button says that it is under way, and a second tap does nothing.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    const button = event.submitter;
    // After the event: a disabled button would not send its value.
    if (button) setTimeout(() => { button.disabled = true; button.textContent = words.wait; });
  });
  window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => {
    delete form.dataset.sent;
    form.querySelectorAll("button:disabled").forEach((button) => { button.disabled = false; });
  }));
  // What cannot be undone asks once more, by name.
  document.addEventListener("submit", (event) => {
    const question = event.submitter && event.submitter.dataset.ask;
    if (question && !confirm(question)) { event.preventDefault(); event.stopImmediatePropagation(); }
  }, true);
  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) find(); });

  // A secret that is shown once: copied with a tap. Where the browser lets no page copy, it is marked to be copied by hand.
  document.querySelectorAll("[data-copy]").forEach((button) => { button.hidden = false; });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest && event.target.closest("[data-copy]");
    const source = button && document.getElementById(button.dataset.copy);
    if (!source) return;
    getSelection().selectAllChildren(source);
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      button.textContent = words.copied;
    } catch { button.textContent = words.marked; }
  });

  // Before the wait is over an answer would be refused, and the password typed in vain.
  document.querySelectorAll("button[data-wait]").forEach((button) => {
    const text = button.textContent;
    const endMs = performance.now() + Number(button.dataset.wait) * 1000;
    const tick = () => {
      const leftMs = endMs - performance.now();
      button.disabled = leftMs > 0;
      button.textContent = leftMs > 0 ? text + " · " + left(leftMs) : text;
      if (leftMs <= 0) clearInterval(timer);
    };
    const timer = setInterval(tick, 250);
    tick();
  });

  // The code on a label leads here with the token behind "#", which no browser sends and no log keeps.
  document.querySelectorAll("input[data-fragment]").forEach((input) => {
    if (!/^#[\w-]+$/.test(location.hash)) return;
    input.value = location.hash.slice(1);
    history.replaceState(null, "", location.pathname);
  });
})();

// What forms do by themselves: errors are tied to their fields, values stand beside registers, and the file is painted, numbered and opened from a disk.
"use strict";
(() => {
  // An error that came while someone typed belongs to its field also for a screen reader.
  const tie = (within) => within.querySelectorAll(".slot").forEach((slot) => {
    const field = document.getElementById(slot.dataset.for);
    if (!field) return;
    if (slot.childElementCount > 0) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  });
  document.addEventListener("htmx:oobAfterSwap", () => tie(document));
  document.addEventListener("htmx:afterSwap", () => tie(document));

  const text = document.getElementById("text");
  const editor = text && text.closest(".editor");
  if (!editor) return;
  const paint = editor.querySelector(".paint");
  // Painting a longer text would make typing wait on an old phone.
  const paintedCharsMax = 120000;
  const part = /("""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'[^'\n]*'?)|(#[^\n]*)|(^[ \t]*\[\[?[^\]\n=]+\]\]?(?=[ \t]*(?:#|$)))|([A-Za-z0-9_-]+(?=[ \t]*=))|(\b(?:true|false)\b|[+-]?\b\d[\w.:+-]*)|\n/gm;
  const names = ["text", "comment", "head", "key", "number"];
  let wrongLine = 0;

  const draw = () => {
    const source = text.value;
    const painted = source.length <= paintedCharsMax;
    editor.classList.toggle("painted", painted);
    if (!painted) return;
    const all = document.createDocumentFragment();
    let line = 0;
    let row;
    const begin = () => {
      line += 1;
      row = document.createElement("span");
      if (line === wrongLine) row.className = "at";
      const number = document.createElement("span");
      number.className = "ln";
      number.textContent = line;
      row.append(number);
      all.append(row);
    };
    const put = (piece, name) => piece.split("\n").forEach((piece, index) => {
      if (index > 0) { all.append("\n"); begin(); }
      if (!piece) return;
      if (!name) { row.append(piece); return; }
      const span = document.createElement("span");
      span.className = name;
      span.textContent = piece;
      row.append(span);
    });
    begin();
    let at = 0;
    for (const found of source.matchAll(part)) {
      put(source.slice(at, found.index), "");
      put(found[0], names[found.slice(1).findIndex((group) => group !== undefined)] || "");
      at = found.index + found[0].length;
    }
    put(source.slice(at), "");
    all.append("\n");
    paint.replaceChildren(all);
    follow();
  };
  const follow = () => { paint.scrollTop = text.scrollTop; paint.scrollLeft = text.scrollLeft; };
  text.addEventListener("input", () => { wrongLine = 0; draw(); });
  text.addEventListener("scroll", follow);
  draw();

  // Tab indents; after Esc it leaves the editor, as everywhere else.
  let leaving = false;
  text.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { leaving = true; return; }
    if (event.key === "Tab" && !leaving && !event.shiftKey) {
      event.preventDefault();
      text.setRangeText("  ", text.selectionStart, text.selectionEnd, "end");
      text.dispatchEvent(new Event("input", { bubbles: true }));
    }
    leaving = false;
  });

  // What is wrong leads to its line.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-line]");
    if (!link || link.dataset.line === "0") return;
    event.preventDefault();
    const lines = text.value.split("\n");
    const number = Math.min(Number(link.dataset.line), lines.length);
    const start = lines.slice(0, number - 1).reduce((sum, line) => sum + line.length + 1, 0);
    wrongLine = number;
    draw();
    text.focus();
    text.setSelectionRange(start + Number(link.dataset.column) - 1, start + lines[number - 1].length);
    text.scrollTop = Math.max(0, (number - 6) * parseFloat(getComputedStyle(text).lineHeight));
    follow();
  });
})();

// A file from the viewer's own disk is put into its field; nothing is sent before someone does so.
(() => {
  const bytesMax = 1048576;
  document.querySelectorAll("input[type=file][data-into]").forEach((upload) => {
    const text = document.getElementById(upload.dataset.into);
    upload.hidden = false;
    document.querySelector('label.pick[for="' + upload.id + '"]').hidden = false;
    upload.addEventListener("change", async () => {
      const file = upload.files[0];
      upload.value = "";
      if (!file || file.size > bytesMax) return;
      text.value = await file.text();
      text.dispatchEvent(new Event("input", { bubbles: true }));
      text.focus();
    });
  });
})();

// Sheets of registers: cells pasted into a cell of the table go the same way as those pasted into the text area.
(() => {
  document.addEventListener("paste", (event) => {
    const cell = event.target.closest && event.target.closest(".registers td input");
    const text = event.clipboardData && event.clipboardData.getData("text/plain");
    if (!cell || !text || !/[\t\n]/.test(text.trim())) return;
    const sheet = cell.closest("[data-sheet]").dataset.sheet;
    const area = document.getElementsByName("_paste." + sheet)[0];
    const button = cell.form.querySelector('button[value="paste:' + sheet + '"]');
    if (!area || !button) return;
    event.preventDefault();
    area.value = text;
    button.click();
  });
})();

// Last values beside the registers: asked for those rows that are in view, and put straight into their places.
(() => {
  const everyMs = 2000;
  const pointsMax = 150;
  const inView = (sheet) => {
    const frame = sheet.getBoundingClientRect();
    const top = Math.max(0, frame.top);
    const bottom = Math.min(window.innerHeight, frame.bottom);
    const places = new Map();
    for (const place of sheet.querySelectorAll("[data-point]")) {
      const box = place.getBoundingClientRect();
      if (box.bottom <= top || !place.dataset.point) continue;
      if (box.top >= bottom || places.size === pointsMax) break;
      places.set(place.dataset.point, place);
    }
    return places;
  };
  const show = async (sheet) => {
    const places = inView(sheet);
    if (places.size === 0) return;
    const query = new URLSearchParams({ device: sheet.dataset.device });
    places.forEach((place, point) => query.append("point", point));
    const answer = await fetch(sheet.dataset.values + "?" + query);
    // Someone who was signed out, or a source that is gone, is not asked for again.
    if (answer.redirected || (answer.status >= 400 && answer.status < 500)) delete sheet.dataset.values;
    if (!answer.ok || answer.redirected) return;
    Object.entries(await answer.json()).forEach(([point, [value, tone]]) => {
      const place = places.get(point);
      if (!place) return;
      if (place.textContent !== value) place.textContent = value;
      place.className = tone + "-value";
    });
  };
  const round = async () => {
    const sheets = [...document.querySelectorAll("[data-values]")];
    if (sheets.length === 0) return;
    // A gateway that does not answer just now is asked again later; the page says so by itself.
    if (!document.hidden) for (const sheet of sheets) await show(sheet).catch(() => {});
    setTimeout(round, everyMs);
  };
  round();
})();

// Charts: fetches the columns of a point from the gateway and draws them with uPlot. Everything that is drawn is said in
// words, too: a summary, a list of figures, and a list of what checks and detectors said.
"use strict";
(() => {
  const root = document.getElementById("chart");
  if (!root || typeof uPlot !== "function") return;
  const part = (name) => root.querySelector('[data-part="' + name + '"]');
  const words = JSON.parse(root.dataset.words);
  const limits = JSON.parse(root.dataset.limits);
  const { point, unit, decimal } = root.dataset;
  const canvas = part("canvas"), tip = part("tip");
  // The board's clock counts, not the browser's.
  const skewS = Number(document.documentElement.dataset.nowMs) / 1000 - Date.now() / 1000;
  const nowS = () => Date.now() / 1000 + skewS;
  const calm = 250; // Milliseconds that the view stands still before it is asked for.
  const spanMinS = 5, spanMaxS = 400 * 86400;
  const listMax = 100; // Lines of the list below; more nobody reads.
  const pinned = new URLSearchParams(location.search);
  let kind = root.dataset.kind;

  // Words. Numbers as the gateway itself writes them, times in the viewer's own zone and language.
  const fill = (text, ...values) => text.replace(/\{(\d*)\}/g, (() => {
    let next = 0;
    return (_, place) => values[place ? place - 1 : next++];
  })());
  const written = (text) => {
    const [whole, rest] = text.replace("-", "").split(".");
    const grouped = whole.length > 3 ? whole.replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f") : whole;
    return (text.startsWith("-") ? "\u2212" : "") + grouped + (rest === undefined ? "" : decimal + rest);
  };
  const number = (value) => {
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size < 1e-4 || size >= 1e9) return value.toExponential(2).replace("e+", "e").replace(/-/g, "\u2212").replace(".", decimal);
    return written(value.toFixed(size < 0.1 ? 4 : size < 1 ? 3 : size < 10 ? 2 : size < 1000 ? 1 : 0));
  };
  const measured = (value) => {
    if (value === null || value === undefined) return "–";
    if (kind === "switch" && (value === 0 || value === 1)) return value ? words.on : words.off;
    return number(value) + (unit ? "\u00a0" + unit : "");
  };
  const duration = (s) => {
    const round = (value) => written(String(value < 10 ? Math.round(value * 10) / 10 : Math.round(value)));
    if (s < 120) return fill(words.seconds, round(s));
    if (s < 7200) return fill(words.minutes, round(s / 60));
    return s < 172800 ? fill(words.hours, round(s / 3600)) : fill(words.days, round(s / 86400));
  };
  const format = (options) => new Intl.DateTimeFormat(undefined, options);
  const second = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const minute = format({ hour: "2-digit", minute: "2-digit" });
  const day = format({ weekday: "short", day: "numeric", month: "short" });
  const stamp = format({ dateStyle: "medium", timeStyle: "medium" });
  const moment = format({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const brief = format({ dateStyle: "medium", timeStyle: "short" });
  const said = (s, how = stamp) => how.format(new Date(s * 1000));

  // Colours are those of the page, in its light or its dark.
  let colours = null;
  const colour = (name) => {
    if (!colours) colours = getComputedStyle(document.documentElement);
    return colours.getPropertyValue("--" + name).trim();
  };

  // What is shown: a time, and whether it moves on with the clock.
  const view = { from: 0, to: 0, live: true, span: Number(root.dataset.span) || 3600 };
  let chart = null, signs = [], data = [[], [], [], []], counts = [], raw = false, loadedTo = 0, plot = null;
  let aborter = null, waiting = 0, pinch = null;
  const fingers = new Map();

  const begin = () => {
    const [from, to] = [Number(pinned.get("from")), Number(pinned.get("to"))];
    if (from > 0 && to > from) Object.assign(view, { from, to, live: false, span: null });
    else if (pinned.get("span") === "all") view.span = "all";
    else if (Number(pinned.get("span")) > 0) view.span = Math.min(spanMaxS, Math.max(spanMinS, Number(pinned.get("span"))));
    if (view.live) follow();
  };
  const follow = () => {
    view.to = nowS();
    if (view.span === "all") view.from = chart && chart.kept_from_us !== null ? chart.kept_from_us / 1e6 : view.to - 3600;
    else view.from = view.to - view.span;
  };
  const remember = () => {
    const query = view.live ? "?span=" + view.span : "?from=" + view.from.toFixed(3) + "&to=" + view.to.toFixed(3);
    history.replaceState(null, "", location.pathname + query);
  };

  // Asking the gateway: the newest question counts, older ones are hung up.
  const load = async (quiet = false) => {
    if (aborter) aborter.abort();
    const mine = aborter = new AbortController();
    if (!quiet) waiting = waiting || setTimeout(() => { part("loading").hidden = false; root.setAttribute("aria-busy", "true"); }, 150);
    const width = Math.max(200, canvas.clientWidth - 60);
    const ask = new URLSearchParams({ columns: Math.min(1200, Math.round(width / 1.5)), to_us: Math.ceil(view.to * 1e6) });
    if (view.span !== "all") ask.set("from_us", Math.floor(view.from * 1e6));
    try {
      const answer = await fetch("/api/v1/points/" + point + "/chart?" + ask, { signal: mine.signal, cache: "no-store" });
      if (answer.status === 401) { location.reload(); return; }
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.detail);
      if (mine === aborter) { show(told); done(); }
    } catch (error) {
      if (error.name === "AbortError") return;
      done();
      say(error instanceof TypeError || !error.message ? words.lost : error.message, true);
    }
  };
  const done = () => {
    clearTimeout(waiting);
    waiting = 0;
    part("loading").hidden = true;
    root.removeAttribute("aria-busy");
  };
  let later = 0;
  const loadSoon = () => { clearTimeout(later); later = setTimeout(load, calm); };
  const say = (text, again = false) => {
    const over = part("over"), incomplete = part("incomplete");
    over.hidden = again || !text;
    over.textContent = again ? "" : text;
    incomplete.hidden = !again;
    incomplete.firstElementChild.textContent = again ? text : "";
  };

  // An answer becomes lines, signs and words.
  const show = (told) => {
    chart = told;
    loadedTo = told.to_us / 1e6;
    if (view.span === "all") { view.from = told.from_us / 1e6; if (view.to - view.from < spanMinS) view.from = view.to - 60; }
    raw = Boolean(told.raw);
    const texts = raw ? told.raw.notable.filter((sample) => sample.text !== undefined) : [];
    const isText = kind === "text" || (texts.length > 0 && told.statistics.numbers === 0);
    if (raw) fromRaw(told); else fromColumns(told);
    signs = collect(told);
    part("plot").hidden = isText;
    root.querySelector(".legend").hidden = isText;
    tellTexts(isText, texts);
    draw();
    tell(told, isText);
  };
  const fromRaw = ({ raw: { at, value }, statistics: { gaps } }) => {
    const ats = [], values = [];
    let gap = 0;
    at.forEach((time, index) => {
      while (gap < gaps.length && gaps[gap].to_us / 1e6 <= time + 1e-6) {
        const from = gaps[gap].from_us / 1e6;
        if (ats.length > 0 && from > ats[ats.length - 1] && from < time) { ats.push(from); values.push(null); }
        gap += 1;
      }
      ats.push(time);
      values.push(value[index]);
    });
    const none = new Array(ats.length).fill(null);
    data = [ats, none, none.slice(), values];
    counts = ats.map(() => 1);
  };
  const fromColumns = ({ columns, column_us }) => {
    // A column stands for its middle.
    const half = column_us / 2e6;
    data = [columns.at.map((at, index) => (columns.count[index] ? at + half : at)), columns.min, columns.max, columns.mean];
    counts = columns.count;
  };

  const shapeOf = (flags, quality, noData) => {
    if (noData || flags.includes("possible_range")) return "triangle";
    if (flags.includes("anomaly")) return "ring";
    if (quality === "bad") return "triangle";
    return quality === "uncertain" || flags.includes("operating_range") ? "diamond" : "";
  };
  const whyOf = (flags, noData) => {
    if (noData) return { timeout: words.timeout, exception: words.exception, not_available: words.notAvailable,
      not_connected: words.notConnected, not_finite: words.notFinite }[noData] || "";
    if (flags.includes("possible_range")) return words.possibleRange;
    if (flags.includes("operating_range")) return words.operatingRange;
    return flags.includes("clock_ahead") ? words.clockAhead : "";
  };
  const whatOf = (shape, flags, noData) => {
    if (noData) return words.noValue;
    if (shape === "ring") return words.anomaly;
    if (flags.some((flag) => flag.endsWith("_range"))) return words.range;
    return shape === "triangle" ? words.badQuality : words.uncertainQuality;
  };
  // Everything that is to be marked, ascending.
  const collect = (told) => {
    const found = [];
    const bySequence = new Map();
    for (const mark of told.marks) {
      const at = mark.at_us / 1e6, value = mark.value ?? null;
      if (mark.kind === "alert_raised" || mark.kind === "alert_over") {
        const over = mark.kind === "alert_over";
        found.push({ at, value: null, shape: "flag", over, what: over ? words.alertOver : words.alertRaised, count: 1,
          told: value, why: [{ range: words.ofLimits, anomaly: words.ofUnusual }[mark.rule] || mark.rule, mark.words].filter(Boolean).join(" · ") });
      } else if (mark.kind !== "flagged") {
        bySequence.set(mark.sequence, mark);
        if (!raw) found.push({ at, value, shape: mark.kind === "anomaly" ? "ring" : "diamond", count: 1, why: mark.words,
          what: mark.kind === "anomaly" ? words.anomaly : words.range });
      }
    }
    if (raw) {
      for (const sample of told.raw.notable) {
        const flags = sample.flags || [];
        const shape = shapeOf(flags, sample.quality, sample.no_data);
        if (!shape) continue;
        const mark = bySequence.get(sample.sequence);
        found.push({ at: sample.at_us / 1e6, value: sample.value, shape, what: whatOf(shape, flags, sample.no_data),
          why: (mark && mark.words) || whyOf(flags, sample.no_data), count: 1 });
      }
    } else {
      const { at, worst, flagged, count } = told.columns, width = told.column_us / 1e6;
      const marked = new Set(found.filter(({ shape }) => shape !== "flag").map(({ at: time }) => Math.floor(time / width)));
      at.forEach((time, index) => {
        if (worst[index] === "good" && !flagged[index]) return;
        if (marked.has(Math.floor((time + width / 2) / width))) return;
        const shape = worst[index] === "bad" ? "triangle" : worst[index] === "uncertain" ? "diamond" : "ring";
        const what = flagged[index] ? words.flagged : shape === "triangle" ? words.badQuality : words.uncertainQuality;
        found.push({ at: time + width / 2, value: null, shape, what, count: flagged[index] || count[index], why: words[worst[index]] });
      });
    }
    return found.sort((a, b) => a.at - b.at);
  };

  // Drawing. uPlot does lines, axes and the cursor; zones and signs are drawn into its canvas.
  const stepped = uPlot.paths.stepped({ align: 1 }), straight = uPlot.paths.linear();
  const lines = (u, series, from, to) => (kind === "switch" ? stepped : straight)(u, series, from, to);
  const yRange = (u, low, high) => {
    if (kind === "switch") return [-0.2, 1.2];
    if (low === null || low === undefined) return [0, 1];
    const reach = Math.max(high - low, Math.abs(high) * 0.02, 1e-9) * 1.5;
    let [least, most] = [low, high];
    for (const limit of limits.flatMap(({ operating, possible }) => [...(operating || []), ...(possible || [])])) {
      if (limit >= low - reach && limit <= high + reach) { least = Math.min(least, limit); most = Math.max(most, limit); }
    }
    const room = (most - least) * 0.12 || Math.abs(most) * 0.02 || 1;
    return [least - room, most + room];
  };
  const font = (size) => size + "px " + getComputedStyle(document.body).fontFamily;
  const axisTimes = (u, splits, axis, space, step) => {
    let before = "";
    return splits.map((split) => {
      const date = new Date(split * 1000), today = day.format(date);
      if (step >= 86400) return today;
      const text = (step < 60 ? second : minute).format(date);
      const told = today === before ? text : text + "\n" + today;
      before = today;
      return told;
    });
  };
  const axisNumbers = (u, splits, axis, space, step) => splits.map((split) => {
    if (kind === "switch") return split === 1 ? words.on : split === 0 ? words.off : "";
    if (Math.abs(split) >= 1e6 || step < 1e-4) return number(split);
    return written(split.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)))).replace(/^\u2212(0[.,]?0*)$/, "$1");
  });
  const axis = (more) => ({ stroke: () => colour("soft"), grid: { stroke: () => colour("line"), width: 1 },
    ticks: { stroke: () => colour("line"), width: 1, size: 4 }, font: font(12), gap: 6, ...more });

  const zones = (u) => {
    const { ctx, bbox } = u, px = devicePixelRatio;
    const y = (value) => u.valToPos(value, "y", true), right = bbox.left + bbox.width, bottom = bbox.top + bbox.height;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = font(12 * px);
    const limit = (pair, tone, text, dash) => {
      if (!pair || kind === "switch") return;
      pair.forEach((value, high) => {
        const at = y(value);
        const [top, height] = high ? [bbox.top, at - bbox.top] : [at, bottom - at];
        if (height <= 0) return;
        ctx.globalAlpha = 0.55;
        ctx.fillStyle = colour(tone + "-soft");
        ctx.fillRect(bbox.left, top, bbox.width, height);
        ctx.globalAlpha = 1;
        ctx.strokeStyle = ctx.fillStyle = colour(tone);
        ctx.lineWidth = px;
        ctx.setLineDash(dash.map((length) => length * px));
        ctx.beginPath();
        ctx.moveTo(bbox.left, at);
        ctx.lineTo(right, at);
        ctx.stroke();
        ctx.textAlign = "right";
        ctx.fillText(text + " " + measured(value), right - 6 * px, high ? at - 5 * px : at + 14 * px);
      });
    };
    for (const { operating, possible } of limits) {
      limit(operating, "warn", words.operating, [6, 4]);
      limit(possible, "bad", words.possible, []);
    }
    if (chart && chart.kept_from_us !== null) {
      const x = u.valToPos(chart.kept_from_us / 1e6, "x", true);
      if (x > bbox.left + 1) {
        ctx.fillStyle = colour("idle-soft");
        ctx.fillRect(bbox.left, bbox.top, Math.min(x, right) - bbox.left, bbox.height);
        ctx.fillStyle = colour("soft");
        ctx.textAlign = "center";
        if (Math.min(x, right) - bbox.left > 140 * px) ctx.fillText(words.notKeptBefore, (bbox.left + Math.min(x, right)) / 2, bbox.top + bbox.height / 2);
      }
    }
    ctx.restore();
  };
  const shapes = {
    ring: (ctx, r) => { ctx.arc(0, 0, r, 0, 7); },
    diamond: (ctx, r) => { ctx.moveTo(0, -r * 1.2); ctx.lineTo(r * 1.2, 0); ctx.lineTo(0, r * 1.2); ctx.lineTo(-r * 1.2, 0); ctx.closePath(); },
    triangle: (ctx, r) => { ctx.moveTo(0, -r * 1.1); ctx.lineTo(r * 1.2, r); ctx.lineTo(-r * 1.2, r); ctx.closePath(); },
    flag: (ctx, r) => { ctx.moveTo(0, -r); ctx.lineTo(r * 1.8, -r * 0.1); ctx.lineTo(0, r * 0.8); ctx.closePath(); },
  };
  const tones = { ring: "bad", diamond: "warn", triangle: "bad", flag: "bad" };
  const drawSigns = (u) => {
    const { ctx, bbox } = u, px = devicePixelRatio, bottom = bbox.top + bbox.height;
    const last = {};
    ctx.save();
    for (const sign of signs) {
      const x = u.valToPos(sign.at, "x", true);
      if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) continue;
      let y = sign.value === null || sign.value === undefined ? bottom - 8 * px : u.valToPos(sign.value, "y", true);
      if (sign.shape === "flag") y = bbox.top + 8 * px;
      const before = last[sign.shape];
      if (before && Math.abs(before[0] - x) < 8 * px && Math.abs(before[1] - y) < 14 * px) continue;
      last[sign.shape] = [x, y];
      const tone = colour(sign.over ? "good" : tones[sign.shape]);
      ctx.strokeStyle = ctx.fillStyle = tone;
      if (sign.shape === "flag") {
        ctx.lineWidth = px;
        ctx.setLineDash([2 * px, 3 * px]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bottom);
        ctx.stroke();
        ctx.setLineDash([]);
      }
      ctx.save();
      ctx.translate(x, y);
      ctx.beginPath();
      shapes[sign.shape](ctx, 5 * px);
      if (sign.shape === "ring") {
        ctx.fillStyle = colour("card");
        ctx.fill();
        ctx.lineWidth = 2.5 * px;
        ctx.stroke();
      } else {
        ctx.lineWidth = 3 * px;
        ctx.strokeStyle = colour("card");
        ctx.stroke();
        ctx.fill();
      }
      ctx.restore();
    }
    ctx.restore();
  };

  const sizeOf = () => ({ width: Math.max(200, canvas.clientWidth), height: canvas.clientHeight || 320 });
  const make = () => {
    const fading = () => colour("accent") + "38";
    const edge = { stroke: () => colour("accent") + "70", width: 1, points: { show: false }, paths: lines };
    const options = {
      ...sizeOf(), padding: [12, 12, 0, 0], legend: { show: false }, scales: { x: { time: true }, y: { range: yRange } },
      series: [{}, edge, edge, { stroke: () => colour("accent"), width: 2, paths: lines,
        points: { size: 5, fill: () => colour("accent"), show: (u, series, from, to) => raw && to - from < u.bbox.width / devicePixelRatio / 10 } }],
      bands: [{ series: [2, 1], fill: fading }],
      axes: [axis({ space: 92, values: axisTimes, size: 44 }),
        axis({ space: 44, values: axisNumbers, ...(kind === "switch" ? { splits: () => [0, 1] } : {}),
          size: (u, values) => Math.max(36, 18 + 7.2 * Math.max(0, ...(values || []).map((value) => value.length))) })],
      cursor: { y: false, drag: { x: true, y: false, setScale: false, dist: 6 },
        points: { size: 9, fill: () => colour("accent"), stroke: () => colour("card"), width: 2 },
        bind: { dblclick: () => () => { reset(); return null; } } },
      hooks: {
        drawAxes: [zones], draw: [drawSigns], setCursor: [tellCursor],
        setSelect: [(u) => {
          if (u.select.width < 6) return;
          const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          look(from, to);
        }],
      },
    };
    plot = new uPlot(options, data, canvas);
    touch(plot.over);
  };
  const draw = () => {
    if (!plot) make();
    plot.batch(() => {
      plot.setData(data, false);
      plot.setScale("x", { min: view.from, max: view.to });
    });
    tellWindow();
  };

  // Moving and zooming: at once with what is there, then with what the gateway has for the new time.
  const look = (from, to) => {
    const end = nowS(), span = Math.round(Math.min(spanMaxS, Math.max(spanMinS, to - from)) * 1000) / 1000;
    to = Math.min(to, end);
    const live = to >= end - span / 100;
    Object.assign(view, { from: Math.max(1, to - span), to, live, span: live ? span : null });
    draw();
    press();
    remember();
    loadSoon();
  };
  const reset = () => choose(3600);
  const choose = (span) => {
    Object.assign(view, { live: true, span });
    follow();
    press();
    remember();
    draw();
    load();
  };
  const zoom = (factor, at = (view.from + view.to) / 2) => {
    // A chart that follows the clock keeps its end.
    if (view.live) at = view.to;
    const span = view.to - view.from, share = (at - view.from) / span;
    const next = Math.min(spanMaxS, Math.max(spanMinS, span * factor));
    look(at - next * share, at + next * (1 - share));
  };
  const pan = (share) => {
    const by = (view.to - view.from) * share;
    look(view.from + by, view.to + by);
  };
  const press = () => root.querySelectorAll("[data-span]").forEach((button) => {
    const span = button.dataset.span;
    button.setAttribute("aria-pressed", String(view.live && String(view.span) === span));
  });
  const acts = { earlier: () => pan(-0.5), later: () => pan(0.5), in: () => zoom(0.5), out: () => zoom(2), again: () => load(),
    now: () => choose(view.span || Math.round(view.to - view.from)) };
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.span) choose(button.dataset.span === "all" ? "all" : Number(button.dataset.span));
    else if (acts[button.dataset.do]) acts[button.dataset.do]();
  });

  // Fingers: one goes along the readings, two zoom and move. A wheel zooms with Ctrl and moves with Shift, else it scrolls the page.
  const touch = (over) => {
    const place = (event) => event.clientX - over.getBoundingClientRect().left;
    over.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "touch") return;
      fingers.set(event.pointerId, place(event));
      if (fingers.size === 2) pinch = [...fingers].map(([id, x]) => [id, plot.posToVal(x, "x")]);
    });
    over.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      fingers.set(event.pointerId, place(event));
      if (fingers.size === 1) { plot.setCursor({ left: place(event), top: 0 }); return; }
      if (!pinch) return;
      const [[a, timeA], [b, timeB]] = pinch, [xA, xB] = [fingers.get(a), fingers.get(b)];
      if (xA === undefined || xB === undefined || Math.abs(xB - xA) < 12 || timeA === timeB) return;
      const scale = (timeB - timeA) / (xB - xA);
      if (scale <= 0) return;
      const from = timeA - xA * scale;
      look(from, from + over.clientWidth * scale);
    });
    const lift = (event) => { fingers.delete(event.pointerId); if (fingers.size < 2) pinch = null; };
    over.addEventListener("pointerup", lift);
    over.addEventListener("pointercancel", lift);
    over.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      if (event.shiftKey) pan(Math.sign(event.deltaY || event.deltaX) * 0.1);
      else zoom(event.deltaY > 0 ? 1.25 : 0.8, plot.posToVal(place(event), "x"));
    }, { passive: false });
  };

  // Keys: arrows go from reading to reading, and a screen reader says each.
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !plot) return;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 10, ArrowDown: -10 }[event.key];
    const other = { "+": acts.in, "=": acts.in, "-": acts.out, PageUp: acts.earlier, PageDown: acts.later, Escape: reset,
      Home: () => put(0, 1), End: () => put(data[0].length - 1, -1) }[event.key];
    if (!step && !other) return;
    event.preventDefault();
    if (other) { other(); return; }
    const at = plot.cursor.idx;
    put(at === null || at === undefined ? (step > 0 ? 0 : data[0].length - 1) : at + step, Math.sign(step));
  });
  const put = (index, way) => {
    let at = Math.min(data[0].length - 1, Math.max(0, index));
    while (data[3][at] === null && at + way >= 0 && at + way < data[0].length) at += way;
    const time = data[0][at];
    if (time === undefined || time < view.from || time > view.to) return;
    plot.setCursor({ left: plot.valToPos(time, "x"), top: plot.valToPos(data[3][at] ?? 0, "y") });
    // Positions are rounded; the reading that is meant counts.
    plot.cursor.idx = at;
    tellCursor(plot);
  };
  canvas.addEventListener("blur", () => { if (plot) plot.setCursor({ left: -10, top: -10 }); });

  // What is under the cursor, in words.
  const line = (text, className) => {
    const element = document.createElement("span");
    element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  function tellCursor(u) {
    const index = u.cursor.idx;
    const off = index === null || index === undefined || u.cursor.left < 0 || data[0].length === 0;
    tip.hidden = off;
    if (off) return;
    const [at, min, max, mean] = data.map((column) => column[index]);
    const told = [line(said(at), "soft")];
    if (raw || counts[index] === undefined || min === null) told.push(line(mean === null ? words.noValue : measured(mean), "figure"));
    else {
      told.push(line(min === max ? measured(min) : number(min) + " – " + measured(max), "figure"));
      if (min !== max) told.push(line(words.mean + " " + measured(mean)));
      told.push(line(counts[index] === 1 ? words.oneReading : fill(words.readings, written(String(counts[index]))), "soft"));
    }
    const near = (view.to - view.from) / Math.max(1, u.over.clientWidth) * 5;
    // Of what says the same, the nearest.
    const here = signs.filter((sign) => Math.abs(sign.at - at) <= near).sort((a, b) => Math.abs(a.at - at) - Math.abs(b.at - at))
      .filter((sign, place, all) => all.findIndex((other) => other.what === sign.what) === place).slice(0, 3);
    for (const sign of here) told.push(line(sign.what + (sign.why ? ": " + sign.why : ""), "sign " + sign.shape));
    tip.replaceChildren(...told);
    const left = u.over.offsetLeft + u.valToPos(at, "x"), room = part("plot").clientWidth;
    const place = left + 16 + tip.offsetWidth > room ? left - 16 - tip.offsetWidth : left + 16;
    tip.style.transform = "translate(" + Math.round(Math.max(0, place)) + "px, 12px)";
    if (document.activeElement !== canvas) return;
    canvas.setAttribute("aria-valuemax", String(data[0].length - 1));
    canvas.setAttribute("aria-valuenow", String(index));
    canvas.setAttribute("aria-valuetext", told.map((element) => element.textContent).join(", "));
  }

  // The same as words and figures.
  const tellWindow = () => { part("window").textContent = brief.formatRange(new Date(view.from * 1000), new Date(view.to * 1000)); };
  const tell = (told, isText) => {
    const { statistics } = told;
    if (told.kept_from_us === null) say(words.nothingKept);
    else if (statistics.count === 0) say(words.nothingHere);
    else if (!isText && statistics.numbers === 0 && !raw) say(words.noNumbers);
    else if (told.incomplete_because) say(told.incomplete_because, true);
    else say("");
    part("how").textContent = statistics.count === 0 ? "" : raw ? words.everyReading
      : told.of_minutes ? words.ofMinutes : fill(words.columnsOf, duration(told.column_us / 1e6));
    const at = (value, time) => (value === null ? "–" : time ? [line(measured(value)), line(" · " + said(time / 1e6, brief), "soft small")] : measured(value));
    const count = (value) => written(String(value));
    const without = statistics.gaps.reduce((sum, gap) => sum + (gap.to_us - gap.from_us), 0) / 1e6;
    const facts = { count: count(statistics.count), min: at(statistics.min, statistics.min_at_us), max: at(statistics.max, statistics.max_at_us),
      mean: at(statistics.mean), stddev: at(statistics.stddev), first: at(statistics.first), last: at(statistics.last),
      flagged: count(statistics.flagged), notGood: statistics.not_good === null ? "–" : count(statistics.not_good), without: without ? duration(without) : "0" };
    document.querySelectorAll("[data-fact]").forEach((place) => {
      const fact = facts[place.dataset.fact];
      place.replaceChildren(...(Array.isArray(fact) ? fact : [fact]));
      // What is not known of texts, or of whole minutes, is no line.
      place.parentElement.hidden = fact === "–";
    });
    const [from, to] = [said(told.from_us / 1e6), said(told.to_us / 1e6)];
    part("summary").textContent = statistics.min === null ? fill(words.summaryWords, facts.count, from, to)
      : fill(words.summary, facts.count, from, to, measured(statistics.min), measured(statistics.max), measured(statistics.mean));
    document.querySelectorAll("[data-export]").forEach((link) => {
      link.href = "/api/v1/points/" + point + "/export?" + new URLSearchParams({ format: link.dataset.export, from_us: told.from_us, to_us: told.to_us });
    });
    tellMarks(told);
  };
  const tellMarks = (told) => {
    // The same said many times in a row is one line, from its first to its last, with the words of the last.
    const rows = [], near = Math.max((told.statistics.usual_step_us || 0) / 1e6 * 4, (view.to - view.from) / 300);
    for (const sign of signs.slice().reverse()) {
      const last = rows[rows.length - 1];
      if (last && sign.shape !== "flag" && last.what === sign.what && last.at - sign.at <= near) {
        last.count += sign.count;
        last.at = sign.at;
      } else rows.push({ ...sign, until: sign.at });
    }
    const shown = rows.slice(0, listMax), body = document.querySelector("#marks-list tbody"), more = document.getElementById("more-marks");
    document.getElementById("marks-list").hidden = shown.length === 0;
    document.getElementById("no-marks").hidden = shown.length > 0;
    body.replaceChildren(...shown.map((row) => {
      const line = document.createElement("tr");
      const [when, what, value] = [0, 0, 0].map(() => line.appendChild(document.createElement("td")));
      const go = when.appendChild(document.createElement("button"));
      go.type = "button";
      go.className = "go";
      go.textContent = row.until - row.at < 1 ? said(row.at, moment) : moment.formatRange(new Date(row.at * 1000), new Date(row.until * 1000));
      go.addEventListener("click", () => {
        const middle = (row.at + row.until) / 2;
        const span = Math.min(view.to - view.from, Math.max(60, (row.until - row.at) * 3, (view.to - view.from) / 8));
        look(middle - span / 2, middle + span / 2);
        root.scrollIntoView({ block: "nearest" });
      });
      const sign = what.appendChild(document.createElement("span"));
      sign.className = "sign " + row.shape + (row.over ? " over" : "");
      sign.textContent = row.what;
      const why = [row.why, row.count > 1 ? fill(words.inARow, written(String(row.count))) : ""].filter(Boolean).join(" · ");
      if (why) what.append(Object.assign(document.createElement("span"), { className: "soft small why", textContent: why }));
      value.className = "num";
      const figure = row.told ?? row.value;
      value.textContent = figure === null || figure === undefined ? "" : measured(figure);
      return line;
    }));
    const left = told.marks_left_out > 0 ? fill(words.leftOut, written(String(told.marks_left_out)))
      : rows.length > shown.length ? fill(words.moreMarks, written(String(rows.length - shown.length))) : "";
    more.hidden = !left;
    more.textContent = left;
  };
  // Texts have no line: what was said when, the newest first, each once.
  const tellTexts = (isText, texts) => {
    const place = part("texts");
    place.hidden = !isText;
    if (!isText) return;
    const changes = texts.filter((sample, index) => index === 0 || sample.text !== texts[index - 1].text).reverse().slice(0, listMax);
    const list = document.createElement("ol");
    list.replaceChildren(...changes.map((sample) => {
      const item = document.createElement("li");
      item.append(line(said(sample.at_us / 1e6), "soft small"), line(sample.text));
      return item;
    }));
    place.replaceChildren(changes.length > 0 ? list : line(chart.statistics.count > 0 ? words.tooFine : words.nothingHere, "soft"));
  };

  // What comes in meanwhile joins the end, without another question.
  const join = () => {
    const now = document.getElementById("now");
    if (!now || !chart || !plot || !view.live) return;
    const at = Number(now.dataset.at) / 1000, value = now.dataset.value === undefined ? null : Number(now.dataset.value);
    const last = data[0].length > 0 ? data[0][data[0].length - 1] : 0;
    const width = chart.column_us / 1e6;
    if (at <= Math.max(loadedTo, raw ? last : 0)) return;
    if (raw) {
      // Where readings stopped for a while, no line is drawn.
      const usual = (chart.statistics.usual_step_us || 0) / 1e6;
      if (last && usual && at - last > Math.max(5, usual * 4)) {
        [last + usual, null, null, null].forEach((entry, column) => data[column].push(entry));
        counts.push(0);
      }
      [at, null, null, value].forEach((entry, column) => data[column].push(entry));
      counts.push(1);
    } else if (value !== null) {
      const begin = Math.floor(at / width) * width + width / 2, index = data[0].length - 1;
      if (index >= 0 && Math.abs(last - begin) < width / 4) {
        counts[index] += 1;
        data[1][index] = Math.min(data[1][index] ?? value, value);
        data[2][index] = Math.max(data[2][index] ?? value, value);
        data[3][index] += (value - data[3][index]) / counts[index];
      } else if (begin > last) {
        [begin, value, value, value].forEach((entry, column) => data[column].push(entry));
        counts.push(1);
      }
    }
    const flags = now.dataset.flags.split(" ").filter(Boolean), noData = flags.includes("no_data") ? "none" : undefined;
    const shape = shapeOf(flags, now.dataset.quality, noData);
    if (shape) signs.push({ at, value, shape, what: whatOf(shape, flags, noData), why: whyOf(flags, noData), count: 1 });
  };
  document.addEventListener("htmx:afterSwap", join);
  document.addEventListener("htmx:sseMessage", join);
  let drawnTo = 0;
  setInterval(() => {
    if (!view.live || document.hidden || !plot || !chart || fingers.size > 1) return;
    const span = view.to - view.from;
    follow();
    // A chart of days moves a pixel in minutes.
    if (view.to - drawnTo >= span / plot.over.clientWidth) { drawnTo = view.to; draw(); }
    if (view.to - loadedTo > Math.max(30, span / 4)) { loadedTo = view.to; load(true); }
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && view.live && nowS() - loadedTo > 10) { follow(); load(true); }
  });
  const repaint = () => { colours = null; if (plot) plot.redraw(false); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  matchMedia("(forced-colors: active)").addEventListener("change", repaint);
  new ResizeObserver(() => {
    if (!plot) return;
    const size = sizeOf();
    if (size.width !== plot.width || size.height !== plot.height) plot.setSize(size);
  }).observe(canvas);

  begin();
  press();
  tellWindow();
  load();
})();

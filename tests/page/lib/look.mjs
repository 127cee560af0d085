// What makes a screen usable by everyone: axe's rules, nothing that sticks out, targets for a thumb, a focus one can follow.
import { axeSource } from "./needs.mjs";

/** Findings of these weights fail a story. */
const WEIGHTS = ["serious", "critical"];
/** The side of a square that a thumb hits, in CSS pixels. */
const TARGET_PX = 44;
/** Rounding of a browser, in CSS pixels. */
const SLACK_PX = 0.6;

async function axe(page, options) {
  if (!(await page.evaluate("typeof axe === 'object'"))) await page.evaluate(axeSource);
  const found = await page.evaluate((options) => axe.run(document, { preload: false, resultTypes: ["violations"], ...options }), options);
  return found.violations.filter(({ impact }) => WEIGHTS.includes(impact)).flatMap(({ id, impact, nodes }) =>
    nodes.map((node) => `axe ${impact}: ${id}: ${node.target.join(" ")}: ${node.html.slice(0, 160)} ${
      (node.any[0] ?? node.all[0] ?? node.none[0])?.message ?? ""}`));
}

/** Everything axe finds in the scheme that is shown, then what only colours change in the other. */
export async function axeFindings(page) {
  const shown = await axe(page, {});
  const dark = await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches);
  const other = dark ? "light" : "dark";
  await page.emulateMedia({ colorScheme: other });
  const colours = await axe(page, { runOnly: ["color-contrast", "link-in-text-block"] });
  await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
  return [...shown, ...colours.map((finding) => `${other}: ${finding}`)];
}

/** What is wider than the screen and cannot be scrolled by itself. */
export function overflowFindings(page) {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    // What stands in a fixed bar does not widen the document; it is cut off instead.
    const cut = [...document.querySelectorAll("nav.places a")].filter((place) => place.getBoundingClientRect().right > width + 1);
    if (cut.length > 0) return cut.map((place) => `cut off at ${width} px: ${place.textContent.trim()}`);
    if (document.documentElement.scrollWidth <= width) return [];
    const scrolls = (element) => {
      for (let at = element.parentElement; at; at = at.parentElement) {
        if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(at).overflowX)) return true;
      }
      return false;
    };
    const wide = [...document.querySelectorAll("body *")].filter((element) => {
      const box = element.getBoundingClientRect();
      return box.width > 0 && box.right > width + 1 && !scrolls(element);
    });
    return [`${document.documentElement.scrollWidth} px wide: ${wide.slice(-4).map((element) =>
      `<${element.tagName.toLowerCase()} class="${element.className.baseVal ?? element.className}">${element.textContent.trim().slice(0, 40)}`).join("; ")}`];
  });
}

/** Buttons, fields and links of navigation that a thumb misses. Links inside a sentence may be as small as its words. */
export function targetFindings(page) {
  return page.evaluate(([side, slack]) => {
    const selector = "nav a, button, .btn, input:not([type=hidden]), select, textarea, summary, .links a, .pager a, [role=tab]";
    const inside = (element) => element.closest("label") ?? document.querySelector(`label[for="${CSS.escape(element.id || " ")}"]`);
    return [...document.querySelectorAll(selector)].flatMap((element) => {
      const box = element.getBoundingClientRect();
      const style = getComputedStyle(element);
      if (box.width === 0 || box.height === 0 || style.visibility === "hidden" || element.closest(".unseen, .skip")) return [];
      // A tick and its words are one target; a cell of a sheet may be narrow.
      const ticks = ["checkbox", "radio", "file"].includes(element.type);
      const tall = ticks ? Math.max(box.height, inside(element)?.getBoundingClientRect().height ?? 0) : box.height;
      if (tall >= side - slack) return [];
      return [`${Math.round(box.width)}×${Math.round(tall)} px: <${element.tagName.toLowerCase()} class="${element.className}">${
        (element.textContent.trim() || element.getAttribute("aria-label") || element.name || "").slice(0, 40)}`];
    });
  }, [TARGET_PX, SLACK_PX]);
}

/** Goes through the screen with the tab key: every stop must be visible, on the screen and marked. */
export async function focusFindings(page, stopsMax = 150) {
  const findings = [];
  await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); window.focusSeen = new Set(); });
  for (let stop = 0; stop < stopsMax; stop += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return { end: true };
      if (window.focusSeen.has(element)) return { end: true };
      window.focusSeen.add(element);
      const box = element.getBoundingClientRect();
      const style = getComputedStyle(element);
      const marked = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2) || style.boxShadow !== "none";
      const shown = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
      const bar = document.querySelector("nav.places");
      const bottom = bar && getComputedStyle(bar).position === "fixed" && !bar.contains(element) ? bar.getBoundingClientRect().top : innerHeight;
      const hidden = box.top >= bottom;
      const name = `<${element.tagName.toLowerCase()}> ${(element.textContent.trim() || element.getAttribute("aria-label") || element.name || "").slice(0, 40)}`;
      return { marked, shown, hidden, name };
    });
    if (at.end) break;
    if (!at.marked) findings.push(`focus cannot be seen on ${at.name}`);
    if (!at.shown) findings.push(`focus goes to something that is not on the screen: ${at.name}`);
    else if (at.hidden) findings.push(`focus goes behind the bar at the bottom: ${at.name}`);
  }
  return findings;
}

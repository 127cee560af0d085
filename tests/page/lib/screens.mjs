// Every screen of the page: what the pictures show, and what accessibility is asked of.
//
// A screen that is added to the page is added here, in one line; a story fails if the page links to one that is not.

/**
 * name     of the picture and in what a story says
 * path     where it is; a function gets the page and finds the way as a person would
 * stranger nobody is signed in
 * fresh    nobody has set the gateway up
 */
export const SCREENS = [
  { name: "set-up", path: "/set-up", fresh: true },
  { name: "sign-in", path: "/sign-in", stranger: true },
  { name: "overview", path: "/" },
  { name: "points", path: "/points" },
  { name: "point", path: firstLink("/points", "/points/") },
  { name: "sources", path: "/sources" },
  { name: "source", path: "/sources/boiler-bus" },
  { name: "source-edit", path: "/sources/boiler-bus/edit" },
  { name: "source-new", path: "/sources/new" },
  { name: "source-remove", path: "/sources/boiler-bus/remove" },
  { name: "upstream", path: "/upstream" },
  { name: "sink", path: "/upstream/cloud" },
  { name: "sink-edit", path: "/upstream/cloud/edit" },
  { name: "sink-new", path: "/upstream/new" },
  { name: "first-steps-name", path: "/first-steps/name" },
  { name: "first-steps-source", path: "/first-steps/source" },
  { name: "first-steps-value", path: "/first-steps/value" },
  { name: "first-steps-sink", path: "/first-steps/sink" },
  { name: "first-steps-done", path: "/first-steps/done" },
  { name: "settings", path: "/settings" },
  { name: "settings-edit", path: "/settings/edit?at=check[0]" },
  { name: "settings-rules", path: "/settings/rules" },
  { name: "settings-rule", path: "/settings/rules/edit?at=check[0]" },
  { name: "settings-rule-new", path: "/settings/rules/new?kind=unusual" },
  { name: "settings-file", path: "/settings/file" },
  { name: "settings-history", path: "/settings/history" },
  { name: "settings-trial", path: "/settings/trial" },
  { name: "settings-templates", path: "/settings/templates" },
  { name: "settings-security", path: "/settings/security" },
  { name: "alerts", path: "/alerts" },
  { name: "board", path: "/board" },
  { name: "board-letters", path: "/board/letters" },
  { name: "board-logs", path: "/board/logs" },
  { name: "board-system", path: "/board/system" },
  { name: "interface", path: "/api" },
  { name: "settings-people", path: "/settings/people" },
  { name: "settings-person", path: firstLink("/settings/people", "/settings/people/one") },
  { name: "settings-tokens", path: "/settings/tokens" },
  { name: "settings-audit", path: "/settings/audit" },
  { name: "account", path: "/account" },
  { name: "more", path: "/more" },
  { name: "not-found", path: "/no-such-screen", status: 404 },
];

/** Goes to a screen, and waits until it has everything. */
export async function open(page, screen) {
  const path = typeof screen.path === "function" ? await screen.path(page) : screen.path;
  const answer = await page.goto(path);
  if (answer.status() !== (screen.status ?? 200)) throw new Error(`${path} answered ${answer.status()}`);
  await page.locator("main h1, main h2").first().waitFor();
  if (screen.ready) await screen.ready(page);
  await page.evaluate(() => document.fonts.ready);
}

/** The address of the first link below `root` on another screen. */
export function firstLink(at, root) {
  return async (page) => {
    await page.goto(at);
    return page.locator(`main a[href^="${root}"]`).first().getAttribute("href");
  };
}

// A person in front of the page: a real browser of a certain width, scheme and language, that notices whatever goes wrong.
import assert from "node:assert/strict";
import { chromium, chromiumPath } from "./needs.mjs";
import { user } from "./plant.mjs";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
];

/** A phone in a hand, and a screen on a desk. */
export const SIZES = {
  phone: { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true },
  desk: { viewport: { width: 1440, height: 900 } },
};
export const SCHEMES = ["light", "dark"];

/** How long anything on the page may take, in milliseconds: a busy machine with two cores. */
const PATIENCE_MS = 20_000;

export class Browser {
  static async open() {
    const browser = new Browser();
    browser.chromium = await chromium.launch({ executablePath: chromiumPath, headless: true, args: FLAGS });
    return browser;
  }

  /** Someone comes to the gateway. */
  async visitor(gateway, { size = "desk", scheme = "light", language = "en", ...more } = {}) {
    const context = await this.chromium.newContext({
      ...SIZES[size], colorScheme: scheme, locale: { en: "en-GB", de: "de-DE" }[language],
      timezoneId: "Europe/Berlin", reducedMotion: "reduce", baseURL: gateway.origin, ...more,
    });
    context.setDefaultTimeout(PATIENCE_MS);
    const visitor = new Visitor(context, gateway);
    await visitor.begin();
    return visitor;
  }

  close() { return this.chromium.close(); }
}

export class Visitor {
  constructor(context, gateway) {
    Object.assign(this, { context, gateway, troubles: [], allowed: [], requests: 0 });
  }

  async begin() {
    await this.context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) =>
        console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
    });
    this.page = await this.context.newPage();
    this.watch(this.page);
    this.context.on("page", (page) => this.watch(page));
  }

  watch(page) {
    if (page.isWatched) return;
    page.isWatched = true;
    const trouble = (what) => this.troubles.push(`${what} (on ${page.url()})`);
    page.on("console", (message) => { if (message.type() === "error") trouble(`console: ${message.text()}`); });
    page.on("pageerror", (error) => trouble(`script: ${error.message}`));
    page.on("dialog", async (dialog) => {
      if (!this.dialogAnswer) trouble(`dialog: ${dialog.message()}`);
      await (this.dialogAnswer ? dialog.accept() : dialog.dismiss());
    });
    page.on("request", (request) => {
      this.requests += 1;
      const url = request.url();
      const own = url.startsWith(`${this.gateway.origin}/`) || url.startsWith("data:") || url.startsWith("blob:");
      if (!own) trouble(`a request left the gateway: ${url}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 500) trouble(`${response.request().method()} ${response.url()} answered ${response.status()}`);
    });
  }

  /** What this story brings about on purpose, such as the console's word on a refusal. */
  allow(pattern) { this.allowed.push(pattern); }

  /** Says yes to questions from here on. */
  agree() { this.dialogAnswer = true; }

  async signIn({ name, password } = user) {
    await this.page.goto("/sign-in");
    await this.page.locator("#name").fill(name);
    await this.page.locator("#password").fill(password);
    await this.page.locator("main form button[type=submit], main form .btn.primary").first().click();
    await this.page.waitForURL((url) => !url.pathname.startsWith("/sign-in"));
    return this;
  }

  /** Ends the visit; fails if anything went wrong on the way. */
  async leave() {
    await this.context.close();
    const troubles = this.troubles.filter((trouble) => !this.allowed.some((pattern) => pattern.test(trouble)));
    assert.deepEqual(troubles, [], "what the browser complained about");
  }
}

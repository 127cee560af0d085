// Takes the pictures of every screen anew: docs/screens/<screen>-<phone|desk>-<light|dark>.png.
//
// SCREENS=overview,points takes those alone; OUT=FOLDER puts them elsewhere.
import { mkdirSync, writeFileSync, readdirSync, statSync, rmSync } from "node:fs";
import path from "node:path";
import { Browser, SCHEMES } from "./lib/browser.mjs";
import { demoPlant } from "./lib/demo_plant.mjs";
import { root } from "./lib/needs.mjs";
import { Plant } from "./lib/plant.mjs";
import { small } from "./lib/png.mjs";
import { SCREENS, open } from "./lib/screens.mjs";

/** All pictures together: they are in the repository. */
const BYTES_MAX = 8 * 1024 * 1024;
/** A list of everything is shown by its beginning. */
const HEIGHT_MAX_PX = { phone: 2_400, desk: 1_800 };

const folder = path.resolve(process.env.OUT ?? path.join(root, "docs/screens"));
const wanted = process.env.SCREENS?.split(",");
const language = process.env.LANGUAGE_OF_PAGE ?? "en";
mkdirSync(folder, { recursive: true });

async function take(visitor, screen, size, scheme) {
  const { page } = visitor;
  await open(page, screen);
  // The gateway's own clock is in the pictures; what runs on while one looks is not.
  const width = page.viewportSize().width;
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  const shown = Math.min(height, HEIGHT_MAX_PX[size]);
  const before = page.viewportSize();
  await page.setViewportSize({ width, height: Math.max(before.height, shown) });
  if (screen.settled) await screen.settled(page);
  const picture = await page.screenshot({ animations: "disabled", caret: "hide" });
  await page.setViewportSize(before);
  writeFileSync(path.join(folder, `${screen.name}-${size}-${scheme}.png`), small(picture));
}

const plants = [];
const browser = await Browser.open();
try {
  const screens = SCREENS.filter(({ name }) => !wanted || wanted.includes(name));
  if (!wanted) for (const file of readdirSync(folder)) if (file.endsWith(".png")) rmSync(path.join(folder, file));
  const plant = await demoPlant();
  plants.push(plant);
  const fresh = screens.some((screen) => screen.fresh) ? await Plant.fresh() : null;
  if (fresh) plants.push(fresh);
  for (const size of ["phone", "desk"]) {
    for (const scheme of SCHEMES) {
      const stranger = await browser.visitor(plant.gateway, { size, scheme, language });
      const first = fresh && (await browser.visitor(fresh.gateway, { size, scheme, language }));
      const visitor = await browser.visitor(plant.gateway, { size, scheme, language });
      await visitor.signIn();
      for (const screen of screens) {
        try {
          await take(screen.fresh ? first : screen.stranger ? stranger : visitor, screen, size, scheme);
        } catch (error) {
          console.error(`${screen.name}, ${size}, ${scheme}: ${error.message.split("\n")[0]}`);
          process.exitCode = 1;
        }
      }
      for (const one of [stranger, first, visitor]) await one?.context.close();
    }
  }
} finally {
  await browser.close();
  for (const plant of plants) await plant.close();
}
const files = readdirSync(folder).filter((file) => file.endsWith(".png"));
const bytes = files.reduce((sum, file) => sum + statSync(path.join(folder, file)).size, 0);
console.log(`${files.length} pictures in ${folder}, ${(bytes / 1024 / 1024).toFixed(2)} MiB`);
if (bytes > BYTES_MAX) throw new Error(`the pictures are larger than ${BYTES_MAX} bytes together`);

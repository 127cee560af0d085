// Makes a picture small: a screen has few colours, so that a palette of 256 shows it as it is.
import { UPNG } from "./needs.mjs";

const COLOURS = 256;

export function small(png) {
  const image = UPNG.decode(png);
  const packed = Buffer.from(UPNG.encode(UPNG.toRGBA8(image), image.width, image.height, COLOURS));
  return packed.length < png.length ? packed : png;
}

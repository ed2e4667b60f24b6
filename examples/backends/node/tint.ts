// The picture work: decode, the tint, encode. Pixels are RGB bytes, row by row.
import sharp from "sharp";

export type Colour = [number, number, number];
export interface Picture {
  width: number;
  height: number;
  rgb: Buffer;
}
export interface Crop {
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

export class PageError extends Error {
  readonly code: number;
  readonly reason: string;
  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

const INVALID_ARGUMENT = 3;
const MIN_SIDE = 16;
export const MAX_PIXELS = 50_000_000;

export async function decode(data: Buffer, minSide = MIN_SIDE): Promise<Picture> {
  let found;
  try {
    const image = sharp(data, { limitInputPixels: MAX_PIXELS, failOn: "truncated" }).autoOrient();
    found = await image.flatten({ background: "white" }).toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  } catch (error) {
    const message = (error as Error).message;
    const large = message.includes("pixel limit");
    throw new PageError(INVALID_ARGUMENT, large ? "IMAGE_TOO_LARGE" : "IMAGE_UNREADABLE", `the picture cannot be read: ${message}`);
  }
  const { width, height, channels } = found.info;
  if (Math.min(width, height) < minSide) {
    const message = `a page must have at least ${minSide} pixels a side, got ${width} x ${height}`;
    throw new PageError(INVALID_ARGUMENT, "IMAGE_TOO_SMALL", message);
  }
  return { width, height, rgb: channels === 3 ? found.data : widened(found.data, channels) };
}

function widened(data: Buffer, channels: number): Buffer {
  const rgb = Buffer.alloc((data.length / channels) * 3);
  for (let i = 0, o = 0; i < data.length; i += channels, o += 3) rgb.fill(data[i]!, o, o + 3);
  return rgb;
}

// BT.601 luma in integers, as Pillow's convert("L") has it.
export function luma(r: number, g: number, b: number): number {
  return (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16;
}

export function isInColour({ rgb }: Picture): boolean {
  let coloured = 0;
  for (let i = 0; i < rgb.length; i += 3) {
    const [r, g, b] = [rgb[i]!, rgb[i + 1]!, rgb[i + 2]!];
    if (Math.max(r, g, b) - Math.min(r, g, b) > 24) coloured++;
  }
  return coloured * 3 > rgb.length * 0.02; // 2 % of the pixels
}

export function meanColour({ width, height, rgb }: Picture, crop: Crop | null): Colour {
  const { x0, y0, x1, y1 } = crop ?? { x0: 0, y0: 0, x1: width, y1: height };
  if (x1 > width || y1 > height || x0 >= x1 || y0 >= y1) {
    throw new PageError(INVALID_ARGUMENT, "INVALID_CONTEXT", `picture_box must lie inside its picture of ${width} x ${height}`);
  }
  const sum: Colour = [0, 0, 0];
  for (let y = y0; y < y1; y++) {
    for (let i = (y * width + x0) * 3, end = (y * width + x1) * 3; i < end; i += 3) {
      sum[0] += rgb[i]!;
      sum[1] += rgb[i + 1]!;
      sum[2] += rgb[i + 2]!;
    }
  }
  const count = (x1 - x0) * (y1 - y0);
  return [sum[0] / count, sum[1] / count, sum[2] / count];
}

// For each luma the colour of that luma that is nearest to the tint: as much of it as the gamut allows, mended by steps
// of one until the luma is exact.
export function ramp(tint: Colour): Uint8Array {
  const grey = luma(...(tint.map(Math.round) as Colour));
  const chroma = tint.map((value) => value - grey) as Colour;
  const table = new Uint8Array(256 * 3);
  for (let level = 0; level < 256; level++) table.set(atLuma(level, chroma), level * 3);
  return table;
}

function atLuma(level: number, chroma: Colour): Colour {
  for (let share = 16; share > 0; share--) {
    const colour = chroma.map((value) => Math.round(level + (value * share) / 16)) as Colour;
    if (colour.some((value) => value < 0 || value > 255)) continue;
    for (const blue of [0, 1, -1, 2, -2, 3, -3, 4, -4]) {
      const mended: Colour = [colour[0], colour[1], colour[2] + blue];
      if (mended[2] >= 0 && mended[2] <= 255 && luma(...mended) === level) return mended;
    }
  }
  return [level, level, level];
}

export function tinted({ width, height, rgb }: Picture, table: Uint8Array): Picture {
  const out = Buffer.alloc(rgb.length);
  for (let i = 0; i < rgb.length; i += 3) {
    const entry = luma(rgb[i]!, rgb[i + 1]!, rgb[i + 2]!) * 3;
    out[i] = table[entry]!;
    out[i + 1] = table[entry + 1]!;
    out[i + 2] = table[entry + 2]!;
  }
  return { width, height, rgb: out };
}

export async function encode(picture: Picture, mediaType: string, quality: number): Promise<Buffer> {
  const image = sharp(picture.rgb, { raw: { width: picture.width, height: picture.height, channels: 3 } });
  if (mediaType === "image/jpeg") return image.jpeg({ quality }).toBuffer();
  if (mediaType === "image/webp") return image.webp({ lossless: true }).toBuffer();
  return image.png().toBuffer();
}

// The colour alone at full value, opaque where there is colour: a layer to multiply line art with.
export async function encodeChroma({ width, height, rgb }: Picture): Promise<Buffer> {
  const out = Buffer.alloc(width * height * 4, 255);
  for (let i = 0, o = 0; i < rgb.length; i += 3, o += 4) {
    const [r, g, b] = [rgb[i]!, rgb[i + 1]!, rgb[i + 2]!];
    const full = Math.max(r, g, b);
    if (r === g && g === b) out[o + 3] = 0;
    else for (let c = 0; c < 3; c++) out[o + c] = Math.round((rgb[i + c]! * 255) / full);
  }
  return sharp(out, { raw: { width, height, channels: 4 } }).png().toBuffer();
}

export async function preview({ width, height, rgb }: Picture, side: number) {
  const image = sharp(rgb, { raw: { width, height, channels: 3 } });
  const { data, info } = await image
    .resize(side, side, { fit: "inside", withoutEnlargement: true })
    .jpeg({ quality: 80 })
    .toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

export async function mediaTypeOf(data: Buffer): Promise<string> {
  return `image/${(await sharp(data).metadata()).format}`;
}

// A back-end of Panelhue out of process, in TypeScript on Node: tints each page with the mean colour of its context.
//
//   PANELHUE_BACKEND_SOCKET   where to listen, unix:PATH or 127.0.0.1:PORT; set by the server that starts this
//   PANELHUE_BACKEND_TOKEN    what every call but health must carry, as `authorization: Bearer TOKEN`
//
// docs/BACKENDS.md says what is promised; `panelhue conformance` checks it.
import { createHash, timingSafeEqual } from "node:crypto";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import * as tint from "./tint.ts";
import { PageError, type Colour, type Crop } from "./tint.ts";

const PROTOS = fileURLToPath(new URL("../../../protos", import.meta.url));
const SOCKET = process.env.PANELHUE_BACKEND_SOCKET ?? "127.0.0.1:50053";
const TOKEN = process.env.PANELHUE_BACKEND_TOKEN ?? "";
const CHUNK_BYTES = 262_144;
const MAX_PICTURE_BYTES = 64 << 20;
const STEPS = 3; // decode, context, tint
const NAME = "tint-node";

const definition = loadSync("panelhue/colorizer/v1/colorizer.proto", {
  includeDirs: [PROTOS],
  longs: String, // seeds and ids have 64 bits, which a number does not hold
  enums: String,
  defaults: true,
  oneofs: true,
});
const service = (grpc.loadPackageDefinition(definition) as any).panelhue.colorizer.v1.ColorizerService.service;

const CARD = {
  name: NAME,
  version: "1.0.0",
  description: "Tints the whole page with the mean colour of its references. An example of a back-end in TypeScript.",
  inputs: ["references", "preview"],
  minSide: 16,
  maxPixels: tint.MAX_PIXELS,
  hitsPerCorner: 1,
  memoryBytes: String(2 ** 30),
  device: "cpu",
  determinism: "DETERMINISM_EXACT",
  codeLicence: "Apache-2.0",
  keepsLuma: true,
  parameters: {},
  available: true,
};

let underWay = 0; // pages, also those that are being stopped: the server that started this asks for it

// --- errors --------------------------------------------------------------------------------------------------------

// A google.rpc.Status with a google.rpc.ErrorInfo, written by hand: two small messages are no reason for a library.
function richStatus(code: number, reason: string, message: string): Buffer {
  const field = (number: number, value: Buffer) => Buffer.concat([Buffer.from([(number << 3) | 2]), varint(value.length), value]);
  const text = (number: number, value: string) => field(number, Buffer.from(value));
  const info = Buffer.concat([text(1, reason), text(2, "panelhue")]);
  const any = Buffer.concat([text(1, "type.googleapis.com/google.rpc.ErrorInfo"), field(2, info)]);
  return Buffer.concat([Buffer.from([1 << 3]), varint(code), text(2, message), field(3, any)]);
}

function varint(value: number): Buffer {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value & 127) | 128);
  return Buffer.from([...bytes, value]);
}

function statusOf(code: number, reason: string, message: string) {
  const metadata = new grpc.Metadata();
  metadata.set("grpc-status-details-bin", richStatus(code, reason, message));
  return Object.assign(new Error(message), { code, details: message, metadata });
}

function refusal(metadata: grpc.Metadata) {
  const given = Buffer.from(String(metadata.get("authorization")[0] ?? ""));
  const expected = Buffer.from(`Bearer ${TOKEN}`);
  if (!TOKEN || (given.length === expected.length && timingSafeEqual(given, expected))) return null;
  return statusOf(grpc.status.UNAUTHENTICATED, "UNAUTHENTICATED", "the call must carry this back-end's token");
}

// --- one page -------------------------------------------------------------------------------------------------------

interface Page {
  key: string;
  seed: string;
  hits: any[];
  pictures: Map<string, Buffer[]>; // the page's own under its key
  sizes: Map<string, number>; // as announced; 0: not known
}

function whole(page: Page, key: string): Buffer {
  const data = Buffer.concat(page.pictures.get(key)!);
  const announced = page.sizes.get(key)!;
  if (announced && announced !== data.length) {
    const reason = key === page.key ? "SIZE_MISMATCH" : "INVALID_CONTEXT";
    throw new PageError(3, reason, `picture '${key}' was announced with ${announced} bytes, got ${data.length}`);
  }
  if (data.length > MAX_PICTURE_BYTES) throw new PageError(3, "IMAGE_TOO_LARGE", `at most ${MAX_PICTURE_BYTES} bytes, got ${data.length}`);
  return data;
}

function cropOf(box: any): Crop | null {
  return box ? { x0: box.x0, y0: box.y0, x1: box.x1, y1: box.y1 } : null;
}

async function colourOf(page: Page): Promise<Colour> {
  const sum: Colour = [0, 0, 0];
  for (const hit of page.hits) {
    if (!page.pictures.has(hit.pictureKey)) {
      throw new PageError(3, "INVALID_CONTEXT", `a hit points to picture '${hit.pictureKey}', which the page does not have`);
    }
    const picture = await tint.decode(whole(page, hit.pictureKey), 1).catch((error: PageError) => {
      throw new PageError(3, "INVALID_CONTEXT", `context picture '${hit.pictureKey}': ${error.message}`);
    });
    tint.meanColour(picture, cropOf(hit.pictureBox)).forEach((value, c) => (sum[c]! += value / page.hits.length));
  }
  return page.hits.length ? sum : [255, 255, 255];
}

class Stopped extends Error {}

async function colourize(call: any, options: any, page: Page): Promise<void> {
  const began = process.hrtime.bigint();
  const send = (message: object) => {
    if (call.cancelled) throw new Stopped();
    call.write(message);
  };
  const sendPicture = (what: "preview" | "picture", data: Buffer, mediaType: string, width: number, height: number) => {
    send({ [what]: { key: page.key, mediaType, byteSize: data.length, width, height } });
    for (let start = 0; start === 0 || start < data.length; start += CHUNK_BYTES) {
      const end = start + CHUNK_BYTES;
      send({ chunk: { key: page.key, data: data.subarray(start, end), last: end >= data.length } });
    }
  };
  const progress = async (step: number) => {
    send({ progress: { pageKey: page.key, step, steps: STEPS } });
    await new Promise(setImmediate); // so that a cancel is heard between two steps
  };

  const data = whole(page, page.key);
  const picture = await tint.decode(data);
  send({ accepted: { pageKey: page.key, width: picture.width, height: picture.height, queuePosition: 0 } });
  const mediaType = options.outputMediaType || "image/png";
  const inColour = tint.isInColour(picture);
  if (inColour && options.colourPages === "COLOUR_PAGES_REJECT") {
    throw new PageError(3, "PAGE_IN_COLOUR", "the page must be grey, but it is in colour already");
  }
  const kept = inColour && options.colourPages !== "COLOUR_PAGES_RECOLOUR";
  await progress(1);
  const colour = kept ? null : await colourOf(page);
  await progress(2);
  const result = colour ? tint.tinted(picture, tint.ramp(colour)) : picture;
  await progress(3);
  if (options.previewEvery && STEPS % options.previewEvery === 0) {
    const small = await tint.preview(result, options.previewSide || 512);
    sendPicture("preview", small.data, "image/jpeg", small.width, small.height);
  }
  let out: Buffer;
  if (options.chromaOnly) out = await tint.encodeChroma(result);
  else if (kept && (await tint.mediaTypeOf(data)) === mediaType) out = data; // the very same bytes
  else out = await tint.encode(result, mediaType, options.jpegQuality || 92);
  sendPicture("picture", out, mediaType, result.width, result.height);
  const depths = page.hits.map((hit) => Math.max(hit.provenance?.depth ?? 0, hit.provenance?.origin === "ORIGIN_GENERATED" ? 1 : 0));
  send({
    result: {
      pageKey: page.key,
      backend: NAME,
      backendVersion: CARD.version,
      seed: page.seed,
      references: kept ? [] : page.hits.map(({ pictureKey, pictureBox, ...hit }) => ({ ...hit, used: true })),
      timing: { totalNs: String(process.hrtime.bigint() - began) },
      alreadyColour: kept,
      sha256: createHash("sha256").update(out).digest("hex"),
      depth: kept ? 0 : 1 + Math.max(0, ...depths),
    },
  });
}

// --- the four calls ---------------------------------------------------------------------------------------------------

function optionsProblem(options: any): string {
  if (!["", NAME].includes(options.backend)) return "backend";
  const mediaType = options.outputMediaType || "image/png";
  if (!["image/png", "image/jpeg", "image/webp"].includes(mediaType)) return "output_media_type must be PNG, JPEG or WebP";
  if (options.chromaOnly && mediaType !== "image/png") return "chroma_only needs image/png";
  if (Object.keys(options.parameters).length) return "this back-end has no parameters";
  return "";
}

async function colorizePages(call: any): Promise<void> {
  const refused = refusal(call.metadata);
  if (refused) return void call.emit("error", refused);
  const badOrder = (message: string) => statusOf(grpc.status.INVALID_ARGUMENT, "BAD_ORDER", message);
  let options: any = null;
  let page: Page | null = null;
  try {
    // Not destroyed when we leave early: then the status would never be sent.
    for await (const message of call.iterator({ destroyOnReturn: false })) {
      const kind: string = message.message;
      if (!options) {
        if (kind !== "options") throw badOrder(`a stream must begin with options, got ${kind}`);
        options = message.options;
        const problem = optionsProblem(options);
        if (problem === "backend") throw statusOf(grpc.status.NOT_FOUND, "BACKEND_NOT_FOUND", `no back-end '${options.backend}'; there is ${NAME}`);
        if (problem) throw statusOf(grpc.status.INVALID_ARGUMENT, "INVALID_REQUEST", problem);
      } else if (kind === "page") {
        const { picture, seed, _seed } = message.page;
        if (page) throw badOrder(`page '${picture.key}' began before page '${page.key}' was ended`);
        page = { key: picture.key, seed: _seed ? seed : options.seed, hits: [], pictures: new Map(), sizes: new Map() };
        page.pictures.set(picture.key, []);
        page.sizes.set(picture.key, Number(picture.byteSize));
      } else if (!page) {
        throw badOrder(`${kind} must come after the header of its page`);
      } else if (kind === "chunk") {
        const chunks = page.pictures.get(message.chunk.key);
        if (!chunks) throw statusOf(grpc.status.INVALID_ARGUMENT, "BAD_CHUNK", `no header announced picture '${message.chunk.key}'`);
        chunks.push(message.chunk.data);
      } else if (kind === "context") {
        page.hits = message.context.hits;
      } else if (kind === "contextPicture") {
        page.pictures.set(message.contextPicture.key, []);
        page.sizes.set(message.contextPicture.key, Number(message.contextPicture.byteSize));
      } else if (kind === "end") {
        const ended: Page = page;
        page = null;
        await answered(call, options, ended);
      } else {
        throw badOrder(`${kind} out of order`);
      }
    }
    if (page) throw badOrder(`the stream ended before page '${page.key}' did`);
    call.end();
  } catch (error) {
    if (error instanceof Stopped || call.cancelled) return;
    const known = "code" in (error as object);
    if (!known) console.error(error);
    call.emit("error", known ? error : statusOf(grpc.status.INTERNAL, "INTERNAL", "see the log"));
  }
}

// A page's failure is a message; the stream goes on.
async function answered(call: any, options: any, page: Page): Promise<void> {
  underWay++;
  try {
    await colourize(call, options, page);
  } catch (error) {
    if (error instanceof Stopped) throw error;
    const known = error instanceof PageError;
    if (!known) console.error(error);
    const failure = known
      ? { code: error.code, reason: error.reason, message: error.message }
      : { code: grpc.status.INTERNAL, reason: "BACKEND_FAILED", message: "the back-end failed; its log says why" };
    call.write({ error: { pageKey: page.key, failure } });
  } finally {
    underWay--;
  }
}

function unary(answer: (request: any) => object) {
  return (call: any, callback: (error: any, response?: object) => void) => {
    try {
      const refused = refusal(call.metadata);
      callback(refused, refused ? undefined : answer(call.request));
    } catch (error) {
      callback(error);
    }
  };
}

const server = new grpc.Server({ "grpc.max_receive_message_length": 4 << 20 });
server.addService(service, {
  listBackends: unary(() => ({ backends: [CARD], defaultBackend: NAME })),
  getBackend: unary(({ name }) => {
    if (name !== NAME) throw statusOf(grpc.status.NOT_FOUND, "BACKEND_NOT_FOUND", `no back-end '${name}'; there is ${NAME}`);
    return { backend: CARD };
  }),
  getServerInfo: unary(() => ({
    version: CARD.version,
    queueLength: underWay,
    queueCapacity: 64,
    workers: 1,
    maxPictureBytes: MAX_PICTURE_BYTES,
    maxPicturePixels: tint.MAX_PIXELS,
  })),
  colorizePages,
});

// grpc.health.v1.Health, which needs no token.
const health = {
  check: {
    path: "/grpc.health.v1.Health/Check",
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: Buffer) => value,
    requestDeserialize: (value: Buffer) => value,
    responseSerialize: (value: Buffer) => value,
    responseDeserialize: (value: Buffer) => value,
  },
};
const SERVING = Buffer.from([8, 1]); // HealthCheckResponse { status: SERVING }
server.addService(health as any, { check: (_: any, callback: any) => callback(null, SERVING) });

server.bindAsync(SOCKET, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.error(`${NAME} listens on ${SOCKET}`);
});
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => server.tryShutdown(() => process.exit(0))); // pages under way are finished first
}

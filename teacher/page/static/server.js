// The server: every request goes to the folder of the page's own address, which holds the token.

const BASE = location.pathname.replace(/[^/]*$/, "");
const PATIENCE = 20_000; // milliseconds for an answer

/** What the server refused or could not do; `status` is 0 where it was not reached. */
export class ServerError extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export const imageAddress = (number) => `${BASE}samples/${number}/image.png`;
export const setup = () => json("setup");
export const overview = () => json("overview");
export const state = (number) => json(`samples/${number}/state`);
export const next = (number) => json(`next?sample=${number}`);
export const want = (numbers) => post("wanted", numbers);

/**
 * Send a stroke, or the words "undo" and "redo"; gives the sample's new state. By its name the server knows what
 * is sent a second time.
 */
export async function act(number, what, name) {
  const isWord = typeof what === "string";
  const path = `samples/${number}/${isWord ? what : "strokes"}?act=${name}`;
  return (await post(path, isWord ? null : what)).json();
}

/** The mask of a sample, and which edition of it this is. */
export async function mask(number) {
  const response = await ask(`samples/${number}/mask`);
  return { edition: Number(response.headers.get("X-Edition")), mask: await bytes(response) };
}

/** The teacher's answer: version, classes and doubt; of every so manieth pixel. Null where there is none. */
export async function answer(number, every = 1) {
  const response = await ask(`samples/${number}/answer${every > 1 ? `?every=${every}` : ""}`);
  if (response.status === 204) return null;
  const data = await bytes(response);
  const half = data.length / 2;
  const version = Number(response.headers.get("X-Version"));
  return { version, labels: data.subarray(0, half), doubt: data.subarray(half) };
}

/** Hear what the server tells by itself, again after each time that it was gone. */
export function listen(hear, gone) {
  let source;
  const open = () => {
    source = new EventSource(`${BASE}events`);
    source.onmessage = ({ data }) => hear(JSON.parse(data));
    source.onerror = lost;
  };
  const lost = async () => {
    source.close();
    try {
      await setup(); // an event source does not say why it ended
      setTimeout(open, 500);
    } catch (error) {
      gone(error);
      setTimeout(lost, 1500);
    }
  };
  open();
}

const json = async (path) => (await ask(path)).json();
const bytes = async (response) => new Uint8Array(await response.arrayBuffer());
const post = (path, body = null) =>
  ask(path, { method: "POST", body: body && JSON.stringify(body) });

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(BASE + path, { ...options, signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new ServerError(0, "The server cannot be reached; is `draw` still running?");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: `status ${response.status}` }));
  throw new ServerError(response.status, sentence(error));
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

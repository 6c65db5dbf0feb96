// Requests to our own server.
import { refusalOf } from "./refusal.js";

/** @import { Refusal } from "./refusal.js" */

export const NO_ANSWER = "The Queuescope server does not answer.";

/** The reader may not view it. */
export class Refused extends Error {
  /** @param {Refusal} refusal */
  constructor(refusal) {
    super(refusal.words);
    this.refusal = refusal;
  }
}

/** The server answered that it cannot give this, and why. */
export class Declined extends Error {}

/**
 * The server's answer, whatever its status. Raises `Refused`, or what `fetch` raises.
 * @param {string} path
 * @param {{ accept: string, seconds: number, signal?: AbortSignal }} options
 */
export async function ask(path, { accept, seconds, signal }) {
  const limit = AbortSignal.timeout(seconds * 1000);
  const response = await fetch(path, {
    signal: signal ? AbortSignal.any([signal, limit]) : limit, headers: { accept },
    // A proxy in front of us may redirect to its login.
    redirect: "manual",
  });
  const refusal = await refusalOf(response);
  if (refusal) throw new Refused(refusal);
  return response;
}

/**
 * The content of a JSON answer, and the server's time when it was sent, 0 if it does not say.
 * @param {string} path @param {{ seconds: number, signal?: AbortSignal }} options
 */
export async function askJson(path, options) {
  const response = await ask(path, { ...options, accept: "application/json" });
  if (!response.headers.get("content-type")?.includes("application/json")) {
    throw new Error("not an answer of Queuescope");
  }
  const content = await response.json();
  if (!response.ok) throw content.error ? new Declined(content.error) : new Error(`status ${response.status}`);
  return { content, serverNow: Number(response.headers.get("queuescope-now")) };
}

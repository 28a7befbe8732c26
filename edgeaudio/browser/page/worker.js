// Runs the graph beside the page, so that the page never stutters: {open} a graph, then {score} windows.

import * as ort from "./ort/ort.wasm.min.mjs";

ort.env.logLevel = "error";
let session = null;

async function open({ url, sha256, samples, threads }) {
  const file = await fetch(url);
  if (!file.ok) throw new Error(`${url} can't be loaded (${file.status}); copy the page again as a whole.`);
  const bytes = await file.arrayBuffer();
  await verify(bytes, sha256, url);
  // threads need memory that is shared, which a browser grants to isolated pages only
  ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
  const opened = await ort.InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] });
  await session?.release();
  session = opened;
  await score({ window: new Float32Array(samples) }); // the first inference pays for the memory
  return { threads: ort.env.wasm.numThreads, version: ort.env.versions.web };
}

async function score({ window }) {
  const begin = performance.now();
  const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", window, [1, window.length]) };
  const { scores } = await session.run(feeds, ["scores"]);
  return { scores: scores.data, ms: performance.now() - begin };
}

async function verify(bytes, sha256, url) {
  if (!self.crypto?.subtle) return; // browsers offer it to https and localhost only
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) throw new Error(`${url} was changed or damaged; copy the page again as a whole.`);
}

async function answer({ id, task, ...details }) {
  try {
    self.postMessage({ id, answer: await { open, score }[task](details) });
  } catch (error) {
    self.postMessage({ id, problem: error.message });
  }
}

// one after the other: a graph must not be replaced while it computes
let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  queue = queue.then(() => answer(data));
};

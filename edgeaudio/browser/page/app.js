// The page: opens the graph, takes sounds from files and the microphone, shows their scores.

import { audible, cutWindow, decode, meanScores, power, windowStarts } from "./audio.js";
import { Classifier } from "./classifier.js";
import { listen, Recent } from "./microphone.js";
import {
  best, element, percent, showFigures, showProblem, showScores, showStatus, showWindows,
} from "./panels.js";
import { drawSpectrogram, drawTimeline } from "./pictures.js";

const LIVE_SECONDS = 10; // of the microphone that are shown
const LIVE_PAUSE = 200; // ms between two pictures of it
const LISTENING = "Listening; the bars show the latest window.";
const BOUNDS = { fp32: 1e-3, int8: 2e-2 }; // of the self-check; processors round integers differently

/** What the page holds: `sound` is the file that was read last, `job` counts what was asked for. */
const page = { facts: null, classifier: null, threads: 1, stop: null, job: 0, sound: null, shown: null };

// ── start ─────────────────────────────────────────────────────────────────

async function start() {
  const answer = await fetch("page.json");
  if (!answer.ok) throw new Error("page.json is missing; copy the page again as a whole.");
  const facts = (page.facts = await answer.json());
  describe(facts);
  page.classifier = new Classifier(facts);
  await useGraph(facts.default_graph);
  for (const id of ["microphone", "choose", "graph", "check"]) element(id).disabled = false;
}

function describe(facts) {
  const { name, labels, sample_rate, window_samples, hop_samples, graphs } = facts;
  const seconds = (samples) => inSeconds(samples, sample_rate);
  document.title = `${name} – sound classifier`;
  element("name").textContent = name;
  element("facts").textContent =
    `${labels.length} classes, ${sample_rate / 1000} kHz, windows of ${seconds(window_samples)} ` +
    `every ${seconds(hop_samples)}`;
  for (const [precision, { bytes }] of Object.entries(graphs)) {
    const choice = new Option(`${precision}, ${Math.round(bytes / 1000)} kB`, precision);
    choice.selected = precision === facts.default_graph;
    element("graph").append(choice);
  }
}

const inSeconds = (samples, rate) => `${+(samples / rate).toFixed(3)}\u00a0s`;

/** Open the graph of a precision; what is heard from now on is scored by it. */
async function useGraph(precision) {
  showStatus("Loading the graph …");
  const cores = navigator.hardwareConcurrency ?? 1;
  const { threads, version } = await page.classifier.open(precision, Math.max(1, Math.min(4, cores >> 1)));
  page.threads = threads;
  element("graph").value = precision;
  element("versions").textContent =
    `Front end: ${page.facts.frontend}. Made with edgeaudio ${page.facts.edgeaudio}, ` +
    `runs on onnxruntime-web ${version}.`;
  showStatus(page.stop ? LISTENING : "Ready.");
}

// ── scores ─────────────────────────────────────────────────────────────────

/**
 * Score a waveform of any length, as edgeaudio's Predictor does.
 * @param {Float32Array} waveform mono, at the bundle's sample rate
 * @param {(done: number, all: number) => boolean} onward told after each window; false stops
 * @returns {Promise<{scores: Float32Array, windows: object[]} | null>} null where it was stopped
 */
async function scoreWaveform(waveform, onward = () => true) {
  const { window_samples, hop_samples, sample_rate, quiet_db } = page.facts;
  const starts = windowStarts(waveform.length, window_samples, hop_samples);
  const windows = [];
  for (const start of starts) {
    const cut = cutWindow(waveform, start, window_samples);
    const { scores, ms } = await page.classifier.score(cut);
    const last = start === starts.at(-1);
    windows.push({
      from: start / sample_rate, to: Math.min(start + window_samples, waveform.length) / sample_rate,
      start: start / sample_rate, end: (last ? waveform.length : start + hop_samples) / sample_rate,
      scores, ms, power: power(cut),
    });
    if (!onward(windows.length, starts.length)) return null;
  }
  const votes = audible(windows.map((window) => window.power), quiet_db);
  windows.forEach((window, i) => { window.votes = votes[i]; });
  return { scores: meanScores(windows), windows };
}

async function readFile(file) {
  stopListening();
  showStatus(`Reading ${file.name} …`);
  page.sound = null;
  const waveform = await decode(await file.arrayBuffer(), page.facts.sample_rate);
  page.sound = { name: file.name, waveform };
  await scoreSound();
}

async function scoreSound() {
  const { name, waveform } = page.sound;
  const job = ++page.job;
  const begin = performance.now();
  const result = await scoreWaveform(waveform, (done, all) => {
    const current = job === page.job;
    if (current && performance.now() - begin > 300) showStatus(`Scoring window ${done} of ${all} …`);
    return current;
  });
  if (!result) return; // another sound was asked for meanwhile
  const seconds = waveform.length / page.facts.sample_rate;
  show({ ...result, source: name, samples: waveform, from: 0, seconds });
  showStatus(`${name}: ${page.facts.labels[best(result.scores)]}, ${percent(Math.max(...result.scores))}.`);
}

// ── microphone ─────────────────────────────────────────────────────────────────

async function startListening() {
  const job = ++page.job;
  page.sound = null;
  const { window_samples, hop_samples, sample_rate } = page.facts;
  const recent = new Recent(LIVE_SECONDS * sample_rate, window_samples, hop_samples);
  const live = { windows: [], skipped: 0, busy: false, drawn: 0 };
  showStatus("Asking for the microphone …");
  const stop = await listen(sample_rate, (block) => {
    if (job !== page.job) return;
    const window = recent.push(block);
    if (window && live.busy) live.skipped++;
    else if (window) scoreLive(window, recent.total, live, job).catch(report);
    if (performance.now() - live.drawn > LIVE_PAUSE) showLive(recent, live);
  });
  if (job !== page.job) return stop(); // a file was chosen while the browser asked
  page.stop = stop;
  setListening(true);
  if (!live.windows.length) {
    showStatus(`Listening; the first window is full after ${inSeconds(window_samples, sample_rate)}.`);
  }
}

async function scoreLive(window, end, live, job) {
  const { sample_rate, window_samples, hop_samples } = page.facts;
  live.busy = true;
  const { scores, ms } = await page.classifier.score(window).finally(() => { live.busy = false; });
  if (job !== page.job) return;
  if (!live.windows.length) showStatus(LISTENING);
  const to = end / sample_rate;
  live.windows.push({
    from: to - window_samples / sample_rate, to, start: to - hop_samples / sample_rate, end: to,
    scores, ms, votes: true,
  });
  live.windows.splice(0, live.windows.length - 100);
  // what was scored and what came of it, so that anybody can hold it against another runtime
  Object.assign(globalThis.edgeaudio, { lastWindow: window, lastScores: scores });
}

function showLive(recent, live) {
  live.drawn = performance.now();
  if (!live.windows.length) return;
  const { sample_rate } = page.facts;
  const samples = recent.samples();
  const from = (recent.total - samples.length) / sample_rate;
  const { windows, skipped } = live;
  const { scores } = windows.at(-1);
  show({ scores, windows, skipped, source: "Microphone", samples, from, seconds: LIVE_SECONDS });
}

function stopListening() {
  page.job++;
  page.stop?.();
  page.stop = null;
  setListening(false);
}

function setListening(on) {
  const button = element("microphone");
  button.setAttribute("aria-pressed", String(on));
  button.querySelector("span").textContent = on ? "Stop" : "Listen";
}

// ── what is seen ─────────────────────────────────────────────────────────────────

function show(shown) {
  page.shown = shown;
  const { labels, hop_samples, sample_rate } = page.facts;
  element("results").hidden = false;
  element("source").textContent = shown.source;
  showScores(shown.scores, labels);
  showFigures(shown, hop_samples / sample_rate, page.threads);
  showWindows(shown.windows, labels);
  draw();
}

function draw() {
  if (!page.shown) return;
  const { sample_rate, labels } = page.facts;
  const columns = page.stop ? 400 : 1000; // fewer while listening: they are computed anew each time
  drawSpectrogram(element("spectrogram"), { ...page.shown, rate: sample_rate }, columns);
  drawTimeline(element("timeline"), page.shown, page.shown.windows, labels);
}

// ── self-check ─────────────────────────────────────────────────────────────────

/** The largest difference of this browser's scores to the golden ones, for the graph in use. */
async function selfCheck() {
  const { golden, window_samples } = page.facts;
  const graph = element("graph").value;
  const waveforms = new Float32Array(await (await fetch(golden.file)).arrayBuffer());
  let difference = 0;
  for (let i = 0; i < golden.windows; i++) {
    const window = waveforms.slice(i * window_samples, (i + 1) * window_samples);
    const { scores } = await page.classifier.score(window);
    golden.scores[graph][i].forEach((score, label) => {
      difference = Math.max(difference, Math.abs(score - scores[label]));
    });
  }
  const bound = BOUNDS[graph];
  return { graph, windows: golden.windows, difference, bound, passed: difference <= bound };
}

async function showSelfCheck() {
  element("checked").textContent = "Checking …";
  const { graph, windows, difference, bound, passed } = await selfCheck();
  element("checked").textContent =
    `${passed ? "Passed" : "Failed"}: the ${graph} scores of ${windows} golden windows differ by at most ` +
    `${difference.toExponential(1)} (bound ${bound}).`;
}

// ── wiring ─────────────────────────────────────────────────────────────────

const report = (error) => {
  stopListening();
  showProblem(error.message);
};
/** A listener whose errors become a sentence on the page. */
const guarded = (action) => (event) => Promise.resolve(action(event)).catch(report);

element("choose").addEventListener("click", () => element("file").click());
element("file").addEventListener("change", guarded(async ({ target }) => {
  const [file] = target.files;
  if (file) await readFile(file);
  target.value = ""; // so that the same file can be chosen again
}));
element("microphone").addEventListener("click", guarded(async () => {
  if (!page.stop) return startListening();
  stopListening();
  showStatus("Stopped.");
}));
element("graph").addEventListener("change", guarded(async ({ target }) => {
  await useGraph(target.value);
  if (page.sound && !page.stop) await scoreSound();
}));
element("check").addEventListener("click", guarded(showSelfCheck));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", guarded(async (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file && page.classifier) await readFile(file);
}));
new ResizeObserver(draw).observe(element("results"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

const ready = start();
ready.catch(report);
globalThis.edgeaudio = {
  ready, scoreWaveform, useGraph, selfCheck, lastWindow: null, lastScores: null,
  get facts() { return page.facts; },
  get shown() { return page.shown; },
};

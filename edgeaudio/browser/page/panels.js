// The words and numbers of the page: bars of the best labels, figures, the table of windows.

import { median } from "./audio.js";

const BARS = 5;
const ROWS = 500; // rows of the table; a recording of hours would stop the browser

export const element = (id) => document.getElementById(id);
export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** Index of the highest score. */
export const best = (scores) => scores.reduce((top, score, i) => (score > scores[top] ? i : top), 0);

/** The best label as a heading, and the best few as bars. */
export function showScores(scores, labels) {
  const order = labels.map((_, i) => i).sort((a, b) => scores[b] - scores[a]).slice(0, BARS);
  element("heading").textContent = labels[order[0]];
  const bars = order.map((i) => {
    const bar = made("span", "fill");
    bar.style.width = `${100 * scores[i]}%`;
    const track = made("span", "track");
    track.append(bar);
    const item = made("li");
    item.append(made("span", "label", labels[i]), track, made("span", "value", percent(scores[i])));
    return item;
  });
  element("bars").replaceChildren(...bars);
}

/** Time per window, real-time factor, number of windows. */
export function showFigures({ windows, skipped }, hopSeconds, threads) {
  const ms = median(windows.map((window) => window.ms));
  const factor = ms / 1000 / hopSeconds;
  const quiet = windows.filter((window) => !window.votes).length;
  const live = skipped !== undefined; // nothing votes there
  element("ms").textContent = `${ms.toPrecision(ms < 10 ? 2 : 3)} ms`;
  element("ms-note").textContent = `median, ${threads === 1 ? "one thread" : `${threads} threads`}`;
  element("factor").textContent = factor < 0.001 ? factor.toExponential(0) : `${+factor.toPrecision(2)}`;
  element("factor-note").textContent = `a window falls due every ${+hopSeconds.toFixed(3)}\u00a0s`;
  element("count").textContent = `${windows.length}`;
  element("count-note").textContent =
    [quiet && `${quiet} too quiet to vote`, skipped && `${skipped} skipped: this device is too slow`]
      .filter(Boolean).join(", ") || (live ? "the latest ones, each by itself" : "all of them vote");
}

/** The table of windows, newest rows where there are too many. */
export function showWindows(windows, labels) {
  const rows = windows.slice(-ROWS).map((window) => {
    const top = best(window.scores);
    const cells = [
      `${window.from.toFixed(2)} s`, `${window.to.toFixed(2)} s`, labels[top], percent(window.scores[top]),
      window.votes ? "yes" : "no",
    ].map((text) => made("td", "", text));
    const row = made("tr");
    row.append(...cells);
    return row;
  });
  element("windows").replaceChildren(...rows);
}

/** What the page is doing, in a sentence. */
export function showStatus(sentence) {
  element("status").textContent = sentence;
  element("problem").hidden = true;
}

/** What went wrong, in a sentence with the way out. */
export function showProblem(sentence) {
  element("status").textContent = "";
  element("problem").textContent = sentence;
  element("problem").hidden = false;
}

function made(tag, name = "", text = "") {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.textContent = text;
  return node;
}

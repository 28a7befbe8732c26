// The two pictures over one time axis: the spectrogram, and the score of the best labels window by window.

import { height, spectrogram } from "./spectrogram.js";

const ROW = 22; // pixels of a label's row
const AXIS = 20; // pixels under the spectrogram for its times
const PICTURE = 190; // pixels of the spectrogram
const LABELS = 6; // labels that get a row

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{samples: Float32Array, rate: number, from: number, seconds: number}} sound what is shown
 * @param {number} most columns that are computed at the most
 */
export function drawSpectrogram(canvas, sound, most = 1000) {
  const { pen, width, gutter, style } = prepare(canvas, PICTURE + AXIS);
  const room = width - gutter;
  const shown = (sound.samples.length / sound.rate / sound.seconds) * room;
  const image = spectrogram(sound.samples, sound.rate, Math.max(1, Math.min(most, Math.round(shown))));
  const picture = new OffscreenCanvas(image.width, image.height);
  picture.getContext("2d").putImageData(image, 0, 0);
  pen.drawImage(picture, gutter, 0, shown, PICTURE);

  pen.fillStyle = style.soft;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const frequency of [250, 1000, 2000, 4000, 8000, 16000]) {
    const y = PICTURE * (1 - height(frequency, sound.rate));
    if (y < 7) break;
    pen.fillText(frequency < 1000 ? `${frequency} Hz` : `${frequency / 1000} kHz`, gutter - 8, y);
  }
  pen.textBaseline = "bottom";
  const step = tick(sound.seconds, room);
  for (let t = Math.ceil(sound.from / step) * step; t <= sound.from + sound.seconds + 1e-9; t += step) {
    const x = gutter + ((t - sound.from) / sound.seconds) * room;
    pen.textAlign = x > width - 20 ? "right" : x < gutter + 10 ? "left" : "center";
    pen.fillText(`${+t.toFixed(2)} s`, x, PICTURE + AXIS);
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{from: number, seconds: number}} time what is shown
 * @param {{start: number, end: number, scores: Float32Array, votes: boolean}[]} windows `start` and `end` of
 *   the stretch that a window stands for, in seconds
 * @param {string[]} labels of the scores
 */
export function drawTimeline(canvas, time, windows, labels) {
  const rows = strongest(windows, labels.length);
  const { pen, width, gutter, style } = prepare(canvas, ROW * rows.length);
  const x = (seconds) => gutter + ((seconds - time.from) / time.seconds) * (width - gutter);
  rows.forEach((label, row) => {
    const top = row * ROW + 1;
    pen.globalAlpha = 1;
    pen.fillStyle = style.track;
    pen.fillRect(gutter, top, width - gutter, ROW - 2);
    pen.fillStyle = style.soft;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    pen.fillText(fitted(pen, labels[label], gutter - 10), gutter - 8, row * ROW + ROW / 2);
    for (const window of windows) {
      const begin = Math.max(gutter, x(window.start));
      const end = Math.min(width, x(window.end));
      if (end <= begin) continue;
      pen.globalAlpha = window.scores[label];
      pen.fillStyle = window.votes ? style.accent : style.soft;
      pen.fillRect(begin, top, Math.max(1, end - begin - 1), ROW - 2);
    }
  });
  pen.globalAlpha = 1;
}

/** The labels with the highest score of any window, best first. */
function strongest(windows, labels) {
  const peaks = Array.from({ length: labels }, (_, label) =>
    windows.reduce((most, window) => Math.max(most, window.scores[label]), 0));
  return peaks.map((_, label) => label).sort((a, b) => peaks[b] - peaks[a]).slice(0, LABELS);
}

/** A canvas as wide as its place, sharp on dense screens, and the colours of the page. */
function prepare(canvas, tall) {
  const width = canvas.parentElement.clientWidth - padding(canvas.parentElement);
  const density = window.devicePixelRatio || 1;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${tall}px`;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(tall * density);
  const pen = canvas.getContext("2d");
  pen.scale(density, density);
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(`--${name}`).trim();
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const style = { soft: colour("soft"), track: colour("track"), accent: colour("accent") };
  return { pen, width, gutter: width < 480 ? 88 : 116, style };
}

function padding(element) {
  const style = getComputedStyle(element);
  return parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
}

/** A text that fits into a width, shortened where it must be. */
function fitted(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let kept = text.length;
  while (kept > 1 && pen.measureText(`${text.slice(0, kept)}…`).width > room) kept--;
  return `${text.slice(0, kept)}…`;
}

/** A round distance of the times on the axis. */
function tick(seconds, room) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
  return steps.find((step) => (step / seconds) * room >= 56) ?? 7200;
}

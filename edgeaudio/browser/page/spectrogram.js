// Samples → log power spectra, one a column, on a mel axis: the picture above the scores.

const ROWS = 160;
const RANGE_DB = 80; // what lies further below the loudest point is black

const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const hertz = (mels) => 700 * (10 ** (mels / 2595) - 1);

/** Where a frequency lies between the bottom (0) and the top (1) of the picture. */
export const height = (frequency, sampleRate) => mel(frequency) / mel(sampleRate / 2);

/**
 * @param {Float32Array} samples
 * @param {number} sampleRate Hz
 * @param {number} columns of the picture, spread evenly over the samples
 * @returns {ImageData} columns × rows, high frequencies on top
 */
export function spectrogram(samples, sampleRate, columns) {
  const size = 2 ** Math.round(Math.log2(0.04 * sampleRate));
  const edges = Array.from({ length: ROWS + 1 }, (_, row) =>
    hertz((mel(sampleRate / 2) * row) / ROWS) / sampleRate * size);
  const levels = new Float32Array(columns * ROWS);
  const spectrum = new Spectrum(size);
  for (let column = 0; column < columns; column++) {
    const middle = Math.round(((column + 0.5) * samples.length) / columns);
    const bins = spectrum.power(samples, middle - size / 2);
    for (let row = 0; row < ROWS; row++) {
      levels[column * ROWS + row] = 10 * Math.log10(loudest(bins, edges[row], edges[row + 1]) + 1e-12);
    }
  }
  return paint(levels, columns);
}

/** The highest value between two bins; between their neighbours where the band holds no bin. */
function loudest(bins, low, high) {
  let value = 0;
  for (let bin = Math.ceil(low); bin < high; bin++) value = Math.max(value, bins[bin]);
  if (value) return value;
  const below = Math.floor(low);
  return bins[below] + (bins[below + 1] - bins[below]) * (low - below);
}

function paint(levels, columns) {
  const top = Math.max(-60, levels.reduce((a, b) => Math.max(a, b), -Infinity));
  const image = new ImageData(columns, ROWS);
  for (let column = 0; column < columns; column++) {
    for (let row = 0; row < ROWS; row++) {
      const share = 1 + (levels[column * ROWS + row] - top) / RANGE_DB;
      image.data.set(colour(Math.min(1, Math.max(0, share))), 4 * ((ROWS - 1 - row) * columns + column));
    }
  }
  return image;
}

const STOPS = [[13, 16, 33], [44, 43, 107], [110, 52, 135], [190, 73, 120], [241, 130, 92], [255, 225, 160]];

function colour(share) {
  const place = share * (STOPS.length - 1);
  const stop = Math.min(Math.floor(place), STOPS.length - 2);
  const mix = (i) => STOPS[stop][i] + (STOPS[stop + 1][i] - STOPS[stop][i]) * (place - stop);
  return [mix(0), mix(1), mix(2), 255];
}

/** Power spectra of Hann windows of one size, a power of two. */
class Spectrum {
  constructor(size) {
    this.size = size;
    const table = (of) => Float64Array.from({ length: size }, (_, i) => of((2 * Math.PI * i) / size));
    this.cosines = table(Math.cos);
    this.sines = table(Math.sin);
    this.hann = this.cosines.map((cosine) => 0.5 - 0.5 * cosine);
    this.scale = (2 / size) ** 2; // a full-scale tone has a power near 1
    this.real = new Float64Array(size);
    this.imaginary = new Float64Array(size);
    this.bins = new Float64Array(size / 2 + 1);
  }

  /** Bins 0 … size/2 of the window that begins at a sample; zero outside the waveform. */
  power(samples, start) {
    const { size, hann, real, imaginary, bins } = this;
    for (let i = 0; i < size; i++) real[i] = (samples[start + i] ?? 0) * hann[i];
    imaginary.fill(0);
    transform(real, imaginary, this.cosines, this.sines);
    for (let bin = 0; bin < bins.length; bin++) {
      bins[bin] = (real[bin] ** 2 + imaginary[bin] ** 2) * this.scale;
    }
    return bins;
  }
}

/** Fast Fourier transform in place: bit reversal, then butterflies of growing length. */
function transform(real, imaginary, cosines, sines) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let length = 2; length <= size; length *= 2) {
    const step = size / length;
    for (let k = 0; k < length / 2; k++) {
      const cosine = cosines[k * step];
      const sine = sines[k * step];
      for (let a = k; a < size; a += length) {
        const b = a + length / 2;
        const x = real[b] * cosine + imaginary[b] * sine;
        const y = imaginary[b] * cosine - real[b] * sine;
        real[b] = real[a] - x;
        imaginary[b] = imaginary[a] - y;
        real[a] += x;
        imaginary[a] += y;
      }
    }
  }
}

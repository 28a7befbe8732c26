// A sound file → mono samples, and samples → windows and their votes, as edgeaudio/audio.py has them.

/**
 * Decode a sound file, mix it down to mono (mean of the channels) and bring it to a sample rate.
 * @param {ArrayBuffer} bytes the file
 * @param {number} sampleRate Hz
 * @returns {Promise<Float32Array>} samples, full scale at ±1
 * @throws {Error} a sentence, where the bytes aren't sound that this browser knows
 */
export async function decode(bytes, sampleRate) {
  let context, sound;
  try {
    context = new OfflineAudioContext(1, 1, sampleRate);
  } catch {
    throw new Error(`This browser can't work at ${sampleRate} Hz; try another one.`);
  }
  try {
    sound = await context.decodeAudioData(bytes);
  } catch {
    throw new Error("This browser can't read that file as sound; try a WAV, FLAC, Ogg or MP3 file.");
  }
  if (!sound.length) throw new Error("That file holds no samples; choose another one.");
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / sound.numberOfChannels;
  }
  return mono;
}

/** First samples of the windows that cover a waveform; the last may reach past its end. */
export function windowStarts(samples, window, hop) {
  const count = 1 + Math.max(0, Math.ceil((samples - window) / hop));
  return Array.from({ length: count }, (_, i) => i * hop);
}

/** One window of a waveform, zero past its end. */
export function cutWindow(waveform, start, window) {
  const cut = new Float32Array(window);
  cut.set(waveform.subarray(start, start + window));
  return cut;
}

/** Sum of squares. */
export function power(window) {
  let sum = 0;
  for (const sample of window) sum += sample * sample;
  return sum;
}

/** Which windows may vote: those at most `quietDb` below the loudest one. */
export function audible(powers, quietDb) {
  const least = powers.reduce((a, b) => Math.max(a, b), 0) * 10 ** (quietDb / 10);
  return powers.map((value) => value >= least);
}

/** Mean of the scores of the windows that vote. */
export function meanScores(windows) {
  const voters = windows.filter((window) => window.votes);
  return Float32Array.from(voters[0].scores, (_, label) =>
    voters.reduce((sum, window) => sum + window.scores[label], 0) / voters.length);
}

/** The middle value; NaN of none. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// The microphone as a stream of mono samples at the sample rate that the graph wants.

const RAW = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const REASONS = {
  NotAllowedError: "The microphone was not allowed; allow it in the browser's site settings and try again.",
  NotFoundError: "No microphone was found; connect one, or choose a sound file.",
  NotReadableError: "The microphone can't be opened; another program may be using it.",
  NotSupportedError: "This browser can't resample the microphone; choose a file, or try another browser.",
};

/**
 * Listen until stopped.
 * @param {number} sampleRate Hz; the browser resamples to it
 * @param {(samples: Float32Array) => void} onSamples takes each block
 * @returns {Promise<() => void>} stops listening
 */
export async function listen(sampleRate, onSamples) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers give the microphone only to pages from https or localhost; open it there.");
  }
  let stream, context;
  const stop = () => {
    stream?.getTracks().forEach((track) => track.stop());
    context?.close();
  };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: RAW });
    context = new AudioContext({ sampleRate });
    await context.audioWorklet.addModule("capture.js");
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    capture.port.onmessage = ({ data }) => onSamples(data);
    context.createMediaStreamSource(stream).connect(capture);
    await context.resume();
  } catch (error) {
    stop();
    throw new Error(REASONS[error.name] ?? `The microphone can't be used (${error.message}).`);
  }
  return stop;
}

/** The last samples of an endless stream, and the windows that fall due in it. */
export class Recent {
  /**
   * @param {number} kept samples that are remembered
   * @param {number} window samples of a window
   * @param {number} hop samples between windows
   */
  constructor(kept, window, hop) {
    this.memory = new Float32Array(Math.max(kept, window));
    this.window = window;
    this.hop = hop;
    this.total = 0; // samples heard so far
    this.due = window; // when the next window is full
  }

  /** Take a block; returns the window that has become full, or null. */
  push(block) {
    this.memory.copyWithin(0, block.length);
    this.memory.set(block, this.memory.length - block.length);
    this.total += block.length;
    if (this.total < this.due) return null;
    while (this.due <= this.total) this.due += this.hop;
    return this.memory.slice(-this.window);
  }

  /** What is remembered of the stream, oldest first. */
  samples() {
    return this.memory.slice(-Math.min(this.total, this.memory.length));
  }
}

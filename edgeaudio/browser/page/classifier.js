// The worker that runs the graph, as functions that answer with promises.

export class Classifier {
  /** @param {object} facts what page.json holds */
  constructor(facts) {
    this.facts = facts;
    this.pending = new Map();
    this.next = 0;
    this.worker = new Worker("worker.js", { type: "module" });
    this.worker.onmessage = ({ data }) => this.#settle(data);
    this.worker.onerror = () => this.#fail("ONNX Runtime can't be loaded; copy the page again as a whole.");
  }

  /**
   * Open the graph of a precision.
   * @returns {Promise<{threads: number, version: string}>} threads that an inference uses, ONNX Runtime's version
   */
  open(precision, threads) {
    const { file, sha256 } = this.facts.graphs[precision];
    return this.#ask("open", { url: file, sha256, samples: this.facts.window_samples, threads });
  }

  /**
   * @param {Float32Array} window as many samples as the graph hears at once
   * @returns {Promise<{scores: Float32Array, ms: number}>} a score for each label, and the time it took
   */
  score(window) {
    return this.#ask("score", { window });
  }

  #ask(task, details) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, task, ...details });
    });
  }

  #settle({ id, answer, problem }) {
    const { resolve, reject } = this.pending.get(id);
    this.pending.delete(id);
    if (problem === undefined) resolve(answer);
    else reject(new Error(problem));
  }

  #fail(sentence) {
    for (const { reject } of this.pending.values()) reject(new Error(sentence));
    this.pending.clear();
  }
}
